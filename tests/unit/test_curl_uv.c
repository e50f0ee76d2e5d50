/* SPDX-License-Identifier: MIT
 *
 * test_curl_uv - libcurl on a uv loop against a small HTTP server on the same loop. A slow reader
 * is a write callback that lets the clock advance, so what is read in a turn does not depend on the
 * machine. Every test ends with a closed multi and uv_loop_close() == 0.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <uv.h>

#include "curl_options.h"
#include "curl_uv.h"
#include "curl_uv_recv.h"

#define GUARD_MS 20000
#define BIG_BYTES (2 << 20)
#define MANY 32
#define MANY_BYTES (256 << 10)
#define READ_BYTES 65536 /* CURLOPT_BUFFERSIZE of curl_options */
#define SLOW_NS 3000000

struct fetch {
    CURL *easy;
    struct test *test;
    curl_socket_t fd;
    bool slow;
    bool handshaking; /* its socket says that it begins with a handshake */
    size_t read, read_in_turn, most_in_turn;
    bool sound;
    int dones;
    CURLcode code;
};

struct client;

struct test {
    uv_loop_t loop;
    uv_timer_t guard;
    uv_tcp_t server;
    uint16_t port;
    int connections;
    bool hang_up; /* after each answer */
    struct curl_uv *multi;
    struct fetch fetches[MANY];
    struct client *held[MANY]; /* whose answer waits for release() */
    int held_count;
    int served[MANY]; /* fetches in the order in which they were read for the first time */
    int served_count;
    int dones;
    bool woken, expired, closed;
};

/* The server: /N answers N bytes, /silent nothing, /held/N waits to be told. */

struct client {
    uv_tcp_t tcp;
    char text[1024];
    size_t len;
};

struct reply {
    uv_write_t write;
    char head[128];
    char body[];
};

static char byte_at(size_t i)
{
    return (char)('a' + i % 23);
}

static void on_client_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_written(uv_write_t *write, int status)
{
    const struct test *t = write->handle->loop->data;
    (void)status;
    if (t->hang_up && !uv_is_closing((uv_handle_t *)write->handle))
        uv_close((uv_handle_t *)write->handle, on_client_closed);
    free(write->data);
}

static void answer(struct client *c, size_t n)
{
    struct reply *r = malloc(sizeof *r + n);
    assert_non_null(r);
    int head =
        snprintf(r->head, sizeof r->head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
    for (size_t i = 0; i < n; i++)
        r->body[i] = byte_at(i);
    uv_buf_t bufs[] = {uv_buf_init(r->head, (unsigned)head), uv_buf_init(r->body, (unsigned)n)};
    r->write.data = r;
    uv_write(&r->write, (uv_stream_t *)&c->tcp, bufs, 2, on_written);
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *c = handle->data;
    (void)suggested;
    *buf = uv_buf_init(c->text + c->len, (unsigned)(sizeof c->text - 1 - c->len));
}

static void hold(struct client *c, size_t i)
{
    struct test *t = c->tcp.loop->data;
    assert_true(i < MANY);
    t->held[i] = c;
    t->held_count++;
}

static void on_request(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *c = stream->data;
    (void)buf;
    if (n < 0) {
        if (!uv_is_closing((uv_handle_t *)stream))
            uv_close((uv_handle_t *)stream, on_client_closed);
        return;
    }
    c->len += (size_t)n;
    c->text[c->len] = '\0';
    if (!strstr(c->text, "\r\n\r\n"))
        return;
    c->len = 0;
    if (strncmp(c->text, "GET /held/", 10) == 0)
        hold(c, strtoul(c->text + 10, NULL, 10));
    else if (strncmp(c->text, "GET /silent", 11) != 0)
        answer(c, strtoul(c->text + 5, NULL, 10));
}

static void on_connection(uv_stream_t *server, int status)
{
    struct test *t = server->loop->data;
    struct client *c = calloc(1, sizeof *c);
    assert_int_equal(status, 0);
    uv_tcp_init(server->loop, &c->tcp);
    c->tcp.data = c;
    assert_int_equal(uv_accept(server, (uv_stream_t *)&c->tcp), 0);
    uv_read_start((uv_stream_t *)&c->tcp, on_buffer, on_request);
    t->connections++;
}

static void server_open(struct test *t)
{
    struct sockaddr_in sa;
    int n = sizeof sa;
    uv_tcp_init(&t->loop, &t->server);
    uv_ip4_addr("127.0.0.1", 0, &sa);
    assert_int_equal(uv_tcp_bind(&t->server, (const struct sockaddr *)&sa, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&t->server, 64, on_connection), 0);
    assert_int_equal(uv_tcp_getsockname(&t->server, (struct sockaddr *)&sa, &n), 0);
    t->port = ntohs(sa.sin_port);
}

/* The fetches */

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct fetch *f = arg;
    (void)purpose;
    f->fd = curl_uv_open_socket(f->test->multi, address, f->handshaking ? f : NULL, NULL);
    return f->fd;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct fetch *f = arg;
    struct test *t = f->test;
    size_t n = size * count;
    if (f->read == 0 && t->served_count < MANY)
        t->served[t->served_count++] = (int)(f - t->fetches);
    for (size_t i = 0; i < n; i++)
        f->sound = f->sound && data[i] == byte_at(f->read + i);
    f->read += n;
    f->read_in_turn += n;
    if (f->read_in_turn > f->most_in_turn)
        f->most_in_turn = f->read_in_turn;
    uint64_t until = uv_hrtime() + SLOW_NS;
    curl_uv_recv_at_most(SIZE_MAX); /* as transfer does for what is not packed */
    while (f->slow && uv_hrtime() < until)
        ;
    return n;
}

static struct fetch *start(struct test *t, int i, const char *path, long timeout_ms)
{
    struct fetch *f = &t->fetches[i];
    const struct curl_options options = {.max_age_s = 60, .connect_timeout_ms = 60000};
    char url[64];
    CURL *easy = f->easy != NULL ? f->easy : curl_easy_init();
    *f = (struct fetch){.easy = easy,
                        .test = t,
                        .fd = CURL_SOCKET_BAD,
                        .slow = f->slow,
                        .handshaking = f->handshaking,
                        .sound = true};
    snprintf(url, sizeof url, "http://127.0.0.1:%u/%s", t->port, path);
    curl_easy_reset(easy);
    curl_options_set(easy, &options);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, f);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, curl_uv_close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, t->multi);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
    assert_int_equal(curl_uv_add(t->multi, easy), CURLM_OK);
    return f;
}

static void on_done(void *arg, CURL *easy, CURLcode code)
{
    struct test *t = arg;
    char *private = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    struct fetch *f = (struct fetch *)(void *)private;
    f->dones++;
    f->code = code;
    t->dones++;
    curl_uv_remove(t->multi, easy);
}

static void on_wake(void *arg)
{
    ((struct test *)arg)->woken = true;
}

static void turn(struct test *t)
{
    t->woken = false;
    curl_uv_turn(t->multi, 100, on_done, t);
    t->woken |= curl_uv_pending(t->multi);
}

static void step(struct test *t)
{
    if (t->expired)
        fail_msg("nothing happened for %d s", GUARD_MS / 1000);
    for (int i = 0; i < MANY; i++)
        t->fetches[i].read_in_turn = 0;
    uv_run(&t->loop, t->woken ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    turn(t);
}

static void run_until(struct test *t, int dones)
{
    turn(t);
    while (t->dones < dones)
        step(t);
}

static void on_guard(uv_timer_t *timer)
{
    ((struct test *)timer->loop->data)->expired = true;
}

static int setup(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    t->loop.data = t;
    uv_timer_init(&t->loop, &t->guard);
    uv_timer_start(&t->guard, on_guard, GUARD_MS, 0);
    server_open(t);
    const struct curl_uv_params params = {
        .loop = &t->loop, .max_idle = 100, .wake = on_wake, .arg = t};
    t->multi = curl_uv_create(&params);
    assert_non_null(t->multi);
    *state = t;
    return 0;
}

static void on_multi_closed(void *arg)
{
    ((struct test *)arg)->closed = true;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    const struct test *t = arg;
    if (!uv_is_closing(handle))
        uv_close(handle, handle->type == UV_TCP && handle != (const uv_handle_t *)&t->server
                             ? on_client_closed
                             : NULL);
}

static int teardown(void **state)
{
    struct test *t = *state;
    for (int i = 0; i < MANY; i++) {
        if (t->fetches[i].easy != NULL && t->fetches[i].dones == 0)
            curl_uv_remove(t->multi, t->fetches[i].easy);
        curl_easy_cleanup(t->fetches[i].easy);
    }
    curl_uv_close(t->multi, on_multi_closed, t);
    while (!t->closed)
        uv_run(&t->loop, UV_RUN_ONCE);
    uv_walk(&t->loop, close_handle, t);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    free(t);
    return 0;
}

/* Tests */

/* What is added connects in the same turn: nothing waits for another poll. */
static void test_starts_at_once(void **state)
{
    struct test *t = *state;
    struct fetch *f = start(t, 0, "5", 0);
    assert_true(t->woken);
    turn(t);
    assert_int_equal(curl_uv_sockets(t->multi), 1);
    run_until(t, 1);
    assert_int_equal(f->code, CURLE_OK);
    assert_int_equal(f->read, 5);
    start(t, 0, "7", 0);
    run_until(t, 2);
    assert_int_equal(f->read, 7);
    assert_int_equal(t->connections, 1);
}

static void test_big_body(void **state)
{
    struct test *t = *state;
    char path[32];
    snprintf(path, sizeof path, "%d", BIG_BYTES);
    struct fetch *f = start(t, 0, path, 0);
    run_until(t, 1);
    assert_int_equal(f->code, CURLE_OK);
    assert_int_equal(f->read, BIG_BYTES);
    assert_true(f->sound);
}

/* A transfer that takes its time with what it reads gets one read a call: from its socket, and from
 * libcurl's timer, which runs it again. */
static void test_one_read_a_call(void **state)
{
    struct test *t = *state;
    char path[32];
    t->fetches[0].slow = true;
    snprintf(path, sizeof path, "%d", BIG_BYTES / 2);
    struct fetch *f = start(t, 0, path, 0);
    run_until(t, 1);
    assert_int_equal(f->read, BIG_BYTES / 2);
    assert_true(f->sound);
    assert_in_range(f->most_in_turn, 1, 2 * READ_BYTES);
}

/* Of many that are slow few are read from in a turn; all come to their end. */
static void test_many_share(void **state)
{
    struct test *t = *state;
    char path[32];
    size_t most = 0;
    snprintf(path, sizeof path, "%d", MANY_BYTES);
    for (int i = 0; i < MANY; i++)
        start(t, i, path, 0);
    turn(t);
    for (int i = 0; i < MANY; i++)
        t->fetches[i].slow = true;
    while (t->dones < MANY) {
        size_t sum = 0;
        step(t);
        for (int i = 0; i < MANY; i++)
            sum += t->fetches[i].read_in_turn;
        most = sum > most ? sum : most;
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(t->fetches[i].read, MANY_BYTES);
        assert_true(t->fetches[i].sound);
    }
    assert_in_range(most, 1, 4 * READ_BYTES);
}

/* An idle connection that its server closes makes no noise and is not used again. */
static void test_gone(void **state)
{
    struct test *t = *state;
    t->hang_up = true;
    struct fetch *f = start(t, 0, "5", 0);
    run_until(t, 1);
    for (int i = 0; i < 20; i++) /* the server's close is on its way by now */
        uv_run(&t->loop, UV_RUN_NOWAIT);
    assert_int_equal(curl_uv_sockets(t->multi), 1);
    t->woken = false;
    for (int i = 0; i < 20; i++)
        uv_run(&t->loop, UV_RUN_NOWAIT);
    assert_false(t->woken);
    start(t, 0, "6", 0);
    run_until(t, 2);
    assert_int_equal(f->code, CURLE_OK);
    assert_int_equal(t->connections, 2);
}

/* The timer is armed for the earlier of two, whichever was named first; what has become void does
 * not end anything. */
static void test_timers(void **state)
{
    struct test *t = *state;
    uv_update_time(&t->loop);
    uint64_t began = uv_now(&t->loop);
    struct fetch *later = start(t, 0, "silent", 2000);
    struct fetch *sooner = start(t, 1, "silent", 60);
    struct fetch *quick = start(t, 2, "5", 1900);
    run_until(t, 1);
    assert_int_equal(quick->code, CURLE_OK);
    run_until(t, 2);
    assert_int_equal(sooner->code, CURLE_OPERATION_TIMEDOUT);
    assert_in_range(uv_now(&t->loop) - began, 55, 1900);
    run_until(t, 3);
    assert_int_equal(later->code, CURLE_OPERATION_TIMEDOUT);
    assert_in_range(uv_now(&t->loop) - began, 1990, 20000);
}

static void test_close_while_running(void **state)
{
    struct test *t = *state;
    char path[32];
    snprintf(path, sizeof path, "%d", BIG_BYTES);
    start(t, 0, path, 0);
    start(t, 1, "silent", 0);
    struct fetch *cut = start(t, 2, path, 0);
    turn(t);
    while (cut->read == 0)
        step(t);
    curl_uv_remove(t->multi, cut->easy);
    cut->dones++;
}

/* Fetches the first `count` of t->fetches as far as that each waits for its answer, on a connection
 * of its own. */
static void start_held(struct test *t, int count)
{
    for (int i = 0; i < count; i++) {
        char path[32];
        snprintf(path, sizeof path, "held/%d", i);
        start(t, i, path, 0);
    }
    turn(t);
    while (t->held_count < count)
        step(t);
    while (t->woken) /* what connecting has left */
        step(t);
}

/* The answer of fetch i is there to be read. */
static void release(struct test *t, int i, size_t bytes)
{
    struct pollfd p = {.fd = t->fetches[i].fd, .events = POLLIN};
    answer(t->held[i], bytes);
    assert_int_equal(poll(&p, 1, GUARD_MS), 1);
}

/* Two answers that are there at the same time, in the order of their coming, and one turn. */
static void serve_two(struct test *t, int first, int second)
{
    uv_run(&t->loop, UV_RUN_NOWAIT); /* neither is ready: the kernel has forgotten its order */
    release(t, first, 5);
    release(t, second, 5);
    uv_run(&t->loop, UV_RUN_NOWAIT);
    assert_int_equal(t->served_count, 0);
    turn(t);
    assert_int_equal(t->served_count, 2);
}

/* What comes while nobody uses the connection is no answer, also when nobody has seen it before the
 * next request is about to be sent. */
static void test_a_word_on_an_idle_connection(void **state)
{
    struct test *t = *state;
    static char words[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";
    uv_buf_t buf = uv_buf_init(words, sizeof words - 1);
    start_held(t, 1);
    release(t, 0, 3);
    run_until(t, 1);
    assert_int_equal(uv_try_write((uv_stream_t *)&t->held[0]->tcp, &buf, 1), sizeof words - 1);
    const struct fetch *next = start(t, 1, "5", 0);
    run_until(t, 2); /* its first turn comes before a poll */
    assert_int_equal(next->code, CURLE_OK);
    assert_int_equal(next->read, 5);
    assert_true(next->sound);
    assert_int_equal(t->connections, 2);
}

/* Connections that were reset, and that nobody has looked at since: none is taken for alive. libcurl
 * 7.88 would try six of them and give up. */
static void test_many_were_reset(void **state)
{
    enum { COUNT = 8 };
    struct test *t = *state;
    start_held(t, COUNT);
    for (int i = 0; i < COUNT; i++)
        release(t, i, 3);
    run_until(t, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(uv_tcp_close_reset(&t->held[i]->tcp, on_client_closed), 0);
    const struct fetch *next = start(t, COUNT, "5", 0);
    run_until(t, COUNT + 1); /* its first turn comes before a poll */
    assert_int_equal(next->code, CURLE_OK);
    assert_int_equal(next->read, 5);
    assert_int_equal(t->connections, COUNT + 1);
}

/* Who is in a handshake comes last, whoever was ready first. */
static void check_handshake_waits(struct test *t, int first, int second)
{
    t->fetches[0].handshaking = true;
    start_held(t, 2);
    serve_two(t, first, second);
    assert_int_equal(t->served[0], 1);
    assert_int_equal(t->served[1], 0);
    run_until(t, 2);
}

static void test_handshake_is_served_last(void **state)
{
    check_handshake_waits(*state, 0, 1);
}

static void test_handshake_is_served_last_in_any_order(void **state)
{
    check_handshake_waits(*state, 1, 0);
}

/* Who has done with it is served with the others, in the order in which they were ready. */
static void check_handshake_done(struct test *t, int first, int second)
{
    t->fetches[0].handshaking = true;
    start_held(t, 2);
    assert_false(curl_uv_handshake_done(t->multi, t->fetches[0].fd, &t->fetches[1], false));
    assert_true(curl_uv_handshake_done(t->multi, t->fetches[0].fd, &t->fetches[0], false));
    assert_false(curl_uv_handshake_done(t->multi, t->fetches[0].fd, &t->fetches[0], false));
    serve_two(t, first, second);
    assert_int_equal(t->served[0], first);
    assert_int_equal(t->served[1], second);
    run_until(t, 2);
}

static void test_handshake_done(void **state)
{
    check_handshake_done(*state, 0, 1);
}

static void test_handshake_done_in_any_order(void **state)
{
    check_handshake_done(*state, 1, 0);
}

/* Among those in a handshake the first that was ready is the first. */
static void test_handshakes_in_order(void **state)
{
    struct test *t = *state;
    t->fetches[0].handshaking = t->fetches[1].handshaking = true;
    start_held(t, 2);
    serve_two(t, 1, 0);
    assert_int_equal(t->served[0], 1);
    assert_int_equal(t->served[1], 0);
    run_until(t, 2);
}

/* Handshakes go on while others always have something to be read, more than a turn is for. */
static void test_handshake_is_not_starved(void **state)
{
    enum { BUSY = 8 };
    struct test *t = *state;
    t->fetches[0].handshaking = true;
    for (int i = 1; i <= BUSY; i++)
        t->fetches[i].slow = true;
    start_held(t, BUSY + 1);
    for (int i = 1; i <= BUSY; i++)
        release(t, i, BIG_BYTES / 2);
    release(t, 0, 5);
    while (t->fetches[0].read == 0)
        step(t);
    for (int i = 1; i <= BUSY; i++)
        assert_in_range(t->fetches[i].read, 0, BIG_BYTES / 2 - 1);
    for (int i = 1; i <= BUSY; i++)
        t->fetches[i].slow = false;
    run_until(t, BUSY + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_starts_at_once),      TEST(test_big_body), TEST(test_one_read_a_call),
        TEST(test_many_share),          TEST(test_gone),     TEST(test_timers),
        TEST(test_close_while_running),
        TEST(test_a_word_on_an_idle_connection),
        TEST(test_many_were_reset),
        TEST(test_handshake_is_served_last),
        TEST(test_handshake_is_served_last_in_any_order),
        TEST(test_handshake_done),
        TEST(test_handshake_done_in_any_order),
        TEST(test_handshakes_in_order),
        TEST(test_handshake_is_not_starved),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
