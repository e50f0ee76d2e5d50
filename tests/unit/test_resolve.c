/* SPDX-License-Identifier: MIT
 *
 * test_resolve - the resolver against a small name server on the same loop (UDP and TCP, 127.0.0.1
 * and 127.0.0.2). What the server says is a table of names; it counts what it was asked. Every test
 * ends with a closed resolver and uv_loop_close() == 0, so that no handle is forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ares.h>
#include <uv.h>

#include "resolve.h"
#include "resolve_ares.h"
#include "resolve_cache.h"

#include "../lib/process.h"

#define TYPE_A 1
#define TYPE_CNAME 5
#define TYPE_AAAA 28
#define SERVFAIL 2
#define NXDOMAIN 3
#define REFUSED 5
#define PACKET_MAX 65535
#define UDP_MAX 512
#define HEADER 12
#define GUARD_MS 20000
#define ENTRIES 80
#define SILENT 75
#define PORTS 16
#define LOOP_NAMES 400

static const char *const hosts[20] = {
    "0.test",  "1.test",  "2.test",  "3.test",  "4.test",  "5.test",  "6.test",
    "7.test",  "8.test",  "9.test",  "10.test", "11.test", "12.test", "13.test",
    "14.test", "15.test", "16.test", "17.test", "18.test", "19.test"};

/* What the server says about a name, and how often it was asked. */
struct entry {
    const char *name;
    int a, aaaa; /* how many: 10.0.0.0, 10.0.0.1 ... and 2001:db8:: ... */
    uint32_t ttl;
    int rcode;
    bool silent;
    bool truncated; /* over UDP, whatever its length */
    bool hangs_up, mute; /* over TCP */
    bool empty;          /* datagrams before the answer */
    const char *cname;
    uint32_t cname_ttl;
    uint64_t delay_ms;
    int asked_a, asked_aaaa;
};

struct listener {
    uv_udp_t udp;
    uv_tcp_t tcp;
    uint8_t network; /* of the A records: NETWORK.0.0.0 */
};

struct test {
    uv_loop_t loop;
    uv_timer_t guard, pause;
    struct listener listeners[2];
    uint16_t port;
    char server[32];
    const char *servers[1];
    struct entry entries[ENTRIES];
    bool any_name; /* every other name has one A record, 60 s */
    int asked;
    int held, held_max; /* replies that wait for their delay */
    int clients;        /* connections over TCP */
    uint16_t source_ports[PORTS];
    int source_port_count;
    struct resolve_cache *cache;     /* NULL = the resolver's own */
    const char *hosts;
    struct resolve *resolve, *other; /* other: shares the cache */
    bool woken, expired, paused, closed;
};

/* The name server */

struct packet {
    uint8_t bytes[PACKET_MAX];
    size_t len;
};

static void put16(struct packet *p, unsigned v)
{
    p->bytes[p->len++] = (uint8_t)(v >> 8);
    p->bytes[p->len++] = (uint8_t)v;
}

static void put_record(struct packet *p, size_t owner, unsigned type, uint32_t ttl,
                       const void *data, size_t n)
{
    put16(p, 0xc000U | (unsigned)owner);
    put16(p, type);
    put16(p, 1);
    put16(p, ttl >> 16);
    put16(p, ttl & 0xffff);
    put16(p, (unsigned)n);
    memcpy(p->bytes + p->len, data, n);
    p->len += n;
}

static size_t encode_name(const char *name, uint8_t *out)
{
    size_t at = 0;
    while (*name) {
        size_t n = strcspn(name, ".");
        out[at++] = (uint8_t)n;
        memcpy(out + at, name, n);
        at += n;
        name += n + (name[n] == '.');
    }
    out[at++] = 0;
    return at;
}

/* The question's name into text, its type, and where the question ends; 0 when it is none. */
static size_t read_question(const struct packet *query, char *name, size_t size, unsigned *type)
{
    size_t at = HEADER, used = 0;
    if (query->len < HEADER + 5)
        return 0;
    while (query->bytes[at] != 0) {
        size_t n = query->bytes[at];
        if (used + n + 2 > size || at + n + 6 > query->len)
            return 0;
        if (used > 0)
            name[used++] = '.';
        memcpy(name + used, query->bytes + at + 1, n);
        used += n;
        at += n + 1;
    }
    name[used] = '\0';
    *type = (unsigned)query->bytes[at + 1] << 8 | query->bytes[at + 2];
    return at + 5;
}

static struct entry *entry_of(struct test *t, const char *name)
{
    for (size_t i = 0; i < ENTRIES && t->entries[i].name; i++) {
        if (strcmp(t->entries[i].name, name) == 0)
            return &t->entries[i];
    }
    return NULL;
}

static struct entry *entry_asked(struct test *t, const struct packet *query)
{
    char name[256];
    unsigned type;
    return read_question(query, name, sizeof name, &type) > 0 ? entry_of(t, name) : NULL;
}

static unsigned put_answers(struct packet *p, const struct entry *e, unsigned type, uint8_t network)
{
    size_t owner = HEADER;
    unsigned count = 0;
    if (e->cname) {
        uint8_t name[256];
        size_t n = encode_name(e->cname, name), at = p->len + 12;
        put_record(p, owner, TYPE_CNAME, e->cname_ttl, name, n);
        owner = at;
        count++;
    }
    for (int i = 0; i < (type == TYPE_A ? e->a : 0); i++, count++)
        put_record(p, owner, TYPE_A, e->ttl, (uint8_t[]){network, 0, (uint8_t)(i >> 8), (uint8_t)i},
                   4);
    for (int i = 0; i < (type == TYPE_AAAA ? e->aaaa : 0); i++, count++)
        put_record(p, owner, TYPE_AAAA, e->ttl,
                   (uint8_t[16]){0x20, 0x01, 0x0d, 0xb8, [14] = (uint8_t)(i >> 8), (uint8_t)i}, 16);
    return count;
}

/* The reply, or len 0 for silence. Returns how late it is to be sent. */
static uint64_t answer(struct test *t, const struct packet *query, struct packet *reply,
                       uint8_t network, size_t max)
{
    static const struct entry nobody = {.rcode = NXDOMAIN}, anybody = {.a = 1, .ttl = 60};
    char name[256];
    unsigned type = 0, count;
    size_t end = read_question(query, name, sizeof name, &type);
    struct entry *e = entry_of(t, name);
    const struct entry *says = e ? e : t->any_name ? &anybody : &nobody;
    reply->len = 0;
    t->asked++;
    if (e && type == TYPE_A)
        e->asked_a++;
    if (e && type == TYPE_AAAA)
        e->asked_aaaa++;
    if (end == 0 || says->silent)
        return 0;
    memcpy(reply->bytes, query->bytes, end);
    memset(reply->bytes + 6, 0, 6);
    reply->len = end;
    count = says->rcode == 0 ? put_answers(reply, says, type, network) : 0;
    reply->bytes[2] = 0x85;
    reply->bytes[3] = (uint8_t)(0x80 | says->rcode);
    if (reply->len > max || (says->truncated && max == UDP_MAX)) {
        reply->len = end;
        reply->bytes[2] |= 0x02;
        count = 0;
    }
    reply->bytes[6] = (uint8_t)(count >> 8);
    reply->bytes[7] = (uint8_t)count;
    return says->delay_ms;
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static _Thread_local char space[PACKET_MAX];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(space, sizeof space);
}

struct late {
    uv_timer_t timer;
    uv_udp_t *udp;
    struct sockaddr_in peer;
    size_t len;
    char bytes[UDP_MAX];
};

static void on_late_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_late(uv_timer_t *timer)
{
    struct late *late = timer->data;
    struct test *t = timer->loop->data;
    t->held--;
    uv_buf_t buf = uv_buf_init(late->bytes, (unsigned)late->len);
    uv_udp_try_send(late->udp, &buf, 1, (const struct sockaddr *)&late->peer);
    uv_close((uv_handle_t *)timer, on_late_closed);
}

static void send_late(struct test *t, uv_udp_t *udp, const struct packet *reply,
                      const struct sockaddr *peer, uint64_t delay_ms)
{
    struct late *late = calloc(1, sizeof *late);
    late->udp = udp;
    late->len = reply->len;
    memcpy(late->bytes, reply->bytes, reply->len);
    memcpy(&late->peer, peer, sizeof late->peer);
    uv_timer_init(&t->loop, &late->timer);
    late->timer.data = late;
    uv_unref((uv_handle_t *)&late->timer);
    uv_timer_start(&late->timer, on_late, delay_ms, 0);
    if (++t->held > t->held_max)
        t->held_max = t->held;
}

static void note_source(struct test *t, const struct sockaddr *peer)
{
    uint16_t port = ((const struct sockaddr_in *)(const void *)peer)->sin_port;
    for (int i = 0; i < t->source_port_count; i++) {
        if (t->source_ports[i] == port)
            return;
    }
    if (t->source_port_count < PORTS)
        t->source_ports[t->source_port_count++] = port;
}

static void on_udp(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *peer,
                   unsigned flags)
{
    static _Thread_local struct packet query, reply;
    struct listener *listener = udp->data;
    struct test *t = udp->loop->data;
    (void)flags;
    if (n <= 0 || !peer)
        return;
    note_source(t, peer);
    memcpy(query.bytes, buf->base, (size_t)n);
    query.len = (size_t)n;
    uint64_t delay_ms = answer(t, &query, &reply, listener->network, UDP_MAX);
    const struct entry *e = entry_asked(t, &query);
    for (int i = 0; e && e->empty && i < 5; i++) {
        uv_buf_t nothing = uv_buf_init(NULL, 0);
        uv_udp_try_send(udp, &nothing, 1, peer);
    }
    if (reply.len == 0)
        return;
    if (delay_ms > 0) {
        send_late(t, udp, &reply, peer, delay_ms);
        return;
    }
    uv_buf_t out = uv_buf_init((char *)reply.bytes, (unsigned)reply.len);
    uv_udp_try_send(udp, &out, 1, peer);
}

static void on_client_closed(uv_handle_t *client)
{
    ((struct test *)client->loop->data)->clients--;
    free(client);
}

/* Queries are short: each comes whole, though several may come in one read. */
static void on_tcp(uv_stream_t *client, ssize_t n, const uv_buf_t *buf)
{
    static _Thread_local struct packet query, reply;
    const struct listener *listener = client->data;
    const uint8_t *at = (const uint8_t *)buf->base, *end = at + (n > 0 ? n : 0);
    if (n < 0 && !uv_is_closing((uv_handle_t *)client))
        uv_close((uv_handle_t *)client, on_client_closed);
    for (; end - at > 2; at += query.len + 2) {
        query.len = (size_t)at[0] << 8 | at[1];
        assert_true(query.len + 2 <= (size_t)(end - at));
        memcpy(query.bytes, at + 2, query.len);
        answer(client->loop->data, &query, &reply, listener->network, PACKET_MAX);
        const struct entry *e = entry_asked(client->loop->data, &query);
        if (e && e->hangs_up) {
            uv_close((uv_handle_t *)client, on_client_closed);
            return;
        }
        if (reply.len == 0 || (e && e->mute))
            continue;
        char length[2] = {(char)(reply.len >> 8), (char)reply.len};
        uv_buf_t out[2] = {uv_buf_init(length, 2),
                           uv_buf_init((char *)reply.bytes, (unsigned)reply.len)};
        assert_int_equal(uv_try_write(client, out, 2), reply.len + 2);
    }
}

static void on_connection(uv_stream_t *server, int status)
{
    uv_tcp_t *client = calloc(1, sizeof *client);
    assert_int_equal(status, 0);
    uv_tcp_init(server->loop, client);
    client->data = server->data;
    assert_int_equal(uv_accept(server, (uv_stream_t *)client), 0);
    uv_unref((uv_handle_t *)client);
    ((struct test *)server->loop->data)->clients++;
    uv_read_start((uv_stream_t *)client, on_buffer, on_tcp);
}

static bool listener_bind(struct listener *l, const char *address, uint16_t port)
{
    struct sockaddr_in sa;
    uv_ip4_addr(address, port, &sa);
    return uv_udp_bind(&l->udp, (const struct sockaddr *)&sa, 0) == 0 &&
           uv_tcp_bind(&l->tcp, (const struct sockaddr *)&sa, 0) == 0 &&
           uv_listen((uv_stream_t *)&l->tcp, 64, on_connection) == 0;
}

static void listener_open(struct test *t, int which, const char *address, uint16_t port)
{
    struct listener *l = &t->listeners[which];
    l->network = (uint8_t)(10 + which);
    uv_udp_init(&t->loop, &l->udp);
    uv_tcp_init(&t->loop, &l->tcp);
    l->udp.data = l->tcp.data = l;
    if (!listener_bind(l, address, port))
        fail_msg("%s:%d cannot be bound", address, port);
    int size = 1 << 21;
    uv_recv_buffer_size((uv_handle_t *)&l->udp, &size);
    uv_udp_recv_start(&l->udp, on_buffer, on_udp);
    uv_unref((uv_handle_t *)&l->udp);
    uv_unref((uv_handle_t *)&l->tcp);
}

/* A port that is free for UDP and TCP on both addresses now. */
static uint16_t free_port(void)
{
    static const char *const addresses[] = {"127.0.0.1", "127.0.0.2"};
    for (int attempt = 0; attempt < 100; attempt++) {
        uint16_t port = (uint16_t)(20000 + (getpid() * 7 + attempt * 131) % 12000);
        int taken = 0;
        for (int i = 0; i < 4; i++) {
            struct sockaddr_in sa;
            uv_ip4_addr(addresses[i / 2], port, &sa);
            int fd = socket(AF_INET, i % 2 ? SOCK_STREAM : SOCK_DGRAM, 0);
            taken += bind(fd, (const struct sockaddr *)&sa, sizeof sa) < 0;
            close(fd);
        }
        if (taken == 0)
            return port;
    }
    fail_msg("no free port");
    return 0;
}

/* The test's loop */

static void on_wake(void *arg)
{
    ((struct test *)arg)->woken = true;
}

static void on_guard(uv_timer_t *timer)
{
    ((struct test *)timer->loop->data)->expired = true;
}

static void on_pause(uv_timer_t *timer)
{
    ((struct test *)timer->loop->data)->paused = true;
}

static void step(struct test *t)
{
    if (t->expired)
        fail_msg("nothing happened for %d s", GUARD_MS / 1000);
    uv_run(&t->loop, t->woken ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    if (t->woken) {
        t->woken = false;
        resolve_turn(t->resolve);
        if (t->other)
            resolve_turn(t->other);
    }
}

static void pause_ms(struct test *t, uint64_t ms)
{
    t->paused = false;
    uv_timer_start(&t->pause, on_pause, ms, 0);
    while (!t->paused)
        step(t);
}

static int setup(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    assert_non_null(t);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    t->loop.data = t;
    uv_timer_init(&t->loop, &t->guard);
    uv_timer_init(&t->loop, &t->pause);
    uv_timer_start(&t->guard, on_guard, GUARD_MS, 0);
    t->port = free_port();
    listener_open(t, 0, "127.0.0.1", t->port);
    listener_open(t, 1, "127.0.0.2", t->port);
    snprintf(t->server, sizeof t->server, "127.0.0.1:%d", t->port);
    t->servers[0] = t->server;
    *state = t;
    return 0;
}

static void on_resolver_closed(void *arg)
{
    ((struct test *)arg)->closed = true;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, handle->type == UV_TIMER ? (handle->data ? on_late_closed : NULL)
                         : handle->type == UV_TCP && handle->data &&
                                 handle != (uv_handle_t *)&((struct listener *)handle->data)->tcp
                             ? on_client_closed
                             : NULL);
}

static void close_one(struct test *t, struct resolve *r)
{
    t->closed = false;
    resolve_close(r, on_resolver_closed, t);
    assert_false(t->closed);
    while (!t->closed)
        uv_run(&t->loop, UV_RUN_ONCE);
}

static void resolver_close(struct test *t)
{
    close_one(t, t->resolve);
    t->resolve = NULL;
}

static int teardown(void **state)
{
    struct test *t = *state;
    if (t->resolve)
        resolver_close(t);
    uv_walk(&t->loop, close_handle, NULL);
    uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    free(t);
    return 0;
}

static void resolver_open(struct test *t, int lookups)
{
    const char *why = NULL;
    struct resolve_params params = {.loop = &t->loop,
                                    .lookups = lookups,
                                    .servers = t->servers,
                                    .server_count = 1,
                                    .cache = t->cache,
                                    .hosts = t->hosts,
                                    .wake = on_wake,
                                    .arg = t};
    t->resolve = resolve_create(&params, &why);
    if (!t->resolve)
        fail_msg("%s", why);
}

/* Waiters */

struct waiter {
    struct resolve_query query;
    struct resolve_answer answer;
    int told;
};

static struct waiter *waiter_of(struct resolve_query *q)
{
    return LIST_CONTAINER(q, struct waiter, query);
}

static void on_done(struct resolve_query *q, const struct resolve_answer *answer_now)
{
    struct waiter *w = waiter_of(q);
    w->answer = *answer_now;
    w->told++;
}

/* True when the answer came at once. */
static bool ask_of(struct resolve *r, struct waiter *w, const char *name)
{
    bool failed;
    memset(w, 0, sizeof *w);
    w->query.done = on_done;
    const struct resolve_answer *now = resolve_start(r, &w->query, name, &failed);
    assert_false(failed);
    if (!now)
        return false;
    w->answer = *now;
    w->told = 1;
    return true;
}

static bool ask(struct test *t, struct waiter *w, const char *name)
{
    return ask_of(t->resolve, w, name);
}

/* "3.test" for a suffix of ".test". */
static bool ask_numbered(struct test *t, struct waiter *w, int number, const char *suffix)
{
    char name[32];
    snprintf(name, sizeof name, "%d%s", number, suffix);
    return ask(t, w, name);
}

static void wait_for(struct test *t, struct waiter *w)
{
    while (w->told == 0)
        step(t);
    assert_int_equal(w->told, 1);
}

static const struct resolve_answer *look_up(struct test *t, struct waiter *w, const char *name)
{
    ask(t, w, name);
    wait_for(t, w);
    return &w->answer;
}

static struct resolve_stats stats(const struct test *t)
{
    struct resolve_stats out;
    resolve_get_stats(t->resolve, &out);
    return out;
}

static void assert_address(const struct ip_addr *ip, const char *text)
{
    char buf[IP_TEXT_MAX];
    assert_string_equal(ip_format(ip, buf), text);
}

/* Tests */

static void test_answer(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){.name = "one.test", .a = 2, .aaaa = 1, .ttl = 60};
    resolver_open(t, 10);
    assert_false(ask(t, &w, "one.test"));
    assert_int_equal(stats(t).in_flight, 1);
    wait_for(t, &w);
    assert_int_equal(w.answer.error, ERR_NONE);
    assert_int_equal(w.answer.count, 3);
    int v6 = w.answer.addresses[0].family == 6 ? 0 : 2, v4 = v6 == 0 ? 1 : 0;
    assert_address(&w.answer.addresses[v6], "2001:db8::");
    assert_address(&w.answer.addresses[v4], "10.0.0.0");
    assert_address(&w.answer.addresses[v4 + 1], "10.0.0.1");
    assert_true(ask(t, &w, "one.test"));
    assert_int_equal(w.answer.count, 3);
    assert_int_equal(t->asked, 2);
    assert_int_equal(stats(t).lookups, 1);
    assert_int_equal(stats(t).cache_hits, 1);
}

static void test_one_family(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){.name = "four.test", .a = 1, .ttl = 60};
    t->entries[1] = (struct entry){.name = "six.test", .aaaa = 1, .ttl = 60};
    resolver_open(t, 10);
    assert_int_equal(look_up(t, &w, "four.test")->count, 1);
    assert_address(&w.answer.addresses[0], "10.0.0.0");
    assert_int_equal(look_up(t, &w, "six.test")->count, 1);
    assert_address(&w.answer.addresses[0], "2001:db8::");
}

static void test_failures(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){.name = "empty.test"};
    t->entries[1] = (struct entry){.name = "broken.test", .rcode = SERVFAIL};
    t->entries[2] = (struct entry){.name = "refused.test", .rcode = REFUSED};
    t->entries[3] = (struct entry){.name = "loop.test", .cname = "loop.test", .cname_ttl = 60};
    static const char *const cases[][2] = {
        {"missing.test", "no such name"},
        {"empty.test", "the name has no address"},
        {"broken.test", "the name servers failed"}, /* and more words: depends on c-ares */
        {"refused.test", "the name servers "},
        {"loop.test", "the name has no address"},
        {"a-label-of-sixty-four-bytes-is-one-byte-too-long-for-any-dns-name.test",
         "the name cannot be looked up"},
        {"hidden.onion", "no such name"},
    };
    resolver_open(t, 10);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        look_up(t, &w, cases[i][0]);
        assert_int_equal(w.answer.error, ERR_DNS_ERROR);
        assert_ptr_equal(strstr(w.answer.message, cases[i][1]), w.answer.message);
        assert_int_equal(w.answer.count, 0);
        assert_true(ask(t, &w, cases[i][0]));
        assert_ptr_equal(strstr(w.answer.message, cases[i][1]), w.answer.message);
    }
}

/* A closed port: an error at once, or, where the kernel does not tell, a timeout. */
static void test_no_server(void **state)
{
    struct test *t = *state;
    struct waiter w;
    snprintf(t->server, sizeof t->server, "127.0.0.3:%d", t->port);
    resolver_open(t, 10);
    look_up(t, &w, "one.test");
    assert_true(w.answer.error == ERR_DNS_ERROR || w.answer.error == ERR_DNS_TIMEOUT);
    assert_non_null(strstr(w.answer.message, "the name servers"));
}

/* Needs no server, and the answer is there at once. */
static void test_known_at_once(void **state)
{
    struct test *t = *state;
    struct waiter w;
    char text[IP_TEXT_MAX];
    bool seen = false;
    resolver_open(t, 10);
    assert_true(ask(t, &w, "localhost"));
    assert_int_equal(w.answer.error, ERR_NONE);
    for (size_t i = 0; i < w.answer.count; i++)
        seen = seen || strcmp(ip_format(&w.answer.addresses[i], text), "127.0.0.1") == 0;
    assert_true(seen);
    assert_true(ask(t, &w, "192.0.2.7"));
    assert_address(&w.answer.addresses[0], "192.0.2.7");
    assert_true(ask(t, &w, "2001:db8::7"));
    assert_address(&w.answer.addresses[0], "2001:db8::7");
    assert_int_equal(t->asked, 0);
}

static void test_one_look_up_for_all(void **state)
{
    struct test *t = *state;
    struct waiter w[100];
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60, .delay_ms = 30};
    resolver_open(t, 10);
    for (int i = 0; i < 100; i++)
        assert_false(ask(t, &w[i], "one.test"));
    for (int i = 0; i < 100; i++)
        wait_for(t, &w[i]);
    assert_int_equal(t->asked, 2);
    assert_int_equal(stats(t).lookups, 1);
}

/* Of many that wait for one name, and of many names, a turn tells a part. */
static void test_told_in_parts(void **state)
{
    struct test *t = *state;
    struct waiter *w = calloc(150, sizeof *w);
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    resolver_open(t, 10);
    for (int i = 0; i < 150; i++)
        assert_false(ask(t, &w[i], "one.test"));
    while (!t->woken)
        uv_run(&t->loop, UV_RUN_ONCE);
    static const size_t parts[] = {64, 64, 22, 0};
    for (int i = 0; i < 4; i++) {
        t->woken = false;
        assert_int_equal(resolve_turn(t->resolve), parts[i]);
        assert_true(t->woken == (i < 2));
    }
    for (int i = 0; i < 150; i++)
        assert_int_equal(w[i].told, 1);
    free(w);
}

/* Whether asking after 1.2 s asks the server again. */
static void test_lifetimes(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){.name = "zero.test", .a = 1, .ttl = 0};
    t->entries[1] = (struct entry){.name = "short.test", .a = 1, .ttl = 1};
    t->entries[2] = (struct entry){.name = "long.test", .a = 1, .ttl = 300};
    t->entries[3] = (struct entry){
        .name = "alias.test", .a = 1, .ttl = 300, .cname = "real.test", .cname_ttl = 1};
    t->entries[4] = (struct entry){.name = "none.test", .rcode = NXDOMAIN};
    t->entries[5] = (struct entry){.name = "broken.test", .rcode = SERVFAIL};
    static const bool again[] = {true, true, false, true, false, true};
    int asked[6];
    resolver_open(t, 10);
    for (int i = 0; i < 6; i++) {
        look_up(t, &w, t->entries[i].name);
        assert_int_equal(w.answer.error, i < 4 ? ERR_NONE : ERR_DNS_ERROR);
        assert_true(ask(t, &w, t->entries[i].name));
        asked[i] = t->entries[i].asked_a;
    }
    pause_ms(t, 1200);
    for (int i = 0; i < 6; i++) {
        look_up(t, &w, t->entries[i].name);
        assert_true(again[i] == (t->entries[i].asked_a > asked[i]));
    }
}

/* Over TCP, as the answers do not fit a datagram. */
static void test_many_addresses(void **state)
{
    struct test *t = *state;
    struct waiter w;
    int families[2] = {0, 0};
    t->entries[0] = (struct entry){.name = "many.test", .a = 1000, .ttl = 60};
    t->entries[1] = (struct entry){.name = "both.test", .a = 100, .aaaa = 100, .ttl = 60};
    t->entries[2] = (struct entry){.name = "few.test", .a = 31, .aaaa = 2, .ttl = 60};
    resolver_open(t, 10);
    assert_int_equal(look_up(t, &w, "many.test")->count, RESOLVE_ADDRESSES_MAX);
    assert_address(&w.answer.addresses[31], "10.0.0.31");
    assert_int_equal(look_up(t, &w, "both.test")->count, RESOLVE_ADDRESSES_MAX);
    for (size_t i = 0; i < w.answer.count; i++)
        families[w.answer.addresses[i].family == 6]++;
    assert_true(families[0] >= 8 && families[1] >= 8);
    assert_int_equal(look_up(t, &w, "few.test")->count, RESOLVE_ADDRESSES_MAX);
}

/* Names whose answer the server still looks for, while one after the other is said to be too long
 * for UDP and the connection for it is closed. */
static void test_a_server_that_hangs_up(void **state)
{
    struct test *t = *state;
    struct waiter w[20], bad;
    t->entries[0] = (struct entry){.name = "bad.test", .truncated = true, .hangs_up = true};
    t->entries[1] = (struct entry){.name = "worse.test", .truncated = true, .hangs_up = true};
    for (int i = 0; i < 20; i++)
        t->entries[2 + i] = (struct entry){.name = hosts[i], .a = 1, .ttl = 60, .delay_ms = 700};
    resolver_open(t, 100);
    for (int i = 0; i < 20; i++)
        ask(t, &w[i], hosts[i]);
    look_up(t, &bad, "bad.test");
    assert_int_equal(bad.answer.error, ERR_DNS_ERROR);
    look_up(t, &bad, "worse.test");
    assert_int_equal(bad.answer.error, ERR_DNS_ERROR);
    for (int i = 0; i < 20; i++) {
        wait_for(t, &w[i]);
        assert_int_equal(w[i].answer.error, ERR_NONE);
    }
}

static void on_udp_back(uv_timer_t *timer)
{
    struct test *t = timer->loop->data;
    struct listener *l = &t->listeners[0];
    struct sockaddr_in sa;
    uv_ip4_addr("127.0.0.1", t->port, &sa);
    uv_udp_init(&t->loop, &l->udp);
    l->udp.data = l;
    assert_int_equal(uv_udp_bind(&l->udp, (const struct sockaddr *)&sa, 0), 0);
    uv_udp_recv_start(&l->udp, on_buffer, on_udp);
    t->paused = true;
}

/* Its port is closed for a moment: c-ares gives up within a millisecond, and is asked again. */
static void test_a_server_that_restarts(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->any_name = true;
    resolver_open(t, 10);
    uv_close((uv_handle_t *)&t->listeners[0].udp, NULL);
    uv_run(&t->loop, UV_RUN_NOWAIT);
    ask(t, &w, "then.test");
    uv_timer_start(&t->pause, on_udp_back, 50, 0);
    wait_for(t, &w);
    assert_true(t->paused);
    assert_int_equal(w.answer.error, ERR_NONE);
}

/* Many that are asked again take several turns, and none is forgotten. */
static void test_many_asked_again(void **state)
{
    struct test *t = *state;
    struct waiter *w = calloc(300, sizeof *w);
    assert_non_null(w);
    t->any_name = true;
    resolver_open(t, 300);
    uv_close((uv_handle_t *)&t->listeners[0].udp, NULL);
    uv_run(&t->loop, UV_RUN_NOWAIT);
    for (int i = 0; i < 300; i++)
        ask_numbered(t, &w[i], i, ".test");
    uv_timer_start(&t->pause, on_udp_back, 50, 0);
    for (int i = 0; i < 300; i++)
        wait_for(t, &w[i]);
    assert_true(t->paused);
    assert_int_equal(stats(t).in_flight, 0);
    free(w);
}

/* More of them than connections: none is forgotten, and a good one has its turn. */
static void test_many_truncated(void **state)
{
    struct test *t = *state;
    struct waiter w[20];
    for (int i = 0; i < 20; i++)
        t->entries[i] = (struct entry){
            .name = hosts[i], .a = 1, .ttl = 60, .truncated = true, .hangs_up = i % 2 == 0};
    resolver_open(t, 100);
    for (int i = 0; i < 20; i++)
        ask(t, &w[i], hosts[i]);
    for (int i = 0; i < 20; i++) {
        wait_for(t, &w[i]);
        assert_int_equal(w[i].answer.error, i % 2 == 0 ? ERR_DNS_ERROR : ERR_NONE);
        assert_int_equal(w[i].answer.count, i % 2);
    }
    assert_int_equal(stats(t).in_flight, 0);
}

/* The server is silent over TCP: so many connections and no more, and all go with the resolver. */
static void test_close_while_truncated(void **state)
{
    struct test *t = *state;
    struct waiter w[20];
    for (int i = 0; i < 20; i++)
        t->entries[i] = (struct entry){
            .name = hosts[i], .a = 1, .ttl = 60, .truncated = true, .mute = true};
    resolver_open(t, 100);
    for (int i = 0; i < 20; i++)
        ask(t, &w[i], hosts[i]);
    while (t->clients < RESOLVE_ARES_STREAMS)
        step(t);
    pause_ms(t, 50);
    assert_int_equal(t->clients, RESOLVE_ARES_STREAMS);
    resolver_close(t);
    for (int i = 0; i < 20; i++)
        assert_int_equal(w[i].told, 0);
}

/* Far more of them than connections, whose server is silent over TCP: one whose server is not waits
 * for a few of them, which are given up, and not for all. */
static void test_one_beside_many_truncated(void **state)
{
    struct test *t = *state;
    char names[SILENT][16];
    struct waiter w[SILENT], one;
    for (int i = 0; i < SILENT; i++) {
        snprintf(names[i], sizeof names[i], "silent%d.test", i);
        t->entries[i] = (struct entry){
            .name = names[i], .a = 1, .ttl = 60, .truncated = true, .mute = true};
    }
    t->entries[SILENT] = (struct entry){.name = "one.test", .a = 1, .ttl = 60, .truncated = true};
    resolver_open(t, 2 * SILENT);
    for (int i = 0; i < SILENT; i++)
        ask(t, &w[i], names[i]);
    while (t->clients < RESOLVE_ARES_STREAMS)
        step(t);
    look_up(t, &one, "one.test");
    assert_int_equal(one.answer.error, ERR_NONE);
    wait_for(t, &w[0]);
    assert_int_equal(w[0].answer.error, ERR_DNS_TIMEOUT);
    assert_true(stats(t).in_flight > 0);
    resolver_close(t);
}

/* An empty datagram is no answer and no end. */
static void test_empty_datagrams(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){
        .name = "one.test", .a = 1, .ttl = 60, .empty = true, .delay_ms = 200};
    resolver_open(t, 10);
    look_up(t, &w, "one.test");
    assert_int_equal(w.answer.error, ERR_NONE);
    assert_int_equal(t->asked, 2);
}

static void test_cancel(void **state)
{
    struct test *t = *state;
    struct waiter gone, stays, first;
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60, .delay_ms = 30};
    t->entries[1] = (struct entry){.name = "two.test", .a = 1, .ttl = 60};
    resolver_open(t, 1);
    ask(t, &gone, "one.test");
    ask(t, &stays, "one.test");
    resolve_cancel(&gone.query);
    resolve_cancel(&gone.query);
    wait_for(t, &stays);
    assert_int_equal(gone.told, 0);
    resolve_cancel(&stays.query);

    t->entries[2] = (struct entry){.name = "late.test", .a = 1, .ttl = 60, .delay_ms = 30};
    ask(t, &first, "late.test");
    assert_false(ask(t, &gone, "two.test"));
    assert_int_equal(stats(t).waiting, 1);
    resolve_cancel(&gone.query);
    assert_int_equal(stats(t).waiting, 0);
    resolve_cancel(&first.query); /* nobody waits: the answer is kept all the same */
    while (stats(t).in_flight > 0)
        step(t);
    assert_int_equal(first.told + gone.told, 0);
    assert_true(ask(t, &first, "late.test"));
    assert_int_equal(t->entries[1].asked_a, 0);
}

static void test_bound(void **state)
{
    struct test *t = *state;
    struct waiter w[6];
    static const char *const names[] = {"a.test", "b.test", "c.test", "d.test", "e.test", "f.test"};
    for (int i = 0; i < 6; i++)
        t->entries[i] = (struct entry){.name = names[i], .a = 1, .ttl = 60, .delay_ms = 40};
    resolver_open(t, 2);
    for (int i = 0; i < 6; i++)
        assert_false(ask(t, &w[i], names[i]));
    assert_int_equal(stats(t).in_flight, 2);
    assert_int_equal(stats(t).waiting, 4);
    for (int i = 0; i < 6; i++) {
        wait_for(t, &w[i]);
        assert_true(stats(t).in_flight <= 2);
        assert_int_equal(t->entries[i].asked_a, 1);
    }
    assert_int_equal(t->held_max, 4); /* A and AAAA of two */
    assert_int_equal(stats(t).lookups, 6);
}

/* A silent server: a second later the next name has its turn; in the end the name times out. */
static void test_silence(void **state)
{
    struct test *t = *state;
    struct waiter dead, next;
    t->entries[0] = (struct entry){.name = "dead.test", .silent = true};
    t->entries[1] = (struct entry){.name = "next.test", .a = 1, .ttl = 60};
    resolver_open(t, 1);
    uv_update_time(&t->loop);
    uint64_t start = uv_now(&t->loop);
    ask(t, &dead, "dead.test");
    ask(t, &next, "next.test");
    assert_int_equal(stats(t).waiting, 1);
    wait_for(t, &next);
    assert_in_range(uv_now(&t->loop) - start, 950, 5000);
    wait_for(t, &dead);
    assert_in_range(uv_now(&t->loop) - start, 3000, 16000);
    assert_int_equal(dead.answer.error, ERR_DNS_TIMEOUT);
    assert_string_equal(dead.answer.message, "the name servers did not answer in time");
    assert_in_range(t->entries[0].asked_a, 3, 5);
}

/* One lost answer costs one round. */
static void test_lost_packet(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60, .silent = true};
    resolver_open(t, 10);
    uint64_t start = uv_now(&t->loop);
    ask(t, &w, "one.test");
    while (t->entries[0].asked_a == 0)
        step(t);
    pause_ms(t, 20);
    t->entries[0].silent = false;
    wait_for(t, &w);
    assert_int_equal(w.answer.error, ERR_NONE);
    assert_in_range(uv_now(&t->loop) - start, 200, 2900);
}

struct chain {
    struct waiter first, cancelled, second, cached;
    struct test *test;
};

static void on_chain(struct resolve_query *q, const struct resolve_answer *now)
{
    struct chain *c = LIST_CONTAINER(waiter_of(q), struct chain, first);
    on_done(q, now);
    resolve_cancel(&c->cancelled.query);
    assert_true(ask(c->test, &c->cached, "one.test"));
    assert_false(ask(c->test, &c->second, "two.test"));
}

static void test_done_may_ask_and_cancel(void **state)
{
    struct test *t = *state;
    struct chain c = {.test = t};
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    t->entries[1] = (struct entry){.name = "two.test", .a = 2, .ttl = 60};
    resolver_open(t, 10);
    ask(t, &c.first, "one.test");
    c.first.query.done = on_chain;
    ask(t, &c.cancelled, "one.test");
    wait_for(t, &c.second);
    assert_int_equal(c.first.told, 1);
    assert_int_equal(c.cancelled.told, 0);
    assert_int_equal(c.cached.answer.count, 1);
    assert_int_equal(c.second.answer.count, 2);
}

static void test_thousand_names(void **state)
{
    struct test *t = *state;
    struct waiter *w = calloc(1000, sizeof *w), dead;
    size_t threads_before = running_threads();
    t->any_name = true;
    t->entries[0] = (struct entry){.name = "dead.test", .silent = true};
    resolver_open(t, 2000);
    ask(t, &dead, "dead.test"); /* keeps the socket */
    for (int i = 0; i < 1000; i++) {
        assert_false(ask_numbered(t, &w[i], i, ".test"));
        if (i % 64 == 63)
            uv_run(&t->loop, UV_RUN_NOWAIT);
    }
    assert_in_range(stats(t).in_flight, 1, 64); /* one turn's part was asked for */
    for (int i = 0; i < 1000; i++) {
        wait_for(t, &w[i]);
        assert_int_equal(w[i].answer.error, ERR_NONE);
    }
    assert_int_equal(running_threads(), threads_before);
    assert_in_range(t->source_port_count, 1, 3);
    for (int i = 0; i < 1000; i++)
        assert_true(ask_numbered(t, &w[i], i, ".test"));
    resolve_cancel(&dead.query);
    free(w);
}

/* Nothing wakes the loop when nothing is in flight. */
static void test_idle(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    resolver_open(t, 10);
    look_up(t, &w, "one.test");
    uv_timer_stop(&t->guard);
    uv_run(&t->loop, UV_RUN_NOWAIT); /* the socket's close callback */
    assert_int_equal(uv_loop_alive(&t->loop), 0);
}

/* No server is asked about .onion; the loop does not run, so no time passes. */
static void test_cache_is_bounded(void **state)
{
    struct test *t = *state;
    struct waiter w;
    resolver_open(t, 10);
    for (int i = 0; i < 12000; i++) {
        resolve_turn(t->resolve);
        assert_true(ask_numbered(t, &w, i, ".onion"));
        assert_true(ask(t, &w, "warm.onion"));
    }
    int64_t lookups = stats(t).lookups;
    assert_true(ask(t, &w, "warm.onion")); /* in use, so it stayed */
    for (int i = 12000 - (RESOLVE_CACHE_NAMES - 1); i < 12000; i++)
        assert_true(ask_numbered(t, &w, i, ".onion"));
    assert_int_equal(stats(t).lookups, lookups);
    for (int i = 0; i < 2000; i++) { /* the coldest went */
        resolve_turn(t->resolve);
        assert_true(ask_numbered(t, &w, i, ".onion"));
    }
    assert_int_equal(stats(t).lookups, lookups + 2000);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void resolver_open_file(struct test *t, const char *path)
{
    const char *why = NULL;
    struct resolve_params params = {.loop = &t->loop,
                                    .lookups = 10,
                                    .resolv_conf = path,
                                    .port = t->port,
                                    .wake = on_wake,
                                    .arg = t};
    t->resolve = resolve_create(&params, &why);
    if (!t->resolve)
        fail_msg("%s", why);
}

/* The file changes: the cache goes, new look-ups go to the new server, old ones end where they
 * began and are not kept. */
static void test_resolv_conf_changes(void **state)
{
    struct test *t = *state;
    struct waiter w, slow;
    char path[] = "test_resolve.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    t->entries[1] = (struct entry){.name = "slow.test", .a = 1, .ttl = 60, .delay_ms = 1400};
    t->entries[2] = (struct entry){.name = "two.test", .a = 1, .ttl = 60};
    t->entries[3] = (struct entry){.name = "intra.corp.test", .a = 3, .ttl = 60};
    write_file(path, "nameserver 127.0.0.1\nsearch corp.test\n");
    resolver_open_file(t, path);
    look_up(t, &w, "one.test");
    assert_address(&w.answer.addresses[0], "10.0.0.0");
    assert_int_equal(look_up(t, &w, "intra")->count, 3);
    ask(t, &slow, "slow.test");
    write_file(path, "# another one\nnameserver 127.0.0.2\nsearch corp.test\n");
    assert_true(ask(t, &w, "one.test"));
    pause_ms(t, 1100); /* it is looked at once a second */
    look_up(t, &w, "two.test");
    assert_address(&w.answer.addresses[0], "11.0.0.0");
    assert_false(ask(t, &w, "one.test"));
    wait_for(t, &w);
    assert_address(&w.answer.addresses[0], "11.0.0.0");
    wait_for(t, &slow);
    assert_address(&slow.answer.addresses[0], "10.0.0.0");
    t->entries[1].delay_ms = 0;
    assert_false(ask(t, &slow, "slow.test"));
    wait_for(t, &slow);
    assert_address(&slow.answer.addresses[0], "11.0.0.0");
    unlink(path);
}

/* No descriptor is to be had when it is read again: the old servers stay until there is one. */
static void test_resolv_conf_without_descriptors(void **state)
{
    struct test *t = *state;
    struct waiter w;
    struct rlimit limit, none;
    char path[] = "test_resolve.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    t->any_name = true;
    write_file(path, "nameserver 127.0.0.2\n");
    resolver_open_file(t, path);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    resolve_reload(t->resolve);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    look_up(t, &w, "one.test");
    assert_address(&w.answer.addresses[0], "11.0.0.0"); /* not 127.0.0.1, c-ares' own */
    pause_ms(t, 1100);
    assert_false(ask(t, &w, "one.test")); /* by the new channel, whose answers are kept */
    wait_for(t, &w);
    assert_address(&w.answer.addresses[0], "11.0.0.0");
    assert_true(ask(t, &w, "one.test"));
    unlink(path);
}

static void test_reload(void **state)
{
    struct test *t = *state;
    struct waiter w, slow;
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    t->entries[1] = (struct entry){.name = "slow.test", .a = 1, .ttl = 60, .delay_ms = 50};
    resolver_open(t, 10);
    look_up(t, &w, "one.test");
    ask(t, &slow, "slow.test");
    resolve_reload(t->resolve);
    resolve_reload(t->resolve);
    assert_false(ask(t, &w, "one.test"));
    wait_for(t, &w);
    wait_for(t, &slow);
    assert_int_equal(slow.answer.error, ERR_NONE);
    assert_false(ask(t, &slow, "slow.test")); /* of the old generation: not kept */
    wait_for(t, &slow);
}

/* The hosts file comes before the servers, and a change of it before what the cache holds. */
static void test_hosts(void **state)
{
    struct test *t = *state;
    struct waiter w;
    char path[] = "test_resolve.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    write_file(path, "192.0.2.1 two.test Three.Test # 192.0.2.9 one.test\n"
                     "2001:db8::2 four.test three.test\n");
    t->hosts = path;
    resolver_open(t, 10);
    assert_true(ask(t, &w, "three.test"));
    assert_int_equal(w.answer.error, ERR_NONE);
    assert_int_equal(w.answer.count, 2);
    assert_int_equal(w.answer.addresses[0].family + w.answer.addresses[1].family, 4 + 6);
    assert_int_equal(look_up(t, &w, "one.test")->count, 1);
    assert_address(&w.answer.addresses[0], "10.0.0.0");
    assert_int_equal(stats(t).lookups, 1);
    assert_int_equal(stats(t).cache_hits, 1);
    write_file(path, "192.0.2.7 one.test\n");
    pause_ms(t, 1100);
    assert_true(ask(t, &w, "one.test"));
    assert_address(&w.answer.addresses[0], "192.0.2.7");
    assert_false(ask(t, &w, "three.test"));
    wait_for(t, &w);
    assert_int_equal(w.answer.error, ERR_DNS_ERROR);
    unlink(path);
}

static struct resolve *sharer_open(struct test *t, struct resolve_cache *cache, const char *path)
{
    const char *why = NULL;
    struct resolve_params params = {.loop = &t->loop,
                                    .lookups = 1,
                                    .resolv_conf = path,
                                    .port = t->port,
                                    .cache = cache,
                                    .wake = on_wake,
                                    .arg = t};
    struct resolve *r = resolve_create(&params, &why);
    if (!r)
        fail_msg("%s", why);
    return r;
}

/* What one finds out the other knows, also while it waits for its turn; a new generation, whoever
 * begins it, is followed by both. */
static void test_shared_cache(void **state)
{
    struct test *t = *state;
    struct waiter w, slow, same, waits;
    struct resolve_cache *cache = resolve_cache_create();
    char path[] = "test_resolve.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_non_null(cache);
    t->entries[0] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    t->entries[1] = (struct entry){.name = "slow.test", .a = 1, .ttl = 60, .delay_ms = 60};
    write_file(path, "nameserver 127.0.0.1\n");
    t->resolve = sharer_open(t, cache, path);
    t->other = sharer_open(t, cache, path);

    look_up(t, &w, "one.test");
    assert_true(ask_of(t->other, &w, "one.test"));
    assert_int_equal(t->entries[0].asked_a, 1);

    assert_false(ask(t, &slow, "slow.test"));
    assert_false(ask_of(t->other, &same, "slow.test")); /* at the same moment: twice */
    t->entries[2] = (struct entry){.name = "two.test", .a = 1, .ttl = 60};
    assert_false(ask_of(t->other, &waits, "two.test"));
    wait_for(t, &slow);
    wait_for(t, &same);
    assert_int_equal(t->entries[1].asked_a, 2);
    wait_for(t, &waits);

    t->entries[3] = (struct entry){.name = "dead.test", .silent = true};
    t->entries[4] = (struct entry){.name = "three.test", .a = 1, .ttl = 60};
    ask_of(t->other, &same, "dead.test");
    assert_false(ask_of(t->other, &waits, "three.test")); /* behind it, for a second */
    look_up(t, &w, "three.test");
    wait_for(t, &waits);
    assert_int_equal(t->entries[4].asked_a, 1);

    write_file(path, "# another one\nnameserver 127.0.0.2\n");
    resolve_cache_renew(cache, 0);
    uint64_t generation = resolve_cache_generation(cache);
    for (int i = 0; i < 2; i++) {
        ask_of(i == 0 ? t->other : t->resolve, &w, t->entries[4 * i].name);
        wait_for(t, &w);
        assert_address(&w.answer.addresses[0], "11.0.0.0");
    }
    pause_ms(t, 1100);
    write_file(path, "nameserver 127.0.0.1\n");
    assert_false(ask(t, &w, "new.test"));
    assert_false(ask_of(t->other, &slow, "slow.test"));
    wait_for(t, &slow);
    wait_for(t, &w);
    assert_address(&slow.answer.addresses[0], "10.0.0.0");
    assert_int_equal(resolve_cache_generation(cache), generation + 1);
    unlink(path);
    close_one(t, t->other);
    resolver_close(t);
    resolve_cache_destroy(cache);
    t->other = NULL;
}

/* Two loops, two threads, two servers, one cache: between them they ask for each name once or, when
 * both want it at the same moment, twice. */
struct loop_worker {
    uv_thread_t thread;
    struct test *test;
    struct waiter waiters[LOOP_NAMES];
    int failed, told;
};

static void loop_work(void *arg)
{
    struct loop_worker *w = arg;
    struct test *t = w->test;
    char name[32];
    bool failed;
    for (int i = 0; i < LOOP_NAMES; i++) {
        snprintf(name, sizeof name, "host-%d.test", i);
        w->waiters[i].query.done = on_done;
        w->told += resolve_start(t->resolve, &w->waiters[i].query, name, &failed) != NULL;
        w->failed += failed;
        if (i % 16 == 15) {
            uv_run(&t->loop, UV_RUN_NOWAIT);
            resolve_turn(t->resolve);
        }
        if (i == LOOP_NAMES / 2)
            resolve_cache_renew(t->cache, 0);
    }
    while (stats(t).in_flight + stats(t).waiting > 0 && !t->expired) {
        uv_run(&t->loop, UV_RUN_ONCE);
        resolve_turn(t->resolve);
    }
    while (resolve_turn(t->resolve) > 0)
        ;
    for (int i = 0; i < LOOP_NAMES; i++) {
        w->told += w->waiters[i].told;
        w->failed += w->waiters[i].answer.error != ERR_NONE;
    }
}

static void test_two_loops(void **state)
{
    struct loop_worker *workers = calloc(2, sizeof *workers);
    void *other = NULL;
    struct resolve_cache *cache = resolve_cache_create();
    assert_non_null(workers);
    assert_int_equal(setup(&other), 0);
    for (int i = 0; i < 2; i++) {
        struct test *t = workers[i].test = i == 0 ? *state : other;
        t->any_name = true;
        t->cache = cache;
        resolver_open(t, 20);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(uv_thread_create(&workers[i].thread, loop_work, &workers[i]), 0);
    int64_t lookups = 0;
    for (int i = 0; i < 2; i++) {
        uv_thread_join(&workers[i].thread);
        assert_int_equal(workers[i].told, LOOP_NAMES);
        assert_int_equal(workers[i].failed, 0);
        lookups += stats(workers[i].test).lookups;
        resolver_close(workers[i].test);
    }
    assert_in_range(lookups, LOOP_NAMES, 2 * LOOP_NAMES);
    assert_int_equal(teardown(&other), 0);
    resolve_cache_destroy(cache);
    free(workers);
}

/* Given servers stand alone: no search list, whatever resolv.conf says. */
static void test_given_servers_do_not_search(void **state)
{
    struct test *t = *state;
    struct waiter w;
    t->entries[0] = (struct entry){.name = "intra", .a = 2, .ttl = 60};
    resolver_open(t, 10);
    look_up(t, &w, "missing.test");
    assert_int_equal(t->asked, 2);
    assert_int_equal(look_up(t, &w, "intra")->count, 2);
    assert_int_equal(t->asked, 4);
}

static void test_server_texts(void **state)
{
    struct test *t = *state;
    static const char *const good[] = {
        "127.0.0.1",    "127.0.0.1:53",        "::1", "[::1]", "[::1]:53",
        "2001:db8::53", "[2001:db8::53]:65535"};
    static const char *const bad[] = {"",          "localhost", "127.0.0.1:",    "127.0.0.1:0",
                                      "[",         "[]",        "127.0.0.1:x",   "127.0.0.1:65536",
                                      "[::1",      "::1]:53",   "[127.0.0.1]:5", "127.0.0.1,::1",
                                      "[::1]53",   ":53",       "1.2.3.4:5:6",   "[::1]:",
                                      "127.0.0.1 "};
    const char *server, *why;
    struct resolve_params params = {.loop = &t->loop,
                                    .lookups = 1,
                                    .servers = &server,
                                    .server_count = 1,
                                    .wake = on_wake,
                                    .arg = t};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        server = good[i];
        t->resolve = resolve_create(&params, &why);
        if (!t->resolve)
            fail_msg("%s: %s", good[i], why);
        resolver_close(t);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        server = bad[i];
        why = NULL;
        if ((t->resolve = resolve_create(&params, &why)))
            fail_msg("'%s' was taken", bad[i]);
        assert_non_null(strstr(why, "ADDRESS:PORT"));
    }
}

static void test_close_in_flight(void **state)
{
    struct test *t = *state;
    struct waiter w[4];
    t->entries[0] = (struct entry){.name = "dead.test", .silent = true};
    t->entries[1] = (struct entry){.name = "also-dead.test", .silent = true};
    t->entries[2] = (struct entry){.name = "one.test", .a = 1, .ttl = 60};
    resolver_open(t, 2);
    look_up(t, &w[0], "one.test");
    ask(t, &w[0], "dead.test");
    ask(t, &w[1], "also-dead.test");
    ask(t, &w[2], "waits.test");
    pause_ms(t, 10);
    resolve_reload(t->resolve);
    ask(t, &w[3], "dead.test");
    resolver_close(t);
    assert_int_equal(w[0].told + w[1].told + w[2].told + w[3].told, 0);
    for (int i = 0; i < 4; i++)
        resolve_cancel(&w[i].query);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answer),
        TEST(test_one_family),
        TEST(test_failures),
        TEST(test_no_server),
        TEST(test_known_at_once),
        TEST(test_one_look_up_for_all),
        TEST(test_told_in_parts),
        TEST(test_lifetimes),
        TEST(test_many_addresses),
        TEST(test_a_server_that_hangs_up),
        TEST(test_a_server_that_restarts),
        TEST(test_many_asked_again),
        TEST(test_many_truncated),
        TEST(test_close_while_truncated),
        TEST(test_one_beside_many_truncated),
        TEST(test_empty_datagrams),
        TEST(test_cancel),
        TEST(test_bound),
        TEST(test_silence),
        TEST(test_lost_packet),
        TEST(test_done_may_ask_and_cancel),
        TEST(test_thousand_names),
        TEST(test_idle),
        TEST(test_cache_is_bounded),
        TEST(test_resolv_conf_changes),
        TEST(test_resolv_conf_without_descriptors),
        TEST(test_reload),
        TEST(test_hosts),
        TEST(test_shared_cache),
        TEST(test_two_loops),
        TEST(test_given_servers_do_not_search),
        TEST(test_server_texts),
        TEST(test_close_in_flight),
    };
    unsetenv("LOCALDOMAIN");
    unsetenv("RES_OPTIONS");
    ares_library_init(ARES_LIB_INIT_ALL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ares_library_cleanup();
    return failed;
}
