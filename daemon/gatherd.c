/* SPDX-License-Identifier: MIT
 *
 * gatherd - the front's loop: stages of the start and stop, run modes, the turn. Called by main().
 * One struct holds all, see gatherd_internal.h; a reload is gatherd_reload.c.
 *
 * In a turn of this loop (see turn.h) the front is served (MHD_run, new batches), batches hand
 * their members over and end, the fetch loops' mail goes out and comes in; again while one of them
 * made work for another. With loops = 0 the engine runs in the same turn.
 *
 * Run modes: RUN -> DRAIN (SIGTERM: no new batches, running ones finish) -> ABORT (second SIGTERM
 * or drain_timeout: running ones are cut, what is known is answered) -> OFF (everything is closed,
 * layer by layer from the top, then freed). Stages come up in the order of a table and go down in
 * the other.
 */
#include "gatherd_internal.h"

#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <ares.h>
#include <curl/curl.h>

#include "batch.h"
#include "build.h"
#include "clock.h"
#include "descriptors.h"
#include "http_front.h"
#include "http_routes.h"
#include "log.h"
#include "shard.h"
#include "tls_start.h"

enum {
    ABORT_GRACE_MS = 500, /* for clients to take their cut answers */
};

static void wake(void *arg)
{
    struct gatherd *g = arg;
    turn_wake(&g->turn);
}

void gatherd_log_errors(struct buf *errors)
{
    const char *text = buf_cstr(errors);
    while (*text != '\0') {
        size_t n = strcspn(text, "\n");
        LOG_ERROR("config", "%.*s", (int)n, text);
        text += n + (text[n] == '\n');
    }
    buf_fini(errors);
}

/* --- modes --- */

static const char *mode_name(enum mode mode)
{
    static const char *const names[] = {"run", "drain", "abort", "off"};
    return names[mode];
}

static void on_mode_timer(uv_timer_t *timer);

static void enter(struct gatherd *g, enum mode mode)
{
    if (mode <= g->mode)
        return;
    LOG_INFO("gatherd", "mode=%s batches=%zu", mode_name(mode), batches_running(g->batches));
    g->mode = mode;
    if (mode == MODE_DRAIN) {
        notify_send(&g->notify, "STOPPING=1\nSTATUS=Draining %zu batches",
                    batches_running(g->batches));
        routes_drain(g->routes);
        front_drain(g->front);
        uv_timer_start(&g->mode_timer, on_mode_timer,
                       (uint64_t)(g->config->daemon.drain_timeout_us / US_PER_MS), 0);
    } else if (mode == MODE_ABORT) {
        batches_cancel_all(g->batches);
        uv_timer_start(&g->mode_timer, on_mode_timer, ABORT_GRACE_MS, 0);
    }
    wake(g);
}

static void on_mode_timer(uv_timer_t *timer)
{
    struct gatherd *g = timer->data;
    if (g->mode == MODE_ABORT && front_exchanges(g->front) > 0)
        LOG_WARN("gatherd", "requests_cut=%zu error=\"their clients have not sent or read all\"",
                 front_exchanges(g->front));
    enter(g, g->mode == MODE_DRAIN ? MODE_ABORT : MODE_OFF);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
    struct gatherd *g = handle->data;
    LOG_INFO("gatherd", "signal=%s", number == SIGINT ? "SIGINT" : "SIGTERM");
    enter(g, g->mode == MODE_RUN ? MODE_DRAIN : MODE_ABORT);
}

static void on_sighup(uv_signal_t *handle, int number)
{
    struct gatherd *g = handle->data;
    (void)number;
    if (g->mode != MODE_RUN)
        return;
    notify_send(&g->notify, "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reloading",
                (long long)clock_us());
    gatherd_reload(g);
    notify_send(&g->notify, "READY=1\nSTATUS=Waiting for batches");
}

/* --- closing, layer by layer --- */

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_handles(struct gatherd *g)
{
    turn_close(&g->turn);
    close_handle((uv_handle_t *)&g->mode_timer);
    close_handle((uv_handle_t *)&g->watchdog);
    close_handle((uv_handle_t *)&g->sigterm);
    close_handle((uv_handle_t *)&g->sigint);
    close_handle((uv_handle_t *)&g->sighup);
}

/* Without a watch the signals would kill what goes down. */
static void on_engine_closed(void *arg)
{
    sigset_t handled;
    sigemptyset(&handled);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &handled, NULL);
    close_handles(arg);
}

static void on_batches_closed(void *arg)
{
    struct gatherd *g = arg;
    shard_close(g->shard, on_engine_closed, g);
}

static void on_routes_closed(void *arg)
{
    struct gatherd *g = arg;
    batches_close(g->batches, on_batches_closed, g);
}

static void on_front_closed(void *arg)
{
    struct gatherd *g = arg;
    g->front = NULL;
    routes_set_front(g->routes, NULL);
    wake(g);
}

/* At the end of each turn of DRAIN, ABORT and OFF: may the next step be taken? */
static void step_down(struct gatherd *g)
{
    if (g->engine_closing) /* and the batches with it */
        return;
    bool quiet = batches_alive(g->batches) == 0;
    if (g->mode != MODE_RUN && g->mode != MODE_OFF && quiet && front_exchanges(g->front) == 0)
        enter(g, MODE_OFF);
    if (g->mode != MODE_OFF)
        return;
    if (g->front != NULL && !uv_is_closing((uv_handle_t *)&g->mode_timer)) {
        uv_close((uv_handle_t *)&g->mode_timer, NULL); /* marks that the front is being closed */
        front_close(g->front, on_front_closed, g);
    } else if (g->front == NULL && quiet) {
        g->engine_closing = true;
        routes_close(g->routes, on_routes_closed, g);
    }
}

/* --- the turn --- */

/* In this order a request that came in is on its way upstream in the same round. */
static bool act(void *arg)
{
    struct gatherd *g = arg;
    if (g->engine_closing)
        return false;
    bool again = g->front != NULL && front_turn(g->front);
    again |= batches_turn(g->batches);
    shard_flush(g->shard);
    again |= shard_turn(g->shard);
    return again;
}

static void on_turn_ended(void *arg, int64_t now_us, int64_t busy_us)
{
    struct gatherd *g = arg;
    lag_note(&g->lag, now_us, busy_us);
    if (g->mode != MODE_RUN)
        step_down(g);
}

/* Four times in its interval. That this timer fires says that the front turns; a fetch loop that
 * was asked half an interval ago and has not turned since is stuck: without a beat the manager
 * starts another gatherd. */
static void on_watchdog(uv_timer_t *timer)
{
    struct gatherd *g = timer->data;
    int64_t silent_us = g->engine_closing ? 0 : shard_silent_us(g->shard);
    if (silent_us >= g->notify.watchdog_us / 2) {
        LOG_WARN("gatherd", "error=\"a fetch loop does not turn\" for_ms=%lld",
                 (long long)(silent_us / US_PER_MS));
        notify_send(&g->notify, "STATUS=A fetch loop does not turn");
        return;
    }
    if (g->engine_closing) { /* no more to be counted: what counts is being freed */
        notify_send(&g->notify, "WATCHDOG=1\nSTATUS=Closing");
        return;
    }
    notify_send(&g->notify, "WATCHDOG=1\nSTATUS=%zu batches, %zu members active, %zu waiting",
                batches_running(g->batches), shard_active(g->shard), shard_waiting(g->shard));
}

/* --- stages of the start --- */

static int up_process(struct gatherd *g)
{
    struct config *c = g->config;
    signal(SIGPIPE, SIG_IGN);
    g->asked = (struct gatherd_size){c->limits.clients, c->daemon.loops};
    if (!descriptors_provide(c, 0))
        return EX_OSERR;
    g->in_force = (struct gatherd_size){c->limits.clients, c->daemon.loops};
    return 0;
}

static int up_libraries(struct gatherd *g)
{
    notify_init(&g->notify);
    clearenv(); /* proxies, resolver options, TLS settings: nothing of it is to steer us */
    setlocale(LC_CTYPE, "C.UTF-8"); /* libcurl's IDN needs it */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS || !tls_start())
        return EX_OSERR;
    return 0;
}

static void down_libraries(struct gatherd *g)
{
    ares_library_cleanup();
    curl_global_cleanup();
    notify_fini(&g->notify);
}

static int up_loop(struct gatherd *g)
{
    const struct turn_params turn = {
        .loop = &g->loop,
        .act = act,
        .ended = on_turn_ended,
        .arg = g,
        .metrics = &g->metrics,
    };
    sigset_t none;
    sigemptyset(&none);
    int rc = uv_loop_init(&g->loop);
    if (rc != 0) {
        LOG_ERROR("gatherd", "step=loop_init error=\"%s\"", uv_strerror(rc));
        return EX_OSERR;
    }
    g->loop_open = true;
    turn_init(&g->turn, &turn);
    uv_timer_init(&g->loop, &g->mode_timer);
    uv_timer_init(&g->loop, &g->watchdog);
    uv_signal_init(&g->loop, &g->sigterm);
    uv_signal_init(&g->loop, &g->sigint);
    uv_signal_init(&g->loop, &g->sighup);
    g->mode_timer.data = g->watchdog.data = g;
    g->sigterm.data = g->sigint.data = g->sighup.data = g;
    uv_signal_start(&g->sigterm, on_stop_signal, SIGTERM);
    uv_signal_start(&g->sigint, on_stop_signal, SIGINT);
    uv_signal_start(&g->sighup, on_sighup, SIGHUP);
    pthread_sigmask(SIG_SETMASK, &none, NULL); /* who started us may have blocked them */
    return 0;
}

/* Also the way down from a start that failed half-way: whatever is open is closed, and run to its
 * end. */
static void down_loop(struct gatherd *g)
{
    if (!g->loop_open)
        return;
    close_handles(g);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&g->loop);
    if (rc != 0)
        LOG_ERROR("gatherd", "step=loop_close error=\"%s\"", uv_strerror(rc));
}

static int up_access(struct gatherd *g)
{
    struct buf errors;
    buf_init(&errors, 0);
    bool ok = access_load(&g->access, g->config, false, &errors);
    gatherd_log_errors(&errors);
    return ok ? 0 : EX_CONFIG;
}

static void down_access(struct gatherd *g)
{
    access_free(&g->access);
    for (size_t i = 0; i < g->slot_count; i++)
        policy_destroy(g->slots[i].policy);
}

static void on_engine_rested(void *arg)
{
    struct gatherd *g = arg;
    if (g->front != NULL)
        front_engines_rest(g->front);
}

static int up_engine(struct gatherd *g)
{
    const char *why = NULL;
    const struct shard_params params = {
        .loop = &g->loop,
        .turn = &g->turn,
        .config = g->config,
        .metrics = &g->metrics,
        .done = batches_job_done,
        .rested = on_engine_rested,
        .arg = g,
    };
    g->shard = shard_create(&params, &why);
    if (g->shard == NULL) {
        LOG_ERROR("gatherd", "step=engine error=\"%s\"", why);
        return EX_OSERR;
    }
    return 0;
}

static void on_nothing(void *arg)
{
    (void)arg;
}

static void down_engine(struct gatherd *g)
{
    if (g->shard != NULL && !g->engine_closing)
        shard_close(g->shard, on_nothing, NULL);
}

static int up_batches(struct gatherd *g)
{
    const struct batches_params batches = {.loop = &g->loop,
                                           .shard = g->shard,
                                           .metrics = &g->metrics,
                                           .lag = &g->lag,
                                           .wake = wake,
                                           .arg = g};
    g->batches = batches_create(&batches);
    if (g->batches == NULL)
        return EX_OSERR;
    const struct routes_params routes = {.loop = &g->loop,
                                         .config = g->config,
                                         .shard = g->shard,
                                         .batches = g->batches,
                                         .metrics = &g->metrics};
    g->routes = routes_create(&routes);
    return g->routes != NULL ? 0 : EX_OSERR;
}

static void down_batches(struct gatherd *g)
{
    if (g->engine_closing)
        return;
    if (g->routes != NULL)
        routes_close(g->routes, on_nothing, NULL);
    if (g->batches != NULL)
        batches_close(g->batches, on_nothing, NULL);
}

static int up_front(struct gatherd *g)
{
    const struct front_params params = {.loop = &g->loop,
                                        .limits = &g->config->limits,
                                        .metrics = &g->metrics,
                                        .handler = routes_handler(g->routes),
                                        .wake = wake,
                                        .arg = g};
    g->front = front_create(&params);
    if (g->front == NULL)
        return EX_OSERR;
    routes_set_front(g->routes, g->front);
    for (size_t i = 0; i < g->config->listener_count; i++) {
        const struct config_listener *l = &g->config->listeners[i];
        int rc = front_listen(
            g->front, l, &(struct front_access){g->access.tokens[i], g->access.peers[i], NULL});
        if (rc != 0)
            return rc;
    }
    g->own_count = front_endpoints(g->front, g->own, CONFIG_ADDRESSES_MAX);
    if (!gatherd_install_policies(g, &g->access, g->config, g->config))
        return EX_OSERR;
    for (size_t i = 0; i < g->config->listener_count; i++) {
        const struct config_listener *l = &g->config->listeners[i];
        front_reload_listener(g->front, l,
                              &(struct front_access){g->access.tokens[i], g->access.peers[i],
                                                     gatherd_find_slot(g, l->policy)->pool});
    }
    return 0;
}

static void down_front(struct gatherd *g)
{
    if (g->front != NULL)
        front_close(g->front, on_nothing, NULL);
    g->front = NULL;
}

static const struct stage {
    const char *name;
    int (*up)(struct gatherd *g);
    void (*down)(struct gatherd *g); /* also after a failed up() */
} stages[] = {
    {"process", up_process, NULL},
    {"libraries", up_libraries, down_libraries},
    {"loop", up_loop, down_loop},
    {"access", up_access, down_access},
    {"engine", up_engine, down_engine},
    {"batches", up_batches, down_batches},
    {"front", up_front, down_front},
};

enum { STAGES = sizeof stages / sizeof stages[0] };

static void announce(struct gatherd *g)
{
    uint64_t beat_ms = (uint64_t)(g->notify.watchdog_us / 4 / US_PER_MS);
    LOG_INFO("gatherd", "ready version=%s libcurl=%s", PACKAGE_VERSION,
             curl_version_info(CURLVERSION_NOW)->version);
    notify_send(&g->notify, "READY=1\nSTATUS=Waiting for batches");
    if (g->notify.watchdog_us > 0)
        uv_timer_start(&g->watchdog, on_watchdog, beat_ms, beat_ms > 0 ? beat_ms : 1);
}

int gatherd_run(struct config *config, const struct config_source *source)
{
    struct gatherd *g = calloc(1, sizeof *g);
    int rc = 0, up = 0;
    if (g == NULL) {
        LOG_ERROR("gatherd", "error=\"out of memory\"");
        config_destroy(config);
        return EX_OSERR;
    }
    g->config = config;
    g->source = source;
    g->no_file = source->absent;
    for (; up < STAGES && rc == 0; up++) {
        rc = stages[up].up(g);
        if (rc != 0)
            LOG_ERROR("gatherd", "stage=%s exit=%d", stages[up].name, rc);
    }
    if (rc == 0) {
        announce(g);
        log_hold(true); /* each turn writes them */
        wake(g);
        uv_run(&g->loop, UV_RUN_DEFAULT);
    }
    log_hold(false);
    while (up-- > 0)
        if (stages[up].down != NULL)
            stages[up].down(g);
    config_destroy(g->config);
    free(g);
    return rc;
}

bool gatherd_check(const struct config *config, struct buf *errors)
{
    struct access_set access;
    bool ok = access_load(&access, config, false, errors);
    if (ok)
        access_free(&access);
    return ok;
}
