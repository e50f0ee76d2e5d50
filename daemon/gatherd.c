/* SPDX-License-Identifier: MIT
 *
 * gatherd - the front's loop and one struct that holds all. Called by main().
 *
 * In a turn of this loop (see turn.h) the front is served (MHD_run, new batches), batches hand
 * their members over and end, the fetch loops' mail goes out and comes in; again while one of them
 * made work for another. With loops = 0 the engine runs in the same turn.
 *
 * Run modes: RUN -> DRAIN (SIGTERM: no new batches, running ones finish) -> ABORT (second SIGTERM
 * or drain_timeout: running ones are cut, what is known is answered) -> OFF (everything is closed,
 * layer by layer from the top, then freed). Stages come up in the order of a table and go down in
 * the other.
 */
#include "gatherd.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <ares.h>
#include <curl/curl.h>
#include <uv.h>

#include "access.h"
#include "batch.h"
#include "build.h"
#include "clock.h"
#include "descriptors.h"
#include "hostname.h"
#include "http_front.h"
#include "http_routes.h"
#include "lag.h"
#include "log.h"
#include "metrics.h"
#include "notify.h"
#include "shard.h"
#include "tls_start.h"
#include "tls_trust.h"
#include "turn.h"

enum {
    ABORT_GRACE_MS = 500, /* for clients to take their cut answers */
};

enum mode { MODE_RUN, MODE_DRAIN, MODE_ABORT, MODE_OFF };

struct size { /* what needs a restart, and descriptors */
    int64_t clients, loops;
};

struct pool_slot { /* a policy by name; it stays when a reload no longer names it, and denies all */
    char name[64];
    bool removed;
    struct policy *policy;
    struct shard_pool *pool;
};

struct gatherd {
    struct config *config;
    const struct config_source *source;
    bool no_file; /* the source's has not been there yet; once it was, it must be */
    uv_loop_t loop;
    struct turn turn;
    uv_timer_t mode_timer, watchdog;
    uv_signal_t sigterm, sigint, sighup;
    enum mode mode;
    struct size in_force; /* since the start */
    struct size asked;    /* by the configuration, before it was fitted into the descriptors */
    bool loop_open, engine_closing;
    struct metrics metrics;
    struct lag lag;
    struct notify notify;
    struct access_set access; /* its policies have moved to the slots */
    struct pool_slot slots[CONFIG_NAMED_MAX];
    size_t slot_count;
    struct policy_endpoint own[CONFIG_ADDRESSES_MAX];
    size_t own_count;
    struct resolve_mark authorities; /* the file that TLS servers are checked against */
    struct shard *shard;
    struct batches *batches;
    struct routes *routes;
    struct front *front;
};

static void wake(void *arg)
{
    struct gatherd *g = arg;
    turn_wake(&g->turn);
}

/* --- modes --- */

static const char *mode_name(enum mode mode)
{
    static const char *const names[] = {"run", "drain", "abort", "off"};
    return names[mode];
}

static void on_mode_timer(uv_timer_t *timer);

static void enter(struct gatherd *g, enum mode mode)
{
    if (mode <= g->mode)
        return;
    LOG_INFO("gatherd", "mode=%s batches=%zu", mode_name(mode), batches_running(g->batches));
    g->mode = mode;
    if (mode == MODE_DRAIN) {
        notify_send(&g->notify, "STOPPING=1\nSTATUS=Draining %zu batches", batches_running(g->batches));
        routes_drain(g->routes);
        front_drain(g->front);
        uv_timer_start(&g->mode_timer, on_mode_timer,
                       (uint64_t)(g->config->daemon.drain_timeout_us / US_PER_MS), 0);
    } else if (mode == MODE_ABORT) {
        batches_cancel_all(g->batches);
        uv_timer_start(&g->mode_timer, on_mode_timer, ABORT_GRACE_MS, 0);
    }
    wake(g);
}

static void on_mode_timer(uv_timer_t *timer)
{
    struct gatherd *g = timer->data;
    enter(g, g->mode == MODE_DRAIN ? MODE_ABORT : MODE_OFF);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
    struct gatherd *g = handle->data;
    LOG_INFO("gatherd", "signal=%s", number == SIGINT ? "SIGINT" : "SIGTERM");
    enter(g, g->mode == MODE_RUN ? MODE_DRAIN : MODE_ABORT);
}

/* --- descriptors --- */

/* RLIMIT_NOFILE, raised to what is wanted as far as that may be; less than 0: not known. */
static int64_t raise_limit(int64_t wanted)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return -1;
    if (files.rlim_cur < (rlim_t)wanted) {
        rlim_t most = files.rlim_max;
        files.rlim_cur = most == RLIM_INFINITY || (rlim_t)wanted < most ? (rlim_t)wanted : most;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0 && getrlimit(RLIMIT_NOFILE, &files) != 0)
            return -1;
    }
    return files.rlim_cur < INT64_MAX ? (int64_t)files.rlim_cur : INT64_MAX;
}

/* As many descriptors as may be needed, or less of what needs them. open: see descriptors.h. */
static bool fit_descriptors(struct config *c, int64_t open)
{
    int64_t wanted = descriptors_wanted(c, open), available = raise_limit(wanted);
    if (available < 0)
        return false;
    if (descriptors_fit(c, available, open))
        LOG_WARN("gatherd",
                 "descriptors=%lld wanted=%lld clients=%lld in_flight=%lld idle_connections=%lld "
                 "hint=\"LimitNOFILE= or fewer clients\"",
                 (long long)available, (long long)wanted, (long long)c->limits.clients,
                 (long long)c->limits.in_flight, (long long)c->fetch.idle_connections);
    return true;
}

/* --- reload --- */

static void log_lines(enum log_level level, const char *text)
{
    while (*text != '\0') {
        size_t n = strcspn(text, "\n");
        LOG_AT(level, "config", "%.*s", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static struct pool_slot *find_slot(struct gatherd *g, const char *name)
{
    for (size_t i = 0; i < g->slot_count; i++)
        if (strcmp(g->slots[i].name, name) == 0)
            return &g->slots[i];
    return NULL;
}

/* Gives a policy to the pool of its name, which is opened on first use. */
static bool install_policy(struct gatherd *g, struct policy *policy, bool changed)
{
    struct pool_slot *slot = find_slot(g, policy_name(policy));
    if (slot == NULL) {
        struct shard_pool *pool =
            g->slot_count < CONFIG_NAMED_MAX ? shard_pool_open(g->shard, policy) : NULL;
        if (pool == NULL)
            return false;
        slot = &g->slots[g->slot_count++];
        snprintf(slot->name, sizeof slot->name, "%s", policy_name(policy));
        slot->pool = pool;
    } else {
        shard_pool_set_policy(slot->pool, policy, changed);
        policy_destroy(slot->policy);
    }
    slot->policy = policy;
    slot->removed = false;
    return true;
}

/* Batches may still run under policies that are no longer in the file. */
static bool remove_policies(struct gatherd *g, const struct config *config)
{
    bool ok = true;
    for (size_t i = 0; i < g->slot_count; i++) {
        struct pool_slot *slot = &g->slots[i];
        if (slot->removed || config_find_policy(config, slot->name) != NULL)
            continue;
        struct policy *policy = policy_create_removed(slot->name);
        slot->removed = policy != NULL && install_policy(g, policy, true);
        ok &= slot->removed;
    }
    return ok;
}

/* Whether one of the items, with blanks between them, is all addresses of a family. */
static bool has_all(const char *items)
{
    const char *slash = items;
    while ((slash = strchr(slash, '/')) != NULL)
        if (strspn(++slash, "0") == 1 && strchr("]: \t", slash[1]) != NULL)
            return true;
    return false;
}

/* The kind of line by which the policy opens all that the machine reaches; NULL = by none. */
static const char *opens_all(const struct config_policy *p)
{
    char pattern[HOSTNAME_MAX + 3];
    if (p->mode == POLICY_MODE_REPORT)
        return "mode=report";
    for (size_t i = 0; i < p->allow.count; i++)
        if (has_all(p->allow.items[i]))
            return "allow=/0";
    for (size_t i = 0; i < p->allow_host.count; i++) {
        const char *items = hostname_split_arrow(p->allow_host.items[i], pattern);
        if (items != NULL && strcmp(pattern, "*") == 0 && has_all(items))
            return "allow_host=\"* -> /0\"";
    }
    return NULL;
}

/* base = unsafe-any is refused without a token, for one word opens what nobody has listed. This was
 * listed, or is a trial: it is said, as whoever reaches the port reaches all that it opens. */
static void warn_unguarded(struct gatherd *g, const struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        const struct config_policy *p = config_find_policy(config, l->policy);
        const char *by = opens_all(p);
        if (by == NULL || l->token_file != NULL || front_reach(g->front, l->name) < REACH_MACHINE)
            continue;
        LOG_WARN("policy",
                 "listener=%s policy=%s %s and no token_file: every user and program of this "
                 "machine may fetch from all that this machine reaches",
                 l->name, p->name, by);
    }
}

/* A policy that says what it said in `before` keeps its connections, but not those to servers that
 * other authorities have vouched for. */
static bool install_policies(struct gatherd *g, struct access_set *access,
                             const struct config *config, const struct config *before)
{
    bool ok = remove_policies(g, config);
    bool renew = tls_trust_changed(&g->authorities, config->fetch.ca_file);
    for (size_t i = 0; i < config->policy_count; i++) {
        const struct config_policy *now = &config->policies[i];
        const struct config_policy *was = config_find_policy(before, now->name);
        bool changed = renew || was == NULL || !config_policy_equal(was, now);
        if (now->mode == POLICY_MODE_REPORT)
            LOG_WARN("policy",
                     "policy=%s mode=report: it denies own listeners and metadata addresses, "
                     "and nothing else",
                     now->name);
        if (policy_set_own(access->policies[i], g->own, g->own_count) &&
            install_policy(g, access->policies[i], changed))
            access->policies[i] = NULL;
        else
            ok = false;
    }
    warn_unguarded(g, config);
    return ok;
}

static const struct config_listener *find_listener(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->listener_count; i++)
        if (strcmp(c->listeners[i].name, name) == 0)
            return &c->listeners[i];
    return NULL;
}

/* Each name of a policy has a pool from its first use on, because jobs may still run in it. */
static bool has_room(struct gatherd *g, const struct config *next)
{
    size_t wanted = g->slot_count;
    for (size_t i = 0; i < next->policy_count; i++)
        wanted += find_slot(g, next->policies[i].name) == NULL;
    if (wanted <= CONFIG_NAMED_MAX)
        return true;
    LOG_ERROR("config", "%zu names of policies since the start, at most %d: that needs a restart",
              wanted, CONFIG_NAMED_MAX);
    return false;
}

/* config_load() has judged the addresses that the file names; open are those of the start. Neither
 * may be left without the token that it needs. */
static bool stays_guarded(const struct gatherd *g, const struct config *next)
{
    for (size_t i = 0; i < next->listener_count; i++) {
        const struct config_listener *l = &next->listeners[i];
        enum front_reach reach = front_reach(g->front, l->name);
        bool any = config_find_policy(next, l->policy)->base == POLICY_BASE_UNSAFE_ANY;
        if (l->token_file != NULL || reach < (any ? REACH_MACHINE : REACH_NETWORK))
            continue;
        LOG_ERROR("config", "listener.%s.token_file is empty, and its addresses of before are open to "
                            "%s: that needs a restart", l->name,
                  reach == REACH_NETWORK ? "other machines" : "this machine with base = unsafe-any");
        return false;
    }
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
    if (!has_room(g, next) || !stays_guarded(g, next))
        return false;
    say_needs_restart(g, next);
    return true;
}

/* The budget is for what is there, whatever the file says of it. */
static void fit_running(struct gatherd *g, struct config *next)
{
    g->asked = (struct size){next->limits.clients, next->daemon.loops};
    next->limits.clients = g->in_force.clients;
    next->daemon.loops = g->in_force.loops;
    if (!fit_descriptors(next, (int64_t)front_addresses(g->front)))
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
    if (!install_policies(g, access, next, old))
        LOG_ERROR("config", "no memory: some policies are still the old ones; restart");
    for (size_t i = 0; i < next->listener_count; i++) {
        const struct config_listener *l = &next->listeners[i];
        const struct pool_slot *slot = find_slot(g, l->policy);
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

static void reload(struct gatherd *g)
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
    log_lines(LOG_LEVEL_ERROR, buf_cstr(&errors));
    buf_fini(&errors);
    if (ok) {
        g->no_file = none;
        take_config(g, next, &access);
        LOG_INFO("gatherd", "reloaded");
        return;
    }
    config_destroy(next);
    LOG_ERROR("gatherd", "not reloaded: the configuration that was is kept");
}

static void on_sighup(uv_signal_t *handle, int number)
{
    struct gatherd *g = handle->data;
    (void)number;
    if (g->mode != MODE_RUN)
        return;
    notify_send(&g->notify, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reloading",
                (long long)clock_us());
    reload(g);
    notify_send(&g->notify, "READY=1\nSTATUS=Waiting for batches");
}

/* --- closing, layer by layer --- */

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void on_engine_closed(void *arg)
{
    struct gatherd *g = arg;
    turn_close(&g->turn);
    close_handle((uv_handle_t *)&g->mode_timer);
    close_handle((uv_handle_t *)&g->watchdog);
    close_handle((uv_handle_t *)&g->sigterm);
    close_handle((uv_handle_t *)&g->sigint);
    close_handle((uv_handle_t *)&g->sighup);
}

static void on_batches_closed(void *arg)
{
    struct gatherd *g = arg;
    shard_close(g->shard, on_engine_closed, g);
}

static void on_routes_closed(void *arg)
{
    struct gatherd *g = arg;
    batches_close(g->batches, on_batches_closed, g);
}

static void on_front_closed(void *arg)
{
    struct gatherd *g = arg;
    g->front = NULL;
    routes_set_front(g->routes, NULL);
    wake(g);
}

/* At the end of each turn of DRAIN, ABORT and OFF: may the next step be taken? */
static void step_down(struct gatherd *g)
{
    if (g->engine_closing) /* and the batches with it */
        return;
    bool quiet = batches_alive(g->batches) == 0;
    if (g->mode != MODE_RUN && g->mode != MODE_OFF && quiet && front_exchanges(g->front) == 0)
        enter(g, MODE_OFF);
    if (g->mode != MODE_OFF)
        return;
    if (g->front != NULL && !uv_is_closing((uv_handle_t *)&g->mode_timer)) {
        uv_close((uv_handle_t *)&g->mode_timer, NULL); /* marks that the front is being closed */
        front_close(g->front, on_front_closed, g);
    } else if (g->front == NULL && quiet) {
        g->engine_closing = true;
        routes_close(g->routes, on_routes_closed, g);
    }
}

/* --- the turn --- */

/* In this order a request that came in is on its way upstream in the same round. */
static bool act(void *arg)
{
    struct gatherd *g = arg;
    if (g->engine_closing)
        return false;
    bool again = g->front != NULL && front_turn(g->front);
    again |= batches_turn(g->batches);
    shard_flush(g->shard);
    again |= shard_turn(g->shard);
    return again;
}

static void on_turn_ended(void *arg, int64_t now_us, int64_t busy_us)
{
    struct gatherd *g = arg;
    lag_note(&g->lag, now_us, busy_us);
    if (g->mode != MODE_RUN)
        step_down(g);
}

/* Four times in its interval. That this timer fires says that the front turns; a fetch loop that was
 * asked half an interval ago and has not turned since is stuck: without a beat the manager starts
 * another gatherd. */
static void on_watchdog(uv_timer_t *timer)
{
    struct gatherd *g = timer->data;
    int64_t silent_us = g->engine_closing ? 0 : shard_silent_us(g->shard);
    if (silent_us >= g->notify.watchdog_us / 2) {
        LOG_WARN("gatherd", "error=\"a fetch loop does not turn\" for_ms=%lld",
                 (long long)(silent_us / US_PER_MS));
        notify_send(&g->notify, "STATUS=A fetch loop does not turn");
        return;
    }
    if (g->engine_closing) { /* no more to be counted: what counts is being freed */
        notify_send(&g->notify, "WATCHDOG=1\nSTATUS=Closing");
        return;
    }
    notify_send(&g->notify, "WATCHDOG=1\nSTATUS=%zu batches, %zu members active, %zu waiting",
                batches_running(g->batches), shard_active(g->shard), shard_waiting(g->shard));
}

/* --- stages of the start --- */

static int up_process(struct gatherd *g)
{
    struct config *c = g->config;
    signal(SIGPIPE, SIG_IGN);
    g->asked = (struct size){c->limits.clients, c->daemon.loops};
    if (!fit_descriptors(c, 0))
        return EX_OSERR;
    g->in_force = (struct size){c->limits.clients, c->daemon.loops};
    return 0;
}

static int up_libraries(struct gatherd *g)
{
    notify_init(&g->notify);
    clearenv(); /* proxies, resolver options, TLS settings: nothing of it is to steer us */
    setlocale(LC_CTYPE, "C.UTF-8"); /* libcurl's IDN needs it */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS || !tls_start())
        return EX_OSERR;
    return 0;
}

static void down_libraries(struct gatherd *g)
{
    ares_library_cleanup();
    curl_global_cleanup();
    notify_fini(&g->notify);
}

static int up_loop(struct gatherd *g)
{
    const struct turn_params turn = {
        .loop = &g->loop,
        .act = act,
        .ended = on_turn_ended,
        .arg = g,
        .metrics = &g->metrics,
    };
    int rc = uv_loop_init(&g->loop);
    if (rc != 0) {
        LOG_ERROR("gatherd", "step=loop_init error=\"%s\"", uv_strerror(rc));
        return EX_OSERR;
    }
    g->loop_open = true;
    turn_init(&g->turn, &turn);
    uv_timer_init(&g->loop, &g->mode_timer);
    uv_timer_init(&g->loop, &g->watchdog);
    uv_signal_init(&g->loop, &g->sigterm);
    uv_signal_init(&g->loop, &g->sigint);
    uv_signal_init(&g->loop, &g->sighup);
    g->mode_timer.data = g->watchdog.data = g;
    g->sigterm.data = g->sigint.data = g->sighup.data = g;
    uv_signal_start(&g->sigterm, on_stop_signal, SIGTERM);
    uv_signal_start(&g->sigint, on_stop_signal, SIGINT);
    uv_signal_start(&g->sighup, on_sighup, SIGHUP);
    return 0;
}

/* Also the way down from a start that failed half-way: whatever is open is closed, and run to its
 * end. */
static void down_loop(struct gatherd *g)
{
    if (!g->loop_open)
        return;
    on_engine_closed(g);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&g->loop);
    if (rc != 0)
        LOG_ERROR("gatherd", "step=loop_close error=\"%s\"", uv_strerror(rc));
}

static int up_access(struct gatherd *g)
{
    struct buf errors;
    buf_init(&errors, 0);
    bool ok = access_load(&g->access, g->config, false, &errors);
    log_lines(LOG_LEVEL_ERROR, buf_cstr(&errors));
    buf_fini(&errors);
    return ok ? 0 : EX_CONFIG;
}

static void down_access(struct gatherd *g)
{
    access_free(&g->access);
    for (size_t i = 0; i < g->slot_count; i++)
        policy_destroy(g->slots[i].policy);
}

static void on_engine_rested(void *arg)
{
    struct gatherd *g = arg;
    if (g->front != NULL)
        front_engines_rest(g->front);
}

static int up_engine(struct gatherd *g)
{
    const char *why = NULL;
    const struct shard_params params = {
        .loop = &g->loop,
        .turn = &g->turn,
        .config = g->config,
        .metrics = &g->metrics,
        .done = batches_job_done,
        .rested = on_engine_rested,
        .arg = g,
    };
    g->shard = shard_create(&params, &why);
    if (g->shard == NULL) {
        LOG_ERROR("gatherd", "step=engine error=\"%s\"", why);
        return EX_OSERR;
    }
    return 0;
}

static void on_nothing(void *arg)
{
    (void)arg;
}

static void down_engine(struct gatherd *g)
{
    if (g->shard != NULL && !g->engine_closing)
        shard_close(g->shard, on_nothing, NULL);
}

static int up_batches(struct gatherd *g)
{
    const struct batches_params batches = {.loop = &g->loop,
                                           .shard = g->shard,
                                           .metrics = &g->metrics,
                                           .lag = &g->lag,
                                           .wake = wake,
                                           .arg = g};
    g->batches = batches_create(&batches);
    if (g->batches == NULL)
        return EX_OSERR;
    const struct routes_params routes = {.loop = &g->loop,
                                         .config = g->config,
                                         .shard = g->shard,
                                         .batches = g->batches,
                                         .metrics = &g->metrics};
    g->routes = routes_create(&routes);
    return g->routes != NULL ? 0 : EX_OSERR;
}

static void down_batches(struct gatherd *g)
{
    if (g->engine_closing)
        return;
    if (g->routes != NULL)
        routes_close(g->routes, on_nothing, NULL);
    if (g->batches != NULL)
        batches_close(g->batches, on_nothing, NULL);
}

static int up_front(struct gatherd *g)
{
    const struct front_params params = {.loop = &g->loop,
                                        .limits = &g->config->limits,
                                        .metrics = &g->metrics,
                                        .handler = routes_handler(g->routes),
                                        .wake = wake,
                                        .arg = g};
    g->front = front_create(&params);
    if (g->front == NULL)
        return EX_OSERR;
    routes_set_front(g->routes, g->front);
    for (size_t i = 0; i < g->config->listener_count; i++) {
        const struct config_listener *l = &g->config->listeners[i];
        int rc = front_listen(
            g->front, l, &(struct front_access){g->access.tokens[i], g->access.peers[i], NULL});
        if (rc != 0)
            return rc;
    }
    g->own_count = front_endpoints(g->front, g->own, CONFIG_ADDRESSES_MAX);
    if (!install_policies(g, &g->access, g->config, g->config))
        return EX_OSERR;
    for (size_t i = 0; i < g->config->listener_count; i++) {
        const struct config_listener *l = &g->config->listeners[i];
        front_reload_listener(g->front, l,
                              &(struct front_access){g->access.tokens[i], g->access.peers[i],
                                                     find_slot(g, l->policy)->pool});
    }
    return 0;
}

static void down_front(struct gatherd *g)
{
    if (g->front != NULL)
        front_close(g->front, on_nothing, NULL);
    g->front = NULL;
}

static const struct stage {
    const char *name;
    int (*up)(struct gatherd *g);
    void (*down)(struct gatherd *g); /* also after a failed up() */
} stages[] = {
    {"process", up_process, NULL},
    {"libraries", up_libraries, down_libraries},
    {"loop", up_loop, down_loop},
    {"access", up_access, down_access},
    {"engine", up_engine, down_engine},
    {"batches", up_batches, down_batches},
    {"front", up_front, down_front},
};

enum { STAGES = sizeof stages / sizeof stages[0] };

static void announce(struct gatherd *g)
{
    uint64_t beat_ms = (uint64_t)(g->notify.watchdog_us / 4 / US_PER_MS);
    LOG_INFO("gatherd", "ready version=%s libcurl=%s", PACKAGE_VERSION,
             curl_version_info(CURLVERSION_NOW)->version);
    notify_send(&g->notify, "READY=1\nSTATUS=Waiting for batches");
    if (g->notify.watchdog_us > 0)
        uv_timer_start(&g->watchdog, on_watchdog, beat_ms, beat_ms > 0 ? beat_ms : 1);
}

int gatherd_run(struct config *config, const struct config_source *source)
{
    struct gatherd *g = calloc(1, sizeof *g);
    int rc = 0, up = 0;
    if (g == NULL) {
        LOG_ERROR("gatherd", "error=\"out of memory\"");
        config_destroy(config);
        return EX_OSERR;
    }
    g->config = config;
    g->source = source;
    g->no_file = source->absent;
    for (; up < STAGES && rc == 0; up++) {
        rc = stages[up].up(g);
        if (rc != 0)
            LOG_ERROR("gatherd", "stage=%s exit=%d", stages[up].name, rc);
    }
    if (rc == 0) {
        announce(g);
        log_hold(true); /* each turn writes them */
        wake(g);
        uv_run(&g->loop, UV_RUN_DEFAULT);
    }
    log_hold(false);
    while (up-- > 0)
        if (stages[up].down != NULL)
            stages[up].down(g);
    config_destroy(g->config);
    free(g);
    return rc;
}

bool gatherd_check(const struct config *config, struct buf *errors)
{
    struct access_set access;
    bool ok = access_load(&access, config, false, errors);
    if (ok)
        access_free(&access);
    return ok;
}
