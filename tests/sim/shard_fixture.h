/* SPDX-License-Identifier: MIT
 *
 * shard_fixture - the real fetch loops against upstreams on a thread of their own, the front's loop
 * on the test's. Real clock, real threads; nothing sleeps, and what is expected is waited for until
 * a guard's time is over.
 *
 * The upstreams are ORIGINS listeners of one server. A path says who asks and what for:
 * /BATCH/MEMBER/ok, /404, /never, /to/ORIGIN/ok (a redirect there) and so on. The server keeps what
 * is asked for until its next tick, or until so many wait as the test wants, and counts how many
 * wait at once: in all, of each origin and of each batch. A client that has left does not count;
 * the kernel is asked, because the server's loop may hear of it later than of the connection that
 * took its place. Ports are chosen so that the origins are shared out evenly to 1, 2 or 4 loops.
 *
 * Every test ends with a closed shard, uv_loop_close() == 0 and as many descriptors as before it.
 */
#ifndef GATHERD_TESTS_SHARD_FIXTURE_H
#define GATHERD_TESTS_SHARD_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ares.h>
#include <curl/curl.h>
#include <uv.h>

#include "clock.h"
#include "config.h"
#include "log.h"
#include "policy.h"
#include "shard.h"
#include "slots.h"
#include "target.h"
#include "turn.h"

#include "../lib/process.h"

#define ORIGINS 8
#define RUNS 8       /* batches of a test that the server tells apart */
#define MEMBERS 4000 /* of one batch, at most */
#define GUARD_MS 60000
#define TICK_MS 1
#define NO_LIMIT 1000000

/* The server: its own thread's, but for the atomics */

struct listener {
    uv_tcp_t tcp;
    struct server *server;
    int index;
    uint16_t port;
    int last[RUNS]; /* the member that asked last, of each batch */
};

struct counts {
    int all, origins[ORIGINS], runs[RUNS];
};

struct server {
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t tick;
    struct listener listeners[ORIGINS];
    struct list clients;
    atomic_bool stop;
    atomic_int hold; /* answers nothing until so many wait */
    atomic_int limit_all, limit_origin, limit_runs[RUNS];
    atomic_int most_all, most_origin, most_runs[RUNS];
    atomic_int over;     /* times that a limit was exceeded */
    atomic_int disorder; /* requests of a member behind one of a later member to the same origin */
    atomic_int strange;  /* anything that the harness does not expect */
    atomic_int waiting;  /* requests not answered */
    atomic_int asked[RUNS];
    atomic_uchar answered[RUNS][MEMBERS]; /* last answers, of each member */
};

struct client {
    uv_tcp_t tcp;
    struct list node;
    struct listener *listener;
    bool waits;
    int run, member;
    const char *what; /* into text */
    char text[1024];
    size_t len;
};

struct reply {
    uv_write_t write;
    char text[256];
};

static inline void on_client_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;
    list_remove(&c->node);
    free(c);
}

static inline void client_close(struct client *c)
{
    struct server *s = c->listener->server;
    if (c->waits)
        atomic_fetch_sub(&s->waiting, 1);
    c->waits = false;
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_client_closed);
}

/* On loopback a close is there at once, whether this loop has read it or not. */
static inline bool client_has_left(const struct client *c)
{
    uv_os_fd_t fd;
    char byte;
    if (uv_fileno((const uv_handle_t *)&c->tcp, &fd) != 0)
        return true;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static inline void count_waiting(struct server *s, struct counts *out, bool look)
{
    *out = (struct counts){.all = 0};
    for (struct list *node = s->clients.next; node != &s->clients; node = node->next) {
        const struct client *c = LIST_CONTAINER(node, struct client, node);
        if (!c->waits || (look && client_has_left(c)))
            continue;
        out->all++;
        out->origins[c->listener->index]++;
        out->runs[c->run]++;
    }
}

static inline void raise_most(atomic_int *most, int n)
{
    if (n > atomic_load(most))
        atomic_store(most, n);
}

static inline bool is_over(struct server *s, const struct counts *n, const struct client *c)
{
    return n->all > atomic_load(&s->limit_all) ||
           n->origins[c->listener->index] > atomic_load(&s->limit_origin) ||
           n->runs[c->run] > atomic_load(&s->limit_runs[c->run]);
}

static inline void note_request(struct server *s, struct client *c)
{
    struct counts n;
    count_waiting(s, &n, false);
    if (is_over(s, &n, c))
        count_waiting(s, &n, true);
    atomic_fetch_add(&s->over, is_over(s, &n, c));
    raise_most(&s->most_all, n.all);
    raise_most(&s->most_origin, n.origins[c->listener->index]);
    raise_most(&s->most_runs[c->run], n.runs[c->run]);
    atomic_fetch_add(&s->asked[c->run], 1);
    atomic_fetch_add(&s->disorder, c->member < c->listener->last[c->run]);
    c->listener->last[c->run] = c->member;
}

/* "GET /BATCH/MEMBER/what HTTP/1.1" */
static inline bool read_request(struct client *c)
{
    char *at = c->text;
    if (strncmp(at, "GET /", 5) != 0)
        return false;
    c->run = (int)strtol(at + 5, &at, 10);
    c->member = (int)strtol(at + 1, &at, 10);
    c->what = at + 1;
    at[strcspn(at, " ")] = '\0';
    return c->run >= 0 && c->run < RUNS && c->member >= 0 && c->member < MEMBERS;
}

static inline void on_request(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = stream->data;
    struct server *s = c->listener->server;
    (void)buf;
    if (n < 0) {
        client_close(c);
        return;
    }
    c->len += (size_t)n;
    c->text[c->len] = '\0';
    if (strstr(c->text, "\r\n\r\n") == NULL)
        return;
    if (c->waits || !read_request(c)) {
        atomic_fetch_add(&s->strange, 1);
        client_close(c);
        return;
    }
    c->waits = true;
    atomic_fetch_add(&s->waiting, 1);
    note_request(s, c);
}

static inline void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->text + c->len, (unsigned)(sizeof c->text - c->len - 1));
}

static inline void on_connection(uv_stream_t *stream, int status)
{
    struct listener *l = stream->data;
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL || status != 0)
        abort();
    c->listener = l;
    c->tcp.data = c;
    list_init(&c->node);
    list_append(&l->server->clients, &c->node);
    uv_tcp_init(stream->loop, &c->tcp);
    if (uv_accept(stream, (uv_stream_t *)&c->tcp) != 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_room, on_request) != 0)
        abort();
}

static inline void on_replied(uv_write_t *write, int status)
{
    (void)status; /* its client may have left */
    free(write->data);
}

static inline void compose(const struct server *s, const struct client *c, struct reply *r)
{
    if (strncmp(c->what, "to/", 3) == 0) {
        const struct listener *to = &s->listeners[(c->what[3] - '0') % ORIGINS];
        snprintf(r->text, sizeof r->text,
                 "HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:%u/%d/%d/%s\r\n"
                 "Content-Length: 2\r\n\r\nno",
                 to->port, c->run, c->member, c->what + 5);
        return;
    }
    snprintf(r->text, sizeof r->text,
             "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
             strcmp(c->what, "404") == 0 ? "404 No" : "200 OK");
}

static inline void client_reply(struct client *c)
{
    struct server *s = c->listener->server;
    struct reply *r = calloc(1, sizeof *r);
    if (r == NULL)
        abort();
    compose(s, c, r);
    if (strncmp(c->what, "to/", 3) != 0)
        atomic_fetch_add(&s->answered[c->run][c->member], 1);
    r->write.data = r;
    c->waits = false;
    c->len = 0;
    atomic_fetch_sub(&s->waiting, 1);
    uv_buf_t buf = uv_buf_init(r->text, (unsigned)strlen(r->text));
    if (uv_write(&r->write, (uv_stream_t *)&c->tcp, &buf, 1, on_replied) != 0)
        free(r);
}

static inline void on_tick(uv_timer_t *timer)
{
    struct server *s = timer->data;
    struct list *node, *next;
    int hold = atomic_load(&s->hold);
    if (atomic_load(&s->waiting) < hold)
        return;
    if (hold > 0)
        atomic_compare_exchange_strong(&s->hold, &hold, 0);
    LIST_FOREACH_SAFE(node, next, &s->clients) {
        struct client *c = LIST_CONTAINER(node, struct client, node);
        if (c->waits && strcmp(c->what, "never") != 0)
            client_reply(c);
    }
}

static inline void on_stop(uv_async_t *async)
{
    struct server *s = async->data;
    struct list *node, *next;
    if (!atomic_load(&s->stop))
        return;
    uv_close((uv_handle_t *)&s->wake, NULL);
    uv_close((uv_handle_t *)&s->tick, NULL);
    for (int i = 0; i < ORIGINS; i++)
        uv_close((uv_handle_t *)&s->listeners[i].tcp, NULL);
    LIST_FOREACH_SAFE(node, next, &s->clients)
        client_close(LIST_CONTAINER(node, struct client, node));
}

static inline void server_main(void *arg)
{
    struct server *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&s->loop) != 0)
        abort();
}

static inline uint64_t origin_hash(uint16_t port)
{
    char url[64];
    const char *why;
    struct arena arena;
    struct origins origins;
    struct target target;
    arena_init(&arena);
    origins_init(&origins, &arena);
    int n = snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    assert_true(target_parse(&origins, url, (size_t)n, &target, &why));
    uint64_t hash = target.origin->hash;
    origins_fini(&origins);
    arena_fini(&arena);
    return hash;
}

static inline void on_closed_for_good(uv_handle_t *handle)
{
    free(handle);
}

/* Any port whose origin is the loop's that it should be; the others are given back at the end. */
static inline void listener_open(struct server *s, int index)
{
    struct listener *l = &s->listeners[index];
    struct sockaddr_in sa;
    l->server = s;
    l->index = index;
    for (;;) {
        int n = sizeof sa;
        uv_tcp_t *tcp = malloc(sizeof *tcp);
        assert_non_null(tcp);
        uv_ip4_addr("127.0.0.1", 0, &sa);
        uv_tcp_init(&s->loop, tcp);
        assert_int_equal(uv_tcp_bind(tcp, (struct sockaddr *)&sa, 0), 0);
        assert_int_equal(uv_tcp_getsockname(tcp, (struct sockaddr *)&sa, &n), 0);
        l->port = ntohs(sa.sin_port);
        uv_close((uv_handle_t *)tcp, on_closed_for_good);
        uv_run(&s->loop, UV_RUN_NOWAIT);
        if (origin_hash(l->port) % 4 == (uint64_t)index % 4)
            break;
    }
    uv_tcp_init(&s->loop, &l->tcp);
    l->tcp.data = l;
    assert_int_equal(uv_tcp_bind(&l->tcp, (struct sockaddr *)&sa, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&l->tcp, 512, on_connection), 0);
}

static inline void server_open(struct server *s)
{
    assert_int_equal(uv_loop_init(&s->loop), 0);
    list_init(&s->clients);
    atomic_store(&s->limit_all, NO_LIMIT);
    atomic_store(&s->limit_origin, NO_LIMIT);
    for (int i = 0; i < RUNS; i++)
        atomic_store(&s->limit_runs[i], NO_LIMIT);
    for (int i = 0; i < ORIGINS; i++)
        listener_open(s, i);
    uv_async_init(&s->loop, &s->wake, on_stop);
    uv_timer_init(&s->loop, &s->tick);
    s->wake.data = s->tick.data = s;
    uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    assert_int_equal(uv_thread_create(&s->thread, server_main, s), 0);
}

static inline void server_close(struct server *s)
{
    atomic_store(&s->stop, true);
    uv_async_send(&s->wake);
    uv_thread_join(&s->thread);
    assert_int_equal(atomic_load(&s->strange), 0);
}

/* The front */

struct front {
    uv_loop_t loop;
    struct turn turn;
    uv_timer_t guard;
    uint64_t guard_ms; /* loop time at which the test has failed */
    struct metrics metrics;
    struct config *config;
    struct policy *policy;
    struct shard *shard;
    struct shard_pool *pool;
    struct server *server;
    size_t descriptors;
    int runs; /* batches so far */
    bool in_turn, expired, closed;
};

struct run;

struct job {
    struct fetch_job job;
    struct member member;
    char url[64];
    int dones;
};

/* A batch. */
struct run {
    struct front *front;
    int id;
    struct fetch_group *group;
    struct job *jobs;
    int count, dones;
    int states[MEMBER_STATE_COUNT]; /* of those that are done */
    struct member_opts opts;
    struct arena arena;
    struct origins origins;
    char *identity;
    void (*on_job)(struct run *run, struct job *job);
};

struct plan {
    int count;
    int limit;          /* 0 = none worth the name */
    int limit_per_host; /* 0 = none */
    int origin;         /* of all: 1 .. ORIGINS - 1, ORIGINS for number 0; 0 = each in turn */
    bool stop_on_error;
    struct shard_pool *pool; /* NULL = the front's first */
    const char *what;        /* all ask for it; NULL = "ok" */
    void (*what_of)(int member, char *out, size_t size); /* instead */
};

/* overrides: as of -o, NULL ends them. */
static inline struct config *make_config(int loops, const char *const *overrides)
{
    char first[32];
    const char *all[16] = {first, "policy.default.allow=127.0.0.1",
                           "fetch.dns_servers=127.0.0.1:1"};
    size_t n = 3;
    struct buf errors;
    snprintf(first, sizeof first, "daemon.loops=%d", loops);
    for (; overrides != NULL && overrides[n - 3] != NULL; n++)
        all[n] = overrides[n - 3];
    buf_init(&errors, 0);
    struct config *config = config_load(NULL, all, n, &errors);
    if (config == NULL)
        fail_msg("%s", buf_cstr(&errors));
    buf_fini(&errors);
    return config;
}

static inline struct policy *make_policy(const struct config *config)
{
    struct buf errors;
    buf_init(&errors, 0);
    struct policy *policy = policy_create(&config->policies[0], &errors);
    buf_fini(&errors);
    assert_non_null(policy);
    assert_true(policy_set_own(policy, NULL, 0));
    return policy;
}

/* Each job comes once, from the front's turn, and it is the caller's again. */
static inline void on_job_done(struct fetch_job *job)
{
    struct run *run = job->group->owner;
    struct job *j = LIST_CONTAINER(job, struct job, job);
    const struct result *r = &job->result;
    assert_true(run->front->in_turn);
    assert_int_equal(job->state, FETCH_IDLE);
    assert_int_not_equal(r->state, MEMBER_PENDING);
    assert_int_equal(timings_total(&r->timings), r->end_us - job->group->queued_us);
    assert_int_equal(j->dones++, 0);
    run->dones++;
    run->states[r->state]++;
    if (run->on_job != NULL)
        run->on_job(run, j);
}

/* As gatherd does it. */
static inline bool front_act(void *arg)
{
    struct front *f = arg;
    if (f->shard == NULL)
        return false;
    shard_flush(f->shard);
    f->in_turn = true;
    bool again = shard_turn(f->shard);
    f->in_turn = false;
    return again;
}

static inline void on_front_turn(void *arg, int64_t now_us, int64_t busy_us)
{
    (void)arg;
    (void)now_us;
    (void)busy_us;
}

/* Every millisecond, so that no turn of the loop waits longer. */
static inline void on_guard(uv_timer_t *timer)
{
    struct front *f = timer->data;
    f->expired = uv_now(&f->loop) > f->guard_ms;
}

/* The front's loop without a shard. */
static inline struct front *front_prepare(int loops, const char *const *overrides)
{
    struct front *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->server = calloc(1, sizeof *f->server);
    assert_non_null(f->server);
    f->descriptors = open_descriptors();
    const struct turn_params turn = {
        .loop = &f->loop,
        .act = front_act,
        .ended = on_front_turn,
        .arg = f,
        .metrics = &f->metrics,
    };
    assert_int_equal(uv_loop_init(&f->loop), 0);
    turn_init(&f->turn, &turn);
    uv_timer_init(&f->loop, &f->guard);
    f->guard.data = f;
    f->guard_ms = uv_now(&f->loop) + GUARD_MS;
    uv_timer_start(&f->guard, on_guard, 1, 1);
    f->config = make_config(loops, overrides);
    f->policy = make_policy(f->config);
    server_open(f->server);
    return f;
}

static inline void on_engines_rested(void *arg)
{
    (void)arg;
}

static inline struct shard *create_shard(struct front *f, const char **why)
{
    const struct shard_params params = {
        .loop = &f->loop,
        .turn = &f->turn,
        .config = f->config,
        .metrics = &f->metrics,
        .done = on_job_done,
        .rested = on_engines_rested,
    };
    return shard_create(&params, why);
}

static inline struct front *front_open(int loops, const char *const *overrides)
{
    const char *why = NULL;
    struct front *f = front_prepare(loops, overrides);
    f->shard = create_shard(f, &why);
    assert_non_null(f->shard);
    assert_int_equal(f->shard->threads, loops > 0);
    assert_int_equal(f->shard->lane_count, loops > 0 ? loops : 1);
    f->pool = shard_pool_open(f->shard, f->policy);
    assert_non_null(f->pool);
    return f;
}

static inline void spin(struct front *f)
{
    uv_run(&f->loop, UV_RUN_ONCE);
    assert_false(f->expired);
}

static inline void on_shard_closed(void *arg)
{
    struct front *f = arg;
    f->closed = true;
}

/* No limit was exceeded, nothing is left. */
static inline void front_close(struct front *f)
{
    assert_int_equal(atomic_load(&f->server->over), 0);
    if (f->shard != NULL) {
        shard_close(f->shard, on_shard_closed, f);
        f->shard = NULL;
        while (!f->closed)
            spin(f);
    }
    turn_close(&f->turn);
    uv_close((uv_handle_t *)&f->guard, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    server_close(f->server);
    policy_destroy(f->policy);
    config_destroy(f->config);
    check_descriptors(f->descriptors);
    free(f->server);
    free(f);
}

/* Batches */

static inline void make_member(struct run *run, const struct plan *plan, int i)
{
    struct job *j = &run->jobs[i];
    char what[32];
    struct target target;
    const char *why;
    if (plan->what_of != NULL)
        plan->what_of(i, what, sizeof what);
    else
        snprintf(what, sizeof what, "%s", plan->what != NULL ? plan->what : "ok");
    int origin = (plan->origin > 0 ? plan->origin : i) % ORIGINS;
    int n = snprintf(j->url, sizeof j->url, "http://127.0.0.1:%u/%d/%d/%s",
                     run->front->server->listeners[origin].port, run->id, i, what);
    assert_true(target_parse(&run->origins, j->url, (size_t)n, &target, &why));
    j->member = (struct member){
        .url = j->url,
        .text = target.text,
        .origin = target.origin,
        .opts = &run->opts,
        .url_len = (uint32_t)n,
        .text_len = target.len,
    };
}

static inline struct fetch_group *make_group(struct run *run, const struct plan *plan)
{
    struct front *f = run->front;
    const struct shard_group_params params = {
        .identity = run->identity,
        .pool = plan->pool != NULL ? plan->pool : f->pool,
        .limit = plan->limit > 0 ? plan->limit : NO_LIMIT,
        .limit_per_host = plan->limit_per_host > 0 ? plan->limit_per_host : NO_LIMIT,
        .include = INCLUDE_BODY | INCLUDE_REDIRECTS,
        .stop_on_error = plan->stop_on_error,
        .queued_us = clock_us(),
        .cut_us = INT64_MAX,
        .owner = run,
    };
    return shard_group_create(f->shard, &params);
}

/* A number that was another batch's before: what the server knows of that is over. */
static inline void forget_run(struct server *s, int id, int limit)
{
    atomic_store(&s->limit_runs[id], limit > 0 ? limit : NO_LIMIT);
    atomic_store(&s->most_runs[id], 0);
    atomic_store(&s->asked[id], 0);
    for (int i = 0; i < MEMBERS; i++)
        atomic_store(&s->answered[id][i], 0);
}

static inline struct run *run_make(struct front *f, const struct plan *plan)
{
    struct run *run = calloc(1, sizeof *run);
    assert_non_null(run);
    run->front = f;
    run->id = f->runs++ % RUNS;
    run->count = plan->count;
    run->jobs = calloc((size_t)plan->count, sizeof *run->jobs);
    run->identity = strdup("somebody");
    assert_true(run->jobs != NULL && run->identity != NULL && plan->count <= MEMBERS);
    run->opts = (struct member_opts){
        .method = "GET",
        .http_version = HTTP_VERSION_1_1,
        .max_redirects = 5,
        .timeout_us = 60 * US_PER_S,
        .connect_timeout_us = 60 * US_PER_S,
        .queue_timeout_us = -1,
        .max_response_bytes = 1 << 20,
    };
    arena_init(&run->arena);
    origins_init(&run->origins, &run->arena);
    for (int i = 0; i < plan->count; i++)
        make_member(run, plan, i);
    forget_run(f->server, run->id, plan->limit);
    run->group = make_group(run, plan);
    assert_non_null(run->group);
    return run;
}

static inline void run_submit(struct run *run)
{
    for (int i = 0; i < run->count; i++) {
        run->jobs[i].job.member = &run->jobs[i].member;
        run->jobs[i].job.group = run->group;
        shard_submit(run->front->shard, &run->jobs[i].job);
    }
    turn_wake(&run->front->turn);
}

static inline struct run *run_open(struct front *f, const struct plan *plan)
{
    struct run *run = run_make(f, plan);
    run_submit(run);
    return run;
}

static inline void run_until(struct run *run, int dones)
{
    while (run->dones < dones)
        spin(run->front);
}

/* All came back, so all memory is the caller's and goes at once. */
static inline void run_close(struct run *run)
{
    run_until(run, run->count);
    for (int i = 0; i < run->count; i++)
        shard_content_free(run->front->shard, &run->jobs[i].job.result);
    shard_group_release(run->group);
    origins_fini(&run->origins);
    arena_fini(&run->arena);
    free(run->identity);
    free(run->jobs);
    free(run);
}

/* Every member is done and ok, and has had one answer. */
static inline void check_all_ok(const struct run *run)
{
    assert_int_equal(run->dones, run->count);
    for (int i = 0; i < run->count; i++) {
        const struct result *r = &run->jobs[i].job.result;
        assert_int_equal(run->jobs[i].dones, 1);
        assert_int_equal(r->state, MEMBER_DONE);
        assert_true(r->ok);
        assert_int_equal(r->sizes.delivered, 5 + 2 * r->num_redirects);
        assert_string_equal(r->content_type, "text/plain");
        assert_int_equal(atomic_load(&run->front->server->answered[run->id][i]), 1);
    }
}

/* Waits until what the batches left behind is closed. */
static inline void run_out(struct front *f)
{
    while (shard_active(f->shard) > 0)
        spin(f);
}

#endif
