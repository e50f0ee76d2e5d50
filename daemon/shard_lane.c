/* SPDX-License-Identifier: MIT
 *
 * shard_lane - one fetch loop; see shard.c for its place. The first half of the mail functions is
 * called on the sender's thread, the front's or another lane's; all that takes, acts and is called
 * back runs on the lane's own thread, or on the front's with loops = 0.
 */
#include "shard_internal.h"

#include <signal.h>
#include <stdio.h>

#include "clock.h"
#include "log.h"

enum { ACCEPTS_MAX = 1024 }; /* jobs that enter an engine in a turn, some 0.5 us each */

/* --- mail --- */

/* The receiver has something to do: a thread is woken, on the front's own loop its turn is. */
static void signal_lane(struct lane *lane)
{
    if (lane->running)
        bell_ring(&lane->bell);
    else
        turn_wake(lane->shard->params.turn);
}

/* Mail was put down, the lock is held: whether a signal has to follow. Not while one is on its way;
 * that a list is not empty would not do: the lane may be past it, reading the other. */
static bool wants_signal(struct lane *lane)
{
    bool wants = !lane->signalled;
    lane->signalled = true;
    return wants;
}

void lane_send_jobs(struct lane *lane, struct list *jobs)
{
    pthread_mutex_lock(&lane->lock);
    list_splice(&lane->jobs, jobs);
    bool signal = wants_signal(lane);
    pthread_mutex_unlock(&lane->lock);
    if (signal)
        signal_lane(lane);
}

/* One cancel or pause for one lane; the group stays while it is on its way. */
void lane_send_flags(struct lane *lane, struct fetch_group *group, enum err_type cancel,
                     bool paused)
{
    struct fetch_mail *mail = &group->parts[lane->index].mail;
    pthread_mutex_lock(&lane->lock);
    if (cancel != ERR_NONE)
        mail->cancel = cancel;
    mail->paused = paused;
    if (!list_linked(&mail->node)) {
        list_append(&lane->groups, &mail->node);
        fetch_group_ref(group);
    }
    bool signal = wants_signal(lane);
    pthread_mutex_unlock(&lane->lock);
    if (signal)
        signal_lane(lane);
}

static struct fetch_mail *pop_flags(struct lane *lane, struct fetch_mail *copy)
{
    pthread_mutex_lock(&lane->lock);
    struct list *node = list_pop(&lane->groups);
    struct fetch_mail *mail = node != NULL ? LIST_CONTAINER(node, struct fetch_mail, node) : NULL;
    if (mail != NULL)
        *copy = *mail;
    pthread_mutex_unlock(&lane->lock);
    return mail;
}

static void take_flags(struct lane *lane)
{
    struct fetch_mail mail;
    while (pop_flags(lane, &mail) != NULL) {
        fetch_pause(lane->engine, mail.group, mail.paused);
        if (mail.cancel != ERR_NONE)
            fetch_cancel(lane->engine, mail.group, mail.cancel);
        fetch_group_unref(mail.group);
    }
}

static void take_call(struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    struct call *call = lane->call;
    lane->call = NULL;
    pthread_mutex_unlock(&lane->lock);
    if (call == NULL)
        return;
    call->fn(lane, call->arg);
    pthread_mutex_lock(&lane->lock);
    call->done = true;
    pthread_cond_signal(&lane->called);
    pthread_mutex_unlock(&lane->lock);
}

/* Runs fn on the lane's thread and waits for it. */
void lane_call(struct lane *lane, void (*fn)(struct lane *lane, void *arg), void *arg)
{
    struct call call = {fn, arg, false};
    if (!lane->running) {
        fn(lane, arg);
        return;
    }
    pthread_mutex_lock(&lane->lock);
    lane->call = &call;
    bell_ring(&lane->bell);
    while (!call.done)
        pthread_cond_wait(&lane->called, &lane->lock);
    pthread_mutex_unlock(&lane->lock);
}

/* On the front's loop it turns when the front does. */
int64_t lane_ask(struct lane *lane, int64_t now_us)
{
    if (!lane->running)
        return 0;
    if (atomic_load_explicit(&lane->asked, memory_order_acquire))
        return now_us - lane->asked_us;
    lane->asked_us = now_us;
    atomic_store_explicit(&lane->asked, true, memory_order_release);
    bell_ring(&lane->bell);
    return 0;
}

/* --- a lane's turn --- */

static void take_mail(struct lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane->signalled = false;
    list_splice(&lane->arrived, &lane->jobs);
    bool flags = !list_empty(&lane->groups), called = lane->call != NULL;
    pthread_mutex_unlock(&lane->lock);
    if (atomic_exchange_explicit(&lane->slots_came, false, memory_order_acquire) &&
        lane->engine != NULL)
        fetch_wake(lane->engine);
    if (atomic_exchange_explicit(&lane->starved, false, memory_order_acquire) &&
        lane->engine != NULL)
        fetch_make_room(lane->engine);
    if (flags)
        take_flags(lane);
    if (called)
        take_call(lane);
}

static void accept_jobs(struct lane *lane)
{
    struct list *node;
    for (int i = 0; i < ACCEPTS_MAX && (node = list_pop(&lane->arrived)) != NULL; i++)
        fetch_submit(lane->engine, LIST_CONTAINER(node, struct fetch_job, node));
}

static void note_turn(struct lane *lane, int64_t now_us, int64_t busy_us)
{
    pthread_mutex_lock(&lane->lock);
    lag_note(&lane->lag, now_us, busy_us);
    pthread_mutex_unlock(&lane->lock);
}

/* The turn so far is noted before: it is part of what those batches have waited for. */
static void send_done(struct lane *lane)
{
    struct shard *s = lane->shard;
    if (list_empty(&lane->done))
        return;
    const int64_t now_us = clock_us();
    note_turn(lane, now_us, turn_so_far_us(lane->running ? &lane->turn : s->params.turn, now_us));
    pthread_mutex_lock(&s->lock);
    bool was_empty = list_empty(&s->finished);
    list_splice(&s->finished, &lane->done);
    pthread_mutex_unlock(&s->lock);
    if (was_empty && lane->running)
        bell_ring(&s->bell);
}

bool lane_act(void *arg)
{
    struct lane *lane = arg;
    atomic_store_explicit(&lane->asked, false, memory_order_release);
    take_mail(lane);
    if (lane->engine == NULL) /* closed by a call just now */
        return false;
    accept_jobs(lane);
    bool again = fetch_turn(lane->engine);
    fetch_gauge(lane->engine);
    send_done(lane);
    return again || !list_empty(&lane->arrived);
}

static void on_turn_ended(void *arg, int64_t now_us, int64_t busy_us)
{
    note_turn(arg, now_us, busy_us);
}

static void on_lane_rung(void *arg)
{
    struct lane *lane = arg;
    turn_wake(&lane->turn);
}

/* --- what an engine calls --- */

static void on_wake(void *arg)
{
    struct lane *lane = arg;
    turn_wake(lane->running ? &lane->turn : lane->shard->params.turn);
}

static void on_rested(void *arg)
{
    struct shard *s = ((struct lane *)arg)->shard;
    atomic_store(&s->rested, true);
    bell_ring(&s->bell);
}

static void on_done(void *arg, struct fetch_job *job)
{
    struct lane *lane = arg;
    list_append(&lane->done, &job->node);
}

struct lane *lane_of(struct shard *s, const struct origin *origin)
{
    return &s->lanes[origin != NULL ? origin->hash % s->lane_count : 0];
}

static bool on_moves(void *arg, struct fetch_job *job, const struct origin *origin)
{
    struct lane *lane = arg, *to = lane_of(lane->shard, origin);
    struct list one;
    if (to == lane)
        return false;
    list_init(&one);
    list_append(&one, &job->node);
    lane_send_jobs(to, &one);
    return true;
}

static void on_wake_others(void *arg, uint64_t engines)
{
    struct shard *s = ((struct lane *)arg)->shard;
    for (unsigned i = 0; i < s->lane_count; i++) {
        if ((engines >> i & 1) == 0)
            continue;
        if (!atomic_exchange_explicit(&s->lanes[i].slots_came, true, memory_order_acq_rel))
            signal_lane(&s->lanes[i]); /* else that is on its way */
    }
}

/* The descriptors are the process's: idle connections of each lane give theirs up. */
static void on_starved(void *arg)
{
    struct shard *s = ((struct lane *)arg)->shard;
    for (unsigned i = 0; i < s->lane_count; i++) {
        atomic_store_explicit(&s->lanes[i].starved, true, memory_order_release);
        signal_lane(&s->lanes[i]);
    }
}

/* --- life of a lane --- */

static void lane_main(void *arg)
{
    struct lane *lane = arg;
    struct shard *s = lane->shard;
    char name[16]; /* as top -H shows it; Linux takes no longer one */
    snprintf(name, sizeof name, "fetch-%u", lane->index);
    pthread_setname_np(pthread_self(), name);
    uv_run(&lane->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&lane->loop);
    if (rc != 0)
        LOG_ERROR("shard", "lane=%u step=loop_close error=\"%s\"", lane->index, uv_strerror(rc));
    atomic_fetch_add(&s->ended, 1);
    bell_ring(&s->bell);
}

bool lane_create_engine(struct lane *lane, uv_loop_t *loop, struct metrics *metrics,
                        const char **why)
{
    struct shard *s = lane->shard;
    const struct fetch_params params = {
        .loop = loop,
        .index = lane->index,
        .engines = s->lane_count,
        .config = &s->params.config->fetch,
        .limits = &s->params.config->limits,
        .metrics = metrics,
        .slots = s->slots,
        .names = s->names,
        .answer_held = &s->answer_held,
        .arg = lane,
        .wake = on_wake,
        .done = on_done,
        .moves = on_moves,
        .rested = on_rested,
        .starved = on_starved,
        .wake_others = on_wake_others,
    };
    lane->engine = fetch_create(&params, why);
    return lane->engine != NULL;
}

void lane_init(struct lane *lane, struct shard *s, unsigned index)
{
    lane->shard = s;
    lane->index = index;
    list_init(&lane->outgoing);
    list_init(&lane->arrived);
    list_init(&lane->done);
    list_init(&lane->jobs);
    list_init(&lane->groups);
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->called, NULL);
}

/* Signals are the front's: a thread that took one would only pass it on. */
static int start_thread(struct lane *lane)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = uv_thread_create(&lane->thread, lane_main, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* A loop that was begun and has no thread is run here until it is empty. */
static bool drop_loop(struct lane *lane)
{
    turn_close(&lane->turn);
    bell_close(&lane->bell, NULL);
    uv_run(&lane->loop, UV_RUN_DEFAULT);
    uv_loop_close(&lane->loop);
    return false;
}

static void on_unstarted_closed(void *arg)
{
    (void)arg;
}

bool lane_start(struct lane *lane, const char **why)
{
    const struct turn_params turn = {
        .loop = &lane->loop,
        .act = lane_act,
        .ended = on_turn_ended,
        .arg = lane,
        .metrics = &lane->metrics,
    };
    *why = "no loop";
    if (uv_loop_init(&lane->loop) != 0)
        return false;
    int rc = bell_init(&lane->bell, &lane->loop, on_lane_rung, lane);
    if (rc != 0) {
        *why = uv_strerror(rc);
        uv_loop_close(&lane->loop);
        return false;
    }
    turn_init(&lane->turn, &turn);
    if (!lane_create_engine(lane, &lane->loop, &lane->metrics, why))
        return drop_loop(lane);
    lane->running = true;
    if (start_thread(lane) == 0)
        return true;
    *why = "no thread";
    lane->running = false;
    fetch_close(lane->engine, on_unstarted_closed, NULL);
    lane->engine = NULL;
    return drop_loop(lane);
}

void lane_fini(struct lane *lane)
{
    pthread_cond_destroy(&lane->called);
    pthread_mutex_destroy(&lane->lock);
}

/* The loop runs out when its engine is closed and nobody will signal it any more; lane_main() goes
 * on. */
static void run_out_if_over(struct lane *lane)
{
    if (!lane->engine_closed || !lane->ending)
        return;
    turn_close(&lane->turn);
    bell_close(&lane->bell, NULL);
}

static void on_engine_closed(void *arg)
{
    struct lane *lane = arg;
    lane->engine_closed = true;
    if (lane->running) {
        run_out_if_over(lane);
        return;
    }
    atomic_fetch_add(&lane->shard->ended, 1);
    bell_ring(&lane->shard->bell);
}

/* On the front's loop the lane may not have had a turn since the last cancel or pause, and that has
 * a reference to its group. */
void lane_begin_close(struct lane *lane, void *arg)
{
    struct fetch *engine = lane->engine;
    (void)arg;
    take_flags(lane);
    lane->engine = NULL;
    fetch_close(engine, on_engine_closed, lane);
}

void lane_end(struct lane *lane, void *arg)
{
    (void)arg;
    lane->ending = true;
    run_out_if_over(lane);
}
