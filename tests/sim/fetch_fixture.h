/* SPDX-License-Identifier: MIT
 *
 * fetch_fixture - the real engine, with libcurl and sockets, against a small HTTP server on the
 * same loop (127.0.0.1, any port) that does what a table of pages says. The engine's clock is the
 * test's: a time-out is a step of that clock, and nothing waits for it.
 *
 * There may be two engines, as shard would have them but on one loop: each owns the origin of the
 * server with its number, and a job that moves between them lies on a list until the next turn, or
 * for as long as the test likes. Every test ends with closed engines, groups that nobody refers to
 * any more, uv_loop_close() == 0 and as many descriptors as before it.
 */
#ifndef GATHERD_TESTS_FETCH_FIXTURE_H
#define GATHERD_TESTS_FETCH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ares.h>
#include <curl/curl.h>
#include <uv.h>

#include "clock.h"
#include "fetch.h"
#include "fetch_internal.h"
#include "log.h"
#include "policy.h"
#include "slots.h"
#include "target.h"
#include "transfer.h"

#include "../lib/process.h"

#define MS INT64_C(1000)
#define GUARD_MS 20000
#define TIMEOUT_US (30 * US_PER_S)
#define CONNECT_TIMEOUT_US (5 * US_PER_S)
#define PAGES 8
#define JOBS 5000
#define GROUPS 8
#define ENGINES 2
#define ASKED 16
#define HELLO "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
#define HALF "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
#define REDIRECT(status, to) \
    "HTTP/1.1 " status " Go\r\nLocation: " to "\r\nContent-Length: 4\r\n\r\ngone"

static int64_t now_us;

/* Each look takes a microsecond, so that marks differ. */
int64_t clock_us(void)
{
    return ++now_us;
}

int64_t clock_wall_us(void)
{
    return INT64_C(1793534400000000) + now_us;
}

/* What the server does when a path is asked for. */
struct page {
    const char *path;
    const char *reply; /* NULL = none */
    int deaths;        /* closes without an answer that many times first */
    bool death_resets; /* and resets the connection then */
    bool close;        /* after the reply */
    bool reset;        /* the same, by a reset */
    int asked;
};

struct job {
    struct fetch_job job;
    struct member member;
    struct member_opts opts;
    struct test *t;
    char url[80];
    int dones;
};

struct server {
    struct test *t;
    uv_tcp_t tcp;
    uint16_t port;
    struct list clients;
    int connections, hangups;
    int most; /* connections at once whose client had not left */
};

struct engine {
    struct test *t;
    struct fetch *fetch;
    struct metrics metrics;
    bool woken, again, told;
    int told_at; /* clients of the other's server when it was last told of free slots */
};

struct setup {
    int in_flight;    /* 0 = 4 */
    int per_host;     /* 0 = in_flight */
    unsigned engines; /* 0 = 1 */
    const char *dns;  /* a name server; NULL = one that refuses */
};

struct test {
    uv_loop_t loop;
    uv_timer_t guard;
    struct server servers[ENGINES];
    struct page pages[PAGES];
    const char *asked[ASKED]; /* the paths, in order */
    int asked_count;
    char body_seen[64];       /* of the last request */
    struct config_fetch config;
    struct config_limits limits;
    char dns[32], *dns_servers[1];
    struct slots *slots;
    struct resolve_cache *names;
    atomic_llong held;
    struct policy *policy;
    struct engine engines[ENGINES];
    unsigned engine_count;
    struct list mail; /* jobs between two engines */
    bool mail_held;   /* they stay there */
    struct arena arena;
    struct origins origins;
    struct fetch_group *groups[GROUPS];
    int group_count;
    struct fetch_group *group; /* of the next job */
    struct job *jobs;
    int job_count, dones;
    size_t descriptors;
    bool expired, in_call;
    unsigned closed;
};

/* The server */

struct client {
    uv_tcp_t tcp;
    struct list node;
    struct server *server;
    char text[8192];
    size_t len;
};

struct reply {
    uv_write_t write;
    bool close, reset;
};

static inline void on_client_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;
    list_remove(&c->node);
    free(c);
}

static inline void client_end(struct client *c, bool reset)
{
    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    if (reset)
        assert_int_equal(uv_tcp_close_reset(&c->tcp, on_client_closed), 0);
    else
        uv_close((uv_handle_t *)&c->tcp, on_client_closed);
}

static inline void client_close(struct client *c)
{
    client_end(c, false);
}

static inline void on_replied(uv_write_t *write, int status)
{
    struct reply *r = write->data;
    (void)status;
    if (r->close || r->reset)
        client_end(write->handle->data, r->reset);
    free(r);
}

static inline void client_reply(struct client *c, const struct page *page)
{
    struct reply *r = calloc(1, sizeof *r);
    assert_non_null(r);
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)page->reply, (unsigned)strlen(page->reply));
    r->write.data = r;
    r->close = page->close;
    r->reset = page->reset;
    assert_int_equal(uv_write(&r->write, (uv_stream_t *)&c->tcp, &buf, 1, on_replied), 0);
}

static inline struct page *page_of(struct test *t, const char *text)
{
    const char *path = strchr(text, ' ') + 1;
    size_t n = strcspn(path, " ");
    for (size_t i = 0; i < PAGES && t->pages[i].path; i++)
        if (strlen(t->pages[i].path) == n && memcmp(t->pages[i].path, path, n) == 0)
            return &t->pages[i];
    fail();
    return NULL;
}

/* A whole request stands in the client's text. */
static inline void client_answer(struct client *c, const char *body)
{
    struct test *t = c->server->t;
    struct page *page = page_of(t, c->text);
    snprintf(t->body_seen, sizeof t->body_seen, "%s", body);
    page->asked++;
    if (t->asked_count < ASKED)
        t->asked[t->asked_count++] = page->path;
    c->len = 0;
    if (page->deaths > 0) {
        page->deaths--;
        client_end(c, page->death_resets);
    } else if (page->reply) {
        client_reply(c, page);
    }
}

static inline void on_request(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = stream->data;
    (void)buf;
    if (n < 0) {
        c->server->hangups++;
        client_close(c);
        return;
    }
    c->len += (size_t)n;
    c->text[c->len] = '\0';
    const char *end = strstr(c->text, "\r\n\r\n"), *length = strstr(c->text, "Content-Length: ");
    size_t body = length && length < end ? (size_t)strtoul(length + 16, NULL, 10) : 0;
    if (end && strlen(end + 4) >= body)
        client_answer(c, end + 4);
}

static inline void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->text + c->len, (unsigned)(sizeof c->text - c->len - 1));
}

/* Asks the kernel: on loopback a close is there at once, whether this loop has read it or not. */
static inline bool client_has_left(const struct client *c)
{
    uv_os_fd_t fd;
    char byte;
    if (uv_is_closing((const uv_handle_t *)&c->tcp) ||
        uv_fileno((const uv_handle_t *)&c->tcp, &fd) != 0)
        return true;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static inline int clients_now(const struct server *s)
{
    int n = 0;
    for (struct list *node = s->clients.next; node != &s->clients; node = node->next)
        n += !client_has_left(LIST_CONTAINER(node, struct client, node));
    return n;
}

static inline void on_connection(uv_stream_t *stream, int status)
{
    struct server *s = stream->data;
    struct client *c = calloc(1, sizeof *c);
    assert_int_equal(status, 0);
    assert_non_null(c);
    c->server = s;
    s->connections++;
    list_init(&c->node);
    list_append(&s->clients, &c->node);
    uv_tcp_init(stream->loop, &c->tcp);
    c->tcp.data = c;
    assert_int_equal(uv_accept(stream, (uv_stream_t *)&c->tcp), 0);
    uv_read_start((uv_stream_t *)&c->tcp, on_room, on_request);
    int now = clients_now(s);
    s->most = now > s->most ? now : s->most;
}

static inline void server_open(struct test *t, struct server *s)
{
    struct sockaddr_in sa;
    int n = sizeof sa;
    s->t = t;
    list_init(&s->clients);
    uv_ip4_addr("127.0.0.1", 0, &sa);
    uv_tcp_init(&t->loop, &s->tcp);
    s->tcp.data = s;
    assert_int_equal(uv_tcp_bind(&s->tcp, (struct sockaddr *)&sa, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&s->tcp, 128, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&sa, &n), 0);
    s->port = ntohs(sa.sin_port);
}

static inline void server_close(struct server *s)
{
    struct list *node, *next;
    if (!uv_is_closing((uv_handle_t *)&s->tcp))
        uv_close((uv_handle_t *)&s->tcp, NULL);
    LIST_FOREACH_SAFE(node, next, &s->clients)
        client_close(LIST_CONTAINER(node, struct client, node));
}

/* The engines */

static inline void on_wake(void *arg)
{
    struct engine *e = arg;
    e->woken = true;
}

static inline void on_guard(uv_timer_t *timer)
{
    struct test *t = timer->loop->data;
    t->expired = true;
}

/* Every result adds up, comes once, and never from inside another call. */
static inline void on_done(void *arg, struct fetch_job *job)
{
    struct job *j = LIST_CONTAINER(job, struct job, job);
    const struct result *r = &job->result;
    struct engine *e = arg;
    assert_ptr_equal(e->t, j->t);
    assert_false(j->t->in_call);
    assert_int_equal(job->state, FETCH_IDLE);
    assert_int_not_equal(r->state, MEMBER_PENDING);
    assert_int_equal(timings_total(&r->timings), r->end_us - job->group->queued_us);
    for (int p = 0; p < PHASE_COUNT; p++)
        assert_true(r->timings.us[p] >= TIME_NULL);
    assert_null(job->transfer);
    assert_null(job->next);
    assert_int_equal(job->entry.state, ENTRY_IDLE);
    assert_int_equal(job->deadline.place, 0);
    assert_int_equal(j->dones++, 0);
    j->t->dones++;
}

static inline struct engine *owner_of(struct test *t, const struct origin *origin)
{
    for (unsigned i = 0; i < t->engine_count; i++)
        if (t->servers[i].port == origin->port)
            return &t->engines[i];
    return &t->engines[0];
}

static inline bool on_moves(void *arg, struct fetch_job *job, const struct origin *origin)
{
    struct engine *e = arg;
    assert_int_equal(job->state, FETCH_IDLE);
    if (owner_of(e->t, origin) == e)
        return false;
    list_append(&e->t->mail, &job->node);
    return true;
}

static inline void on_starved(void *arg)
{
    (void)arg;
}

static inline void on_rested(void *arg)
{
    (void)arg;
}

static inline void on_wake_others(void *arg, uint64_t engines)
{
    struct test *t = ((struct engine *)arg)->t;
    assert_true(engines < UINT64_C(1) << t->engine_count);
    for (unsigned i = 0; i < t->engine_count; i++) {
        if ((engines >> i & 1) == 0)
            continue;
        t->engines[i].told = true;
        t->engines[i].told_at = clients_now(&t->servers[1 - i]);
    }
}

/* allow: an address beside the public ones, or NULL. */
static inline struct policy *make_policy_of(const char *allow, bool insecure)
{
    char name[] = "default", text[32], *list[] = {text};
    const struct config_policy conf = {
        .name = name,
        .base = POLICY_BASE_PUBLIC,
        .allow = {list, allow != NULL ? 1 : 0},
        .insecure = insecure,
    };
    struct buf errors;
    snprintf(text, sizeof text, "%s", allow != NULL ? allow : "");
    buf_init(&errors, 0);
    struct policy *p = policy_create(&conf, &errors);
    buf_fini(&errors);
    assert_non_null(p);
    assert_true(policy_set_own(p, NULL, 0));
    return p;
}

static inline struct policy *make_policy(const char *allow)
{
    return make_policy_of(allow, false);
}

static inline void engine_open(struct test *t, unsigned index)
{
    struct engine *e = &t->engines[index];
    const char *why = NULL;
    const struct fetch_params params = {
        .loop = &t->loop,
        .index = index,
        .engines = t->engine_count,
        .config = &t->config,
        .limits = &t->limits,
        .metrics = &e->metrics,
        .slots = t->slots,
        .names = t->names,
        .answer_held = &t->held,
        .arg = e,
        .wake = on_wake,
        .done = on_done,
        .moves = on_moves,
        .rested = on_rested,
        .starved = on_starved,
        .wake_others = on_wake_others,
    };
    e->t = t;
    e->fetch = fetch_create(&params, &why);
    assert_non_null(e->fetch);
    assert_true(fetch_pool_open(e->fetch, 0, t->policy));
}

/* A group for the jobs that follow. */
static inline struct fetch_group *new_group(struct test *t, int limit)
{
    assert_true(t->group_count < GROUPS);
    struct fetch_group *group = fetch_group_create(t->engine_count, limit);
    assert_non_null(group);
    group->identity = "x";
    group->limit_per_host = 100000;
    group->queued_us = clock_us();
    group->owner = t;
    t->groups[t->group_count++] = group;
    return t->group = group;
}

static inline void engines_open(struct test *t, const struct setup *setup)
{
    static char agent[] = "test";
    snprintf(t->dns, sizeof t->dns, "%s", setup->dns != NULL ? setup->dns : "127.0.0.1:1");
    t->dns_servers[0] = t->dns;
    t->config = (struct config_fetch){
        .user_agent = agent,
        .idle_connections = 16,
        .idle_time_us = 60 * US_PER_S,
        .dns_servers = {t->dns_servers, 1},
    };
    t->policy = make_policy("127.0.0.1");
    t->slots = slots_create((int)t->limits.in_flight, (int)t->engine_count);
    t->names = resolve_cache_create();
    assert_true(t->slots && t->names);
    for (unsigned i = 0; i < t->engine_count; i++)
        engine_open(t, i);
}

static inline struct test *open_with(const struct setup *setup)
{
    struct test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->jobs = calloc(JOBS, sizeof *t->jobs);
    assert_non_null(t->jobs);
    t->descriptors = open_descriptors();
    now_us = 1000 * MS;
    int in_flight = setup->in_flight > 0 ? setup->in_flight : 4;
    t->limits = (struct config_limits){
        .in_flight = in_flight,
        .per_host = setup->per_host > 0 ? setup->per_host : in_flight,
        .upstream_head_bytes = 4096,
        .answer_bytes = 1 << 20,
        .lookups = 10,
    };
    t->engine_count = setup->engines > 0 ? setup->engines : 1;
    list_init(&t->mail);
    arena_init(&t->arena);
    origins_init(&t->origins, &t->arena);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    t->loop.data = t;
    uv_timer_init(&t->loop, &t->guard);
    uv_timer_start(&t->guard, on_guard, GUARD_MS, 0);
    for (unsigned i = 0; i < t->engine_count; i++)
        server_open(t, &t->servers[i]);
    engines_open(t, setup);
    new_group(t, 100000);
    return t;
}

static inline struct test *open_test(int in_flight)
{
    return open_with(&(struct setup){.in_flight = in_flight});
}

static inline void on_engine_closed(void *arg)
{
    struct test *t = arg;
    t->closed++;
}

/* No job, no slot, no deadline is left; transfers of cancelled jobs may still be there. */
static inline void check_idle(const struct engine *e)
{
    const struct fetch *f = e->fetch;
    for (int i = 0; i < e->t->job_count; i++)
        assert_int_equal(e->t->jobs[i].job.entry.state, ENTRY_IDLE);
    assert_int_equal(f->deadlines.count, 0);
    assert_true(list_empty(&f->ended) && list_empty(&f->cancelling));
    size_t closing = 0;
    for (struct list *node = f->closing.next; node != &f->closing; node = node->next)
        closing++;
    assert_int_equal(sched_running(f->sched), closing);
}

/* Nobody refers to the groups but the test: no engine has a part of one left. */
static inline void groups_free(struct test *t)
{
    for (int i = 0; i < t->group_count; i++) {
        assert_int_equal(slots_used(t->groups[i]->slots), 0);
        assert_int_equal(atomic_load(&t->groups[i]->refs), 1);
        fetch_group_unref(t->groups[i]);
    }
}

static inline void free_test(struct test *t)
{
    slots_destroy(t->slots);
    resolve_cache_destroy(t->names);
    policy_destroy(t->policy);
    origins_fini(&t->origins);
    arena_fini(&t->arena);
    free(t->jobs);
    free(t);
}

static inline void close_test(struct test *t)
{
    assert_int_equal(t->dones, t->job_count);
    assert_true(list_empty(&t->mail));
    for (int i = 0; i < t->job_count; i++)
        fetch_content_free(&t->jobs[i].job.result, &t->held);
    assert_int_equal(atomic_load(&t->held), 0);
    for (unsigned i = 0; i < t->engine_count; i++) {
        check_idle(&t->engines[i]);
        fetch_close(t->engines[i].fetch, on_engine_closed, t);
    }
    assert_int_equal(t->closed, 0);
    assert_int_equal(slots_used(t->slots), 0);
    groups_free(t);
    uv_close((uv_handle_t *)&t->guard, NULL);
    for (unsigned i = 0; i < t->engine_count; i++)
        server_close(&t->servers[i]);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(t->closed, t->engine_count);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    check_descriptors(t->descriptors);
    free_test(t);
}

/* Turns */

static inline void engine_turn(struct engine *e)
{
    if (e->told)
        fetch_wake(e->fetch);
    e->told = e->woken = false;
    e->again = fetch_turn(e->fetch);
}

static inline void submit_to(struct engine *e, struct fetch_job *job)
{
    e->t->in_call = true;
    fetch_submit(e->fetch, job);
    e->t->in_call = false;
    assert_true(e->woken);
}

static inline void deliver_mail(struct test *t)
{
    struct list *node;
    while (!t->mail_held && (node = list_pop(&t->mail)) != NULL) {
        struct fetch_job *job = LIST_CONTAINER(node, struct fetch_job, node);
        submit_to(owner_of(t, fetch_target(job).origin), job);
    }
}

/* The engines' part of a turn, at its end. */
static inline void turn(struct test *t)
{
    for (unsigned i = 0; i < t->engine_count; i++)
        engine_turn(&t->engines[i]);
    deliver_mail(t);
}

/* One turn of the loop, which sleeps only when the engines let it. */
static inline void spin(struct test *t)
{
    bool busy = false;
    for (unsigned i = 0; i < t->engine_count; i++)
        busy |= t->engines[i].again || t->engines[i].woken || t->engines[i].told;
    uv_run(&t->loop, busy ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    assert_false(t->expired);
    turn(t);
}

static inline void run_until(struct test *t, const int *counter, int value)
{
    while (*counter < value)
        spin(t);
}

static inline void run_all(struct test *t)
{
    run_until(t, &t->dones, t->job_count);
}

/* Jobs */

/* A job for a path of the first server, or for a whole URL. */
static inline struct job *make_job(struct test *t, const char *url)
{
    assert_true(t->job_count < JOBS);
    struct job *j = &t->jobs[t->job_count++];
    struct target target;
    int n = url[0] == '/' ? snprintf(j->url, sizeof j->url, "http://127.0.0.1:%u%s",
                                     t->servers[0].port, url)
                          : snprintf(j->url, sizeof j->url, "%s", url);
    assert_true(n > 0 && (size_t)n < sizeof j->url);
    j->t = t;
    j->opts = (struct member_opts){
        .method = "GET",
        .http_version = HTTP_VERSION_1_1,
        .max_redirects = 3,
        .timeout_us = TIMEOUT_US,
        .connect_timeout_us = CONNECT_TIMEOUT_US,
        .queue_timeout_us = -1,
        .max_response_bytes = 1 << 20,
    };
    j->member =
        (struct member){.url = j->url, .url_len = (uint32_t)strlen(j->url), .opts = &j->opts};
    if (target_parse(&t->origins, j->url, strlen(j->url), &target, &j->member.why)) {
        j->member.text = target.text;
        j->member.text_len = target.len;
        j->member.origin = target.origin;
    }
    j->job.member = &j->member;
    j->job.group = t->group;
    return j;
}

static inline void submit(struct job *j)
{
    const struct origin *origin = j->member.origin;
    struct test *t = j->t;
    submit_to(origin != NULL ? owner_of(t, origin) : &t->engines[0], &j->job);
}

static inline struct job *get(struct test *t, const char *url)
{
    struct job *j = make_job(t, url);
    submit(j);
    return j;
}

/* On every engine, as shard does it. */
static inline void cancel(struct test *t, struct fetch_group *group, enum err_type why)
{
    t->in_call = true;
    for (unsigned i = 0; i < t->engine_count; i++)
        fetch_cancel(t->engines[i].fetch, group, why);
    t->in_call = false;
}

static inline const struct result *fetched(struct test *t, const char *url)
{
    struct job *j = get(t, url);
    run_all(t);
    return &j->job.result;
}

static inline void check_failed(const struct result *r, enum err_type type, enum phase phase)
{
    assert_int_equal(r->state, MEMBER_FAILED);
    assert_false(r->ok);
    assert_int_equal(r->error.type, type);
    assert_int_equal(r->error.phase, phase);
}

static inline void check_cancelled(const struct result *r, enum err_type why, enum phase phase)
{
    assert_int_equal(r->state, MEMBER_CANCELLED);
    assert_false(r->ok);
    assert_int_equal(r->error.type, why);
    assert_int_equal(r->error.phase, phase);
}

/* How many of the jobs are in that state. */
static inline int count_jobs(const struct test *t, enum fetch_state state)
{
    int n = 0;
    for (int i = 0; i < t->job_count; i++)
        n += t->jobs[i].job.state == state;
    return n;
}

#endif
