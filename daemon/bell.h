/* SPDX-License-Identifier: MIT
 *
 * bell - wakes a loop from another thread. What there is to do stands elsewhere, under a lock or in
 * an atomic; the bell only ends the loop's sleep.
 *
 * It is what uv_async_t is for, without its spinning: libuv's receiver waits for the sender to
 * leave uv_async_send(). Where both threads share a processor the receiver is woken before that,
 * and turns some 1,000 rounds (36 us, measured) until it yields.
 */
#ifndef GATHERD_BELL_H
#define GATHERD_BELL_H

#include <stdbool.h>

#include <uv.h>

struct bell {
    uv_poll_t poll;
    int fd; /* eventfd */
    void (*rung)(void *arg);
    void *arg;
    void (*closed)(void *arg);
};

/* rung(arg) is called on the loop's thread, once for any number of bell_ring() since the last call.
 * 0, or libuv's error: no descriptor, no memory. */
int bell_init(struct bell *b, uv_loop_t *loop, void (*rung)(void *arg), void *arg)
    __attribute__((warn_unused_result));

/* Any thread, until bell_close(). What was written before it is seen by the rung() that follows. */
void bell_ring(struct bell *b);

/* On the loop's thread, once; nobody rings any more. closed(arg of bell_init) comes from the loop
 * when b may go; NULL = none. */
void bell_close(struct bell *b, void (*closed)(void *arg));
bool bell_closing(const struct bell *b);

#endif
