/* SPDX-License-Identifier: MIT
 *
 * curl_uv_recv - see curl_uv_recv.h. Called by curl_uv around each call of libcurl that may read,
 * and by transfer from inside of it.
 *
 * The trick: a program's own definition of a function comes before the C library's for every shared
 * library in it, so libcurl calls the recv() below. Outside of begin and end and in other threads
 * it is the system call and nothing else. Where it does not get between (a static libcurl, another
 * C library) nothing is bounded and no connection is known to be lost; tests/unit/test_curl_uv says
 * whether it does. TLS reads come this way, too: libcurl gives OpenSSL a BIO that reads as it does
 * itself. inflate(), which libcurl calls for gzip and deflate, is got between in the same way; the
 * real one is the next of that name.
 *
 * So are SSL_read() and SSL_get_error(): what a read takes of TLS is bounded where it comes out,
 * because OpenSSL reads whole records, of 16 KB. What is left of one no watcher tells of; the one
 * who began this is told that it was refused, and comes back to it. Several sockets may be read in
 * one call: what is found out about one is told before the next one's turn.
 *
 * Before libcurl (7.88) uses a kept connection again it looks whether it was closed, and takes for
 * signs of life a reset, which the kernel tells of once, and one byte or more; on HTTP/1.1 that is
 * somebody else's answer. It is the last look at it before the request is sent. On HTTP/2 it reads
 * then, and takes EAGAIN for the end: that read is not refused, nor is what follows the head of a
 * record of TLS.
 */
#include "curl_uv_recv.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#include <openssl/ssl.h>
#include <uv.h>

#define RECORD_HEAD 5 /* bytes of TLS, which OpenSSL reads by themselves */

static _Thread_local struct {
    const struct curl_uv_recv_told *told;
    uint64_t until_ns; /* 0 = no bound */
    int fd;            /* who is read from first; negative = anybody */
    bool begun;        /* it was */
    size_t at_most;    /* bytes of a read */
    size_t taken;      /* since begin */
    size_t inflated;   /* bytes that inflate() was given since begin */
    int64_t beyond_ns; /* the thread's time when those became too many; 0 = they are not */
    int read;          /* the socket that was read from last; negative = none */
    bool more;         /* it gave all that was asked for */
    bool in_tls;       /* OpenSSL reads, */
    bool in_record;    /* and has had the head of a record */
    int looked;        /* libcurl has seen bytes there and is about to read; negative = nowhere */
    const SSL *refused; /* whose SSL_read() was, until its error has been asked for */
    bool moved;        /* bytes came or went since begin */
    uint64_t call;     /* how many begins there were */
} bound;

static _Thread_local struct {
    int fd;
    int os_errno; /* 0 = closed by the other side */
    bool lost;
    struct curl_uv_recv_sum sum;
} last;

void curl_uv_recv_begin(int fd, uint64_t until_ns, size_t at_most,
                        const struct curl_uv_recv_told *told)
{
    bound.told = told;
    bound.until_ns = until_ns;
    bound.fd = fd;
    bound.begun = false;
    bound.at_most = at_most;
    bound.taken = bound.inflated = 0;
    bound.beyond_ns = 0;
    bound.read = bound.looked = -1;
    bound.more = bound.in_record = bound.moved = false;
    bound.refused = NULL;
    bound.call++;
    last.lost = false;
    last.sum = (struct curl_uv_recv_sum){0};
}

/* That was the last read of a socket for now. */
static void tell_read(void)
{
    if (bound.read >= 0)
        bound.told->read(bound.told->arg, bound.read, bound.at_most, bound.more);
}

void curl_uv_recv_end(void)
{
    if (bound.until_ns > 0)
        tell_read();
    bound.until_ns = 0;
}

void curl_uv_recv_at_most(size_t n)
{
    if (bound.at_most > CURL_UV_RECV_LAYERS)
        bound.at_most = n;
}

size_t curl_uv_recv_taken(uint64_t *call)
{
    *call = bound.call;
    return bound.taken;
}

struct curl_uv_recv_sum curl_uv_recv_ask(void)
{
    const struct curl_uv_recv_sum sum = last.sum;
    last.sum = (struct curl_uv_recv_sum){0};
    return sum;
}

static void add(struct curl_uv_recv_sum *sum, const char *bytes, size_t n)
{
    const size_t size = sizeof sum->end, tail = n < size ? n : size;
    if (n == 0)
        return;
    const size_t kept = sum->end_len + tail < size ? sum->end_len : size - tail;
    memmove(sum->end, sum->end + sum->end_len - kept, kept);
    memcpy(sum->end + kept, bytes + n - tail, tail);
    sum->end_len = kept + tail;
    sum->bytes += n;
}

bool curl_uv_recv_has_nul(void)
{
    return last.sum.nul;
}

void curl_uv_recv_join(struct curl_uv_recv_sum *sum, const struct curl_uv_recv_sum *more)
{
    add(sum, more->end, more->end_len);
    sum->bytes += more->bytes - more->end_len;
    sum->nul |= more->nul;
}

bool curl_uv_recv_lost(int *os_errno)
{
    *os_errno = last.lost ? last.os_errno : 0;
    return last.lost;
}

void curl_uv_recv_forget(int fd)
{
    if (last.fd == fd)
        last.lost = false;
}

static bool is_loss(ssize_t got)
{
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* Bytes for libcurl, out of TLS where they were in it. */
static void take_bytes(const char *bytes, size_t n)
{
    add(&last.sum, bytes, n);
    if (bound.at_most <= CURL_UV_RECV_FIRST)
        last.sum.nul |= memchr(bytes, '\0', n) != NULL;
    bound.taken += n;
}

static void take_note(int fd, const void *bytes, ssize_t n)
{
    last.fd = fd;
    if (n > 0 && !bound.in_tls)
        take_bytes(bytes, (size_t)n);
    bound.read = fd;
    bound.moved |= n > 0;
    last.os_errno = n < 0 ? errno : 0;
    last.lost = is_loss(n);
}

/* libcurl (8.14) first runs other transfers that it has read from before, and they would spend the
 * time of the one that it was called for, each time. */
static bool may_read(int fd)
{
    if (bound.in_record || bound.looked == fd)
        return true;
    if (bound.begun)
        return uv_hrtime() < bound.until_ns;
    bound.begun = bound.fd < 0 || bound.fd == fd;
    return bound.begun;
}

/* What was said of one socket's bytes says nothing of the next one's; negative = unknown. */
static void turn_to(int fd)
{
    if (bound.read < 0 || bound.read == fd)
        return;
    tell_read();
    bound.read = -1;
    bound.at_most = CURL_UV_RECV_FIRST;
    last.sum = (struct curl_uv_recv_sum){0};
}

/* By another name in C, because <sys/socket.h> may define recv() as an inline function. */
ssize_t curl_uv_recv(int fd, void *buf, size_t n, int flags) __asm__("recv");

static ssize_t look(int fd, void *buf, size_t n, int flags)
{
    ssize_t got = recvfrom(fd, buf, n, flags, NULL, NULL);
    if (bound.until_ns == 0)
        return got;
    if (got <= 0)
        return is_loss(got) ? 0 : got;
    if (bound.told->speaks(bound.told->arg, fd))
        return 0;
    bound.looked = fd;
    return got;
}

ssize_t curl_uv_recv(int fd, void *buf, size_t n, int flags)
{
    if ((flags & MSG_PEEK) != 0)
        return look(fd, buf, n, flags);
    const bool bounded = bound.until_ns > 0;
    if (bounded && !may_read(fd)) {
        errno = EAGAIN;
        return -1;
    }
    if (bounded)
        turn_to(fd);
    if (bounded && n > bound.at_most && !bound.in_tls)
        n = bound.at_most;
    ssize_t got = recvfrom(fd, buf, n, flags, NULL, NULL);
    if (bounded && n > 0)
        take_note(fd, buf, got);
    bound.more = got > 0 && (size_t)got == n;
    bound.in_record = bound.in_tls && n == RECORD_HEAD && bound.more;
    if (!bound.in_tls)
        bound.looked = -1;
    return got;
}

/* As with recv(): it is only noted that something was sent. */
ssize_t curl_uv_send(int fd, const void *bytes, size_t n, int flags) __asm__("send");

ssize_t curl_uv_send(int fd, const void *bytes, size_t n, int flags)
{
    const ssize_t sent = sendto(fd, bytes, n, flags, NULL, 0);
    bound.moved |= sent > 0;
    return sent;
}

bool curl_uv_recv_moved(void)
{
    return bound.moved;
}

/* The beginning of zlib's z_stream, which is as old as zlib; the rest is not ours to know. */
struct stream {
    const unsigned char *next_in;
    unsigned avail_in;
};

typedef int inflate_fn(struct stream *s, int flush);

#define INFLATE_DATA_ERROR (-3)

/* A TLS record and a piece of libcurl's, which is no gain. */
#define INFLATED_FREE ((size_t)32768)

/* What is more has so much of a processor where it came with the head: packing a text twice gains
 * something, and 25 times its first 2 KiB are 1 MB of text and 3 ms. */
#define INFLATE_NS (6 * INT64_C(1000000))

/* Defines name(): the function of that symbol that would be called without us, looked up once a
 * thread. */
#define DEFINE_NEXT(name, type, symbol)                   \
    static type *name(void)                               \
    {                                                     \
        static _Thread_local union {                      \
            void *found;                                  \
            type *call;                                   \
        } next;                                           \
        if (next.found == NULL)                           \
            next.found = dlsym(RTLD_NEXT, symbol);        \
        return next.call;                                 \
    }

DEFINE_NEXT(next_inflate, inflate_fn, "inflate")

/* Of this thread's time, which a busy machine does not take. */
static bool is_out_of_time(void)
{
    struct timespec now;
    if (bound.taken <= CURL_UV_RECV_LAYERS)
        return true;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    const int64_t now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    if (bound.beyond_ns == 0)
        bound.beyond_ns = now_ns;
    return now_ns - bound.beyond_ns > INFLATE_NS;
}

inflate_fn curl_uv_inflate __asm__("inflate");

int curl_uv_inflate(struct stream *s, int flush)
{
    const unsigned given = s->avail_in;
    const bool bounded = bound.until_ns > 0 && bound.at_most <= CURL_UV_RECV_LAYERS;
    inflate_fn *next = next_inflate();
    if (bounded && bound.inflated > INFLATED_FREE + 4 * bound.taken && is_out_of_time())
        return INFLATE_DATA_ERROR;
    int rc = next(s, flush);
    bound.inflated += given - s->avail_in;
    return rc;
}

/* Where an SSL has its socket, one more than the descriptor. libcurl's BIO does not tell. */
static struct {
    pthread_once_t once;
    int index; /* negative = none */
} socket_of = {.once = PTHREAD_ONCE_INIT};

static void take_index(void)
{
    socket_of.index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

int curl_uv_recv_socket_of(const SSL *ssl)
{
    pthread_once(&socket_of.once, take_index);
    return (int)(intptr_t)SSL_get_ex_data(ssl, socket_of.index) - 1;
}

static void keep_socket(SSL *ssl, int fd)
{
    SSL_set_ex_data(ssl, socket_of.index, (void *)((intptr_t)fd + 1));
}

typedef int ssl_read_fn(SSL *ssl, void *buf, int n);
typedef int ssl_get_error_fn(const SSL *ssl, int rc);

DEFINE_NEXT(next_ssl_read, ssl_read_fn, "SSL_read")
DEFINE_NEXT(next_ssl_get_error, ssl_get_error_fn, "SSL_get_error")

/* Without a recv(): nothing was lost, and what is in the socket nobody knows. */
static void took_unpacked(int fd)
{
    bound.read = fd;
    bound.more = true;
    last.fd = fd;
    last.lost = false;
}

ssl_read_fn curl_uv_ssl_read __asm__("SSL_read");

/* What OpenSSL has unpacked already, recv() is not asked for: whether it may be taken now is
 * decided here. */
int curl_uv_ssl_read(SSL *ssl, void *buf, int n)
{
    ssl_read_fn *next = next_ssl_read();
    if (bound.until_ns == 0)
        return next(ssl, buf, n);
    const int fd = curl_uv_recv_socket_of(ssl);
    const bool unpacked = fd >= 0 && SSL_pending(ssl) > 0;
    if (unpacked && !may_read(fd)) {
        bound.refused = ssl;
        bound.told->held_back(bound.told->arg, fd);
        return -1;
    }
    turn_to(fd);
    if (n > 0 && (size_t)n > bound.at_most && !bound.told->whole(bound.told->arg, fd))
        n = (int)bound.at_most;
    const int before = bound.read; /* this one, or none */
    bound.read = -1;
    bound.in_tls = true;
    int got = next(ssl, buf, n);
    bound.in_tls = bound.in_record = false;
    bound.looked = -1;
    if (got > 0)
        take_bytes(buf, (size_t)got);
    if (bound.read >= 0 && fd < 0)
        keep_socket(ssl, bound.read);
    else if (bound.read < 0 && unpacked)
        took_unpacked(fd);
    else if (bound.read < 0)
        bound.read = before;
    return got;
}

ssl_get_error_fn curl_uv_ssl_get_error __asm__("SSL_get_error");

int curl_uv_ssl_get_error(const SSL *ssl, int rc)
{
    const bool refused = rc < 0 && bound.refused == ssl;
    bound.refused = NULL;
    return refused ? SSL_ERROR_WANT_READ : next_ssl_get_error()(ssl, rc);
}
