/* SPDX-License-Identifier: MIT
 *
 * gatherd_reload - SIGHUP: the configuration is read into a fresh struct, checked whole, and taken
 * or refused whole. Called by gatherd on the front's thread, between two turns.
 *
 * What a running daemon cannot change (its listeners, sizes, loops) is said and stays; what would
 * leave an open address without the token that it needs, or open more there because the file has
 * another address, is refused.
 */
#include "gatherd_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptors.h"
#include "http_front.h"
#include "http_routes.h"
#include "log.h"
#include "tls_trust.h"

static const struct config_listener *find_listener(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->listener_count; i++)
        if (strcmp(c->listeners[i].name, name) == 0)
            return &c->listeners[i];
    return NULL;
}

/* config_load() has judged the addresses that the file names; open are those of the start. Neither
 * may be left without the token that it needs. */
static bool lacks_token(const struct gatherd *g, const struct config *next,
                        const struct config_listener *l)
{
    enum front_reach reach = front_reach(g->front, l->name);
    bool any = config_find_policy(next, l->policy)->base == POLICY_BASE_UNSAFE_ANY;
    if (l->token_file != NULL || reach < (any ? REACH_MACHINE : REACH_NETWORK))
        return false;
    LOG_ERROR("config", "listener.%s.token_file is empty, and its addresses of before are open to "
                        "%s: that needs a restart", l->name,
              reach == REACH_NETWORK ? "other machines" : "this machine with base = unsafe-any");
    return true;
}

static bool has_item(const struct str_list *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

static bool has_all(const struct str_list *list, const struct str_list *items)
{
    for (size_t i = 0; i < items->count; i++)
        if (!has_item(list, items->items[i]))
            return false;
    return true;
}

/* What of a listener has to wait until an address is closed that `bind` no longer names: the file
 * may have it just because of that. NULL = nothing. A token that the same file has more is for whom
 * it was made; one that it has no more must be without effect at once. */
static const char *what_waits(const struct config_listener *was, const struct config_listener *is,
                              bool tcp)
{
    if (tcp && is->peers.count > 0)
        return "peers";
    if (was->token_file != NULL &&
        (is->token_file == NULL || strcmp(was->token_file, is->token_file) != 0))
        return "token_file";
    if (strcmp(was->policy, is->policy) != 0)
        return "policy";
    if (tcp && !has_all(&was->hosts, &is->hosts))
        return "hosts";
    if (tcp && (was->mode & ~is->mode) != 0)
        return "mode";
    bool same_group = was->group != NULL && is->group != NULL && strcmp(was->group, is->group) == 0;
    return tcp && is->group != NULL && !same_group ? "group" : NULL;
}

static bool waits_for_bind(const struct gatherd *g, const struct config *next,
                           const struct config_listener *is)
{
    const struct config_listener *was = find_listener(g->config, is->name);
    const char *open = was != NULL ? front_left_open(g->front, is) : NULL;
    if (open == NULL)
        return false;
    bool tcp = front_reach(g->front, is->name) > REACH_UNIX;
    const char *key = what_waits(was, is, tcp);
    bool same = config_policy_equal(config_find_policy(g->config, was->policy),
                                    config_find_policy(next, is->policy));
    if (key != NULL)
        LOG_ERROR("config", "listener.%s.%s cannot change while %s is open, which bind no longer "
                            "names: that needs a restart", is->name, key, open);
    else if (!same)
        LOG_ERROR("config", "[policy %s] cannot change while %s is open, which listener.%s.bind no "
                            "longer names: that needs a restart", is->policy, open, is->name);
    return key != NULL || !same;
}

static bool stays_guarded(const struct gatherd *g, const struct config *next)
{
    for (size_t i = 0; i < next->listener_count; i++)
        if (lacks_token(g, next, &next->listeners[i]) ||
            waits_for_bind(g, next, &next->listeners[i]))
            return false;
    return true;
}

/* Only what the operator has changed is said, not what was lowered for want of descriptors. A
 * head_bytes that was changed is judged by that of the front, which an earlier file may have left
 * below the last one's. */
static void say_needs_restart(const struct gatherd *g, const struct config *next)
{
    struct config before = *g->config;
    struct buf names;
    before.limits.clients = g->asked.clients;
    before.daemon.loops = g->asked.loops;
    if (next->limits.head_bytes != before.limits.head_bytes)
        before.limits.head_bytes = front_head_bytes(g->front);
    buf_init(&names, 0);
    config_needs_restart(&before, next, &names);
    if (names.len > 0)
        LOG_WARN("config", "not in effect before a restart: %s", buf_cstr(&names));
    buf_fini(&names);
}

/* Whether there are descriptors for the policies that the file has more: fewer clients do not help
 * where none could be served. */
static bool has_descriptors(const struct gatherd *g, const struct config *next)
{
    struct config c = *next;
    c.daemon.loops = g->in_force.loops;
    int64_t open = (int64_t)front_addresses(g->front), most = descriptors_limit();
    int64_t least = descriptors_least(&c, open);
    if (least <= most || least <= descriptors_least(g->config, open))
        return true;
    LOG_ERROR("config", "%zu policies need %lld descriptors, at most %lld: that needs a higher "
                        "LimitNOFILE=, and a restart",
              c.policy_count, (long long)least, (long long)most);
    return false;
}

/* What a running daemon cannot take: said, and for a listener that is gone, or one policy too many,
 * the reload is refused. */
static bool can_take(struct gatherd *g, const struct config *next)
{
    for (size_t i = 0; i < g->config->listener_count; i++) {
        const char *name = g->config->listeners[i].name;
        if (find_listener(next, name) != NULL || front_reach(g->front, name) == REACH_NONE)
            continue;
        LOG_ERROR("config", "listener.%s is gone: that needs a restart", name);
        return false;
    }
    return gatherd_has_room(g, next) && has_descriptors(g, next) && stays_guarded(g, next);
}

/* The budget is for what is there, whatever the file says of it. */
static void fit_running(struct gatherd *g, struct config *next)
{
    g->asked = (struct gatherd_size){next->limits.clients, next->daemon.loops};
    next->limits.clients = g->in_force.clients;
    next->daemon.loops = g->in_force.loops;
    if (!descriptors_provide(next, (int64_t)front_addresses(g->front)))
        LOG_ERROR("gatherd", "step=getrlimit error=\"%s\"", strerror(errno));
}

static void take_config(struct gatherd *g, struct config *next, struct access_set *access)
{
    struct config *old = g->config;
    g->config = next;
    fit_running(g, next);
    log_setup((enum log_level)next->daemon.log_level, (enum log_format)next->daemon.log_format);
    shard_reload(g->shard, next);
    routes_reload(g->routes, next);
    front_reload(g->front, &next->limits);
    if (!gatherd_install_policies(g, access, next, old))
        LOG_ERROR("config", "no memory: some policies are still the old ones; restart");
    for (size_t i = 0; i < next->listener_count; i++) {
        const struct config_listener *l = &next->listeners[i];
        const struct gatherd_slot *slot = gatherd_find_slot(g, l->policy);
        front_reload_listener(g->front, l,
                              &(struct front_access){access->tokens[i], access->peers[i],
                                                     slot != NULL ? slot->pool : NULL});
    }
    access_free(&g->access);
    g->access = *access;
    config_destroy(old);
}

/* What a pipe held at the start is gone; empty, it would be taken for a configuration of
 * defaults. */
static bool is_pipe(const char *path, struct buf *errors)
{
    struct stat st;
    if (path == NULL || stat(path, &st) != 0 || !S_ISFIFO(st.st_mode))
        return false;
    buf_printf(errors, "%s: is a pipe, and cannot be read again\n", path);
    return true;
}

/* A large file takes 30 ms to be looked at. Known is the one that was looked at, which the system's
 * never is; and the mark of one that may no longer be read is the same as before. */
static bool knows_authorities(const struct gatherd *g, const struct config *next)
{
    const char *was = g->config->fetch.ca_file, *is = next->fetch.ca_file;
    struct resolve_mark last = g->authorities;
    return was != NULL && is != NULL && strcmp(was, is) == 0 && access(is, R_OK) == 0 &&
           !tls_trust_changed(&last, is) && last.inode != 0;
}

void gatherd_reload(struct gatherd *g)
{
    struct buf errors;
    struct access_set access = {{0}, {0}, {0}};
    const struct config_source *s = g->source;
    bool none = g->no_file && !config_exists(s->path);
    const char *path = none ? NULL : s->path;
    struct config *next = NULL;
    buf_init(&errors, 0);
    if (!is_pipe(path, &errors))
        next = config_load(path, s->overrides, s->override_count, &errors);
    bool ok = next != NULL && can_take(g, next) &&
              access_load(&access, next, knows_authorities(g, next), &errors);
    gatherd_log_errors(&errors);
    if (ok) {
        say_needs_restart(g, next);
        g->no_file = none;
        take_config(g, next, &access);
        LOG_INFO("gatherd", "reloaded");
        return;
    }
    config_destroy(next);
    LOG_ERROR("gatherd", "not reloaded: the configuration that was is kept");
}

