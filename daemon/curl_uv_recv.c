/* SPDX-License-Identifier: MIT
 *
 * curl_uv_recv - see curl_uv_recv.h. Called by curl_uv around each call of libcurl that may read, and by
 * transfer from inside of it.
 *
 * The trick: a program's own definition of a function comes before the C library's for every shared
 * library in it, so libcurl calls the recv() below. Outside of begin and end, in other threads, and
 * for a look that takes nothing (MSG_PEEK) it is the system call and nothing else. Where it does not
 * get between (a static libcurl, another C library) nothing is bounded and no connection is known to be
 * lost; tests/unit/test_curl_uv says whether it does. TLS reads come this way, too: libcurl gives OpenSSL
 * a BIO that reads as it does itself.
 */
#include "curl_uv_recv.h"

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
    bound.taken = 0;
    bound.call++;
    last.lost = false;
}

size_t curl_uv_recv_end(void)
{
    bound.until_ns = 0;
    return bound.at_most;
}

void curl_uv_recv_at_most(size_t n)
{
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
    last.os_errno = n < 0 ? errno : 0;
    last.lost = n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* libcurl (8.14) first runs other transfers that it has read from before, and they would spend the time of
 * the one that it was called for, each time. */
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
    return got;
}
