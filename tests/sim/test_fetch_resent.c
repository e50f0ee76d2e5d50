/* SPDX-License-Identifier: MIT
 *
 * test_fetch_resent - what is told of a request that libcurl sent again because its kept-alive
 * connection was dead: what happened to the last sending, whatever ended the one before, and
 * whatever the handle went through in earlier transfers. Each answer's outcome is the same as on a
 * first sending.
 *
 * A connection that dies while the request is being written is played by a sendto() of the test's
 * own, which the send() calls that libcurl has; and that addresses have become old by a time() of its own.
 */
#include "fetch_fixture.h"

#include <sys/syscall.h>

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define RESET "Recv failure: Connection reset by peer"

/* How the kept-alive connection ends under the request. */
enum death { DEATH_NONE, DEATH_FIN, DEATH_RST, DEATH_EPIPE, DEATHS };

static int broken_pipes; /* so many calls of sendto() fail */

ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to,
               socklen_t to_len)
{
    if (broken_pipes > 0) {
        broken_pipes--;
        errno = EPIPE;
        return -1;
    }
    return syscall(SYS_sendto, fd, buf, n, flags, to, to_len);
}

static time_t later_s; /* than the clock says */

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec + later_s;
    return now.tv_sec + later_s;
}

static const struct {
    const char *reply; /* NULL = none */
    bool reset;        /* else closed, after it */
    enum err_type type;
    enum phase phase;
    int os_errno;
    const char *message; /* NULL = none that tells of a failed system call */
} rows[] = {
    {CHUNKED "xyz\r\n", false, ERR_HTTP_PROTOCOL_ERROR, PHASE_RECEIVE, 0, NULL},
    {CHUNKED "xyz\r\n", true, ERR_HTTP_PROTOCOL_ERROR, PHASE_RECEIVE, 0, NULL},
    {CHUNKED "3\r\nabc\r\nxyz\r\n", true, ERR_HTTP_PROTOCOL_ERROR, PHASE_RECEIVE, 0, NULL},
    {CHUNKED "9\r\nabc", true, ERR_CONNECTION_TERMINATED, PHASE_RECEIVE, ECONNRESET, RESET},
    {CHUNKED "9\r\nabc", false, ERR_HTTP_RESPONSE_INCOMPLETE, PHASE_RECEIVE, 0, NULL},
    {HALF, true, ERR_CONNECTION_TERMINATED, PHASE_RECEIVE, ECONNRESET, RESET},
    {HALF, false, ERR_HTTP_RESPONSE_INCOMPLETE, PHASE_RECEIVE, 0, NULL},
    {"HTTP/1.1 200 OK\r\nCon", true, ERR_CONNECTION_TERMINATED, PHASE_RECEIVE, ECONNRESET, RESET},
    {"<html>\n", false, ERR_HTTP_PROTOCOL_ERROR, PHASE_WAIT, 0, NULL},
    {NULL, true, ERR_CONNECTION_TERMINATED, PHASE_WAIT, ECONNRESET, RESET},
    {NULL, false, ERR_CONNECTION_TERMINATED, PHASE_WAIT, 0, NULL},
};

static void check_row(size_t i, const struct result *r)
{
    check_failed(r, rows[i].type, rows[i].phase);
    assert_int_equal(r->error.os_errno, rows[i].os_errno);
    assert_true(r->error.sent);
    const char *message = r->error.message != NULL ? r->error.message : err_text(r->error.type);
    if (rows[i].message != NULL)
        assert_string_equal(message, rows[i].message);
    else
        assert_null(strstr(message, "failure: "));
}

/* A connection is kept, and dies as its next request comes; what follows is the row's. */
static void fetch_row(struct test *t, size_t i, enum death death)
{
    const bool answers = rows[i].reply != NULL;
    const int before = death == DEATH_FIN || death == DEATH_RST;
    t->pages[1] = (struct page){
        .path = "/row",
        .reply = rows[i].reply,
        .deaths = before + !answers,
        .death_resets = answers ? death == DEATH_RST : rows[i].reset,
        .close = true,
        .reset = rows[i].reset,
    };
    assert_true(fetched(t, "/hello")->ok);
    struct job *j = make_job(t, "/row");
    j->opts.fresh_connection = death == DEATH_NONE;
    broken_pipes = death == DEATH_EPIPE;
    submit(j);
    run_all(t);
    assert_int_equal(broken_pipes, 0);
    assert_int_equal(t->pages[1].asked, 1 + before);
    assert_int_equal(j->job.result.num_retries, death != DEATH_NONE);
    check_row(i, &j->job.result);
}

static void test_outcomes(enum death death)
{
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        fetch_row(t, i, death);
    close_test(t);
}

/* The one that all others are compared with. */
static void test_sent_once(void **state)
{
    (void)state;
    test_outcomes(DEATH_NONE);
}

static void test_closed_before(void **state)
{
    (void)state;
    test_outcomes(DEATH_FIN);
}

static void test_reset_before(void **state)
{
    (void)state;
    test_outcomes(DEATH_RST);
}

static void test_broken_pipe_before(void **state)
{
    (void)state;
    test_outcomes(DEATH_EPIPE);
}

/* The errno of one transfer is not that of the next on the same handle. */
static void test_errno_of_an_earlier_transfer(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/reset", .deaths = 1, .death_resets = true};
    t->pages[1] = (struct page){.path = "/chunks", .reply = CHUNKED "xyz\r\n"};
    t->pages[2] = (struct page){.path = "/half", .reply = HALF, .close = true};
    const struct result *r = fetched(t, "/reset");
    check_failed(r, ERR_CONNECTION_TERMINATED, PHASE_WAIT);
    assert_int_equal(r->error.os_errno, ECONNRESET);
    r = fetched(t, "/chunks");
    check_failed(r, ERR_HTTP_PROTOCOL_ERROR, PHASE_RECEIVE);
    assert_int_equal(r->error.os_errno, 0);
    r = fetched(t, "/half");
    check_failed(r, ERR_HTTP_RESPONSE_INCOMPLETE, PHASE_RECEIVE);
    assert_int_equal(r->error.os_errno, 0);
    close_test(t);
}

/* Nobody listens any more when it is to be sent again. */
static void test_refused_when_sent_again(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    t->pages[1] = (struct page){.path = "/row", .deaths = 1};
    assert_true(fetched(t, "/hello")->ok);
    uv_close((uv_handle_t *)&t->servers[0].tcp, NULL);
    const struct result *r = fetched(t, "/row");
    check_failed(r, ERR_CONNECTION_REFUSED, PHASE_CONNECT);
    assert_int_equal(r->error.os_errno, ECONNREFUSED);
    assert_true(r->error.sent);
    assert_int_equal(t->pages[1].asked, 1);
    close_test(t);
}

/* The time that passed on the dead connection is not the new one's time to connect. */
static void test_connect_timeout_is_over(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    t->pages[1] = (struct page){.path = "/row", .reply = HELLO, .deaths = 1};
    assert_true(fetched(t, "/hello")->ok);
    struct job *j = get(t, "/row");
    run_until(t, &t->pages[1].asked, 1);
    now_us += CONNECT_TIMEOUT_US; /* the end of the connection is on its way and not read yet */
    run_all(t);
    assert_true(j->job.result.ok);
    assert_int_equal(j->job.result.num_retries, 1);
    close_test(t);
}

static struct job *ask_named(struct test *t, const char *method, const char *path)
{
    char url[64];
    snprintf(url, sizeof url, "http://named.test:%u%s", t->servers[0].port, path);
    struct job *j = make_job(t, url);
    j->opts.method = method;
    submit(j);
    return j;
}

/* The name that the server has, known from an earlier look-up. */
static struct test *open_named(void)
{
    struct resolve_answer answer = {.count = 1};
    struct test *t = open_test(1);
    assert_true(ip_parse("127.0.0.1", &answer.addresses[0]));
    resolve_cache_put(t->names, "named.test", resolve_cache_generation(t->names), 0, UINT64_MAX,
                      &answer);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    t->pages[1] = (struct page){.path = "/row", .reply = HELLO, .deaths = 1};
    struct job *first = ask_named(t, "GET", "/hello");
    run_all(t);
    assert_true(first->job.result.ok);
    return t;
}

/* What the connection that died has asked for, so long ago that libcurl's addresses were swept: it
 * knows none of named.test, and would ask the system. */
static void forget_addresses(struct test *t)
{
    run_until(t, &t->pages[1].asked, 1);
    later_s += 3600;
    curl_uv_sweep(t->engines[0].fetch->pools[0].env.multis[KIND_PLAIN], 60);
}

static void test_sent_again_late(void **state)
{
    (void)state;
    struct test *t = open_named();
    struct job *j = ask_named(t, "GET", "/row");
    forget_addresses(t);
    run_all(t);
    assert_true(j->job.result.ok);
    assert_int_equal(j->job.result.num_retries, 1);
    assert_int_equal(j->job.result.num_connects, 1);
    assert_int_equal(t->pages[1].asked, 2);
    close_test(t);
}

static void test_not_sent_again_late(void **state)
{
    (void)state;
    struct test *t = open_named();
    struct job *j = ask_named(t, "POST", "/row");
    forget_addresses(t);
    run_all(t);
    check_failed(&j->job.result, ERR_CONNECTION_TERMINATED, PHASE_WAIT);
    assert_true(j->job.result.error.sent);
    assert_int_equal(j->job.result.num_retries, 0);
    assert_int_equal(t->pages[1].asked, 1);
    close_test(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sent_once),
        cmocka_unit_test(test_closed_before),
        cmocka_unit_test(test_reset_before),
        cmocka_unit_test(test_broken_pipe_before),
        cmocka_unit_test(test_errno_of_an_earlier_transfer),
        cmocka_unit_test(test_refused_when_sent_again),
        cmocka_unit_test(test_connect_timeout_is_over),
        cmocka_unit_test(test_sent_again_late),
        cmocka_unit_test(test_not_sent_again_late),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("fetch_resent", tests, libraries_up, libraries_down);
}
