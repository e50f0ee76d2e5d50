/* SPDX-License-Identifier: MIT
 *
 * aside - one long computation at a time on a thread of its own, so that the loop goes on
 * meanwhile. The thread is there for that one computation: who never has one never has the thread.
 */
#ifndef GATHERD_ASIDE_H
#define GATHERD_ASIDE_H

#include <stdbool.h>

#include <uv.h>

#include "bell.h"

struct aside {
    struct bell bell;
    uv_thread_t thread;
    void (*work)(void *arg);
    void (*done)(void *arg);
    void *arg;
    bool busy;     /* from aside_run() to done() */
    bool joinable; /* the thread has ended or is about to */
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* 0, or libuv's error: no descriptor, no memory. Takes one descriptor. */
int aside_init(struct aside *a, uv_loop_t *loop) __attribute__((warn_unused_result));

/* work(arg) is called once on another thread, done(arg) after it on the loop's, from the loop,
 * never from inside this call; all that work() wrote is seen there. Where no thread can be had,
 * work() is called here, and done() later all the same. Not while it is busy: from done() on it
 * may be called again. */
void aside_run(struct aside *a, void (*work)(void *arg), void (*done)(void *arg), void *arg);

bool aside_busy(const struct aside *a);

/* Once, on the loop's thread; aside_run() is not called any more. What is at work is waited for by
 * the loop, and its done() called; then closed(arg). */
void aside_close(struct aside *a, void (*closed)(void *arg), void *arg);

#endif
