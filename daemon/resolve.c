/* SPDX-License-Identifier: MIT
 *
 * resolve - see resolve.h. Called by fetch on its loop's thread. Owns the names that are not yet
 * told, the channels (resolve_ares), and one timer; the cache only when it was given none.
 *
 * A name's state is the list it is on; name_move() is the one mover:
 *   PENDING   wants a look-up, the bound is reached
 *   FRESH     in flight for less than a second: counts
 *   OLD       in flight for longer: does not count
 *   FINISHED  answered and in the cache, waiters to be told by the next resolve_turn(), then freed
 * c-ares may answer while it is asked (a name it refuses): resolve_start() then finds its name
 * FINISHED and returns the answer. The hosts file is a table of its own, looked into after the
 * cache; a change of it empties the cache.
 *
 * A new resolv.conf or a reload begins a new generation of the cache, and who shares it follows
 * with a new channel before it asks again: what an older generation finds out is told to those who
 * wait and then forgotten.
 */
#include "resolve.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "resolve_ares.h"
#include "resolve_cache.h"
#include "resolve_file.h"
#include "resolve_hosts.h"
#include "table.h"

#define DNS_PORT 53
#define IN_FLIGHT_MAX 10000 /* c-ares has 65536 query numbers and needs two a name */
#define FRESH_MS 1000
#define ASKS_MAX 64 /* names asked for from one resolve_turn() to the next: 13 us each */
#define TOLD_MAX 64 /* waiters told by one: each may start a transfer */
#define STAT_MS 1000

enum name_state { NAME_PENDING, NAME_FRESH, NAME_OLD, NAME_FINISHED, NAME_STATES };

struct resolve {
    struct resolve_params params;
    struct arena memory; /* the names of the servers */
    struct table names;
    struct list lists[NAME_STATES];
    size_t counts[NAME_STATES];
    int asks; /* since the last resolve_turn() */
    struct resolve_ares *channel;
    struct list retired; /* channels that drain */
    size_t handles;      /* the timer and the channels, while open */
    uv_timer_t timer;    /* runs while names are PENDING: the oldest FRESH one gets OLD */
    struct resolve_cache *cache, *own_cache;
    uint64_t generation; /* of the cache, for which the channel was made */
    struct resolve_hosts *hosts;
    struct resolve_mark mark;     /* of resolv.conf */
    uint64_t stat_ms;             /* loop time of the last look at the files */
    uint64_t failed_ms;           /* loop time when no new channel was to be had */
    struct resolve_answer answer; /* what resolve_start() returns */
    int64_t lookups, cache_hits;
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

struct resolve_name {
    struct table_node in_table;
    struct list node;
    struct list waiters;
    struct resolve *resolve;
    struct resolve_question question;
    enum name_state state;
    uint64_t generation; /* in which it was asked for */
    uint64_t since_ms;   /* loop time: in flight */
    enum err_type error; /* the answer, when FINISHED */
    const char *message;
    size_t count;
    struct ip_addr *addresses;
    char text[];
};

static uint64_t now_ms(const struct resolve *r)
{
    return uv_now(r->params.loop);
}

/* Names */

static void name_move(struct resolve_name *name, enum name_state state)
{
    struct resolve *r = name->resolve;
    list_remove(&name->node);
    r->counts[name->state]--;
    name->state = state;
    list_append(&r->lists[state], &name->node);
    r->counts[state]++;
}

static struct resolve_name *name_first(struct resolve *r, enum name_state state)
{
    struct list *head = &r->lists[state];
    return list_empty(head) ? NULL : LIST_CONTAINER(head->next, struct resolve_name, node);
}

static void name_free(struct resolve_name *name)
{
    struct resolve *r = name->resolve;
    assert(list_empty(&name->waiters));
    list_remove(&name->node);
    r->counts[name->state]--;
    table_remove(&r->names, &name->in_table);
    free(name->addresses);
    free(name);
}

static bool same_name(const struct table_node *node, const void *text)
{
    return strcmp(LIST_CONTAINER(node, struct resolve_name, in_table)->text, text) == 0;
}

static struct resolve_name *name_find(struct resolve *r, const char *text)
{
    uint64_t hash = table_hash(&r->names, text, strlen(text));
    struct table_node *node = table_find(&r->names, hash, same_name, text);
    return node ? LIST_CONTAINER(node, struct resolve_name, in_table) : NULL;
}

static struct resolve_name *name_create(struct resolve *r, const char *text)
{
    size_t n = strlen(text);
    struct resolve_name *name = calloc(1, sizeof *name + n + 1);
    if (!name)
        return NULL;
    memcpy(name->text, text, n + 1);
    name->resolve = r;
    name->state = NAME_PENDING;
    list_init(&name->waiters);
    list_init(&name->node);
    list_append(&r->lists[NAME_PENDING], &name->node);
    r->counts[NAME_PENDING]++;
    table_insert(&r->names, &name->in_table, table_hash(&r->names, text, n));
    return name;
}

/* The answer is kept with the name until it is told, whatever becomes of the cache's copy. */
static void name_store(struct resolve_name *name, const struct resolve_answer *answer)
{
    size_t bytes = answer->count * sizeof name->addresses[0];
    name->error = answer->error;
    name->message = answer->message;
    name->count = answer->count;
    if (answer->count == 0)
        return;
    name->addresses = malloc(bytes);
    if (name->addresses) {
        memcpy(name->addresses, answer->addresses, bytes);
        return;
    }
    name->error = ERR_DNS_ERROR;
    name->message = "out of memory";
    name->count = 0;
}

static void name_answer(const struct resolve_name *name, struct resolve_answer *out)
{
    out->error = name->error;
    out->message = name->message;
    out->count = name->count;
    if (name->count > 0)
        memcpy(out->addresses, name->addresses, name->count * sizeof name->addresses[0]);
}

/* Look-ups */

static void name_finish(struct resolve_name *name, const struct resolve_answer *answer)
{
    struct resolve *r = name->resolve;
    name_store(name, answer);
    name_move(name, NAME_FINISHED);
    r->params.wake(r->params.arg);
}

static void on_answered(struct resolve_question *question, const struct resolve_answer *answer,
                        int ttl_s)
{
    struct resolve_name *name = LIST_CONTAINER(question, struct resolve_name, question);
    uint64_t now = now_ms(name->resolve);
    resolve_cache_put(name->resolve->cache, name->text, name->generation, now,
                      now + (uint64_t)ttl_s * 1000, answer);
    name_finish(name, answer);
}

/* While a name waited for the bound another loop may have learnt its answer. */
static bool learnt_elsewhere(struct resolve *r, struct resolve_name *name)
{
    struct resolve_answer answer;
    if (list_empty(&name->waiters) || !resolve_cache_get(r->cache, name->text, now_ms(r), &answer))
        return false;
    name_finish(name, &answer);
    return true;
}

static void look_up(struct resolve *r, struct resolve_name *name)
{
    name->generation = r->generation;
    name->since_ms = now_ms(r);
    name_move(name, NAME_FRESH);
    r->lookups++;
    resolve_ares_ask(r->channel, &name->question, name->text);
}

/* Channels */

static void resolve_free(struct resolve *r);

static void part_closed(void *arg)
{
    struct resolve *r = arg;
    if (--r->handles > 0)
        return;
    void (*closed)(void *arg) = r->closed;
    void *closed_arg = r->closed_arg;
    resolve_free(r);
    closed(closed_arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

/* The mark is taken first: a change in between is seen next time. */
static struct resolve_ares *channel_create(struct resolve *r, const char **why)
{
    const struct resolve_ares_params params = {
        .loop = r->params.loop,
        .servers = r->params.servers,
        .server_count = r->params.server_count,
        .resolv_conf = r->params.resolv_conf,
        .port = r->params.port,
        .answered = on_answered,
        .closed = part_closed,
        .arg = r,
    };
    r->mark = resolve_mark_of(r->params.resolv_conf);
    struct resolve_ares *channel = resolve_ares_create(&params, why);
    if (channel)
        r->handles++;
    return channel;
}

static void reap_retired(struct resolve *r)
{
    struct list *it, *tmp;
    LIST_FOREACH_SAFE(it, tmp, &r->retired) {
        struct resolve_ares *channel = resolve_ares_of_node(it);
        if (resolve_ares_in_flight(channel) > 0)
            continue;
        list_remove(it);
        resolve_ares_close(channel);
    }
}

/* Follows the cache's generation with a new channel, and with the hosts file of now. When there is
 * no channel to be had the old one stays, what it finds out is not kept, and a second later it is
 * tried again. */
static void renew_channel(struct resolve *r)
{
    const char *why;
    uint64_t generation = resolve_cache_generation(r->cache);
    struct resolve_ares *channel = channel_create(r, &why);
    if (!channel) {
        r->failed_ms = now_ms(r);
        LOG_ERROR("resolve", "the old name servers stay: %s", why);
        return;
    }
    resolve_hosts_check(r->hosts);
    r->generation = generation;
    list_append(&r->retired, resolve_ares_node(r->channel));
    r->channel = channel;
    reap_retired(r);
}

void resolve_reload(struct resolve *r)
{
    if (r->own_cache)
        resolve_cache_renew(r->own_cache, 0);
    if (resolve_cache_generation(r->cache) != r->generation)
        renew_channel(r);
}

static bool resolv_conf_changed(struct resolve *r)
{
    if (r->params.server_count > 0)
        return false;
    struct resolve_mark mark = resolve_mark_of(r->params.resolv_conf);
    if (resolve_mark_same(&mark, &r->mark))
        return false;
    r->mark = mark;
    LOG_INFO("resolve", "%s changed: read again", r->params.resolv_conf);
    return true;
}

/* Once a second at the most, before a name is looked up: in the cache, too. */
static void check_files(struct resolve *r)
{
    uint64_t now = now_ms(r);
    if (now - r->stat_ms >= STAT_MS) {
        r->stat_ms = now;
        bool changed = resolve_hosts_check(r->hosts);
        if (changed)
            LOG_INFO("resolve", "%s changed: read again", r->params.hosts);
        if (resolv_conf_changed(r) || changed)
            resolve_cache_renew(r->cache, r->generation);
    }
    if (resolve_cache_generation(r->cache) != r->generation && now - r->failed_ms >= STAT_MS)
        renew_channel(r);
}

/* The bound */

static void on_timer(uv_timer_t *timer);

static bool may_ask(const struct resolve *r)
{
    return r->counts[NAME_PENDING] > 0 && r->counts[NAME_FRESH] < (size_t)r->params.lookups &&
           r->counts[NAME_FRESH] + r->counts[NAME_OLD] < IN_FLIGHT_MAX;
}

/* Asks for as many names as may be asked for now. */
static void pump(struct resolve *r)
{
    struct resolve_name *name;
    uint64_t now = now_ms(r);
    if (r->counts[NAME_PENDING] > 0)
        check_files(r);
    while ((name = name_first(r, NAME_FRESH)) && now - name->since_ms >= FRESH_MS)
        name_move(name, NAME_OLD);
    for (; may_ask(r) && r->asks < ASKS_MAX; r->asks++) {
        name = name_first(r, NAME_PENDING);
        if (!learnt_elsewhere(r, name))
            look_up(r, name);
    }
    if (may_ask(r))
        r->params.wake(r->params.arg);
    name = name_first(r, NAME_FRESH);
    if (name && r->counts[NAME_PENDING] > 0)
        uv_timer_start(&r->timer, on_timer, name->since_ms + FRESH_MS - now, 0);
    else
        uv_timer_stop(&r->timer);
}

static void on_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

/* Life */

/* The caller's list may go with its configuration; a reload asks for the servers again. */
static bool copy_servers(struct resolve *r)
{
    const char **copy = arena_calloc(&r->memory, r->params.server_count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < r->params.server_count; i++) {
        copy[i] = arena_strdup(&r->memory, r->params.servers[i]);
        if (!copy[i])
            return false;
    }
    r->params.servers = copy;
    return copy != NULL;
}

static void resolve_free(struct resolve *r)
{
    resolve_cache_destroy(r->own_cache);
    resolve_hosts_destroy(r->hosts);
    arena_fini(&r->memory);
    free(r);
}

static bool read_hosts(struct resolve *r)
{
    r->hosts = resolve_hosts_create(r->params.hosts);
    if (r->hosts)
        resolve_hosts_check(r->hosts);
    r->stat_ms = now_ms(r);
    return r->hosts != NULL;
}

static bool borrow_cache(struct resolve *r)
{
    r->cache = r->params.cache;
    if (!r->cache)
        r->cache = r->own_cache = resolve_cache_create();
    r->generation = r->cache ? resolve_cache_generation(r->cache) : 0;
    return r->cache != NULL;
}

struct resolve *resolve_create(const struct resolve_params *params, const char **why)
{
    struct resolve *r = calloc(1, sizeof *r);
    *why = "out of memory";
    if (!r)
        return NULL;
    r->params = *params;
    if (!r->params.resolv_conf)
        r->params.resolv_conf = "/etc/resolv.conf";
    if (!r->params.hosts)
        r->params.hosts = "/etc/hosts";
    if (r->params.port == 0)
        r->params.port = DNS_PORT;
    for (int i = 0; i < NAME_STATES; i++)
        list_init(&r->lists[i]);
    list_init(&r->retired);
    arena_init(&r->memory);
    if (table_init(&r->names) && copy_servers(r) && read_hosts(r) && borrow_cache(r))
        r->channel = channel_create(r, why);
    if (!r->channel) {
        table_fini(&r->names);
        resolve_free(r);
        return NULL;
    }
    uv_timer_init(r->params.loop, &r->timer);
    r->timer.data = r;
    r->handles++;
    return r;
}

static void name_abandon(struct table_node *node, void *arg)
{
    struct resolve_name *name = LIST_CONTAINER(node, struct resolve_name, in_table);
    struct list *waiter;
    (void)arg;
    while ((waiter = list_pop(&name->waiters)))
        LIST_CONTAINER(waiter, struct resolve_query, node)->name = NULL;
    free(name->addresses);
    free(name);
}

void resolve_close(struct resolve *r, void (*closed)(void *arg), void *arg)
{
    struct list *node;
    assert(!r->closing);
    r->closing = true;
    r->closed = closed;
    r->closed_arg = arg;
    while ((node = list_pop(&r->retired)))
        resolve_ares_close(resolve_ares_of_node(node));
    resolve_ares_close(r->channel);
    table_each(&r->names, name_abandon, NULL);
    table_fini(&r->names);
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}

/* Queries */

/* localhost and what ends in .localhost is this machine, whatever a file or a server says (RFC
 * 6761). */
static bool is_localhost(const char *name)
{
    static const char word[] = "localhost";
    size_t n = strlen(name), len = sizeof word - 1;
    if (n > 0 && name[n - 1] == '.')
        n--;
    return n >= len && memcmp(name + n - len, word, len) == 0 &&
           (n == len || name[n - len - 1] == '.');
}

/* Names that need no look-up: literals and localhost. */
static bool answer_known(struct resolve *r, const char *name)
{
    struct ip_addr *to = r->answer.addresses;
    bool local = is_localhost(name);
    if (local ? !ip_parse("127.0.0.1", &to[0]) || !ip_parse("::1", &to[1])
              : !ip_parse(name, &to[0]))
        return false;
    r->answer.error = ERR_NONE;
    r->answer.message = "";
    r->answer.count = local ? 2 : 1;
    return true;
}

static bool answer_hosts(struct resolve *r, const char *name)
{
    struct resolve_families families;
    struct ip_addr ips[2 * RESOLVE_ADDRESSES_MAX];
    check_files(r);
    size_t n = resolve_hosts_find(r->hosts, name, ips, sizeof ips / sizeof ips[0]);
    families.v4_count = families.v6_count = 0;
    for (size_t i = 0; i < n; i++)
        resolve_families_add(&families, &ips[i]);
    if (n > 0)
        resolve_ares_order(r->channel, &families, &r->answer);
    return n > 0;
}

/* The name's look-up is under way, or about to be, or just told: joins its waiters. */
static const struct resolve_answer *name_join(struct resolve_name *name, struct resolve_query *q)
{
    struct resolve *r = name->resolve;
    if (name->state == NAME_FINISHED) {
        r->cache_hits++;
        name_answer(name, &r->answer);
        return &r->answer;
    }
    q->name = name;
    list_append(&name->waiters, &q->node);
    return NULL;
}

static const struct resolve_answer *name_ask(struct resolve_name *name, struct resolve_query *q)
{
    struct resolve *r = name->resolve;
    pump(r);
    if (name->state != NAME_FINISHED)
        return name_join(name, q);
    name_answer(name, &r->answer);
    name_free(name);
    return &r->answer;
}

const struct resolve_answer *resolve_start(struct resolve *r, struct resolve_query *q,
                                           const char *text, bool *failed)
{
    *failed = false;
    if (answer_known(r, text))
        return &r->answer;
    check_files(r); /* what is in the cache may be no longer so */
    struct resolve_name *name = r->names.count > 0 ? name_find(r, text) : NULL;
    if (name)
        return name_join(name, q);
    if (resolve_cache_get(r->cache, text, now_ms(r), &r->answer) || answer_hosts(r, text)) {
        r->cache_hits++;
        return &r->answer;
    }
    name = name_create(r, text);
    *failed = name == NULL;
    return name ? name_ask(name, q) : NULL;
}

void resolve_cancel(struct resolve_query *q)
{
    struct resolve_name *name = q->name;
    if (!name)
        return;
    q->name = NULL;
    list_remove(&q->node);
    if (name->state == NAME_PENDING && list_empty(&name->waiters))
        name_free(name);
}

/* Tells up to max waiters; the name is freed when all know. */
static size_t deliver(struct resolve_name *name, size_t max)
{
    struct resolve_answer answer;
    struct list *node;
    size_t n = 0;
    name_answer(name, &answer);
    for (; n < max && (node = list_pop(&name->waiters)); n++) {
        struct resolve_query *q = LIST_CONTAINER(node, struct resolve_query, node);
        q->name = NULL;
        q->done(q, &answer);
    }
    if (list_empty(&name->waiters))
        name_free(name);
    return n;
}

size_t resolve_turn(struct resolve *r)
{
    struct resolve_name *name;
    size_t n = 0;
    r->asks = 0;
    while (n < TOLD_MAX && (name = name_first(r, NAME_FINISHED)))
        n += deliver(name, TOLD_MAX - n);
    if (r->counts[NAME_FINISHED] > 0)
        r->params.wake(r->params.arg);
    pump(r);
    reap_retired(r);
    return n;
}

void resolve_get_stats(const struct resolve *r, struct resolve_stats *out)
{
    out->lookups = r->lookups;
    out->cache_hits = r->cache_hits;
    out->in_flight = r->counts[NAME_FRESH] + r->counts[NAME_OLD];
    out->waiting = r->counts[NAME_PENDING];
}
