/* SPDX-License-Identifier: MIT
 *
 * fetch_pool - the engine's pools: for each policy the transfers that are idle and the libcurl
 * multis, with their connections, that only this policy uses. Called by fetch.c and fetch_hop.c.
 *
 * A transfer that comes back goes to the front of the list: the next hop gets the handle whose
 * memory is still in the cache, and whose options are likely the ones it needs.
 */
#include "fetch_internal.h"

#include <stdlib.h>

#include "clock.h"
#include "log.h"

enum {
    MESSAGES_MAX = 128,
    RETIRED_IDLE_S = 1,    /* libcurl counts whole seconds, and a later one takes 0 for no bound */
    STARVED_US = 10000000, /* how long the want of descriptors is remembered */
    IDLE_KEPT = 16,        /* transfers, some 20 KB each: for the next small batch */
    SESSIONS_KEPT = 512,   /* TLS sessions, 4 to 15 KB each */
    TRUST_EVERY_US = 60000000, /* some may never be read whole: they are not read more often */
};

/* The idle connections are shared out among the engines. */
static long max_idle(const struct fetch *f)
{
    int64_t engines = (int64_t)f->params.engines;
    return (long)((f->params.config->idle_connections + engines - 1) / engines);
}

static long idle_s(const struct fetch *f)
{
    return (long)(f->params.config->idle_time_us / US_PER_S);
}

static void on_socket_closed(void *arg, void *tag)
{
    (void)arg;
    upstream_socket_closed(tag);
}

struct fetch_pool *fetch_pool_of(struct fetch *f, const struct fetch_job *job)
{
    return &f->pools[job->group->pool];
}

/* --- multis that are retired --- */

/* Of the rules before the last reload: it takes no transfer any more. */
struct retired {
    struct list node; /* the pool's list */
    struct curl_uv *multi;
};

static void on_retired_closed(void *arg)
{
    struct fetch *f = arg;
    f->retired_closing--;
    if (f->retired_closed != NULL)
        f->retired_closed(f);
}

static void close_retired(struct fetch *f, struct retired *r)
{
    list_remove(&r->node);
    f->retired_closing++;
    curl_uv_close(r->multi, on_retired_closed, f);
    free(r);
}

/* What is idle beside the transfers that run is closed when the timer comes by, and when it was
 * idle for so long that libcurl sees it. */
static size_t sweep_retired(struct fetch_pool *p)
{
    struct list *node, *next;
    size_t sockets = 0;
    LIST_FOREACH_SAFE(node, next, &p->retired) {
        struct curl_uv *m = LIST_CONTAINER(node, struct retired, node)->multi;
        curl_uv_sweep(m, RETIRED_IDLE_S);
        sockets += curl_uv_sockets(m);
    }
    return sockets;
}

bool fetch_has_retired(const struct fetch *f)
{
    bool has = false;
    for (size_t i = 0; i < CONFIG_NAMED_MAX && f->pools[i].open; i++)
        has |= !list_empty(&f->pools[i].retired);
    return has;
}

/* A multi without transfers goes at once, one that has some with the last of them. */
static void close_unused_retired(struct fetch *f, struct fetch_pool *p)
{
    struct list *node, *next;
    LIST_FOREACH_SAFE(node, next, &p->retired) {
        struct retired *r = LIST_CONTAINER(node, struct retired, node);
        if (curl_uv_transfers(r->multi) == 0)
            close_retired(f, r);
    }
}

/* --- life --- */

static struct curl_uv *create_multi(struct fetch *f, int kind)
{
    const struct curl_uv_params params = {
        .loop = f->params.loop,
        .few = f->params.config->few_descriptors,
        .max_idle = max_idle(f),
        .shares = kind == KIND_HTTP2 || kind == KIND_HTTP2_UNVERIFIED,
        .wake = f->params.wake,
        .socket_closed = on_socket_closed,
        .arg = f->params.arg,
    };
    return curl_uv_create(&params);
}

/* The last kinds are only there where the policy allows what they are for; a policy that a reload
 * took away allows nothing, so that its pool costs no descriptor. */
static bool has_kind(const struct policy *policy, int kind)
{
    if (policy_is_removed(policy))
        return false;
    return kind < KIND_HTTP1_UNVERIFIED || policy_allows_insecure(policy);
}

/* Should memory run out the old one stays, and the checks before each request have to do. */
static void renew_multi(struct fetch *f, struct fetch_pool *p, int kind)
{
    bool wanted = has_kind(p->env.policy, kind), had = p->env.multis[kind] != NULL;
    struct retired *r = had ? calloc(1, sizeof *r) : NULL;
    struct curl_uv *fresh = wanted && (r != NULL || !had) ? create_multi(f, kind) : NULL;
    if ((had && r == NULL) || (wanted && fresh == NULL)) {
        free(r);
        LOG_WARN("fetch", "error=\"no memory: connections of before are kept\"");
        return;
    }
    if (had) {
        r->multi = p->env.multis[kind];
        curl_uv_set_max_idle(r->multi, true, 0); /* of what ends one at the most */
        list_append(&p->retired, &r->node);
    }
    p->env.multis[kind] = fresh;
}

bool fetch_has_multi(struct fetch *f, struct fetch_pool *p, int kind)
{
    if (p->env.multis[kind] == NULL)
        p->env.multis[kind] = create_multi(f, kind);
    return p->env.multis[kind] != NULL;
}

static void renew_multis(struct fetch *f, struct fetch_pool *p)
{
    for (int kind = 0; kind < TRANSFER_KINDS; kind++)
        renew_multi(f, p, kind);
    close_unused_retired(f, p);
    fetch_rearm_sweep(f);
}

static void on_nothing(void *arg)
{
    (void)arg;
}

static size_t pool_close(struct fetch *f, struct fetch_pool *p, void (*closed)(void *arg))
{
    struct list *node;
    size_t multis = 0;
    while ((node = list_pop(&p->idle)) != NULL)
        transfer_destroy(LIST_CONTAINER(node, struct transfer, node));
    while (!list_empty(&p->retired))
        close_retired(f, LIST_CONTAINER(p->retired.next, struct retired, node));
    for (int kind = 0; kind < TRANSFER_KINDS; kind++) {
        if (p->env.multis[kind] == NULL)
            continue;
        curl_uv_close(p->env.multis[kind], closed, f);
        multis++;
    }
    tls_sessions_destroy(p->env.sessions);
    *p = (struct fetch_pool){.open = false};
    return multis;
}

static struct transfer_env make_env(struct fetch *f, const struct policy *policy)
{
    return (struct transfer_env){
        .libcurl_8_1 = curl_version_info(CURLVERSION_NOW)->version_num >= 0x080100,
        .zstd = (curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ZSTD) != 0,
        .policy = policy,
        .local = &f->local,
        .fetch = f->params.config,
        .limits = f->params.limits,
        .answer_held = f->params.answer_held,
    };
}

bool fetch_pool_open(struct fetch *f, int id, const struct policy *policy)
{
    struct fetch_pool *p = &f->pools[id];
    if (p->open) { /* the rest of the engines had no memory for it then */
        fetch_pool_set_policy(f, id, policy, true);
        return true;
    }
    p->env = make_env(f, policy);
    list_init(&p->idle);
    list_init(&p->retired);
    p->env.trust_spoilt = &p->trust_spoilt;
    p->env.sessions = tls_sessions_create(SESSIONS_KEPT);
    p->open = p->env.sessions != NULL;
    for (int kind = 0; kind < TRANSFER_KINDS && has_kind(policy, kind) && p->open; kind++) {
        p->env.multis[kind] = create_multi(f, kind);
        p->open = p->env.multis[kind] != NULL;
    }
    if (!p->open)
        pool_close(f, p, on_nothing);
    return p->open;
}

void fetch_pool_set_policy(struct fetch *f, int id, const struct policy *policy, bool renew)
{
    struct fetch_pool *p = &f->pools[id];
    p->env.policy = policy;
    p->env.generation++;
    if (renew)
        renew_multis(f, p);
}

void fetch_reload_pools(struct fetch *f)
{
    for (size_t i = 0; i < CONFIG_NAMED_MAX && f->pools[i].open; i++) {
        struct transfer_env *env = &f->pools[i].env;
        env->fetch = f->params.config;
        env->limits = f->params.limits;
        env->generation++;
        tls_sessions_clear(env->sessions); /* ca_file may be another */
        for (int kind = 0; kind < TRANSFER_KINDS; kind++)
            if (env->multis[kind] != NULL)
                curl_uv_set_max_idle(env->multis[kind], f->params.config->few_descriptors,
                                     max_idle(f));
    }
}

size_t fetch_close_pools(struct fetch *f, void (*closed)(void *arg))
{
    size_t multis = 0;
    for (size_t i = 0; i < CONFIG_NAMED_MAX && f->pools[i].open; i++)
        multis += pool_close(f, &f->pools[i], closed);
    f->retired_closed = closed;
    return multis + f->retired_closing;
}

/* --- transfers --- */

struct transfer *fetch_take_transfer(struct fetch_pool *p)
{
    struct list *node = list_pop(&p->idle);
    if (node == NULL)
        return transfer_create(&p->env);
    p->idle_count--;
    if (p->unused > p->idle_count)
        p->unused = p->idle_count;
    return LIST_CONTAINER(node, struct transfer, node);
}

void fetch_give_back_transfer(struct fetch_pool *p, struct transfer *t)
{
    transfer_end(t);
    list_remove(&t->node);
    if (p->idle_count >= (size_t)p->env.limits->in_flight) {
        transfer_destroy(t);
        return;
    }
    list_prepend(&p->idle, &t->node);
    p->idle_count++;
}

/* --- the turn --- */

/* For a while each transfer that starts closes what is idle beside it, too. */
static void make_room(struct fetch_pool *p, int64_t until_us)
{
    p->env.starved_until_us = until_us;
    for (int kind = 0; kind < TRANSFER_KINDS; kind++)
        if (p->env.multis[kind] != NULL)
            curl_uv_make_room(p->env.multis[kind]);
    sweep_retired(p);
}

void fetch_make_room(struct fetch *f)
{
    for (size_t i = 0; i < CONFIG_NAMED_MAX && f->pools[i].open; i++)
        make_room(&f->pools[i], clock_us() + STARVED_US);
}

/* What they still have ends as everywhere. True while one has something left to do now. */
static bool run_retired(struct fetch *f, struct fetch_pool *p, bool *starved)
{
    bool pending = false;
    struct list *node, *next;
    LIST_FOREACH_SAFE(node, next, &p->retired) {
        struct retired *r = LIST_CONTAINER(node, struct retired, node);
        curl_uv_turn(r->multi, MESSAGES_MAX, fetch_transfer_done, f);
        *starved |= curl_uv_starved(r->multi);
        pending |= curl_uv_pending(r->multi);
    }
    close_unused_retired(f, p);
    return pending;
}

/* libcurl keeps the certificates that it trusts with the multi. */
static void renew_trust(struct fetch *f, struct fetch_pool *p)
{
    int64_t now_us = clock_us();
    p->trust_spoilt = false;
    if (p->trust_renewed_us != 0 && now_us - p->trust_renewed_us < TRUST_EVERY_US)
        return;
    LOG_WARN("fetch", "error=\"a trusted certificate could not be read\" action=\"read again\"");
    p->trust_renewed_us = now_us;
    p->env.generation++;
    renew_multis(f, p);
}

bool fetch_run_pools(struct fetch *f)
{
    bool pending = false, starved = false;
    for (size_t i = 0; i < CONFIG_NAMED_MAX && f->pools[i].open; i++) {
        for (int kind = 0; kind < TRANSFER_KINDS; kind++) {
            struct curl_uv *m = f->pools[i].env.multis[kind];
            if (m == NULL)
                continue;
            curl_uv_turn(m, MESSAGES_MAX, fetch_transfer_done, f);
            if (curl_uv_sweep_is_due(m))
                curl_uv_sweep(m, idle_s(f));
            starved |= curl_uv_starved(m);
            pending |= curl_uv_pending(m);
        }
        if (f->pools[i].trust_spoilt)
            renew_trust(f, &f->pools[i]);
        if (!list_empty(&f->pools[i].retired))
            pending |= run_retired(f, &f->pools[i], &starved);
    }
    if (starved)
        f->params.starved(f->params.arg);
    return pending;
}

/* Idle ones come from the front of the list: those at its end are the ones that nobody used. */
static void drop_unused(struct fetch_pool *p, size_t keep)
{
    size_t n = p->unused > keep ? p->unused - keep : 0;
    for (; n > 0; n--, p->idle_count--) {
        struct list *node = p->idle.prev;
        list_remove(node);
        transfer_destroy(LIST_CONTAINER(node, struct transfer, node));
    }
    p->unused = p->idle_count;
}

static size_t sweep_pool(struct fetch *f, struct fetch_pool *p)
{
    size_t sockets = sweep_retired(p);
    for (int kind = 0; kind < TRANSFER_KINDS; kind++) {
        struct curl_uv *m = p->env.multis[kind];
        if (m == NULL)
            continue;
        if (curl_uv_sockets(m) > 0)
            curl_uv_sweep(m, idle_s(f));
        sockets += curl_uv_sockets(m);
    }
    /* a handle's blocks each hold a page of the heap: none is kept when its last connection is
     * gone */
    drop_unused(p, sockets > 0 ? IDLE_KEPT : 0);
    if (sockets == 0 && p->idle_count == 0)
        tls_sessions_clear(p->env.sessions);
    return sockets + p->idle_count;
}

bool fetch_sweep_pools(struct fetch *f)
{
    size_t left = 0;
    for (size_t i = 0; i < CONFIG_NAMED_MAX && f->pools[i].open; i++)
        left += sweep_pool(f, &f->pools[i]);
    return left > 0;
}
