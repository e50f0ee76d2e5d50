/* SPDX-License-Identifier: MIT
 *
 * limit - what a fetch costs at least: bare libcurl (multi_socket) on libuv and nothing around it.
 * Run by bench.py, in the same round as gatherd and with the same URLs; no part of gatherd.
 *
 * It does to libcurl what the engine does, or the comparison would be with another libcurl: the
 * options of daemon/curl_options.h after a curl_easy_reset() for each fetch, handles that are kept,
 * one uv_poll_t for a socket's whole life, left armed between requests, a timer of 0 ms as a
 * uv_idle, its own queue (FIFO for each origin, limits for an origin and for all) so that libcurl
 * never holds more than runs, and as many kept connections. The socket part is written again here
 * on purpose: what curl_uv loses shows.
 *
 * What is left out is what the benchmark weighs: policy, marks, results, deadlines, encoding,
 * clients. Prints one line of JSON. The exit status is 1 when a fetch failed.
 */
#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>
#include <uv.h>

#include "curl_options.h"

enum { IDLE_CONNECTIONS = 512, IDLE_S = 60, TIMEOUT_MS = 30000, LINE_BYTES_MAX = 4096 };

struct fetch {
    const char *url;
    struct origin *origin;
    struct fetch *next;
};

/* scheme://host:port and what waits for it. */
struct origin {
    char *name;
    struct curl_slist *resolve; /* "+host:port:address", or none */
    struct fetch *first, **last;
    int running;
    bool ready; /* is in limit.ready */
    struct origin *next_ready;
    struct origin *next_same_hash;
};

struct watch {
    uv_poll_t poll;
    struct limit *limit;
    int wanted, armed;
    bool ours; /* opened by on_open_socket() */
};

struct settings {
    const char *urls_file, *resolve_file, *ca_file;
    long count, warmup, batch;
    int concurrency, per_origin;
    bool fresh, http2, decode;
};

enum { HASH_SIZE = 16384 };

struct limit {
    struct settings set;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_idle_t idle;
    CURLM *multi;
    struct watch **watches; /* by descriptor */
    size_t watches_size;
    struct origin *origins[HASH_SIZE];
    struct origin *ready, **ready_last;
    char **urls;
    struct origin **origin_of;
    size_t url_count;
    CURL **pool;
    int pooled;
    int running;
    long left; /* of the round */
    int64_t ok, failed, bytes, connects;
};

static void *must(void *p)
{
    if (p == NULL)
        err(1, "out of memory");
    return p;
}

/* --- the list of URLs --- */

static uint32_t hash(const char *s, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h % HASH_SIZE;
}

static size_t origin_length(const char *url)
{
    const char *host = strstr(url, "://");
    if (host == NULL)
        errx(1, "no absolute URL: %s", url);
    return (size_t)(host - url) + 3 + strcspn(host + 3, "/?#");
}

static struct origin *find_origin(struct limit *l, const char *url)
{
    const size_t n = origin_length(url);
    struct origin **at = &l->origins[hash(url, n)];
    for (; *at != NULL; at = &(*at)->next_same_hash)
        if (strlen((*at)->name) == n && memcmp((*at)->name, url, n) == 0)
            return *at;
    struct origin *o = must(calloc(1, sizeof *o));
    o->name = must(strndup(url, n));
    o->last = &o->first;
    *at = o;
    return o;
}

/* Calls take with each line that is not empty. */
static void each_line(const char *path, void (*take)(struct limit *l, const char *line),
                      struct limit *l)
{
    char line[LINE_BYTES_MAX];
    FILE *file = fopen(path, "r");
    if (file == NULL)
        err(1, "%s", path);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] != '\0')
            take(l, line);
    }
    fclose(file);
}

static void take_url(struct limit *l, const char *line)
{
    if ((l->url_count & (l->url_count - 1)) == 0) {
        const size_t size = l->url_count > 0 ? l->url_count * 2 : 1;
        l->urls = must(realloc(l->urls, size * sizeof l->urls[0]));
        l->origin_of = must(realloc(l->origin_of, size * sizeof l->origin_of[0]));
    }
    l->urls[l->url_count] = must(strdup(line));
    l->origin_of[l->url_count] = find_origin(l, line);
    l->url_count++;
}

/* host:port:address, for both schemes */
static void take_resolve(struct limit *l, const char *line)
{
    char text[LINE_BYTES_MAX];
    const char *colon = strchr(line, ':');
    const size_t n = colon != NULL ? (size_t)(colon - line) + 1 + strcspn(colon + 1, ":") : 0;
    if (n == 0 || line[n] != ':')
        errx(1, "not host:port:address: %s", line);
    for (int https = 0; https < 2; https++) {
        snprintf(text, sizeof text, "http%s://%.*s", https ? "s" : "", (int)n, line);
        struct origin *o = find_origin(l, text);
        snprintf(text, sizeof text, "+%s", line);
        o->resolve = must(curl_slist_append(o->resolve, text));
    }
}

/* --- the queue --- */

static void note_ready(struct limit *l, struct origin *o)
{
    if (o->ready || o->first == NULL || o->running >= l->set.per_origin)
        return;
    o->ready = true;
    o->next_ready = NULL;
    *l->ready_last = o;
    l->ready_last = &o->next_ready;
}

static void push(struct limit *l, struct fetch *f)
{
    struct origin *o = f->origin;
    f->next = NULL;
    *o->last = f;
    o->last = &f->next;
    note_ready(l, o);
}

/* The next that may run, or NULL. */
static struct fetch *pop(struct limit *l)
{
    struct origin *o = l->ready;
    if (o == NULL || l->running >= l->set.concurrency)
        return NULL;
    l->ready = o->next_ready;
    if (l->ready == NULL)
        l->ready_last = &l->ready;
    o->ready = false;
    struct fetch *f = o->first;
    o->first = f->next;
    if (o->first == NULL)
        o->last = &o->first;
    o->running++;
    l->running++;
    note_ready(l, o);
    return f;
}

/* --- sockets --- */

static void drain(struct limit *l);

static void on_socket_event(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    struct limit *l = w->limit;
    int fd, running, action = 0;
    if (uv_fileno((uv_handle_t *)poll, &fd) != 0)
        return;
    if (status < 0) {
        w->armed = 0; /* libuv has stopped it */
        action = CURL_CSELECT_ERR;
    } else if (w->wanted == 0) {
        uv_poll_stop(poll); /* an idle connection ended; libcurl finds it dead */
        w->armed = 0;
        return;
    }
    action |= (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
              (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(l->multi, fd, action, &running);
    drain(l);
}

static struct watch *find_watch(const struct limit *l, curl_socket_t fd)
{
    return (size_t)fd < l->watches_size ? l->watches[fd] : NULL;
}

static struct watch *add_watch(struct limit *l, curl_socket_t fd, bool ours)
{
    if ((size_t)fd >= l->watches_size) {
        const size_t size = ((size_t)fd + 1) * 2;
        l->watches = must(realloc(l->watches, size * sizeof(struct watch *)));
        memset(l->watches + l->watches_size, 0, (size - l->watches_size) * sizeof(struct watch *));
        l->watches_size = size;
    }
    struct watch *w = must(calloc(1, sizeof *w));
    w->limit = l;
    w->ours = ours;
    w->poll.data = w;
    if (uv_poll_init(&l->loop, &w->poll, fd) != 0)
        errx(1, "uv_poll_init");
    l->watches[fd] = w;
    return w;
}

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void drop_watch(struct limit *l, curl_socket_t fd)
{
    struct watch *w = find_watch(l, fd);
    if (w == NULL)
        return;
    l->watches[fd] = NULL;
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct limit *l = arg;
    (void)purpose;
    int fd = socket(address->family, address->socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    drop_watch(l, fd); /* one that libcurl closed without a word */
    add_watch(l, fd, true);
    l->connects++;
    return fd;
}

static int on_close_socket(void *arg, curl_socket_t fd)
{
    drop_watch(arg, fd);
    return close(fd);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct limit *l = arg;
    struct watch *w = find_watch(l, fd);
    (void)easy;
    (void)socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL && !w->ours)
            drop_watch(l, fd);
        else if (w != NULL)
            w->wanted = 0;
        return 0;
    }
    if (w == NULL)
        w = add_watch(l, fd, false);
    w->wanted = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    if (w->wanted != w->armed && uv_poll_start(&w->poll, w->wanted, on_socket_event) == 0)
        w->armed = w->wanted;
    return 0;
}

/* --- the timer --- */

static void run_timeout(struct limit *l)
{
    int running;
    curl_multi_socket_action(l->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    drain(l);
}

static void on_timer(uv_timer_t *timer)
{
    run_timeout(timer->data);
}

static void on_idle(uv_idle_t *idle)
{
    uv_idle_stop(idle);
    run_timeout(idle->data);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct limit *l = arg;
    (void)multi;
    uv_timer_stop(&l->timer);
    if (timeout_ms > 0)
        uv_timer_start(&l->timer, on_timer, (uint64_t)timeout_ms, 0);
    else if (timeout_ms == 0)
        uv_idle_start(&l->idle, on_idle);
    return 0;
}

/* --- a fetch --- */

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct limit *l = arg;
    (void)data;
    l->bytes += (int64_t)(size * count);
    return size * count;
}

static void set_options(struct limit *l, CURL *easy, struct fetch *f)
{
    const struct curl_options options = {
        .ca_file = l->set.ca_file,
        .user_agent = "gatherd-limit",
        .max_age_s = IDLE_S + 1,
        .connect_timeout_ms = TIMEOUT_MS + 1000,
    };
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, f->url);
    curl_options_set(easy, &options);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, l);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, l);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, l);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, f);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     (long)(l->set.http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    if (l->set.http2)
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
    if (l->set.decode)
        curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
    if (l->set.fresh) {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
    if (f->origin->resolve != NULL) {
        curl_easy_setopt(easy, CURLOPT_RESOLVE, f->origin->resolve);
        curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    }
}

static void launch_ready(struct limit *l)
{
    struct fetch *f;
    while ((f = pop(l)) != NULL) {
        CURL *easy = l->pooled > 0 ? l->pool[--l->pooled] : must(curl_easy_init());
        set_options(l, easy, f);
        if (curl_multi_add_handle(l->multi, easy) != CURLM_OK)
            errx(1, "curl_multi_add_handle");
    }
}

static void finish(struct limit *l, CURL *easy, CURLcode code)
{
    char *private = NULL;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    struct fetch *f = (struct fetch *)(void *)private;
    if (code == CURLE_OK && status == 200) {
        l->ok++;
    } else if (l->failed++ == 0) {
        warnx("%s: %s, status %ld", f->url, curl_easy_strerror(code), status);
    }
    curl_multi_remove_handle(l->multi, easy);
    l->pool[l->pooled++] = easy;
    l->running--;
    f->origin->running--;
    note_ready(l, f->origin);
    if (--l->left == 0)
        uv_stop(&l->loop);
}

/* What ended, and what may start in its place. */
static void drain(struct limit *l)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(l->multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE)
            finish(l, message->easy_handle, message->data.result);
    launch_ready(l);
}

/* --- rounds --- */

/* Fetches n, from number `from` of the list on, which begins anew at its end. */
static void run_round(struct limit *l, long from, long n)
{
    struct fetch *fetches = must(calloc((size_t)n + 1, sizeof *fetches));
    l->left = n;
    for (long i = 0; i < n; i++) {
        const size_t at = (size_t)(from + i) % l->url_count;
        fetches[i].url = l->urls[at];
        fetches[i].origin = l->origin_of[at];
        push(l, &fetches[i]);
    }
    launch_ready(l);
    if (n > 0)
        uv_run(&l->loop, UV_RUN_DEFAULT);
    free(fetches);
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A figure of /proc/self/status, in kB. */
static long status_kb(const char *name)
{
    char line[256];
    long kb = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && kb < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtol(line + strlen(name), NULL, 10);
    if (file != NULL)
        fclose(file);
    return kb;
}

static void measure(struct limit *l)
{
    const long batch = l->set.batch > 0 ? l->set.batch : l->set.count;
    run_round(l, 0, l->set.warmup);
    l->ok = l->bytes = l->connects = 0;
    const int64_t wall = clock_ns(CLOCK_MONOTONIC), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (long at = 0; at < l->set.count; at += batch)
        run_round(l, at, at + batch < l->set.count ? batch : l->set.count - at);
    const double cpu_us = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e3;
    const double wall_s = (double)(clock_ns(CLOCK_MONOTONIC) - wall) / 1e9;
    printf("{\"ok\": %" PRId64 ", \"failed\": %" PRId64 ", \"bytes\": %" PRId64
           ", \"connects\": %" PRId64 ", \"wall_s\": %.6f, \"cpu_us\": %.1f, "
           "\"cpu_us_per_fetch\": %.3f, \"rss_kb\": %ld, \"peak_rss_kb\": %ld}\n",
           l->ok, l->failed, l->bytes, l->connects, wall_s, cpu_us, cpu_us / (double)l->set.count,
           status_kb("VmRSS:"), status_kb("VmHWM:"));
}

/* --- start and end --- */

static void open_loop(struct limit *l)
{
    uv_loop_init(&l->loop);
    uv_timer_init(&l->loop, &l->timer);
    uv_idle_init(&l->loop, &l->idle);
    l->timer.data = l->idle.data = l;
    l->multi = must(curl_multi_init());
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    curl_multi_setopt(l->multi, CURLMOPT_SOCKETDATA, l);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    curl_multi_setopt(l->multi, CURLMOPT_TIMERDATA, l);
    curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS,
                      (long)(l->set.concurrency + IDLE_CONNECTIONS));
    l->pool = must(calloc((size_t)l->set.concurrency, sizeof(CURL *)));
}

static void close_loop(struct limit *l)
{
    while (l->pooled > 0)
        curl_easy_cleanup(l->pool[--l->pooled]);
    curl_multi_cleanup(l->multi);
    uv_close((uv_handle_t *)&l->timer, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    uv_loop_close(&l->loop);
}

static void usage(void)
{
    fputs("usage: limit [OPTION]... FILE-OF-URLS\n"
          "  --count N           fetches (as many as there are URLs; more begin the list anew)\n"
          "  --warmup N          fetch so many before the clocks start\n"
          "  --batch N           start the next N only when the last N ended\n"
          "  --concurrency N     of all (100)\n"
          "  --per-origin N      of one scheme://host:port (100)\n"
          "  --fresh             a new connection each, not kept\n"
          "  --http2             HTTP/2 over TLS, one connection shared where it can be\n"
          "  --decode            take and decode content codings\n"
          "  --cafile FILE       what to trust\n"
          "  --resolve FILE      lines host:port:address\n",
          stderr);
    exit(64);
}

static long number(const char *text)
{
    char *end;
    const long n = strtol(text, &end, 10);
    if (end == text || *end != '\0' || n < 0 || n > 100000000)
        usage();
    return n;
}

static void set_option(struct settings *s, int option)
{
    switch (option) {
    case 'n':
        s->count = number(optarg);
        break;
    case 'w':
        s->warmup = number(optarg);
        break;
    case 'b':
        s->batch = number(optarg);
        break;
    case 'c':
        s->concurrency = (int)number(optarg);
        break;
    case 'o':
        s->per_origin = (int)number(optarg);
        break;
    case 'f':
        s->fresh = true;
        break;
    case '2':
        s->http2 = true;
        break;
    case 'd':
        s->decode = true;
        break;
    case 'a':
        s->ca_file = optarg;
        break;
    case 'r':
        s->resolve_file = optarg;
        break;
    default:
        usage();
    }
}

static void read_options(struct settings *s, int argc, char **argv)
{
    static const struct option options[] = {
        {"count", required_argument, NULL, 'n'},
        {"warmup", required_argument, NULL, 'w'},
        {"batch", required_argument, NULL, 'b'},
        {"concurrency", required_argument, NULL, 'c'},
        {"per-origin", required_argument, NULL, 'o'},
        {"fresh", no_argument, NULL, 'f'},
        {"http2", no_argument, NULL, '2'},
        {"decode", no_argument, NULL, 'd'},
        {"cafile", required_argument, NULL, 'a'},
        {"resolve", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0},
    };
    int option;
    *s = (struct settings){.count = -1, .concurrency = 100, .per_origin = 100};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        set_option(s, option);
    if (optind + 1 != argc || s->concurrency < 1 || s->per_origin < 1)
        usage();
    s->urls_file = argv[optind];
}

int main(int argc, char **argv)
{
    struct limit *l = must(calloc(1, sizeof *l));
    read_options(&l->set, argc, argv);
    l->ready_last = &l->ready;
    if (l->set.resolve_file != NULL)
        each_line(l->set.resolve_file, take_resolve, l);
    each_line(l->set.urls_file, take_url, l);
    if (l->url_count == 0)
        errx(1, "%s: no URL", l->set.urls_file);
    if (l->set.count < 0)
        l->set.count = (long)l->url_count;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    open_loop(l);
    measure(l);
    close_loop(l);
    return l->failed == 0 ? 0 : 1;
}
