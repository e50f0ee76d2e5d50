/* SPDX-License-Identifier: MIT
 *
 * curl_uv_recv - see curl_uv_recv.h. Called by curl_uv around each call of libcurl that may read.
 *
 * The trick: a program's own definition of a function comes before the C library's for every shared
 * library in it, so libcurl calls the recv() below. Outside of begin and end, in other threads, and
 * for a look that takes nothing (MSG_PEEK) it is the system call and nothing else. Where it does not
 * get between (a static libcurl, another C library) nothing is bounded; tests/unit/test_curl_uv says
 * whether it does.
 */
#include "curl_uv_recv.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <uv.h>

static _Thread_local struct {
    uint64_t until_ns; /* 0 = no bound */
    unsigned reads;
} bound;

void curl_uv_recv_begin(uint64_t until_ns)
{
    bound.until_ns = until_ns;
    bound.reads = 0;
}

void curl_uv_recv_end(void)
{
    bound.until_ns = 0;
}

/* By another name in C, because <sys/socket.h> may define recv() as an inline function. */
ssize_t curl_uv_recv(int fd, void *buf, size_t n, int flags) __asm__("recv");

ssize_t curl_uv_recv(int fd, void *buf, size_t n, int flags)
{
    bool bounded = bound.until_ns > 0 && (flags & MSG_PEEK) == 0;
    if (bounded && bound.reads++ > 0 && uv_hrtime() >= bound.until_ns) {
        errno = EAGAIN;
        return -1;
    }
    return recvfrom(fd, buf, n, flags, NULL, NULL);
}
