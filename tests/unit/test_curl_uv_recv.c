/* SPDX-License-Identifier: MIT
 *
 * test_curl_uv_recv - the recv() that libcurl calls: who may read in one call of libcurl and for
 * how long, and what is known of the last read. The clock is the real one, its bound in the past or
 * far ahead.
 */
#include "curl_uv_recv.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls_fixture.h"

#define PAST 1
#define FAR UINT64_MAX
#define ANYBODY (-1)

struct pair {
    int ours, theirs;
};

/* TCP, because only that is reset. */
static struct pair pair_open(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof sa;
    struct pair p;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &n), 0);
    p.ours = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(p.ours, (struct sockaddr *)&sa, n), 0);
    p.theirs = accept(listener, NULL, NULL);
    assert_true(p.theirs >= 0);
    close(listener);
    return p;
}

static void say(const struct pair *p)
{
    assert_int_equal(write(p->theirs, "x", 1), 1);
}

static void reset(const struct pair *p)
{
    const struct linger linger = {.l_onoff = 1};
    assert_int_equal(setsockopt(p->theirs, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(p->theirs);
}

/* Blocks until there is something; the wrapper's own EAGAIN comes without waiting. */
static bool reads(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    assert_true(n == 1 || (n < 0 && errno == EAGAIN));
    return n == 1;
}

/* What was told of the sockets that were read, and of those that were held back, in turn. */
struct noted {
    int fd;
    size_t at_most;
    bool more;
};

static struct {
    struct noted read[8];
    size_t reads;
    int held_back[8];
    size_t holds;
    int mute;  /* is to look closed when it has bytes */
    int whole; /* is HTTP/2; 0 = none */
} told;

static void on_read(void *arg, int fd, size_t at_most, bool more)
{
    assert_ptr_equal(arg, &told);
    told.read[told.reads++] = (struct noted){fd, at_most, more};
}

static void on_held_back(void *arg, int fd)
{
    assert_ptr_equal(arg, &told);
    told.held_back[told.holds++] = fd;
}

static bool on_speaks(void *arg, int fd)
{
    assert_ptr_equal(arg, &told);
    return fd == told.mute;
}

static bool on_whole(void *arg, int fd)
{
    assert_ptr_equal(arg, &told);
    return told.whole != 0 && fd == told.whole;
}

static void begin(int fd, uint64_t until_ns, size_t at_most)
{
    static const struct curl_uv_recv_told to = {on_read, on_held_back, on_speaks, on_whole, &told};
    told.reads = told.holds = 0;
    curl_uv_recv_begin(fd, until_ns, at_most, &to);
}

static void end(void)
{
    curl_uv_recv_end();
}

static void check_told(size_t i, int fd, size_t at_most)
{
    assert_true(i < told.reads);
    assert_int_equal(told.read[i].fd, fd);
    assert_int_equal(told.read[i].at_most, at_most);
}

static void check_lost(bool lost, int os_errno)
{
    int found;
    assert_int_equal(curl_uv_recv_lost(&found), lost);
    assert_int_equal(found, os_errno);
}

static void test_the_first_is_let_through(void **state)
{
    (void)state;
    struct pair p = pair_open();
    char byte;
    for (int i = 0; i < 4; i++)
        say(&p);
    begin(ANYBODY, PAST, SIZE_MAX);
    assert_true(reads(p.ours));
    assert_false(reads(p.ours));
    assert_int_equal(recv(p.ours, &byte, 1, MSG_PEEK), 1); /* a look takes nothing */
    begin(ANYBODY, FAR, SIZE_MAX);
    assert_true(reads(p.ours));
    assert_true(reads(p.ours));
    begin(ANYBODY, PAST, SIZE_MAX);
    end();
    assert_true(reads(p.ours));
    close(p.ours);
    close(p.theirs);
}

/* Who was ready comes before those that libcurl runs on the way. */
static void test_the_one_that_was_ready_is_the_first(void **state)
{
    (void)state;
    struct pair p = pair_open(), other = pair_open();
    for (int i = 0; i < 4; i++) {
        say(&p);
        say(&other);
    }
    begin(p.ours, FAR, SIZE_MAX);
    assert_false(reads(other.ours));
    assert_true(reads(p.ours));
    assert_true(reads(other.ours));
    begin(p.ours, PAST, SIZE_MAX);
    assert_false(reads(other.ours));
    assert_true(reads(p.ours));
    assert_false(reads(other.ours));
    assert_false(reads(p.ours));
    end();
    close(p.ours);
    close(p.theirs);
    close(other.ours);
    close(other.theirs);
}

static ssize_t take(int fd, size_t n)
{
    char bytes[4096];
    return recv(fd, bytes, n, 0);
}

static void say_much(const struct pair *p)
{
    static const char bytes[4096];
    assert_int_equal(write(p->theirs, bytes, sizeof bytes), sizeof bytes);
}

static void check_sum(const struct curl_uv_recv_sum *sum, size_t bytes, const char *end)
{
    assert_int_equal(sum->bytes, bytes);
    assert_int_equal(sum->end_len, strlen(end));
    assert_memory_equal(sum->end, end, sum->end_len);
}

static void check_asked(size_t bytes, const char *end)
{
    const struct curl_uv_recv_sum sum = curl_uv_recv_ask();
    check_sum(&sum, bytes, end);
}

/* Of another socket, of another call, and asked twice it is forgotten. */
static void test_what_the_reads_have_brought(void **state)
{
    (void)state;
    struct pair p = pair_open(), other = pair_open();
    assert_int_equal(write(p.theirs, "0123456789abcdefgh", 18), 18);
    assert_int_equal(write(other.theirs, "xyz", 3), 3);
    begin(ANYBODY, FAR, SIZE_MAX);
    check_asked(0, "");
    assert_int_equal(take(p.ours, 3), 3);
    check_asked(3, "012");
    check_asked(0, "");
    assert_int_equal(take(p.ours, 7), 7);
    assert_int_equal(take(p.ours, 1), 1);
    assert_int_equal(take(p.ours, 1), 1);
    check_asked(9, "789ab");
    assert_int_equal(take(p.ours, 4), 4);
    assert_int_equal(take(other.ours, 4), 3);
    check_asked(3, "xyz");
    assert_int_equal(take(p.ours, 1), 1);
    begin(ANYBODY, FAR, SIZE_MAX);
    check_asked(0, "");
    assert_int_equal(take(p.ours, 9), 1);
    check_asked(1, "h");
    end();
    close(p.ours);
    close(p.theirs);
    close(other.ours);
    close(other.theirs);
}

/* A NUL among them, where they may be of a head, until they are asked for; and whether there were
 * any, or any were sent. */
static void test_what_is_said_of_them(void **state)
{
    (void)state;
    struct pair p = pair_open();
    assert_int_equal(write(p.theirs, "ab\0cd", 5), 5);
    begin(ANYBODY, FAR, CURL_UV_RECV_FIRST);
    assert_false(curl_uv_recv_moved());
    assert_int_equal(take(p.ours, 2), 2);
    assert_true(curl_uv_recv_moved());
    assert_false(curl_uv_recv_has_nul());
    assert_int_equal(take(p.ours, 2), 2);
    assert_true(curl_uv_recv_has_nul());
    assert_true(curl_uv_recv_ask().nul);
    assert_int_equal(take(p.ours, 1), 1);
    assert_false(curl_uv_recv_has_nul());
    assert_int_equal(write(p.theirs, "\0", 1), 1);
    begin(ANYBODY, FAR, SIZE_MAX);
    assert_int_equal(take(p.ours, 1), 1);
    assert_false(curl_uv_recv_has_nul());
    begin(ANYBODY, FAR, SIZE_MAX);
    assert_false(curl_uv_recv_moved());
    assert_int_equal(send(p.ours, "x", 1, 0), 1);
    assert_true(curl_uv_recv_moved());
    end();
    close(p.ours);
    close(p.theirs);
}

static void test_what_came_in_several_calls(void **state)
{
    (void)state;
    static const struct curl_uv_recv_sum few = {2, 2, "ab", false},
                                         many = {1000, 5, "vwxyz", true}, none = {0};
    struct curl_uv_recv_sum sum = {0};
    curl_uv_recv_join(&sum, &none);
    check_sum(&sum, 0, "");
    curl_uv_recv_join(&sum, &few);
    check_sum(&sum, 2, "ab");
    curl_uv_recv_join(&sum, &few);
    check_sum(&sum, 4, "abab");
    curl_uv_recv_join(&sum, &few);
    check_sum(&sum, 6, "babab");
    curl_uv_recv_join(&sum, &many);
    check_sum(&sum, 1006, "vwxyz");
    curl_uv_recv_join(&sum, &none);
    curl_uv_recv_join(&sum, &few);
    check_sum(&sum, 1008, "xyzab");
}

/* How much a call takes is what was said last; the next begin is told by the one before. */
static void test_a_read_takes_at_most_so_much(void **state)
{
    (void)state;
    struct pair p = pair_open();
    uint64_t call, next;
    say_much(&p);
    begin(p.ours, FAR, 300);
    assert_int_equal(curl_uv_recv_taken(&call), 0);
    assert_int_equal(take(p.ours, 4096), 300);
    assert_int_equal(take(p.ours, 2), 2);
    curl_uv_recv_at_most(400);
    assert_int_equal(take(p.ours, 4096), 400);
    assert_int_equal(curl_uv_recv_taken(&next), 702);
    assert_true(next == call);
    end();
    check_told(0, p.ours, 400);
    begin(p.ours, FAR, 500);
    assert_int_equal(curl_uv_recv_taken(&next), 0);
    assert_true(next != call);
    end();
    assert_int_equal(told.reads, 0);
    assert_int_equal(take(p.ours, 4096), 4096 - 702); /* not bounded outside */
    close(p.ours);
    close(p.theirs);
}

/* In a connection that carries layers nothing else is heard until it is let go; what inflate()
 * makes of it stands in tests/e2e/test_upstreams.py. */
static void test_layers(void **state)
{
    (void)state;
    struct pair p = pair_open();
    say_much(&p);
    begin(p.ours, FAR, CURL_UV_RECV_FIRST);
    curl_uv_recv_at_most(CURL_UV_RECV_LAYERS);
    curl_uv_recv_at_most(SIZE_MAX);
    assert_int_equal(take(p.ours, 4096), CURL_UV_RECV_LAYERS);
    end();
    check_told(0, p.ours, CURL_UV_RECV_LAYERS);
    begin(p.ours, FAR, CURL_UV_RECV_LAYERS);
    curl_uv_recv_at_most(SIZE_MAX);
    assert_int_equal(take(p.ours, 4096), CURL_UV_RECV_LAYERS);
    end();
    close(p.ours);
    close(p.theirs);
}

/* What was said of one socket is told of that one, and holds for no other in the same call. */
static void test_several_sockets_in_a_call(void **state)
{
    (void)state;
    struct pair p = pair_open(), other = pair_open();
    say_much(&p);
    say_much(&other);
    begin(p.ours, FAR, CURL_UV_RECV_FIRST);
    assert_int_equal(take(p.ours, 4096), CURL_UV_RECV_FIRST);
    curl_uv_recv_at_most(CURL_UV_RECV_LAYERS);
    assert_int_equal(take(other.ours, 4096), CURL_UV_RECV_FIRST);
    curl_uv_recv_at_most(SIZE_MAX);
    assert_int_equal(take(other.ours, 4096), 4096 - CURL_UV_RECV_FIRST);
    end();
    assert_int_equal(told.reads, 2);
    check_told(0, p.ours, CURL_UV_RECV_LAYERS);
    assert_true(told.read[0].more);
    check_told(1, other.ours, SIZE_MAX);
    assert_false(told.read[1].more);
    close(p.ours);
    close(p.theirs);
    close(other.ours);
    close(other.theirs);
}

/* As libcurl has it: OpenSSL reads by recv(). */
static int bio_read(BIO *bio, char *data, int n)
{
    const struct pair *p = BIO_get_data(bio);
    ssize_t got = recv(p->ours, data, (size_t)n, MSG_DONTWAIT);
    BIO_clear_retry_flags(bio);
    if (got < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    return (int)got;
}

static int bio_write(BIO *bio, const char *data, int n)
{
    const struct pair *p = BIO_get_data(bio);
    return (int)send(p->ours, data, (size_t)n, 0);
}

static long bio_ctrl(BIO *bio, int what, long n, void *arg)
{
    (void)bio;
    (void)n;
    (void)arg;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_MEM, "recv");
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
    return method;
}

static SSL *tls_server(const struct pair *p)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_certificate("server", key, "server", key);
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    SSL *server = SSL_new(ctx);
    SSL_set_fd(server, p->theirs);
    SSL_set_accept_state(server);
    SSL_CTX_free(ctx);
    X509_free(x);
    EVP_PKEY_free(key);
    return server;
}

static SSL *tls_client(struct pair *p, const BIO_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *client = SSL_new(ctx);
    BIO *bio = BIO_new(method);
    BIO_set_data(bio, p);
    BIO_set_init(bio, 1);
    SSL_set_bio(client, bio, bio);
    SSL_set_connect_state(client);
    SSL_CTX_free(ctx);
    return client;
}

static void shake_hands(SSL *client, SSL *server, const struct pair *p)
{
    assert_int_equal(fcntl(p->theirs, F_SETFL, O_NONBLOCK), 0);
    for (int done = 0; done != 2;)
        done = (SSL_do_handshake(client) == 1) + (SSL_do_handshake(server) == 1);
}

static int take_tls(SSL *client)
{
    char bytes[10000];
    int n, error = 0;
    do {
        n = SSL_read(client, bytes, sizeof bytes);
        error = n < 0 ? SSL_get_error(client, n) : 0;
    } while (error == SSL_ERROR_WANT_READ && SSL_pending(client) == 0); /* it is on its way */
    assert_true(n > 0 || error == SSL_ERROR_WANT_READ);
    return n;
}

/* OpenSSL has the whole record after the first read, and nothing is left in the socket. */
static void test_tls_is_taken_in_pieces(void **state)
{
    (void)state;
    char bytes[10000];
    struct pair p = pair_open(), other = pair_open();
    BIO_METHOD *method = bio_method();
    SSL *server = tls_server(&p), *client = tls_client(&p, method);
    uint64_t call;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)('a' + i % 10);
    shake_hands(client, server, &p);
    assert_int_equal(SSL_write(server, bytes, sizeof bytes), sizeof bytes);
    begin(p.ours, FAR, 2000);
    assert_int_equal(take_tls(client), 2000);
    assert_int_equal(curl_uv_recv_taken(&call), 2000);
    check_asked(2000, "fghij");
    assert_int_equal(SSL_pending(client), 8000);
    end();
    check_told(0, p.ours, 2000);
    assert_int_equal(told.holds, 0);
    begin(p.ours, PAST, 1000);
    assert_int_equal(take_tls(client), 1000);
    assert_int_equal(take_tls(client), -1);
    assert_int_equal(SSL_get_error(client, 1), SSL_ERROR_NONE); /* it was said once */
    end();
    check_told(0, p.ours, 1000);
    assert_int_equal(told.holds, 1);
    assert_int_equal(told.held_back[0], p.ours);
    begin(other.ours, FAR, SIZE_MAX); /* another has its turn */
    assert_int_equal(take_tls(client), -1);
    say(&other);
    assert_true(reads(other.ours));
    assert_int_equal(take_tls(client), CURL_UV_RECV_FIRST);
    check_asked(CURL_UV_RECV_FIRST, "defgh"); /* 3000 + 2048 are 8 more than tens */
    curl_uv_recv_at_most(SIZE_MAX);
    assert_int_equal(take_tls(client), 7000 - CURL_UV_RECV_FIRST);
    end();
    check_told(0, other.ours, SIZE_MAX);
    check_told(1, p.ours, SIZE_MAX);
    assert_int_equal(told.held_back[0], p.ours);
    assert_int_equal(SSL_write(server, bytes, sizeof bytes), sizeof bytes);
    told.whole = p.ours;
    begin(p.ours, FAR, 1000);
    assert_int_equal(take_tls(client), sizeof bytes);
    end();
    told.whole = 0;
    SSL_free(client);
    SSL_free(server);
    BIO_meth_free(method);
    close(p.ours);
    close(p.theirs);
    close(other.ours);
    close(other.theirs);
}

/* Of two connections whose records are read both are told; and what one gets out of its record says
 * nothing of another's socket, which was lost. */
static void test_two_are_held_back(void **state)
{
    (void)state;
    static const char bytes[10000];
    struct pair p[2] = {pair_open(), pair_open()}, lost = pair_open();
    BIO_METHOD *method = bio_method();
    SSL *server[2], *client[2];
    for (size_t i = 0; i < 2; i++) {
        server[i] = tls_server(&p[i]);
        client[i] = tls_client(&p[i], method);
        shake_hands(client[i], server[i], &p[i]);
        assert_int_equal(SSL_write(server[i], bytes, sizeof bytes), sizeof bytes);
        begin(p[i].ours, FAR, 1000);
        assert_int_equal(take_tls(client[i]), 1000);
    }
    begin(lost.ours, PAST, SIZE_MAX);
    assert_int_equal(take_tls(client[0]), -1);
    assert_int_equal(take_tls(client[1]), -1);
    end();
    assert_int_equal(told.holds, 2);
    assert_int_equal(told.held_back[0], p[0].ours);
    assert_int_equal(told.held_back[1], p[1].ours);
    reset(&lost);
    begin(ANYBODY, FAR, SIZE_MAX);
    assert_true(recv(lost.ours, (char[1]){0}, 1, 0) < 0);
    check_lost(true, ECONNRESET);
    assert_int_equal(take_tls(client[0]), CURL_UV_RECV_FIRST);
    check_lost(false, 0);
    end();
    check_told(1, p[0].ours, CURL_UV_RECV_FIRST);
    assert_true(told.read[1].more);
    for (size_t i = 0; i < 2; i++) {
        SSL_free(client[i]);
        SSL_free(server[i]);
        close(p[i].ours);
        close(p[i].theirs);
    }
    close(lost.ours);
    BIO_meth_free(method);
}

/* A look takes nothing, and says of one that is not to speak that it is closed. */
static void test_a_look_at_what_speaks(void **state)
{
    (void)state;
    struct pair p = pair_open();
    char byte;
    told.mute = p.ours;
    begin(ANYBODY, PAST, SIZE_MAX);
    assert_int_equal(recv(p.ours, &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
    say(&p);
    while (recvfrom(p.ours, &byte, 1, MSG_PEEK, NULL, NULL) != 1)
        ;
    assert_int_equal(recv(p.ours, &byte, 1, MSG_PEEK), 0);
    told.mute = -1;
    assert_int_equal(recv(p.ours, &byte, 1, MSG_PEEK), 1);
    check_lost(false, 0);
    told.mute = p.ours;
    end();
    assert_int_equal(recv(p.ours, &byte, 1, MSG_PEEK), 1);
    assert_int_equal(told.reads, 0);
    close(p.ours);
    close(p.theirs);
}

/* The kernel tells of a reset once; libcurl 7.88 takes that for a sign of life. */
static void test_a_look_at_what_was_reset(void **state)
{
    (void)state;
    struct pair p = pair_open(), other = pair_open();
    char byte;
    told.mute = -1;
    reset(&p);
    reset(&other);
    begin(ANYBODY, PAST, SIZE_MAX);
    assert_int_equal(recv(p.ours, &byte, 1, MSG_PEEK | MSG_DONTWAIT), 0);
    end();
    assert_int_equal(recv(other.ours, &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
    assert_int_equal(errno, ECONNRESET);
    close(p.ours);
    close(other.ours);
}

static void wait_for_bytes(int fd, int least)
{
    int there = 0;
    while (there < least)
        assert_int_equal(ioctl(fd, FIONREAD, &there), 0);
}

/* With its head a record is read whole, however late it is; the next one is not. */
static void test_a_record_is_read_whole(void **state)
{
    (void)state;
    static const char bytes[1000];
    char got[2000];
    struct pair p = pair_open();
    BIO_METHOD *method = bio_method();
    SSL *server = tls_server(&p), *client = tls_client(&p, method);
    SSL_set_num_tickets(server, 0); /* they are records, too */
    shake_hands(client, server, &p);
    for (int i = 0; i < 2; i++)
        assert_int_equal(SSL_write(server, bytes, sizeof bytes), sizeof bytes);
    wait_for_bytes(p.ours, 2000);
    begin(p.ours, PAST, SIZE_MAX);
    assert_int_equal(SSL_read(client, got, sizeof got), 1000);
    assert_int_equal(SSL_read(client, got, sizeof got), -1);
    end();
    SSL_free(client);
    SSL_free(server);
    BIO_meth_free(method);
    close(p.ours);
    close(p.theirs);
}

/* What libcurl has seen bytes in it reads at once, or gives up; that once, and no other. */
static void test_a_look_is_followed_by_a_read(void **state)
{
    (void)state;
    struct pair p = pair_open(), other = pair_open();
    char byte;
    told.mute = -1;
    for (int i = 0; i < 2; i++) {
        say(&p);
        say(&other);
    }
    wait_for_bytes(p.ours, 2);
    begin(other.ours, PAST, SIZE_MAX);
    assert_false(reads(p.ours));
    assert_int_equal(recv(p.ours, &byte, 1, MSG_PEEK), 1);
    assert_true(reads(p.ours));
    assert_false(reads(p.ours));
    assert_true(reads(other.ours));
    end();
    close(p.ours);
    close(p.theirs);
    close(other.ours);
    close(other.theirs);
}

static void test_lost_by_close(void **state)
{
    (void)state;
    struct pair p = pair_open();
    char byte;
    say(&p);
    close(p.theirs);
    begin(p.ours, FAR, SIZE_MAX);
    check_lost(false, 0);
    assert_int_equal(recv(p.ours, &byte, 0, 0), 0); /* asks for nothing */
    check_lost(false, 0);
    assert_true(reads(p.ours));
    check_lost(false, 0);
    assert_int_equal(recv(p.ours, &byte, 1, 0), 0);
    check_lost(true, 0);
    curl_uv_recv_forget(p.ours + 1);
    check_lost(true, 0);
    curl_uv_recv_forget(p.ours);
    check_lost(false, 0);
    end();
    close(p.ours);
}

static void test_lost_by_reset(void **state)
{
    (void)state;
    struct pair p = pair_open(), other = pair_open();
    char byte;
    say(&other);
    begin(ANYBODY, FAR, SIZE_MAX);
    assert_int_equal(recv(p.ours, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    check_lost(false, 0);
    reset(&p);
    assert_int_equal(recv(p.ours, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    check_lost(true, ECONNRESET);
    assert_true(reads(other.ours)); /* only the last one counts */
    check_lost(false, 0);
    assert_int_equal(recv(p.ours, &byte, 1, 0), 0); /* a second time it is closed */
    check_lost(true, 0);
    begin(ANYBODY, FAR, SIZE_MAX);
    check_lost(false, 0);
    end();
    close(p.ours);
    close(other.ours);
    close(other.theirs);
}

static void *look_from_elsewhere(void *arg)
{
    const struct pair *p = arg;
    check_lost(false, 0);
    assert_true(reads(p->ours));
    assert_true(reads(p->ours));
    return NULL;
}

static void test_threads_are_apart(void **state)
{
    (void)state;
    struct pair p = pair_open(), gone = pair_open();
    pthread_t thread;
    char byte;
    close(gone.theirs);
    say(&p);
    say(&p);
    begin(ANYBODY, PAST, SIZE_MAX);
    assert_int_equal(recv(gone.ours, &byte, 1, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, look_from_elsewhere, &p), 0);
    pthread_join(thread, NULL);
    check_lost(true, 0);
    end();
    close(p.ours);
    close(p.theirs);
    close(gone.ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_is_let_through),
        cmocka_unit_test(test_the_one_that_was_ready_is_the_first),
        cmocka_unit_test(test_what_the_reads_have_brought),
        cmocka_unit_test(test_what_is_said_of_them),
        cmocka_unit_test(test_what_came_in_several_calls),
        cmocka_unit_test(test_a_read_takes_at_most_so_much),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_several_sockets_in_a_call),
        cmocka_unit_test(test_two_are_held_back),
        cmocka_unit_test(test_a_look_at_what_speaks),
        cmocka_unit_test(test_a_look_at_what_was_reset),
        cmocka_unit_test(test_a_record_is_read_whole),
        cmocka_unit_test(test_a_look_is_followed_by_a_read),
        cmocka_unit_test(test_tls_is_taken_in_pieces),
        cmocka_unit_test(test_lost_by_close),
        cmocka_unit_test(test_lost_by_reset),
        cmocka_unit_test(test_threads_are_apart),
    };
    return cmocka_run_group_tests_name("curl_uv_recv", tests, NULL, NULL);
}
