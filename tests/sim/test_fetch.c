/* SPDX-License-Identifier: MIT
 *
 * test_fetch - one engine and what becomes of a job in it: answers, redirects, time-outs,
 * connections, cancels, caps. See fetch_fixture.h for the server and the clock;
 * test_fetch_groups.c has what concerns several groups, pools and engines.
 */
#include "fetch_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#define LAUNCHES_A_TURN 32 /* of new connections, which cost 2 of 64 */
#define CLOSINGS_A_TURN 32
#define MANY 200

/* Done */

static void test_done(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/hello?x", .reply = HELLO};
    struct job *j = make_job(t, "/hello?x");
    t->group->include = INCLUDE_BODY | INCLUDE_HEADERS;
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
    assert_int_equal(r->remote_port, t->servers[0].port);
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
    assert_int_equal(t->servers[0].connections, 1);
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
    struct test *t = open_test(MANY);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    for (int i = 0; i < MANY; i++)
        get(t, "/hello");
    assert_int_equal(count_jobs(t, FETCH_QUEUED), MANY);
    turn(t);
    assert_true(t->engines[0].again);
    assert_int_equal(slots_used(t->slots), LAUNCHES_A_TURN);
    assert_int_equal(count_jobs(t, FETCH_ACTIVE), LAUNCHES_A_TURN);
    run_all(t);
    for (int i = 0; i < MANY; i++)
        assert_true(t->jobs[i].job.result.ok);
    assert_int_equal(t->pages[0].asked, MANY);
    close_test(t);
}

/* Redirects */

/* A hop that waits holds nothing: with one slot, somebody else's job has its turn between hops. */
static void test_redirect_gives_its_slots_back(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/go", .reply = REDIRECT("302", "/final")};
    t->pages[1] = (struct page){.path = "/final", .reply = HELLO};
    t->pages[2] = (struct page){.path = "/other", .reply = HELLO};
    t->group->include = INCLUDE_BODY | INCLUDE_REDIRECTS;
    struct job *j = make_job(t, "/go");
    new_group(t, 10)->identity = "y";
    struct job *other = make_job(t, "/other");
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
    run_until(t, &t->servers[0].hangups, 1); /* the upstream sees it at once */
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
    cancel(t, t->group, ERR_CANCELLED);
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

/* Another thread, played by libcurl's own call: the descriptor that is closed next is in use again
 * before the call returns. */
static struct {
    bool armed;
    int fd;
} thief;

int close(int fd)
{
    int rc = (int)syscall(SYS_close, fd);
    if (thief.armed && rc == 0) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        thief.armed = false;
        thief.fd = null == fd ? fd : dup2(null, fd);
        if (null != fd)
            syscall(SYS_close, null);
    }
    return rc;
}

/* A socket that never became a connection is closed by libcurl without a word. That somebody
 * else has its number by now does not keep the watcher, which would be the death of the loop. */
static void test_descriptor_is_used_again(void **state)
{
    (void)state;
    enum { FILLERS = 16 };
    struct test *t = open_test(4);
    char url[64];
    uint16_t port;
    int listener = bound_socket(&port), fillers[FILLERS];
    assert_int_equal(listen(listener, 0), 0);
    size_t filled = fill_backlog(port, fillers, FILLERS);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", port);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    for (int polled = 0; polled < 2; polled++) {
        int before = watchers(t);
        new_group(t, 10);
        struct job *j = get(t, url);
        while (opened(j, 1) == 0)
            turn(t);
        if (polled)
            uv_run(&t->loop, UV_RUN_NOWAIT);
        thief.armed = true;
        cancel(t, t->group, ERR_CANCELLED);
        turn(t);
        assert_false(thief.armed);
        assert_int_equal(watchers(t), before);
        uv_run(&t->loop, UV_RUN_NOWAIT);
        assert_true(fcntl(thief.fd, F_GETFD) >= 0);
        close(thief.fd);
        new_group(t, 10);
        assert_true(fetched(t, "/hello")->ok);
    }
    while (filled > 0)
        close(fillers[--filled]);
    close(listener);
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

/* A cancel is only noted; the next turn makes it so, with the first reason that was given. */
static void test_cancel_queued(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    struct fetch_group *first = t->group;
    struct job *runs = get(t, "/hello");
    struct fetch_group *second = new_group(t, 10);
    struct job *waits = get(t, "/hello");
    turn(t);
    assert_int_equal(runs->job.state, FETCH_ACTIVE);
    now_us += 7 * MS;
    cancel(t, second, ERR_DEADLINE_EXCEEDED);
    cancel(t, second, ERR_CANCELLED); /* there is a reason already */
    const struct result *r = &waits->job.result;
    assert_int_equal(waits->job.state, FETCH_QUEUED);
    assert_int_equal(t->dones, 0);
    int64_t before_us = now_us;
    turn(t);
    check_cancelled(r, ERR_DEADLINE_EXCEEDED, PHASE_QUEUE);
    assert_int_equal(result_work_us(r), TIME_NULL);
    assert_in_range(r->end_us, before_us, now_us);
    assert_int_equal(waits->dones, 1);
    int64_t end_us = r->end_us;
    cancel(t, second, ERR_CANCELLED); /* final is final */
    run_all(t);
    assert_int_equal(r->error.type, ERR_DEADLINE_EXCEEDED);
    assert_int_equal(r->end_us, end_us);
    assert_true(runs->job.result.ok);
    cancel(t, first, ERR_CANCELLED); /* done is done */
    turn(t);
    assert_int_equal(runs->job.result.state, MEMBER_DONE);
    assert_int_equal(t->pages[0].asked, 1);
    close_test(t);
}

static struct client *last_client(struct test *t)
{
    return LIST_CONTAINER(t->servers[0].clients.prev, struct client, node);
}

/* More active jobs than a turn takes down. All are done in that turn; what then comes for a
 * transfer that waits for its turn is not taken: its job's memory is somebody else's by now. */
static void test_cancel_active(void **state)
{
    (void)state;
    enum { COUNT = CLOSINGS_A_TURN + 4 };
    struct test *t = open_test(COUNT);
    t->pages[0] = (struct page){.path = "/half", .reply = HALF};
    t->pages[1] = (struct page){.path = "/hello", .reply = HELLO};
    t->group->include = INCLUDE_BODY | INCLUDE_HEADERS;
    for (int i = 0; i < COUNT; i++) {
        struct job *j = get(t, "/half");
        while (j->job.transfer == NULL || j->job.transfer->delivered < 4)
            spin(t);
    }
    cancel(t, t->group, ERR_CANCELLED);
    turn(t);
    assert_int_equal(t->dones, COUNT);
    assert_int_equal(slots_used(t->slots), COUNT - CLOSINGS_A_TURN);
    for (int i = 0; i < COUNT; i++) {
        struct result *r = &t->jobs[i].job.result;
        check_cancelled(r, ERR_CANCELLED, PHASE_RECEIVE);
        assert_int_equal(r->sizes.delivered, 4);
        assert_int_equal(r->extra->body.len, 4);
        fetch_content_free(r, &t->held);
    }
    memset(t->jobs, 0xa5, COUNT * sizeof *t->jobs);
    client_reply(last_client(t), &(struct page){.reply = " two"});
    for (int i = 0; i < 3; i++)
        uv_run(&t->loop, UV_RUN_NOWAIT);
    assert_int_equal(slots_used(t->slots), COUNT - CLOSINGS_A_TURN);
    assert_int_equal(atomic_load(&t->held), 0);
    run_until(t, &t->servers[0].hangups, COUNT);
    assert_int_equal(slots_used(t->slots), 0);
    memset(t->jobs, 0, COUNT * sizeof *t->jobs);
    new_group(t, 10);
    assert_true(fetched(t, "/hello")->ok);
    close_test(t);
}

/* The body of a request is the member's: not read any more once its job is done. */
static void test_cancel_while_sending(void **state)
{
    (void)state;
    enum { COUNT = CLOSINGS_A_TURN + 1, BODY = 16 << 20 };
    struct test *t = open_test(COUNT);
    char *body = malloc(BODY);
    assert_non_null(body);
    memset(body, 'x', BODY);
    t->pages[0] = (struct page){.path = "/never"};
    for (int i = 0; i < COUNT; i++) {
        struct job *j = make_job(t, "/never");
        if (i == COUNT - 1) {
            j->opts.method = "POST";
            j->opts.body = body;
            j->opts.body_len = BODY;
        }
        submit(j);
    }
    const struct job *last = &t->jobs[COUNT - 1];
    run_until(t, &t->servers[0].connections, COUNT);
    while (last->job.transfer == NULL || last->job.transfer->body_read == 0)
        spin(t);
    uv_read_stop((uv_stream_t *)&last_client(t)->tcp);
    cancel(t, t->group, ERR_CANCELLED);
    turn(t);
    assert_int_equal(t->dones, COUNT);
    check_cancelled(&last->job.result, ERR_CANCELLED, PHASE_SEND);
    assert_int_equal(slots_used(t->slots), 1);
    free(body);
    struct client *c = last_client(t); /* makes room, for which libcurl waits */
    uv_os_fd_t fd;
    assert_int_equal(uv_fileno((uv_handle_t *)&c->tcp, &fd), 0);
    for (int i = 0; i < 100; i++) {
        while (recv(fd, c->text, sizeof c->text, MSG_DONTWAIT) > 0)
            continue;
        uv_run(&t->loop, UV_RUN_NOWAIT);
    }
    while (slots_used(t->slots) > 0)
        spin(t);
    close_test(t);
}

static void test_cancel_before_the_launch_and_in_connect(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    struct job *early = get(t, "/hello");
    cancel(t, t->group, ERR_CANCELLED);
    run_all(t);
    check_cancelled(&early->job.result, ERR_CANCELLED, PHASE_QUEUE);
    new_group(t, 10);
    struct job *active = get(t, "/hello");
    turn(t); /* launched, and libcurl has not run yet */
    assert_int_equal(active->job.state, FETCH_ACTIVE);
    cancel(t, t->group, ERR_CANCELLED);
    run_all(t);
    check_cancelled(&active->job.result, ERR_CANCELLED, PHASE_CONNECT);
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
    t->group->include = INCLUDE_BODY;
    for (int cap = 4; cap <= 6; cap++) {
        struct job *j = make_job(t, "/hello");
        j->opts.max_response_bytes = cap;
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
    t->group->include = INCLUDE_BODY;
    for (size_t i = 0; i < 3; i++)
        jobs[i] = make_job(t, "/hello");
    submit(jobs[0]);
    submit(jobs[1]);
    run_until(t, &t->dones, 2);
    assert_false(jobs[0]->job.result.extra->body_cut);
    assert_true(jobs[1]->job.result.extra->body_cut);
    assert_int_equal(jobs[1]->job.result.sizes.delivered, 5);
    fetch_content_free(&jobs[0]->job.result, &t->held);
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

/* Only the first line of a head tells the status, and it has to. */
static void test_status_line(void **state)
{
    (void)state;
    struct test *t = open_test(1);
    t->pages[0] = (struct page){
        .path = "/none", .reply = "HTTP/text/plain; x\r\nA: b\r\n\r\nbody", .close = true};
    t->pages[1] = (struct page){
        .path = "/field",
        .reply = "HTTP/1.1 200 OK\r\nHTTP/1.1 404: x\r\nContent-Length: 0\r\n\r\n"};
    t->pages[2] = (struct page){
        .path = "/trailer",
        .reply = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "0\r\nHTTP/1.1 404: x\r\n\r\n"};
    t->pages[3] = (struct page){.path = "/lower", .reply = "http/1.1 200 OK\r\n\r\n", .close = true};
    check_failed(fetched(t, "/none"), ERR_HTTP_PROTOCOL_ERROR, PHASE_RECEIVE);
    check_failed(fetched(t, "/lower"), ERR_HTTP_PROTOCOL_ERROR, PHASE_RECEIVE);
    const struct result *r = fetched(t, "/field");
    assert_int_equal(r->state, MEMBER_DONE);
    assert_int_equal(r->status, 200);
    r = fetched(t, "/trailer");
    assert_int_equal(r->state, MEMBER_DONE);
    assert_int_equal(r->status, 201);
    close_test(t);
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
        cmocka_unit_test(test_descriptor_is_used_again),
        cmocka_unit_test(test_resending),
        cmocka_unit_test(test_answer_cut_short),
        cmocka_unit_test(test_cancel_queued),
        cmocka_unit_test(test_cancel_active),
        cmocka_unit_test(test_cancel_while_sending),
        cmocka_unit_test(test_cancel_before_the_launch_and_in_connect),
        cmocka_unit_test(test_head_cap),
        cmocka_unit_test(test_body_cap),
        cmocka_unit_test(test_answer_bytes),
        cmocka_unit_test(test_head_that_begins_with_a_folded_line),
        cmocka_unit_test(test_status_line),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("fetch", tests, libraries_up, libraries_down);
}
