/* SPDX-License-Identifier: MIT
 *
 * bell - see bell.h. An eventfd that the loop polls: a write adds to its count and makes it
 * readable, one read takes the whole count. Called by shard, from either side.
 */
#include "bell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct bell *b = poll->data;
    uint64_t count;
    (void)status; /* an eventfd has no errors */
    (void)events;
    while (read(b->fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    b->rung(b->arg);
}

int bell_init(struct bell *b, uv_loop_t *loop, void (*rung)(void *arg), void *arg)
{
    *b = (struct bell){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .rung = rung, .arg = arg};
    if (b->fd < 0)
        return uv_translate_sys_error(errno);
    int rc = uv_poll_init(loop, &b->poll, b->fd);
    if (rc != 0) {
        close(b->fd);
        return rc;
    }
    b->poll.data = b;
    return uv_poll_start(&b->poll, UV_READABLE, on_readable); /* fails for closing handles only */
}

/* EAGAIN would mean that 2^64 - 2 rings were not heard yet: one more adds nothing. */
void bell_ring(struct bell *b)
{
    const uint64_t one = 1;
    while (write(b->fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct bell *b = handle->data;
    close(b->fd);
    if (b->closed != NULL)
        b->closed(b->arg);
}

void bell_close(struct bell *b, void (*closed)(void *arg))
{
    b->closed = closed;
    uv_close((uv_handle_t *)&b->poll, on_poll_closed);
}

bool bell_closing(const struct bell *b)
{
    return uv_is_closing((const uv_handle_t *)&b->poll);
}
