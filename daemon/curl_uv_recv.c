/* SPDX-License-Identifier: MIT
 *
 * curl_uv_recv - see curl_uv_recv.h. Called by curl_uv around each call of libcurl that may read,
 * and by transfer from inside of it.
 *
 * The trick: a program's own definition of a function comes before the C library's for every shared
 * library in it, so libcurl calls the recv() below. Outside of begin and end, in other threads, and
 * for a look that takes nothing (MSG_PEEK) it is the system call and nothing else. Where it does
 * not get between (a static libcurl, another C library) nothing is bounded and no connection is
 * known to be lost; tests/unit/test_curl_uv says whether it does. TLS reads come this way, too:
 * libcurl gives OpenSSL a BIO that reads as it does itself. inflate(), which libcurl calls for gzip
 * and deflate, is got between in the same way; the real one is the next of that name.
 */
#include "curl_uv_recv.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <uv.h>

static _Thread_local struct {
    uint64_t until_ns; /* 0 = no bound */
    int fd;            /* who is read from first; negative = anybody */
    bool begun;        /* it was */
    size_t at_most;    /* bytes of a read */
    size_t taken;      /* since begin */
    size_t inflated;   /* bytes that inflate() was given since begin */
    int read;          /* the socket that was read from last; negative = none */
    bool more;         /* it gave all that was asked for */
    uint64_t call;     /* how many begins there were */
} bound;

static _Thread_local struct {
    int fd;
    int os_errno; /* 0 = closed by the other side */
    bool lost;
} last;

void curl_uv_recv_begin(int fd, uint64_t until_ns, size_t at_most)
{
    bound.until_ns = until_ns;
    bound.fd = fd;
    bound.begun = false;
    bound.at_most = at_most;
    bound.taken = bound.inflated = 0;
    bound.read = -1;
    bound.call++;
    last.lost = false;
}

struct curl_uv_recv_end curl_uv_recv_end(void)
{
    bound.until_ns = 0;
    return (struct curl_uv_recv_end){
        .fd = bound.read, .more = bound.more, .at_most = bound.at_most};
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

static void take_note(int fd, ssize_t n)
{
    last.fd = fd;
    bound.taken += n > 0 ? (size_t)n : 0;
    bound.read = fd;
    last.os_errno = n < 0 ? errno : 0;
    last.lost = n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* libcurl (8.14) first runs other transfers that it has read from before, and they would spend the
 * time of the one that it was called for, each time. */
static bool may_read(int fd)
{
    if (bound.begun)
        return uv_hrtime() < bound.until_ns;
    bound.begun = bound.fd < 0 || bound.fd == fd;
    return bound.begun;
}

/* By another name in C, because <sys/socket.h> may define recv() as an inline function. */
ssize_t curl_uv_recv(int fd, void *buf, size_t n, int flags) __asm__("recv");

ssize_t curl_uv_recv(int fd, void *buf, size_t n, int flags)
{
    bool bounded = bound.until_ns > 0 && (flags & MSG_PEEK) == 0;
    if (bounded && !may_read(fd)) {
        errno = EAGAIN;
        return -1;
    }
    if (bounded && n > bound.at_most)
        n = bound.at_most;
    ssize_t got = recvfrom(fd, buf, n, flags, NULL, NULL);
    if (bounded && n > 0)
        take_note(fd, got);
    bound.more = got > 0 && (size_t)got == n;
    return got;
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

/* Looked up once a thread. */
static inflate_fn *next_inflate(void)
{
    static _Thread_local union {
        void *found;
        inflate_fn *call;
    } next;
    if (next.found == NULL)
        next.found = dlsym(RTLD_NEXT, "inflate");
    return next.call;
}

inflate_fn curl_uv_inflate __asm__("inflate");

int curl_uv_inflate(struct stream *s, int flush)
{
    const unsigned given = s->avail_in;
    const bool bounded = bound.until_ns > 0 && bound.at_most <= CURL_UV_RECV_LAYERS;
    inflate_fn *next = next_inflate();
    if (next == NULL || (bounded && bound.inflated > INFLATED_FREE + 4 * bound.taken))
        return INFLATE_DATA_ERROR;
    int rc = next(s, flush);
    bound.inflated += given - s->avail_in;
    return rc;
}
