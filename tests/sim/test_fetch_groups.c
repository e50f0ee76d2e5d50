/* SPDX-License-Identifier: MIT
 *
 * test_fetch_groups - the engine with several groups, pools and engines: what a cancel, a pause and
 * stop_on_error do to the jobs of one group and not to the others', who holds which slot until
 * when, what another policy or limit changes, and a job that moves to the engine of its next hop.
 * See fetch_fixture.h for the server and the clock.
 */
#include "fetch_fixture.h"

#define CLOSINGS_A_TURN 32
#define CANCELS_A_TURN 4096
#define FOUND_NOTHING "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"

static struct fetch_part *part_of(const struct engine *e, struct fetch_group *group)
{
    return &group->parts[e->fetch->params.index];
}

/* A socket that takes datagrams and answers none: a name server that is asked in vain. */
static int silent_server(char *text, size_t size)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    snprintf(text, size, "127.0.0.1:%u", ntohs(sa.sin_port));
    return fd;
}

/* Cancel */

/* Jobs in all places; those that wait do not start on a slot that an active one leaves. */
static void test_cancel_in_every_phase(void **state)
{
    (void)state;
    char dns[32];
    int fd = silent_server(dns, sizeof dns);
    struct test *t = open_with(&(struct setup){.in_flight = 4, .dns = dns});
    t->pages[0] = (struct page){.path = "/never"};
    t->pages[1] = (struct page){.path = "/half", .reply = HALF};
    t->pages[2] = (struct page){.path = "/hello", .reply = HELLO};
    struct job *never = get(t, "/never"), *half = get(t, "/half");
    while (half->job.transfer == NULL || half->job.transfer->delivered < 4)
        spin(t);
    run_until(t, &t->pages[0].asked, 1);
    struct job *name = get(t, "http://name.test/"), *connects = get(t, "/hello");
    turn(t);
    struct job *waits[] = {get(t, "/hello"), get(t, "http://other.test/")};
    struct fetch_group *group = t->group;
    new_group(t, 10);
    struct job *another = get(t, "/hello");
    turn(t);
    assert_int_equal(slots_used(group->slots), 4);
    assert_int_equal(another->job.state, FETCH_QUEUED);
    cancel(t, group, ERR_DEADLINE_EXCEEDED);
    turn(t);
    assert_int_equal(t->dones, 6);
    check_cancelled(&never->job.result, ERR_DEADLINE_EXCEEDED, PHASE_WAIT);
    check_cancelled(&half->job.result, ERR_DEADLINE_EXCEEDED, PHASE_RECEIVE);
    check_cancelled(&name->job.result, ERR_DEADLINE_EXCEEDED, PHASE_DNS);
    check_cancelled(&connects->job.result, ERR_DEADLINE_EXCEEDED, PHASE_CONNECT);
    check_cancelled(&waits[0]->job.result, ERR_DEADLINE_EXCEEDED, PHASE_QUEUE);
    check_cancelled(&waits[1]->job.result, ERR_DEADLINE_EXCEEDED, PHASE_QUEUE);
    assert_true(never->job.result.error.sent && half->job.result.error.sent);
    assert_false(name->job.result.error.sent || connects->job.result.error.sent);
    assert_null(part_of(&t->engines[0], group)->sched); /* five closings fit a turn */
    assert_int_equal(another->job.state, FETCH_ACTIVE);
    run_all(t);
    assert_true(another->job.result.ok);
    assert_int_equal(t->pages[2].asked, 1);
    assert_int_equal(t->engines[0].metrics.value[METRIC_MEMBERS_CANCELLED], 6);
    close_test(t);
    close(fd);
}

/* "No such name" for every question that the silent server got; returns how many. */
static int refuse_names(int fd)
{
    unsigned char text[512];
    struct sockaddr_in from;
    int count = 0;
    for (;; count++) {
        socklen_t n = sizeof from;
        ssize_t got = recvfrom(fd, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&from, &n);
        if (got < 4)
            return count;
        text[2] |= 0x80; /* an answer */
        text[3] = 0x83;  /* NXDOMAIN */
        assert_int_equal(sendto(fd, text, (size_t)got, 0, (struct sockaddr *)&from, n), got);
    }
}

/* An answer for a look-up that was cut, and waits to be closed, is nobody's. */
static void test_answer_after_the_cancel(void **state)
{
    (void)state;
    enum { OTHERS = CLOSINGS_A_TURN };
    char dns[32];
    int fd = silent_server(dns, sizeof dns), asked = 0;
    struct test *t = open_with(&(struct setup){.in_flight = OTHERS + 1, .dns = dns});
    struct resolve_stats stats;
    t->pages[0] = (struct page){.path = "/never"};
    for (int i = 0; i < OTHERS; i++)
        get(t, "/never");
    run_until(t, &t->pages[0].asked, OTHERS);
    struct job *name = get(t, "http://name.test/");
    turn(t);
    cancel(t, t->group, ERR_CANCELLED);
    turn(t);
    check_cancelled(&name->job.result, ERR_CANCELLED, PHASE_DNS);
    assert_int_equal(slots_used(t->slots), 1);
    do {
        asked += refuse_names(fd);
        uv_run(&t->loop, UV_RUN_NOWAIT);
        resolve_get_stats(t->engines[0].fetch->resolve, &stats);
        assert_false(t->expired);
    } while (stats.in_flight > 0);
    assert_true(asked > 0);
    assert_int_equal(slots_used(t->slots), 1);
    turn(t);
    assert_int_equal(slots_used(t->slots), 0);
    close_test(t);
    close(fd);
}

/* Two groups, of which the first takes more than a turn: nothing of the second starts meanwhile. */
static void test_cancel_of_two_large_groups(void **state)
{
    (void)state;
    enum { LARGE = CANCELS_A_TURN + 100, SMALL = 10 };
    struct test *t = open_test(SMALL);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    struct fetch_group *first = t->group;
    for (int i = 0; i < LARGE; i++)
        get(t, "/hello");
    struct fetch_group *second = new_group(t, SMALL);
    second->identity = "y";
    for (int i = 0; i < SMALL; i++)
        get(t, "/hello");
    cancel(t, first, ERR_CANCELLED);
    cancel(t, second, ERR_CANCELLED);
    turn(t);
    assert_true(t->engines[0].again);
    assert_int_equal(count_jobs(t, FETCH_ACTIVE), 0);
    run_all(t);
    for (int i = 0; i < LARGE + SMALL; i++)
        check_cancelled(&t->jobs[i].job.result, ERR_CANCELLED, PHASE_QUEUE);
    assert_int_equal(t->servers[0].connections, 0);
    close_test(t);
}

/* Whether or not the engine had a job of the group before. */
static void test_job_after_the_cancel(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/never"};
    for (int jobs = 0; jobs < 2; jobs++) {
        struct fetch_group *group = new_group(t, 10);
        if (jobs > 0)
            get(t, "/never");
        turn(t);
        cancel(t, group, ERR_DEADLINE_EXCEEDED);
        run_all(t);
        int64_t before_us = now_us;
        struct job *late = get(t, "/never"), *bad = get(t, "gopher://127.0.0.1/");
        assert_int_equal(late->dones, 0);
        turn(t);
        check_cancelled(&late->job.result, ERR_DEADLINE_EXCEEDED, PHASE_QUEUE);
        check_cancelled(&bad->job.result, ERR_DEADLINE_EXCEEDED, PHASE_QUEUE);
        assert_int_equal(late->job.result.start_us, TIME_NULL);
        assert_in_range(late->job.result.end_us, before_us, now_us);
        assert_string_equal(late->job.result.url_effective, late->url);
        assert_null(part_of(&t->engines[0], group)->sched);
    }
    close_test(t);
}

/* A cancelled job is done at once; its slots are free when its connection is closed, not before. */
static void test_slots_stay_until_the_transfer_is_closed(void **state)
{
    (void)state;
    enum { LIMIT = CLOSINGS_A_TURN + 8 };
    struct test *t = open_with(&(struct setup){.in_flight = 100, .per_host = LIMIT});
    t->pages[0] = (struct page){.path = "/never"};
    t->pages[1] = (struct page){.path = "/hello", .reply = HELLO};
    struct fetch_group *first = t->group;
    for (int i = 0; i < LIMIT; i++)
        get(t, "/never");
    run_until(t, &t->pages[0].asked, LIMIT);
    new_group(t, 100);
    for (int i = 0; i < LIMIT; i++)
        get(t, "/hello");
    turn(t);
    cancel(t, first, ERR_CANCELLED);
    turn(t);
    assert_int_equal(t->dones, LIMIT);
    assert_int_equal(count_jobs(t, FETCH_ACTIVE), CLOSINGS_A_TURN);
    assert_int_equal(slots_used(first->slots), LIMIT - CLOSINGS_A_TURN);
    assert_int_equal(slots_used(t->slots), LIMIT);
    while (t->dones < t->job_count) {
        spin(t);
        assert_true(slots_used(t->slots) <= LIMIT);
        assert_true(clients_now(&t->servers[0]) <= LIMIT);
    }
    assert_int_equal(t->servers[0].most, LIMIT);
    assert_int_equal(t->pages[1].asked, LIMIT);
    close_test(t);
}

/* The engine is closed while transfers wait to be: close_test() finds slots and groups given up. */
static void test_close_with_transfers_to_be_closed(void **state)
{
    (void)state;
    enum { COUNT = CLOSINGS_A_TURN + 5 };
    struct test *t = open_test(COUNT);
    t->pages[0] = (struct page){.path = "/never"};
    for (int i = 0; i < COUNT; i++)
        get(t, "/never");
    run_until(t, &t->pages[0].asked, COUNT);
    cancel(t, t->group, ERR_CANCELLED);
    turn(t);
    assert_int_equal(slots_used(t->slots), COUNT - CLOSINGS_A_TURN);
    close_test(t);
}

/* stop_on_error */

/* With a concurrency of 1 the next job is not started, although nobody has cancelled it yet. */
static void test_stop_before_the_next_start(void **state)
{
    (void)state;
    static const char *const first[] = {"/404", "/dies", "http://10.0.0.1/", "gopher://x/"};
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        struct test *t = open_test(4);
        t->pages[0] = (struct page){.path = "/404", .reply = FOUND_NOTHING};
        t->pages[1] = (struct page){.path = "/dies", .deaths = 9};
        t->pages[2] = (struct page){.path = "/hello", .reply = HELLO};
        struct fetch_group *group = new_group(t, 1);
        group->stop_on_error = true;
        struct job *good = get(t, "/hello");
        run_all(t);
        assert_true(good->job.result.ok);
        assert_false(atomic_load(&group->stopped));
        struct job *bad = get(t, first[i]), *next[] = {get(t, "/hello"), get(t, "/hello")};
        run_all(t);
        assert_true(atomic_load(&group->stopped));
        assert_int_not_equal(bad->job.result.state, MEMBER_CANCELLED);
        check_cancelled(&next[0]->job.result, ERR_CANCELLED, PHASE_QUEUE);
        check_cancelled(&next[1]->job.result, ERR_CANCELLED, PHASE_QUEUE);
        assert_int_equal(next[0]->job.result.start_us, TIME_NULL);
        assert_int_equal(t->pages[2].asked, 1);
        new_group(t, 1); /* others are not concerned */
        assert_true(fetched(t, "/hello")->ok);
        close_test(t);
    }
}

/* What runs is the owner's to cancel. */
static void test_stop_leaves_what_runs(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/404", .reply = FOUND_NOTHING};
    t->pages[1] = (struct page){.path = "/never"};
    struct fetch_group *group = new_group(t, 2);
    group->stop_on_error = true;
    struct job *runs = get(t, "/never");
    run_until(t, &t->pages[1].asked, 1);
    get(t, "/404");
    get(t, "/never");
    run_until(t, &t->dones, 2);
    assert_int_equal(runs->job.state, FETCH_ACTIVE);
    assert_int_equal(t->pages[1].asked, 1);
    cancel(t, group, ERR_CANCELLED);
    run_all(t);
    close_test(t);
}

/* Pause */

static void test_pause(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    struct fetch *f = t->engines[0].fetch;
    t->pages[0] = (struct page){.path = "/never"};
    t->pages[1] = (struct page){.path = "/hello", .reply = HELLO};
    struct fetch_group *group = t->group;
    struct job *runs = get(t, "/never");
    run_until(t, &t->pages[0].asked, 1);
    struct job *waits = get(t, "/hello");
    fetch_pause(f, group, true);
    struct job *late = make_job(t, "/hello");
    late->opts.queue_timeout_us = US_PER_S;
    submit(late);
    turn(t);
    new_group(t, 10);
    struct job *other = get(t, "/hello");
    run_until(t, &other->dones, 1);
    now_us += US_PER_S; /* a pause does not stop the clock */
    run_until(t, &late->dones, 1);
    check_failed(&late->job.result, ERR_QUEUE_TIMEOUT, PHASE_QUEUE);
    assert_int_equal(runs->job.state, FETCH_ACTIVE);
    assert_int_equal(waits->job.state, FETCH_QUEUED);
    t->engines[0].woken = false;
    fetch_pause(f, group, false);
    assert_true(t->engines[0].woken); /* or the loop would sleep over it */
    run_until(t, &waits->dones, 1);
    assert_true(waits->job.result.ok);
    cancel(t, group, ERR_CANCELLED);
    run_all(t);
    close_test(t);
}

/* Before the engine knows a job of the group, and with a cancel on top. */
static void test_pause_of_a_group_to_come(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    struct fetch *f = t->engines[0].fetch;
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    for (int cut = 0; cut < 2; cut++) {
        struct fetch_group *group = new_group(t, 10);
        fetch_pause(f, group, true);
        get(t, "/hello");
        struct job *j = get(t, "/hello");
        for (int i = 0; i < 3; i++)
            turn(t);
        assert_int_equal(j->job.state, FETCH_QUEUED);
        if (cut)
            cancel(t, group, ERR_CANCELLED);
        fetch_pause(f, group, false);
        run_all(t);
        assert_int_equal(j->job.result.state, cut ? MEMBER_CANCELLED : MEMBER_DONE);
    }
    assert_int_equal(t->pages[0].asked, 2);
    close_test(t);
}

/* Strings */

/* A group keeps a copy of each content type, a few types at most; results may be read as long as it
 * lives, also when the engine has nothing of it any more. */
static void test_content_types(void **state)
{
    (void)state;
    enum { TYPES = FETCH_TYPES_KEPT + 2 };
    static char replies[TYPES][96], paths[TYPES][8];
    struct test *t = open_test(1);
    for (int i = 0; i < TYPES; i++) {
        snprintf(paths[i], sizeof paths[i], "/%d", i);
        snprintf(replies[i], sizeof replies[i],
                 "HTTP/1.1 200 OK\r\nContent-Type: t/%d\r\nContent-Length: 0\r\n\r\n", i);
        t->pages[i] = (struct page){.path = paths[i], .reply = replies[i]};
    }
    for (int i = 0; i < 2 * TYPES; i++)
        get(t, paths[i % TYPES]);
    run_all(t);
    assert_null(part_of(&t->engines[0], t->group)->sched);
    for (int i = 0; i < TYPES; i++) {
        const char *one = t->jobs[i].job.result.content_type;
        const char *two = t->jobs[TYPES + i].job.result.content_type;
        char expected[8];
        snprintf(expected, sizeof expected, "t/%d", i);
        assert_string_equal(one, expected);
        assert_string_equal(two, expected);
        assert_int_equal(one == two, i < FETCH_TYPES_KEPT);
    }
    close_test(t);
}

/* Pools */

static const struct result *fetched_by_name(struct test *t, const char *path)
{
    char url[64];
    snprintf(url, sizeof url, "http://localhost:%u%s", t->servers[0].port, path);
    return fetched(t, url);
}

static void check_denied(const struct result *r, enum phase phase)
{
    assert_int_equal(r->state, MEMBER_DENIED);
    assert_int_equal(r->error.type, ERR_DESTINATION_IP_PROHIBITED);
    assert_int_equal(r->error.phase, phase);
}

/* Each of the checks asks the new policy, the old one may go at once. */
static void test_pool_policy(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    struct fetch *f = t->engines[0].fetch;
    unsigned generation = f->pools[0].env.generation;
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    t->pages[1] = (struct page){.path = "/never"};
    assert_true(fetched_by_name(t, "/hello")->ok);
    policy_destroy(t->policy);
    fetch_pool_set_policy(f, 0, t->policy = make_policy(NULL), false);
    assert_int_equal(f->pools[0].env.generation, generation + 1);
    check_denied(fetched_by_name(t, "/hello"), PHASE_DNS);
    check_denied(fetched(t, "/hello"), PHASE_QUEUE);
    policy_destroy(t->policy);
    fetch_pool_set_policy(f, 0, t->policy = make_policy("127.0.0.1"), false);
    const struct result *r = fetched_by_name(t, "/hello");
    assert_true(r->ok && r->reused);
    assert_int_equal(t->servers[0].connections, 1);
    assert_int_equal(t->pages[0].asked, 2);
    /* Launched, and libcurl has not run: neither is a connection opened nor the kept one used. */
    struct job *kept = get(t, t->jobs[0].url), *new = get(t, "/hello");
    turn(t);
    assert_int_equal(slots_used(t->slots), 2);
    policy_destroy(t->policy);
    fetch_pool_set_policy(f, 0, t->policy = make_policy(NULL), false);
    run_all(t);
    check_denied(&kept->job.result, PHASE_CONNECT);
    check_denied(&new->job.result, PHASE_CONNECT);
    assert_int_equal(t->pages[0].asked, 2);
    assert_int_equal(t->servers[0].connections, 1);
    close_test(t);
}

/* Rules that changed: a connection made under the old ones is closed, at once or when what runs on
 * it has ended, and never used again. */
static void test_pool_renewed(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    struct fetch *f = t->engines[0].fetch;
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    t->pages[1] = (struct page){.path = "/later"};
    assert_true(fetched(t, "/hello")->ok);
    fetch_pool_set_policy(f, 0, t->policy, true);
    assert_true(list_empty(&f->pools[0].retired)); /* nothing ran: gone at once */
    const struct result *r = fetched(t, "/hello");
    assert_true(r->ok && !r->reused);
    assert_int_equal(t->servers[0].connections, 2);
    struct job *j = get(t, "/later");
    run_until(t, &t->pages[1].asked, 1);
    for (int i = 0; i < 3; i++)
        fetch_pool_set_policy(f, 0, t->policy, true);
    assert_false(list_empty(&f->pools[0].retired));
    assert_in_range(uv_timer_get_due_in(&f->sweep_timer), 1, 1000); /* for what is idle beside it */
    struct job *other = get(t, "/hello");
    run_until(t, &t->pages[0].asked, 3);
    assert_int_equal(t->servers[0].connections, 3);
    client_reply(LIST_CONTAINER(t->servers[0].clients.next, struct client, node),
                 &(struct page){.reply = HELLO});
    run_all(t);
    assert_true(j->job.result.ok && other->job.result.ok && !other->job.result.reused);
    assert_true(list_empty(&f->pools[0].retired));
    r = fetched(t, "/hello");
    assert_true(r->ok && r->reused);
    assert_int_equal(t->servers[0].connections, 3);
    close_test(t);
}

static void set_insecure(struct test *t, bool insecure)
{
    struct policy *old = t->policy;
    t->policy = make_policy_of("127.0.0.1", insecure);
    fetch_pool_set_policy(t->engines[0].fetch, 0, t->policy, true);
    policy_destroy(old);
}

/* What goes unverified has multis where the policy allows it, and is denied before it misses
 * one. */
static void test_pool_insecure(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    struct curl_uv **multis = t->engines[0].fetch->pools[0].env.multis;
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    for (int i = 0; i < 4; i++) {
        bool allowed = i % 2 == 1;
        set_insecure(t, allowed);
        assert_int_equal(multis[KIND_HTTP1_UNVERIFIED] != NULL, allowed);
        assert_int_equal(multis[KIND_HTTP2_UNVERIFIED] != NULL, allowed);
        struct job *j = make_job(t, "/hello");
        j->opts.insecure = true;
        submit(j);
        run_all(t);
        assert_int_equal(j->job.result.ok, allowed);
        if (!allowed)
            assert_string_equal(j->job.result.error.rule, "insecure = no");
    }
    close_test(t);
}

/* A transfer that runs goes on; its next hop is judged anew. */
static void test_pool_policy_between_hops(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    t->pages[0] = (struct page){.path = "/later"};
    t->pages[1] = (struct page){.path = "/hello", .reply = HELLO};
    struct job *j = get(t, "/later");
    run_until(t, &t->pages[0].asked, 1);
    policy_destroy(t->policy);
    fetch_pool_set_policy(t->engines[0].fetch, 0, t->policy = make_policy(NULL), true);
    client_reply(LIST_CONTAINER(t->servers[0].clients.next, struct client, node),
                 &(struct page){.reply = REDIRECT("302", "/hello")});
    run_all(t);
    check_denied(&j->job.result, PHASE_QUEUE);
    assert_int_equal(j->job.result.num_redirects, 1);
    assert_true(j->job.result.error.sent);
    assert_int_equal(t->pages[1].asked, 0);
    close_test(t);
}

/* Connections are a pool's own. Opened twice it is the pool that was, with the newer policy. */
static void test_two_pools(void **state)
{
    (void)state;
    struct test *t = open_test(4);
    struct fetch *f = t->engines[0].fetch;
    struct policy *none = make_policy(NULL);
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    assert_true(fetched_by_name(t, "/hello")->ok);
    assert_true(fetch_pool_open(f, 1, none));
    new_group(t, 10)->pool = 1;
    check_denied(fetched_by_name(t, "/hello"), PHASE_DNS);
    unsigned generation = f->pools[1].env.generation;
    assert_true(fetch_pool_open(f, 1, t->policy));
    assert_int_equal(f->pools[1].env.generation, generation + 1);
    policy_destroy(none);
    const struct result *r = fetched_by_name(t, "/hello");
    assert_true(r->ok && !r->reused);
    assert_int_equal(t->servers[0].connections, 2);
    t->group = t->groups[0];
    assert_true(fetched_by_name(t, "/hello")->reused);
    close_test(t);
}

/* Limits of a reload hold at once; running transfers go on. */
static void test_reload(void **state)
{
    (void)state;
    struct test *t = open_with(&(struct setup){.in_flight = 4, .per_host = 1});
    struct fetch *f = t->engines[0].fetch;
    struct config_fetch config = t->config;
    struct config_limits limits = t->limits;
    unsigned generation = f->pools[0].env.generation;
    t->pages[0] = (struct page){.path = "/never"};
    for (int i = 0; i < 4; i++)
        get(t, "/never");
    turn(t);
    assert_int_equal(slots_used(t->slots), 1);
    limits.per_host = 3;
    t->engines[0].woken = false;
    fetch_reload(f, &config, &limits);
    memset(&t->config, 0, sizeof t->config);
    memset(&t->limits, 0, sizeof t->limits);
    assert_int_equal(f->pools[0].env.generation, generation + 1);
    assert_true(t->engines[0].woken);
    turn(t);
    assert_int_equal(slots_used(t->slots), 3);
    run_until(t, &t->pages[0].asked, 3);
    limits.per_host = 1;
    fetch_reload(f, &config, &limits);
    turn(t);
    assert_int_equal(count_jobs(t, FETCH_ACTIVE), 3);
    cancel(t, t->group, ERR_CANCELLED);
    run_all(t);
    close_test(t);
}

/* A shorter idle_time holds for what is looked at by a timer that runs already. */
static void test_reload_of_idle_time(void **state)
{
    (void)state;
    struct test *t = open_with(&(struct setup){.in_flight = 4});
    struct fetch *f = t->engines[0].fetch;
    struct config_fetch config = t->config;
    t->pages[0] = (struct page){.path = "/hello", .reply = HELLO};
    assert_true(fetched(t, "/hello")->ok);
    assert_in_range(uv_timer_get_due_in(&f->sweep_timer), 2001, 15000);
    config.idle_time_us = 8 * US_PER_S;
    fetch_reload(f, &config, &t->limits);
    assert_in_range(uv_timer_get_due_in(&f->sweep_timer), 1, 2000);
    close_test(t);
}

/* Two engines */

static void redirect_to_second(struct test *t, char *reply, size_t size, const char *path)
{
    snprintf(reply, size,
             "HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:%u%s\r\nContent-Length: 4\r\n\r\ngone",
             t->servers[1].port, path);
}

/* The job that is on its way to the other engine. */
static struct fetch_job *run_until_moved(struct test *t)
{
    t->mail_held = true;
    while (list_empty(&t->mail))
        spin(t);
    return LIST_CONTAINER(t->mail.next, struct fetch_job, node);
}

static void send_mail(struct test *t)
{
    t->mail_held = false;
    deliver_mail(t);
}

/* Nothing of it stays where it was: no slot, no place in the queue, no deadline, no reference. */
static void check_left(struct engine *e, const struct fetch_job *job)
{
    assert_int_equal(job->state, FETCH_IDLE);
    assert_int_equal(job->entry.state, ENTRY_IDLE);
    assert_null(job->transfer);
    assert_int_equal(job->deadline.place, 0);
    assert_true(list_empty(&part_of(e, job->group)->jobs));
    assert_null(part_of(e, job->group)->sched);
    assert_int_equal(atomic_load(&job->group->refs), 1);
    assert_int_equal(slots_used(job->group->slots) + slots_used(e->t->slots), 0);
    check_idle(e);
}

static int64_t queue_us(const struct result *r)
{
    return r->timings.us[PHASE_QUEUE];
}

static void test_job_moves(void **state)
{
    (void)state;
    char reply[160];
    struct test *t = open_with(&(struct setup){.engines = 2});
    redirect_to_second(t, reply, sizeof reply, "/final");
    t->pages[0] = (struct page){.path = "/go", .reply = reply};
    t->pages[1] = (struct page){.path = "/final", .reply = HELLO};
    t->pages[2] = (struct page){.path = "/other", .reply = HELLO};
    new_group(t, 1)->include = INCLUDE_BODY | INCLUDE_REDIRECTS;
    struct job *j = get(t, "/go");
    assert_ptr_equal(run_until_moved(t), &j->job);
    check_left(&t->engines[0], &j->job);
    const struct result *r = &j->job.result;
    int64_t left_us = r->end_us, work_us = result_work_us(r), wait_us = queue_us(r);
    struct job *other = get(t, "/other"); /* has the group's one slot meanwhile */
    run_until(t, &other->dones, 1);
    now_us += 7 * MS;
    send_mail(t);
    run_all(t);
    assert_true(r->ok && other->job.result.ok);
    assert_int_equal(r->num_redirects, 1);
    assert_int_equal(r->num_connects, 2);
    assert_int_equal(r->remote_port, t->servers[1].port);
    assert_string_equal(strrchr(r->url_effective, '/'), "/final");
    assert_int_equal(r->extra->body.len, 5);
    assert_int_equal(r->extra->hop_count, 1);
    assert_int_equal(r->extra->hops[0].status, 302);
    assert_int_equal(r->extra->hops[0].remote_port, t->servers[0].port);
    assert_string_equal(r->extra->hops[0].url, j->url);
    assert_true(queue_us(r) - wait_us >= 7 * MS + result_work_us(&other->job.result));
    assert_int_equal(queue_us(r) - wait_us + result_work_us(r) - work_us, r->end_us - left_us);
    const int64_t *first = t->engines[0].metrics.value, *second = t->engines[1].metrics.value;
    assert_int_equal(first[METRIC_MEMBERS_DONE], 1); /* the other one */
    assert_int_equal(second[METRIC_MEMBERS_DONE], 1);
    assert_int_equal(first[METRIC_FETCH_HOPS], 2);
    assert_int_equal(second[METRIC_FETCH_HOPS], 1);
    close_test(t);
}

/* There and back again; what limits redirects goes with it. */
static void test_job_moves_twice(void **state)
{
    (void)state;
    char there[160], back[160];
    for (int limit = 1; limit <= 3; limit++) {
        struct test *t = open_with(&(struct setup){.engines = 2});
        redirect_to_second(t, there, sizeof there, "/back");
        snprintf(back, sizeof back,
                 "HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:%u/final\r\n"
                 "Content-Length: 0\r\n\r\n",
                 t->servers[0].port);
        t->pages[0] = (struct page){.path = "/go", .reply = there};
        t->pages[1] = (struct page){.path = "/back", .reply = back};
        t->pages[2] = (struct page){.path = "/final", .reply = HELLO};
        struct job *j = make_job(t, "/go");
        j->opts.max_redirects = limit;
        submit(j);
        run_all(t);
        const struct result *r = &j->job.result;
        if (limit == 1)
            check_failed(r, ERR_TOO_MANY_REDIRECTS, PHASE_RECEIVE);
        else
            assert_true(r->ok);
        assert_int_equal(r->num_redirects, limit == 1 ? 1 : 2);
        assert_int_equal(r->remote_port, t->servers[limit == 1].port);
        assert_int_equal(t->servers[0].connections, 1);
        assert_int_equal(t->pages[2].asked, limit > 1);
        assert_int_equal(r->reused, limit > 1);
        close_test(t);
    }
}

/* The group is cancelled while the job is nobody's: it is when it arrives. */
static void test_cancel_of_a_moving_job(void **state)
{
    (void)state;
    char reply[160];
    struct test *t = open_with(&(struct setup){.engines = 2});
    redirect_to_second(t, reply, sizeof reply, "/final");
    t->pages[0] = (struct page){.path = "/go", .reply = reply};
    struct job *j = get(t, "/go");
    run_until_moved(t);
    cancel(t, t->group, ERR_DEADLINE_EXCEEDED);
    for (int i = 0; i < 3; i++)
        turn(t);
    assert_int_equal(t->dones, 0);
    send_mail(t);
    turn(t);
    const struct result *r = &j->job.result;
    check_cancelled(r, ERR_DEADLINE_EXCEEDED, PHASE_QUEUE);
    assert_int_equal(r->num_redirects, 1);
    assert_int_equal(r->status, 0);
    assert_true(r->error.sent);
    assert_string_equal(strrchr(r->url_effective, '/'), "/final");
    assert_int_equal(t->servers[1].connections, 0);
    assert_int_equal(t->engines[1].metrics.value[METRIC_MEMBERS_CANCELLED], 1);
    close_test(t);
}

/* timeout_ms is for the work of all hops, wherever they were. */
static void test_timeout_goes_with_the_job(void **state)
{
    (void)state;
    char reply[160];
    struct test *t = open_with(&(struct setup){.engines = 2});
    redirect_to_second(t, reply, sizeof reply, "/never");
    t->pages[0] = (struct page){.path = "/later"};
    t->pages[1] = (struct page){.path = "/never"};
    struct job *j = get(t, "/later");
    run_until(t, &t->pages[0].asked, 1);
    now_us += 10 * US_PER_S;
    client_reply(LIST_CONTAINER(t->servers[0].clients.next, struct client, node),
                 &(struct page){.reply = reply});
    run_until_moved(t);
    int64_t work_us = result_work_us(&j->job.result);
    assert_true(work_us >= 10 * US_PER_S);
    now_us += 60 * US_PER_S; /* a wait is no work */
    send_mail(t);
    run_until(t, &t->pages[1].asked, 1);
    now_us = j->job.dispatched_us + TIMEOUT_US - work_us - 10 * MS;
    turn(t);
    assert_int_equal(j->job.state, FETCH_ACTIVE);
    now_us += 10 * MS;
    run_all(t);
    check_failed(&j->job.result, ERR_HTTP_RESPONSE_TIMEOUT, PHASE_WAIT);
    assert_in_range(result_work_us(&j->job.result), TIMEOUT_US, TIMEOUT_US + MS);
    close_test(t);
}

static struct job *get_of_second(struct test *t, const char *path)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", t->servers[1].port, path);
    return get(t, url);
}

/* One slot for two engines: it goes from one to the other, and never are there two. */
static void test_engines_share_slots(void **state)
{
    (void)state;
    struct test *t = open_with(&(struct setup){.in_flight = 1, .engines = 2});
    t->pages[0] = (struct page){.path = "/later"};
    t->pages[1] = (struct page){.path = "/hello", .reply = HELLO};
    get(t, "/later");
    run_until(t, &t->pages[0].asked, 1);
    struct job *second = get_of_second(t, "/hello");
    for (int i = 0; i < 3; i++)
        turn(t);
    assert_int_equal(second->job.state, FETCH_QUEUED);
    client_reply(LIST_CONTAINER(t->servers[0].clients.next, struct client, node),
                 &(struct page){.reply = HELLO});
    run_all(t);
    assert_true(second->job.result.ok);
    for (int i = 0; i < 20; i++) {
        get(t, "/hello");
        get_of_second(t, "/hello");
    }
    run_all(t);
    assert_int_equal(slots_peak(t->slots), 1);
    assert_int_equal(t->pages[1].asked, 1 + 40);
    close_test(t);
}

/* What ends a transfer closes its connection, and only then is its slot another engine's:
 * between the two there is one connection, never two. */
static void test_slots_pass_after_the_close(void **state)
{
    (void)state;
    enum { CUT, TIMED_OUT, ENDS };
    for (int end = 0; end < ENDS; end++) {
        struct test *t = open_with(&(struct setup){.in_flight = 1, .engines = 2});
        t->pages[0] = (struct page){.path = "/never"};
        t->pages[1] = (struct page){.path = "/hello", .reply = HELLO};
        struct fetch_group *group = t->group;
        get(t, "/never");
        run_until(t, &t->pages[0].asked, 1);
        new_group(t, 10);
        struct job *waits = get_of_second(t, "/hello");
        for (int i = 0; i < 3; i++)
            turn(t);
        assert_int_equal(waits->job.state, FETCH_QUEUED);
        assert_int_equal(clients_now(&t->servers[0]), 1);
        t->engines[1].told_at = -1;
        if (end == CUT)
            cancel(t, group, ERR_CANCELLED);
        else
            now_us += TIMEOUT_US;
        turn(t);
        assert_int_equal(t->engines[1].told_at, 0);
        run_all(t);
        assert_true(waits->job.result.ok);
        close_test(t);
    }
}

/* An error on one engine stops the other one, and a job that comes from there. */
static void test_stop_on_both_engines(void **state)
{
    (void)state;
    char reply[160];
    struct test *t = open_with(&(struct setup){.engines = 2});
    redirect_to_second(t, reply, sizeof reply, "/hello");
    t->pages[0] = (struct page){.path = "/go", .reply = reply};
    t->pages[1] = (struct page){.path = "/404", .reply = FOUND_NOTHING};
    t->pages[2] = (struct page){.path = "/hello", .reply = HELLO};
    new_group(t, 1)->stop_on_error = true;
    struct job *moves = get(t, "/go");
    run_until_moved(t);
    struct job *bad = get(t, "/404"), *waits = get_of_second(t, "/hello");
    t->engines[1].again = false;
    while (bad->dones == 0) { /* the first engine has the slot before the second looks */
        uv_run(&t->loop, UV_RUN_NOWAIT);
        engine_turn(&t->engines[0]);
        assert_false(t->expired);
    }
    send_mail(t);
    run_all(t);
    assert_int_equal(bad->job.result.state, MEMBER_DONE);
    check_cancelled(&waits->job.result, ERR_CANCELLED, PHASE_QUEUE);
    check_cancelled(&moves->job.result, ERR_CANCELLED, PHASE_QUEUE);
    assert_int_equal(t->pages[2].asked, 0);
    close_test(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cancel_in_every_phase),
        cmocka_unit_test(test_answer_after_the_cancel),
        cmocka_unit_test(test_cancel_of_two_large_groups),
        cmocka_unit_test(test_job_after_the_cancel),
        cmocka_unit_test(test_slots_stay_until_the_transfer_is_closed),
        cmocka_unit_test(test_close_with_transfers_to_be_closed),
        cmocka_unit_test(test_stop_before_the_next_start),
        cmocka_unit_test(test_stop_leaves_what_runs),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_pause_of_a_group_to_come),
        cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_pool_policy),
        cmocka_unit_test(test_pool_renewed),
        cmocka_unit_test(test_pool_insecure),
        cmocka_unit_test(test_pool_policy_between_hops),
        cmocka_unit_test(test_two_pools),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_reload_of_idle_time),
        cmocka_unit_test(test_job_moves),
        cmocka_unit_test(test_job_moves_twice),
        cmocka_unit_test(test_cancel_of_a_moving_job),
        cmocka_unit_test(test_timeout_goes_with_the_job),
        cmocka_unit_test(test_engines_share_slots),
        cmocka_unit_test(test_slots_pass_after_the_close),
        cmocka_unit_test(test_stop_on_both_engines),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests_name("fetch_groups", tests, libraries_up, libraries_down);
}
