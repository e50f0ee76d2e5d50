/* SPDX-License-Identifier: MIT
 *
 * slow - an upstream that takes its time, for workloads that hold thousands of transfers. Run by
 * bench.py.
 *
 *   GET /delay/MS    the whole answer, 1 KB, after so many ms; the connection is kept
 *   GET /hold        the head and half of the body at once, the rest when the connection is closed
 *
 * One thread, epoll, and no timer for each connection: what is due lies in one queue for each delay
 * that was asked for, which is ordered by itself because a delay is the same for all in it. It
 * listens on all addresses, so that each of 127.0.0.0/8 is a host of its own, and talks to that
 * network only.
 * Prints its port; ends with SIGTERM.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BODY_BYTES = 1024, REQUEST_BYTES_MAX = 2048, EVENTS = 256, DELAYS = 16 };

struct connection {
    int fd;
    bool waits;  /* for its time, in a queue */
    bool closed; /* by its client, while it waits */
    int64_t due_ms;
    size_t have;
    struct connection *next;
    char request[REQUEST_BYTES_MAX];
};

/* Those that wait, the first first. */
struct delay {
    long ms;
    struct connection *first, **last;
};

struct server {
    int epoll, listener;
    struct delay delays[DELAYS];
    int delay_count;
    char answer[BODY_BYTES + 256];
    size_t head_len, answer_len;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void drop(struct connection *c)
{
    close(c->fd);
    free(c);
}

static bool send_part(const struct server *s, const struct connection *c, size_t len)
{
    return send(c->fd, s->answer, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* --- delays --- */

static struct delay *find_delay(struct server *s, long ms)
{
    for (int i = 0; i < s->delay_count; i++)
        if (s->delays[i].ms == ms)
            return &s->delays[i];
    if (s->delay_count == DELAYS)
        errx(1, "more than %d different delays", DELAYS);
    struct delay *d = &s->delays[s->delay_count++];
    d->ms = ms;
    d->last = &d->first;
    return d;
}

static void wait_for(struct server *s, struct connection *c, long ms)
{
    struct delay *d = find_delay(s, ms);
    c->waits = true;
    c->due_ms = now_ms() + ms;
    c->next = NULL;
    *d->last = c;
    d->last = &c->next;
}

static void run_due(struct server *s, struct delay *d, int64_t now)
{
    struct connection *c;
    while ((c = d->first) != NULL && c->due_ms <= now) {
        d->first = c->next;
        if (d->first == NULL)
            d->last = &d->first;
        c->waits = false;
        if (c->closed || !send_part(s, c, s->answer_len))
            drop(c);
    }
}

/* Answers what is due; returns how long to sleep, in ms. */
static int run_delays(struct server *s)
{
    int64_t sleep_ms = 1000;
    const int64_t now = now_ms();
    for (int i = 0; i < s->delay_count; i++) {
        struct delay *d = &s->delays[i];
        run_due(s, d, now);
        if (d->first != NULL && d->first->due_ms - now < sleep_ms)
            sleep_ms = d->first->due_ms - now;
    }
    return (int)(sleep_ms > 0 ? sleep_ms : 0);
}

/* --- connections --- */

/* False: the connection is to be dropped. */
static bool answer(struct server *s, struct connection *c)
{
    if (strncmp(c->request, "GET /delay/", 11) == 0)
        wait_for(s, c, strtol(c->request + 11, NULL, 10));
    else if (strncmp(c->request, "GET /hold", 9) == 0)
        return send_part(s, c, s->head_len + BODY_BYTES / 2);
    else
        return false;
    return true;
}

static void on_readable(struct server *s, struct connection *c)
{
    ssize_t n = recv(c->fd, c->request + c->have, REQUEST_BYTES_MAX - 1 - c->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 && c->waits) {
        c->closed = true;
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, c->fd, NULL);
        return;
    }
    c->have += n > 0 ? (size_t)n : 0;
    c->request[c->have] = '\0';
    const bool whole = strstr(c->request, "\r\n\r\n") != NULL;
    if (whole)
        c->have = 0;
    if (n <= 0 || c->have == REQUEST_BYTES_MAX - 1 || (whole && !answer(s, c)))
        drop(c);
}

static void accept_all(struct server *s)
{
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int fd;
    while ((fd = accept4(s->listener, (struct sockaddr *)&from, &len,
                         SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (c == NULL || ntohl(from.sin_addr.s_addr) >> 24 != 127) {
            close(fd);
            free(c);
            continue;
        }
        c->fd = fd;
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event);
        len = sizeof from;
    }
}

/* --- start --- */

static void make_answer(struct server *s)
{
    int n = snprintf(s->answer, sizeof s->answer,
                     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
                     BODY_BYTES);
    s->head_len = (size_t)n;
    memset(s->answer + n, 'x', BODY_BYTES);
    s->answer_len = s->head_len + BODY_BYTES;
}

static void open_listener(struct server *s)
{
    struct sockaddr_in on = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    socklen_t len = sizeof on;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&on, sizeof on) != 0 ||
        listen(s->listener, 4096) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&on, &len) != 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &event) != 0)
        err(1, "listen");
    printf("%u\n", ntohs(on.sin_port));
    fflush(stdout);
}

int main(void)
{
    static struct server s;
    struct epoll_event events[EVENTS];
    make_answer(&s);
    open_listener(&s);
    for (;;) {
        int n = epoll_wait(s.epoll, events, EVENTS, run_delays(&s));
        if (n < 0 && errno != EINTR)
            err(1, "epoll_wait");
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr == NULL)
                accept_all(&s);
            else
                on_readable(&s, events[i].data.ptr);
    }
}
