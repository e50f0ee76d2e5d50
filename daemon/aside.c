/* SPDX-License-Identifier: MIT
 *
 * aside - see aside.h. Called by http_routes_read for bodies that take long to read, and by
 * http_routes at start and end, on the loop's thread; owns the bell and, while there is something
 * to do, the thread.
 *
 * It is not uv_queue_work(), which begins four threads at its first use, keeps them for ever and
 * aborts when it cannot have them. A thread that is made for one piece of work costs some 50 us,
 * less than a hundredth of what is worth it.
 *
 * The thread rings as its last act, and may be kept from its end for as long as other processes
 * use the processor. So it is joined when the next one begins, or at the close, not when it rings.
 */
#include "aside.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>

#include "log.h"

static void join(struct aside *a)
{
    if (a->joinable)
        uv_thread_join(&a->thread);
    a->joinable = false;
}

static void on_bell_closed(void *arg)
{
    struct aside *a = arg;
    a->closed(a->closed_arg);
}

static void close_now(struct aside *a)
{
    join(a);
    bell_close(&a->bell, on_bell_closed);
}

static void on_rung(void *arg)
{
    struct aside *a = arg;
    a->busy = false;
    a->done(a->arg);
    if (a->closing)
        close_now(a);
}

static void thread_main(void *arg)
{
    struct aside *a = arg;
    pthread_setname_np(pthread_self(), "aside");
    a->work(a->arg);
    bell_ring(&a->bell);
}

/* Signals are the loop's: a thread that took one would only pass it on. */
static bool start_thread(struct aside *a)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = uv_thread_create(&a->thread, thread_main, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        LOG_WARN("aside", "step=thread error=\"%s\"", uv_strerror(rc));
    return rc == 0;
}

int aside_init(struct aside *a, uv_loop_t *loop)
{
    *a = (struct aside){.busy = false};
    return bell_init(&a->bell, loop, on_rung, a);
}

void aside_run(struct aside *a, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
    assert(!a->busy && !a->closing);
    join(a);
    a->work = work;
    a->done = done;
    a->arg = arg;
    a->busy = true;
    a->joinable = start_thread(a);
    if (!a->joinable) {
        work(arg);
        bell_ring(&a->bell);
    }
}

bool aside_busy(const struct aside *a)
{
    return a->busy;
}

void aside_close(struct aside *a, void (*closed)(void *arg), void *arg)
{
    a->closing = true;
    a->closed = closed;
    a->closed_arg = arg;
    if (!a->busy)
        close_now(a);
}
