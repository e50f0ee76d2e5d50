/* SPDX-License-Identifier: MIT
 *
 * test_fetch - the real engine, with libcurl and sockets, against a small HTTP server on the same
 * loop (127.0.0.1, any port) that does what a table of pages says. The engine's clock is the
 * test's: a time-out is a step of that clock, and nothing waits for it. Every test ends with a
 * closed engine, uv_loop_close() == 0 and as many descriptors as before it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
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
#include "log.h"
#include "policy.h"
#include "slots.h"
#include "transfer.h"

#define MS INT64_C(1000)
#define GUARD_MS 20000
#define TIMEOUT_US (30 * US_PER_S)
#define CONNECT_TIMEOUT_US (5 * US_PER_S)
#define LAUNCHES_A_TURN 64
#define PAGES 8
#define JOBS 200
#define ASKED 16
#define HELLO "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
#define HALF "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"

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
    bool close;        /* after the reply */
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

struct test {
    uv_loop_t loop;
    uv_timer_t guard;
    uv_tcp_t server;
    uint16_t port;
    struct list clients;
    int connections, hangups;
    struct page pages[PAGES];
    const char *asked[ASKED]; /* the paths, in order */
    int asked_count;
    char body_seen[64];       /* of the last request */
    struct config_fetch config;
    struct config_limits limits;
    struct metrics metrics;
    struct policy *policy;
    struct fetch *fetch;
    struct fetch_pool *pool;
    struct slots *slots;
    struct sched_batch *batch;
    struct job jobs[JOBS];
    int job_count, dones;
    size_t descriptors;
    bool woken, again, expired, closed, in_call;
};

/* The server */

struct client {
    uv_tcp_t tcp;
    struct list node;
    struct test *t;
    char text[8192];
    size_t len;
};

struct reply {
    uv_write_t write;
    bool close;
};

static void on_client_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;
    list_remove(&c->node);
    free(c);
}

static void client_close(struct client *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, on_client_closed);
}

static void on_replied(uv_write_t *write, int status)
{
    struct reply *r = write->data;
    (void)status;
    if (r->close)
        client_close(write->handle->data);
    free(r);
}

static void client_reply(struct client *c, const struct page *page)
{
    struct reply *r = calloc(1, sizeof *r);
    assert_non_null(r);
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)page->reply, (unsigned)strlen(page->reply));
    r->write.data = r;
    r->close = page->close;
    assert_int_equal(uv_write(&r->write, (uv_stream_t *)&c->tcp, &buf, 1, on_replied), 0);
}

static struct page *page_of(struct test *t, const char *text)
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
static void client_answer(struct client *c, const char *body)
{
    struct test *t = c->t;
    struct page *page = page_of(t, c->text);
    snprintf(t->body_seen, sizeof t->body_seen, "%s", body);
    page->asked++;
    if (t->asked_count < ASKED)
        t->asked[t->asked_count++] = page->path;
    c->len = 0;
    if (page->deaths > 0) {
        page->deaths--;
        client_close(c);
    } else if (page->reply) {
        client_reply(c, page);
    }
}

static void on_request(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = stream->data;
    (void)buf;
    if (n < 0) {
        c->t->hangups++;
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

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->text + c->len, (unsigned)(sizeof c->text - c->len - 1));
}

static void on_connection(uv_stream_t *server, int status)
{
    struct test *t = server->data;
    struct client *c = calloc(1, sizeof *c);
    assert_int_equal(status, 0);
    assert_non_null(c);
    c->t = t;
    t->connections++;
    list_init(&c->node);
    list_append(&t->clients, &c->node);
    uv_tcp_init(&t->loop, &c->tcp);
    c->tcp.data = c;
    assert_int_equal(uv_accept(server, (uv_stream_t *)&c->tcp), 0);
    uv_read_start((uv_stream_t *)&c->tcp, on_room, on_request);
}

static void server_open(struct test *t)
{
    struct sockaddr_in sa;
    int n = sizeof sa;
    uv_ip4_addr("127.0.0.1", 0, &sa);
    uv_tcp_init(&t->loop, &t->server);
    t->server.data = t;
    assert_int_equal(uv_tcp_bind(&t->server, (struct sockaddr *)&sa, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&t->server, 128, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(&t->server, (struct sockaddr *)&sa, &n), 0);
    t->port = ntohs(sa.sin_port);
}

/* The engine */

static void on_wake(void *arg)
{
    struct test *t = arg;
    t->woken = true;
}

static void on_guard(uv_timer_t *timer)
{
    struct test *t = timer->loop->data;
    t->expired = true;
}

/* Every result adds up, comes once, and never from inside another call. */
static void on_done(struct fetch_job *job)
{
    struct job *j = LIST_CONTAINER(job, struct job, job);
    const struct result *r = &job->result;
    assert_false(j->t->in_call);
    assert_int_equal(job->state, FETCH_IDLE);
    assert_int_not_equal(r->state, MEMBER_PENDING);
    assert_int_equal(timings_total(&r->timings), r->end_us - job->queued_us);
    for (int p = 0; p < PHASE_COUNT; p++)
        assert_true(r->timings.us[p] >= TIME_NULL);
    assert_int_equal(j->dones++, 0);
    j->t->dones++;
}

static struct policy *make_policy(void)
{
    char name[] = "default", here[] = "127.0.0.1", *allow[] = {here};
    const struct config_policy conf = {
        .name = name, .base = POLICY_BASE_PUBLIC, .allow = {allow, 1}};
    struct buf errors;
    buf_init(&errors, 0);
    struct policy *p = policy_create(&conf, &errors);
    buf_fini(&errors);
    assert_non_null(p);
    assert_true(policy_set_own(p, NULL, 0));
    return p;
}

static size_t open_descriptors(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void engine_open(struct test *t)
{
    static char agent[] = "test", dns[] = "127.0.0.1:1", *servers[] = {dns};
    const char *why = NULL;
    t->config = (struct config_fetch){
        .user_agent = agent,
        .idle_connections = 16,
        .idle_time_us = 60 * US_PER_S,
        .dns_servers = {servers, 1},
    };
    const struct fetch_params params = {
        .loop = &t->loop,
        .config = &t->config,
        .limits = &t->limits,
        .metrics = &t->metrics,
        .wake = on_wake,
        .wake_arg = t,
        .done = on_done,
    };
    t->policy = make_policy();
    t->fetch = fetch_create(&params, &why);
    assert_non_null(t->fetch);
    t->pool = fetch_pool_open(t->fetch, t->policy);
    t->slots = slots_create(1000, 1);
    assert_non_null(t->slots);
    t->batch = fetch_join(t->fetch, "x", t->slots, 1000);
    assert_true(t->pool && t->batch);
}

static struct test *open_test(int in_flight)
{
    struct test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->descriptors = open_descriptors();
    now_us = 1000 * MS;
    t->limits = (struct config_limits){
        .in_flight = in_flight,
        .per_host = in_flight,
        .upstream_head_bytes = 4096,
        .answer_bytes = 1 << 20,
        .lookups = 10,
    };
    assert_int_equal(uv_loop_init(&t->loop), 0);
    t->loop.data = t;
    list_init(&t->clients);
    uv_timer_init(&t->loop, &t->guard);
    uv_timer_start(&t->guard, on_guard, GUARD_MS, 0);
    server_open(t);
    engine_open(t);
    return t;
}

static void on_engine_closed(void *arg)
{
    struct test *t = arg;
    t->closed = true;
}

static void close_test(struct test *t)
{
    struct list *node, *next;
    assert_int_equal(t->dones, t->job_count);
    assert_int_equal(fetch_waiting(t->fetch) + fetch_active(t->fetch), 0);
    for (int i = 0; i < t->job_count; i++)
        fetch_result_free(t->fetch, &t->jobs[i].job.result);
    fetch_gauge(t->fetch);
    assert_int_equal(t->metrics.value[METRIC_ANSWER_BYTES_HELD], 0);
    sched_batch_leave(t->batch);
    slots_destroy(t->slots);
    fetch_close(t->fetch, on_engine_closed, t);
    assert_false(t->closed);
    uv_close((uv_handle_t *)&t->guard, NULL);
    uv_close((uv_handle_t *)&t->server, NULL);
    LIST_FOREACH_SAFE(node, next, &t->clients)
        client_close(LIST_CONTAINER(node, struct client, node));
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_true(t->closed);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    policy_destroy(t->policy);
    assert_int_equal(open_descriptors(), t->descriptors);
    free(t);
}

/* The engine's part of a turn, at its end. */
static void turn(struct test *t)
{
    t->woken = false;
    t->again = fetch_turn(t->fetch);
}

/* One turn of the loop, which sleeps only when the engine lets it. */
static void spin(struct test *t)
{
    uv_run(&t->loop, t->again || t->woken ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    assert_false(t->expired);
    turn(t);
}

static void run_until(struct test *t, const int *counter, int value)
{
    while (*counter < value)
        spin(t);
}

static void run_all(struct test *t)
{
    run_until(t, &t->dones, t->job_count);
}

/* A job for a path of the server, or for a whole URL. */
static struct job *make_job(struct test *t, const char *url)
{
    assert_true(t->job_count < JOBS);
    struct job *j = &t->jobs[t->job_count++];
    if (url[0] == '/')
        snprintf(j->url, sizeof j->url, "http://127.0.0.1:%u%s", t->port, url);
    else
        snprintf(j->url, sizeof j->url, "%s", url);
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
    j->job.member = &j->member;
    j->job.pool = t->pool;
    j->job.batch = t->batch;
    return j;
}

static void submit(struct job *j)
{
    struct test *t = j->t;
    j->job.queued_us = clock_us();
    t->in_call = true;
    fetch_submit(t->fetch, &j->job);
    t->in_call = false;
    assert_true(t->woken);
}

static struct job *get(struct test *t, const char *url)
{
    struct job *j = make_job(t, url);
    submit(j);
    return j;
}

static void cancel(struct job *j, enum err_type why)
{
    j->t->in_call = true;
    fetch_cancel(j->t->fetch, &j->job, why, clock_us());
    j->t->in_call = false;
}

static const struct result *fetched(struct test *t, const char *url)
{
    struct job *j = get(t, url);
    run_all(t);
    return &j->job.result;
}

static void check_failed(const struct result *r, enum err_type type, enum phase phase)
{
    assert_int_equal(r->state, MEMBER_FAILED);
    assert_false(r->ok);
    assert_int_equal(r->error.type, type);
    assert_int_equal(r->error.phase, phase);
}

/* Done */

static void test_done(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/hello?x", .reply = HELLO};
    struct job *j = make_job(t, "/hello?x");
    j->job.include = INCLUDE_BODY | INCLUDE_HEADERS;
    submit(j);
    assert_int_equal(j->job.state, FETCH_QUEUED);
    run_all(t);
    const struct result *r = &j->job.result;
    assert_int_equal(r->state, MEMBER_DONE);
    assert_true(r->ok);
    assert_int_equal(r->status, 200);
    assert_int_equal(r->http_version, 11);
    assert_int_equal(r->error.type, ERR_NONE);
    assert_string_equal(r->content_type, "text/plain");
    assert_string_equal(r->url_effective, j->url);
    assert_int_equal(r->remote_port, t->port);
    assert_int_equal(r->num_connects, 1);
    assert_int_equal(r->sizes.delivered, 5);
    assert_int_equal(r->extra->body.len, 5);
    assert_memory_equal(r->extra->body.data, "hello", 5);
    assert_memory_equal(r->extra->headers.data,
                        "Content-Type\0text/plain\0Content-Length\0" "5", 41);
    assert_int_equal(r->timings.us[PHASE_DNS], TIME_NULL);
    assert_int_equal(r->timings.us[PHASE_TLS], TIME_NULL);
    assert_true(r->timings.us[PHASE_CONNECT] > 0 && r->timings.us[PHASE_RECEIVE] > 0);
    assert_true(r->ttfb_us > 0 && r->ttfb_us <= result_work_us(r));
    /* Again, on the same connection. */
    r = fetched(t, "/hello?x");
    assert_true(r->ok && r->reused);
    assert_int_equal(r->num_connects, 0);
    assert_int_equal(r->timings.us[PHASE_CONNECT], TIME_NULL);
    assert_int_equal(t->connections, 1);
    close_test(t);
}

/* An answer is an answer, whatever its status. */
static void test_status(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/404",
                                .reply = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"};
    t->pages[1] = (struct page){.path = "/503", .close = true,
                                .reply = "HTTP/1.0 503 No\r\nRetry-After: 2\r\n\r\n"};
    const struct result *r = fetched(t, "/404");
    assert_int_equal(r->state, MEMBER_DONE);
    assert_false(r->ok);
    r = fetched(t, "/503");
    assert_int_equal(r->state, MEMBER_DONE);
    assert_int_equal(r->http_version, 10);
    assert_int_equal(r->retry_after_us, 2 * US_PER_S);
    close_test(t);
}

/* Bad URLs and denied ones are results too, in a later turn; nobody is asked. */
static void test_refused_at_submit(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    struct job *bad = get(t, "gopher://127.0.0.1/"), *denied = get(t, "http://10.0.0.1/");
    assert_int_equal(t->dones, 0);
    run_all(t);
    check_failed(&bad->job.result, ERR_URL_INVALID, PHASE_QUEUE);
    assert_int_equal(denied->job.result.state, MEMBER_DENIED);
    assert_int_equal(denied->job.result.error.type, ERR_DESTINATION_IP_PROHIBITED);
    assert_non_null(denied->job.result.error.rule);
    assert_int_equal(denied->job.result.start_us, TIME_NULL);
    close_test(t);
}

/* A turn starts no more than it may; all are done in the end. */
static void test_many(void **state)
{
    (void)state;
    struct test *t = open_test(JOBS);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    for (int i = 0; i < JOBS; i++)
        get(t, "/hello");
    assert_int_equal(fetch_waiting(t->fetch), JOBS);
    turn(t);
    assert_true(t->again);
    assert_int_equal(fetch_active(t->fetch), LAUNCHES_A_TURN);
    run_all(t);
    for (int i = 0; i < JOBS; i++)
        assert_true(t->jobs[i].job.result.ok);
    assert_int_equal(t->pages[0].asked, JOBS);
    close_test(t);
}

/* Redirects */

#define REDIRECT(status, to) \
    "HTTP/1.1 " status " Go\r\nLocation: " to "\r\nContent-Length: 4\r\n\r\ngone"

/* A hop that waits holds nothing: with one slot, somebody else's job has its turn between hops. */
static void test_redirect_gives_its_slots_back(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/go", .reply = REDIRECT("302", "/final")};
    t->pages[1] = (struct page){.path = "/final", .reply = HELLO};
    t->pages[2] = (struct page){.path = "/other", .reply = HELLO};
    struct slots *slots = slots_create(10, 1);
    assert_non_null(slots);
    struct sched_batch *second = fetch_join(t->fetch, "y", slots, 10);
    struct job *j = make_job(t, "/go"), *other = make_job(t, "/other");
    j->job.include = INCLUDE_BODY | INCLUDE_REDIRECTS;
    other->job.batch = second;
    submit(j);
    submit(other);
    run_all(t);
    assert_int_equal(t->asked_count, 3);
    assert_string_equal(t->asked[0], "/go");
    assert_string_equal(t->asked[1], "/other");
    assert_string_equal(t->asked[2], "/final");
    const struct result *r = &j->job.result;
    assert_true(r->ok && other->job.result.ok);
    assert_int_equal(r->num_redirects, 1);
    assert_string_equal(strrchr(r->url_effective, '/'), "/final");
    assert_int_equal(r->extra->body.len, 5); /* the last answer's, not the redirect's */
    assert_int_equal(r->extra->hop_count, 1);
    assert_int_equal(r->extra->hops[0].status, 302);
    assert_true(r->timings.us[PHASE_QUEUE] >= result_work_us(&other->job.result));
    sched_batch_leave(second);
    slots_destroy(slots);
    close_test(t);
}

static void test_redirect_limits(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/loop", .reply = REDIRECT("307", "/loop")};
    t->pages[1] = (struct page){.path = "/inside", .reply = REDIRECT("301", "http://10.0.0.1/x")};
    t->pages[2] = (struct page){.path = "/file", .reply = REDIRECT("302", "file:///etc/passwd")};
    struct job *stay = make_job(t, "/loop");
    stay->opts.max_redirects = 0;
    submit(stay);
    run_all(t);
    assert_int_equal(stay->job.result.state, MEMBER_DONE);
    assert_int_equal(stay->job.result.status, 307);
    const struct result *r = fetched(t, "/loop");
    check_failed(r, ERR_TOO_MANY_REDIRECTS, PHASE_RECEIVE);
    assert_int_equal(r->num_redirects, 3);
    assert_int_equal(t->pages[0].asked, 1 + 4);
    r = fetched(t, "/inside");
    assert_int_equal(r->state, MEMBER_DENIED);
    assert_int_equal(r->error.type, ERR_DESTINATION_IP_PROHIBITED);
    assert_true(r->error.sent);
    check_failed(fetched(t, "/file"), ERR_URL_INVALID, PHASE_RECEIVE);
    close_test(t);
}

static void test_redirect_turns_post_into_get(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/303", .reply = REDIRECT("303", "/final")};
    t->pages[1] = (struct page){.path = "/307", .reply = REDIRECT("307", "/final")};
    t->pages[2] = (struct page){.path = "/final", .reply = HELLO};
    static const char *const paths[] = {"/303", "/307"}, *const bodies[] = {"", "data"};
    for (size_t i = 0; i < 2; i++) {
        struct job *j = make_job(t, paths[i]);
        j->opts.method = "POST";
        j->opts.body = "data";
        j->opts.body_len = 4;
        submit(j);
        run_all(t);
        assert_true(j->job.result.ok);
        assert_string_equal(t->body_seen, bodies[i]);
    }
    close_test(t);
}

/* Time-outs */

static void test_timeout_in_wait(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/never"};
    struct job *j = get(t, "/never");
    run_until(t, &t->pages[0].asked, 1);
    int64_t began = j->job.dispatched_us;
    now_us = began + TIMEOUT_US - 10 * MS; /* the connect timeout is over and no matter */
    turn(t);
    assert_int_equal(j->job.state, FETCH_ACTIVE);
    now_us = began + TIMEOUT_US;
    turn(t);
    run_all(t);
    check_failed(&j->job.result, ERR_HTTP_RESPONSE_TIMEOUT, PHASE_WAIT);
    assert_true(j->job.result.error.sent);
    assert_in_range(result_work_us(&j->job.result), TIMEOUT_US, TIMEOUT_US + MS);
    run_until(t, &t->hangups, 1); /* the upstream sees it at once */
    close_test(t);
}

static void test_timeout_in_receive(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/half", .reply = HALF};
    struct job *j = get(t, "/half");
    while (j->job.transfer == NULL || j->job.transfer->delivered < 4)
        spin(t);
    now_us += TIMEOUT_US;
    turn(t);
    run_all(t);
    check_failed(&j->job.result, ERR_HTTP_RESPONSE_TIMEOUT, PHASE_RECEIVE);
    assert_int_equal(j->job.result.sizes.delivered, 4);
    assert_int_equal(j->job.result.status, 200);
    close_test(t);
}

static void test_queue_timeout(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/never"};
    struct job *first = get(t, "/never"), *waits = make_job(t, "/never");
    waits->opts.queue_timeout_us = US_PER_S;
    submit(waits);
    run_until(t, &t->pages[0].asked, 1);
    now_us += US_PER_S;
    run_until(t, &t->dones, 1);
    check_failed(&waits->job.result, ERR_QUEUE_TIMEOUT, PHASE_QUEUE);
    assert_int_equal(waits->job.result.start_us, TIME_NULL);
    assert_int_equal(first->job.state, FETCH_ACTIVE);
    cancel(first, ERR_CANCELLED);
    run_all(t);
    assert_int_equal(t->pages[0].asked, 1);
    close_test(t);
}

/* Connections */

static int bound_socket(uint16_t *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

static void test_connection_refused(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    char url[64];
    uint16_t port;
    int fd = bound_socket(&port); /* does not listen */
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    const struct result *r = fetched(t, url);
    check_failed(r, ERR_CONNECTION_REFUSED, PHASE_CONNECT);
    assert_int_equal(r->error.os_errno, ECONNREFUSED);
    assert_int_equal(r->error.exitcode, CURLE_COULDNT_CONNECT);
    assert_false(r->error.sent);
    assert_int_equal(r->num_connects, 0);
    close(fd);
    close_test(t);
}

static void on_handle(uv_handle_t *handle, void *arg)
{
    int *polls = arg;
    *polls += handle->type == UV_POLL && !uv_is_closing(handle);
}

static int watchers(struct test *t)
{
    int polls = 0;
    uv_walk(&t->loop, on_handle, &polls);
    return polls;
}

/* How many of the jobs have opened a socket. */
static int opened(const struct job *jobs, int count)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        n += jobs[i].job.transfer != NULL && jobs[i].job.transfer->opened_us != TIME_NULL;
    return n;
}

/* Connects until the backlog is full and a connect hangs; returns how many sockets it took. */
static size_t fill_backlog(uint16_t port, int *fillers, size_t max)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    sa.sin_port = htons(port);
    for (size_t n = 0; n < max; n++) {
        fillers[n] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(fillers[n], (struct sockaddr *)&sa, sizeof sa);
        if (poll(&(struct pollfd){.fd = fillers[n], .events = POLLOUT}, 1, 0) == 0)
            return n + 1;
    }
    fail();
    return 0;
}

/* Sockets that never became connections leave no watcher behind: their descriptors are used again
 * by the next fetches, which then see their own events and nobody else's. */
static void test_connect_timeouts(void **state)
{
    (void)state;
    enum { HANGING = 5, FILLERS = 16 };
    struct test *t = open_test(20);
    char url[64];
    uint16_t port;
    int fd = bound_socket(&port), fillers[FILLERS];
    assert_int_equal(listen(fd, 0), 0);
    size_t filled = fill_backlog(port, fillers, FILLERS);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO, .close = true};
    for (int round = 0; round < 3; round++) {
        int first = t->job_count, before = watchers(t);
        for (int i = 0; i < HANGING; i++)
            get(t, url);
        while (opened(&t->jobs[first], HANGING) < HANGING)
            spin(t);
        now_us += CONNECT_TIMEOUT_US;
        turn(t);
        run_all(t);
        for (int i = 0; i < HANGING; i++) {
            const struct result *r = &t->jobs[first + i].job.result;
            check_failed(r, ERR_CONNECTION_TIMEOUT, PHASE_CONNECT);
            assert_false(r->error.sent);
        }
        assert_true(watchers(t) <= before); /* some kept-alive ones may be gone by now */
        for (int i = 0; i < HANGING; i++)
            get(t, "/hello");
        run_all(t);
        for (int i = 0; i < HANGING; i++)
            assert_true(t->jobs[first + HANGING + i].job.result.ok);
    }
    while (filled > 0)
        close(fillers[--filled]);
    close(fd);
    close_test(t);
}

/* A kept-alive connection dies under a request: what may be repeated is, once; an order is not. */
static void test_resending(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    t->pages[1] = (struct page){.path = "/order", .reply = HELLO, .deaths = 1};
    t->pages[2] = (struct page){.path = "/again", .reply = HELLO, .deaths = 1};
    assert_true(fetched(t, "/hello")->ok);
    struct job *order = make_job(t, "/order");
    order->opts.method = "POST";
    order->opts.body = "one";
    order->opts.body_len = 3;
    submit(order);
    run_all(t);
    check_failed(&order->job.result, ERR_CONNECTION_TERMINATED, order->job.result.error.phase);
    assert_true(order->job.result.error.sent);
    assert_int_equal(t->pages[1].asked, 1);
    assert_true(fetched(t, "/hello")->ok);
    const struct result *r = fetched(t, "/again");
    assert_true(r->ok);
    assert_int_equal(r->num_retries, 1);
    assert_int_equal(t->pages[2].asked, 2);
    close_test(t);
}

static void test_answer_cut_short(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/half", .reply = HALF, .close = true};
    t->pages[1] = (struct page){.path = "/none", .deaths = 9};
    check_failed(fetched(t, "/half"), ERR_HTTP_RESPONSE_INCOMPLETE, PHASE_RECEIVE);
    check_failed(fetched(t, "/none"), ERR_CONNECTION_TERMINATED, PHASE_WAIT);
    close_test(t);
}

/* Cancel */

static void test_cancel_queued(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    struct job *runs = get(t, "/hello"), *waits = get(t, "/hello");
    turn(t);
    assert_int_equal(runs->job.state, FETCH_ACTIVE);
    now_us += 7 * MS;
    cancel(waits, ERR_DEADLINE_EXCEEDED);
    const struct result *r = &waits->job.result; /* final at once */
    assert_int_equal(r->state, MEMBER_CANCELLED);
    assert_int_equal(r->error.type, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(r->error.phase, PHASE_QUEUE);
    assert_int_equal(result_work_us(r), TIME_NULL);
    int64_t end_us = r->end_us;
    cancel(waits, ERR_CANCELLED); /* final is final */
    assert_int_equal(r->error.type, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(t->dones, 0);
    run_all(t);
    assert_int_equal(r->end_us, end_us);
    assert_true(runs->job.result.ok);
    cancel(runs, ERR_CANCELLED); /* done is done */
    assert_int_equal(runs->job.result.state, MEMBER_DONE);
    assert_int_equal(t->pages[0].asked, 1);
    close_test(t);
}

/* What comes while the transfer still waits to be taken down is not taken. */
static void test_cancel_active(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/half", .reply = HALF};
    t->pages[1] = (struct page){.path = "/hello", .reply = HELLO};
    struct job *j = make_job(t, "/half");
    j->job.include = INCLUDE_BODY;
    submit(j);
    while (j->job.transfer == NULL || j->job.transfer->delivered < 4)
        spin(t);
    cancel(j, ERR_CANCELLED);
    struct result *r = &j->job.result;
    assert_int_equal(r->state, MEMBER_CANCELLED);
    assert_int_equal(r->error.phase, PHASE_RECEIVE);
    assert_int_equal(r->sizes.delivered, 4);
    assert_int_equal(j->job.state, FETCH_CLOSING);
    struct client *c = LIST_CONTAINER(t->clients.next, struct client, node);
    client_reply(c, &(struct page){.reply = " two"});
    for (int i = 0; i < 3; i++)
        uv_run(&t->loop, UV_RUN_NOWAIT);
    assert_int_equal(r->extra->body.len, 4);
    assert_int_equal(t->dones, 0);
    run_all(t);
    assert_int_equal(r->extra->body.len, 4);
    run_until(t, &t->hangups, 1);
    assert_true(fetched(t, "/hello")->ok);
    close_test(t);
}

static void test_cancel_before_the_launch_and_in_connect(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    struct job *early = get(t, "/hello"), *active;
    cancel(early, ERR_CANCELLED);
    run_all(t);
    active = get(t, "/hello");
    turn(t); /* launched, and libcurl has not run yet */
    assert_int_equal(active->job.state, FETCH_ACTIVE);
    cancel(active, ERR_CANCELLED);
    run_all(t);
    assert_int_equal(active->job.result.error.phase, PHASE_CONNECT);
    assert_int_equal(t->pages[0].asked, 0);
    close_test(t);
}

/* Caps */

static void test_head_cap(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    static char reply[9000] = "HTTP/1.1 200 OK\r\n";
    size_t n = strlen(reply);
    while (n < sizeof reply - 100)
        n += (size_t)snprintf(reply + n, sizeof reply - n, "X: %060d\r\n", 1);
    snprintf(reply + n, sizeof reply - n, "Content-Length: 0\r\n\r\n");
    t->pages[0] = (struct page){.path = "/head", .reply = reply};
    check_failed(fetched(t, "/head"), ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE, PHASE_RECEIVE);
    close_test(t);
}

/* A body that is too long is cut and no failure; one that fits exactly is whole. */
static void test_body_cap(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    for (int cap = 4; cap <= 6; cap++) {
        struct job *j = make_job(t, "/hello");
        j->opts.max_response_bytes = cap;
        j->job.include = INCLUDE_BODY;
        submit(j);
        run_all(t);
        const struct result *r = &j->job.result;
        assert_int_equal(r->state, MEMBER_DONE);
        assert_true(r->ok);
        assert_int_equal(r->truncated, cap < 5);
        assert_int_equal(r->sizes.delivered, cap < 5 ? cap : 5);
        assert_int_equal(r->extra->body.len, cap < 5 ? cap : 5);
    }
    close_test(t);
}

/* limits.answer_bytes is shared: what no longer fits is not kept, and counted all the same. */
static void test_answer_bytes(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->limits.answer_bytes = 7;
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    struct job *jobs[3];
    for (size_t i = 0; i < 3; i++) {
        jobs[i] = make_job(t, "/hello");
        jobs[i]->job.include = INCLUDE_BODY;
    }
    submit(jobs[0]);
    submit(jobs[1]);
    run_until(t, &t->dones, 2);
    assert_false(jobs[0]->job.result.extra->body_cut);
    assert_true(jobs[1]->job.result.extra->body_cut);
    assert_int_equal(jobs[1]->job.result.sizes.delivered, 5);
    fetch_content_free(t->fetch, &jobs[0]->job.result);
    submit(jobs[2]);
    run_all(t);
    assert_false(jobs[2]->job.result.extra->body_cut);
    close_test(t);
}

/* libcurl before 8.1 appends such a line to a header of the handle's last use, which is freed. */
static void test_head_that_begins_with_a_folded_line(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    t->pages[1] = (struct page){
        .path = "/folded",
        .reply = "HTTP/1.1 200 OK\r\n folded: x\r\nContent-Length: 0\r\n\r\n",
        .close = true,
    };
    for (int round = 0; round < 3; round++) {
        assert_true(fetched(t, "/hello")->ok);
        const struct result *r = fetched(t, "/folded");
        if (curl_version_info(CURLVERSION_NOW)->version_num >= 0x080100)
            continue; /* libcurl's own affair */
        check_failed(r, ERR_HTTP_PROTOCOL_ERROR, PHASE_RECEIVE);
        assert_non_null(strstr(r->error.message, "folded")); /* by us, before it was stored */
    }
    close_test(t);
}

/* The first loop of a process opens descriptors that stay. */
static int set_up(void **state)
{
    (void)state;
    uv_loop_t first;
    if (uv_loop_init(&first) != 0 || uv_loop_close(&first) != 0)
        return -1;
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK &&
                   ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    ares_library_cleanup();
    curl_global_cleanup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_refused_at_submit),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_redirect_gives_its_slots_back),
        cmocka_unit_test(test_redirect_limits),
        cmocka_unit_test(test_redirect_turns_post_into_get),
        cmocka_unit_test(test_timeout_in_wait),
        cmocka_unit_test(test_timeout_in_receive),
        cmocka_unit_test(test_queue_timeout),
        cmocka_unit_test(test_connection_refused),
        cmocka_unit_test(test_connect_timeouts),
        cmocka_unit_test(test_resending),
        cmocka_unit_test(test_answer_cut_short),
        cmocka_unit_test(test_cancel_queued),
        cmocka_unit_test(test_cancel_active),
        cmocka_unit_test(test_cancel_before_the_launch_and_in_connect),
        cmocka_unit_test(test_head_cap),
        cmocka_unit_test(test_body_cap),
        cmocka_unit_test(test_answer_bytes),
        cmocka_unit_test(test_head_that_begins_with_a_folded_line),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("fetch", tests, set_up, tear_down);
}
