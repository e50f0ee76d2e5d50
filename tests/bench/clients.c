/* SPDX-License-Identifier: MIT
 *
 * clients - closed loops of HTTP clients: N kept connections, each sends its request, waits for
 * the whole answer, and sends it again. Run by bench.py against gatherd (POST of a batch) and, with
 * --direct, against the upstream itself (GET), so that the difference is what gatherd adds.
 *
 * In C because a client in Python would measure itself: one thread, epoll, one send and one recv a
 * request. An answer is framed by Content-Length or chunked; of a chunked one only the end is
 * looked for, which JSON cannot contain. Whether it is the answer that was expected is judged after
 * its time was taken. Prints one line of JSON with latencies in us; the exit status is 1 when an
 * answer was wrong.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_BYTES_MAX = 1 << 20, BODY_BYTES_MAX = 1 << 20, HEAD_BYTES_MAX = 1024, EVENTS = 64 };

struct client {
    int fd;
    const char *request;
    size_t request_len;
    int64_t sent_ns;
    size_t have; /* bytes of the answer so far */
    char *answer;
};

struct settings {
    const char *host, *path, *expect;
    uint16_t port;
    long connections, requests, warmup, seconds;
    bool direct;
};

struct run {
    struct settings set;
    int epoll;
    struct client *clients;
    long started, ended; /* requests of this phase */
    int64_t *latency_ns; /* of this phase, in order of their ends; NULL while warming up */
};

static void *must(void *p)
{
    if (p == NULL)
        err(1, "out of memory");
    return p;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* --- the requests --- */

static char *read_file(const char *path, size_t *len)
{
    char *text = must(malloc(BODY_BYTES_MAX));
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        err(1, "%s", path);
    *len = fread(text, 1, BODY_BYTES_MAX, file);
    if (ferror(file) || *len == BODY_BYTES_MAX)
        errx(1, "%s: cannot be read, or is too long", path);
    fclose(file);
    return text;
}

static char *make_request(const struct settings *s, const char *body_file, size_t *len)
{
    size_t body_len = 0;
    char *body = body_file != NULL ? read_file(body_file, &body_len) : NULL;
    char *text = must(malloc(HEAD_BYTES_MAX + body_len));
    int n = s->direct ? snprintf(text, HEAD_BYTES_MAX, "GET %s HTTP/1.1\r\nHost: %s:%u\r\n\r\n",
                                 s->path, s->host, s->port)
                      : snprintf(text, HEAD_BYTES_MAX,
                                 "POST %s HTTP/1.1\r\nHost: %s:%u\r\nContent-Type: "
                                 "application/json\r\nContent-Length: %zu\r\n\r\n",
                                 s->path, s->host, s->port, body_len);
    if (n < 0 || n >= HEAD_BYTES_MAX)
        errx(1, "the path is too long");
    if (body != NULL)
        memcpy(text + n, body, body_len);
    free(body);
    *len = (size_t)n + body_len;
    return text;
}

/* --- answers --- */

/* Whether what is there is a whole answer. */
static bool is_whole(const struct client *c)
{
    static const char last[] = "\r\n0\r\n\r\n";
    const char *head_end = memmem(c->answer, c->have, "\r\n\r\n", 4);
    if (head_end == NULL)
        return false;
    const size_t head_len = (size_t)(head_end - c->answer) + 4;
    for (const char *line = c->answer; line < head_end;) {
        const char *end = memmem(line, (size_t)(head_end - line) + 2, "\r\n", 2);
        if (strncasecmp(line, "Content-Length:", 15) == 0)
            return c->have >= head_len + strtoul(line + 15, NULL, 10);
        line = end + 2;
    }
    return c->have >= head_len + 5 && memcmp(c->answer + c->have - 7, last, 7) == 0;
}

static void judge(const struct run *r, const struct client *c)
{
    if (c->have < 13 || memcmp(c->answer, "HTTP/1.1 200 ", 13) != 0 ||
        memmem(c->answer, c->have, r->set.expect, strlen(r->set.expect)) == NULL)
        errx(1, "unexpected answer: %.*s", (int)(c->have < 600 ? c->have : 600), c->answer);
}

/* --- the loop --- */

static void send_request(struct run *r, struct client *c)
{
    if (r->started >= (r->latency_ns != NULL ? r->set.requests : r->set.warmup))
        return;
    r->started++;
    c->have = 0;
    c->sent_ns = now_ns();
    if (send(c->fd, c->request, c->request_len, MSG_NOSIGNAL) != (ssize_t)c->request_len)
        err(1, "send");
}

static void on_readable(struct run *r, struct client *c)
{
    ssize_t n = recv(c->fd, c->answer + c->have, ANSWER_BYTES_MAX - c->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        errx(1, "the connection ended: %s", n < 0 ? strerror(errno) : "closed");
    c->have += (size_t)n;
    if (!is_whole(c)) {
        if (c->have == ANSWER_BYTES_MAX)
            errx(1, "the answer is too long");
        return;
    }
    if (r->latency_ns != NULL)
        r->latency_ns[r->ended] = now_ns() - c->sent_ns;
    r->ended++;
    judge(r, c);
    send_request(r, c);
}

static void run_phase(struct run *r, long requests)
{
    struct epoll_event events[EVENTS];
    r->started = r->ended = 0;
    for (long i = 0; i < r->set.connections; i++)
        send_request(r, &r->clients[i]);
    const int64_t end = now_ns() + (int64_t)r->set.seconds * 1000000000;
    const int64_t deadline = r->latency_ns != NULL ? end : INT64_MAX; /* a warm-up is done whole */
    while (r->ended < requests && (r->ended == 0 || now_ns() < deadline)) {
        int n = epoll_wait(r->epoll, events, EVENTS, 60000);
        if (n == 0 || (n < 0 && errno != EINTR))
            errx(1, "no answer");
        for (int i = 0; i < n; i++)
            on_readable(r, events[i].data.ptr);
    }
}

static void open_client(struct run *r, struct client *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(r->set.port)};
    const int one = 1;
    c->answer = must(malloc(ANSWER_BYTES_MAX));
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || inet_pton(AF_INET, r->set.host, &to.sin_addr) != 1 ||
        connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        err(1, "connect to %s:%u", r->set.host, r->set.port);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
        err(1, "epoll_ctl");
}

/* --- figures --- */

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Nearest rank, in us. */
static double percentile(const struct run *r, long per_mille)
{
    const long rank = (r->ended * per_mille + 999) / 1000;
    return (double)r->latency_ns[rank > 0 ? rank - 1 : 0] / 1e3;
}

static void print_figures(const struct run *r, int64_t wall_ns)
{
    qsort(r->latency_ns, (size_t)r->ended, sizeof r->latency_ns[0], compare);
    printf("{\"requests\": %ld, \"wall_s\": %.6f, \"p50_us\": %.1f, \"p90_us\": %.1f, "
           "\"p99_us\": %.1f, \"max_us\": %.1f}\n",
           r->ended, (double)wall_ns / 1e9, percentile(r, 500), percentile(r, 900),
           percentile(r, 990), percentile(r, 1000));
}

/* --- start --- */

static void usage(void)
{
    fputs("usage: clients [OPTION]... PORT PATH [BODY-FILE]...\n"
          "  --connections N   clients (1); each uses one of the bodies, in turn\n"
          "  --requests N      of all of them together (1000)\n"
          "  --warmup N        so many before (100)\n"
          "  --seconds N       end earlier, after so long (60)\n"
          "  --expect TEXT     what each answer has somewhere\n"
          "  --direct          GET instead of POST\n",
          stderr);
    exit(64);
}

static long number(const char *text, long max)
{
    char *end;
    const long n = strtol(text, &end, 10);
    if (end == text || *end != '\0' || n < 0 || n > max)
        usage();
    return n;
}

static void set_option(struct settings *s, int option)
{
    switch (option) {
    case 'c':
        s->connections = number(optarg, 100000);
        break;
    case 'n':
        s->requests = number(optarg, 100000000);
        break;
    case 'w':
        s->warmup = number(optarg, 100000000);
        break;
    case 's':
        s->seconds = number(optarg, 3600);
        break;
    case 'e':
        s->expect = optarg;
        break;
    case 'd':
        s->direct = true;
        break;
    default:
        usage();
    }
}

static void read_options(struct settings *s, int argc, char **argv)
{
    static const struct option options[] = {
        {"connections", required_argument, NULL, 'c'},
        {"requests", required_argument, NULL, 'n'},
        {"warmup", required_argument, NULL, 'w'},
        {"expect", required_argument, NULL, 'e'},
        {"seconds", required_argument, NULL, 's'},
        {"direct", no_argument, NULL, 'd'},
        {NULL, 0, NULL, 0},
    };
    int option;
    *s = (struct settings){.host = "127.0.0.1",
                           .expect = "",
                           .connections = 1,
                           .requests = 1000,
                           .warmup = 100,
                           .seconds = 60};
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        set_option(s, option);
    if (argc - optind < (s->direct ? 2 : 3) || s->connections < 1 || s->requests < 1)
        usage();
    s->port = (uint16_t)number(argv[optind], 65535);
    s->path = argv[optind + 1];
}

int main(int argc, char **argv)
{
    struct run r = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    read_options(&r.set, argc, argv);
    const int bodies = argc - optind - 2;
    r.clients = must(calloc((size_t)r.set.connections, sizeof *r.clients));
    for (long i = 0; i < r.set.connections; i++) {
        const char *body = bodies > 0 ? argv[optind + 2 + i % bodies] : NULL;
        r.clients[i].request = make_request(&r.set, body, &r.clients[i].request_len);
        open_client(&r, &r.clients[i]);
    }
    run_phase(&r, r.set.warmup);
    r.latency_ns = must(calloc((size_t)r.set.requests, sizeof r.latency_ns[0]));
    const int64_t begin = now_ns();
    run_phase(&r, r.set.requests);
    print_figures(&r, now_ns() - begin);
    return 0;
}
