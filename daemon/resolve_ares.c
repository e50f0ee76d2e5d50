/* SPDX-License-Identifier: MIT
 *
 * resolve_ares - see resolve_ares.h. Called by resolve on its loop's thread. Owns the c-ares
 * channel, a uv_poll_t for each of its sockets (one UDP socket a server as a rule) and one timer;
 * itself is freed in the last close callback.
 *
 * c-ares tells by a callback which sockets it wants watched, and that one is about to be closed:
 * then the watcher is stopped at once and only its memory goes later, so that the descriptor may
 * come back.
 *
 * The non-obvious part is the timer. ares_timeout() walks all queries in flight (1.18), so it is
 * asked only when the timer fires, and not at each question and answer: these see to it that the
 * timer fires within the shortest time a new try can have. With nothing in flight it is off.
 *
 * c-ares does not say twice that it wants a socket watched, and keeps a UDP socket for as long as
 * the channel lives: one that could not be watched (no memory, no room in epoll) makes the channel
 * blind, and it is tried again before the next question, and by the timer.
 *
 * A server that closes its TCP connection costs, with c-ares 1.18, every question that it was asked
 * one of its tries, over UDP too, and at once: one name whose answer is long, and whose server
 * hangs up, would end the look-ups of all others. So the channel is for UDP alone, and a name whose
 * answer is truncated gets one of its own, a "stream", that asks over TCP and goes with the answer.
 * There are a few at a time; names beyond wait, no longer than a silent server is waited for; the
 * oldest and the youngest in turn get the place of one that is silent, so that a crowd of those
 * delays a single name by one try. resolve_sockets has how either channel reads. EDNS would make
 * such answers rare, but with 1.18 a server that does not know it fails what else it was asked.
 *
 * A UDP socket breaks when nobody listens at the server's port, and all that is in flight by it has
 * failed within a millisecond: what failed after a socket was closed is asked once more, a moment
 * later, when a server that was restarted is mostly there again.
 *
 * Where c-ares would do more than answer it is told not to: its cache (1.31 on), sorting (a
 * connect(2) for each address), the hosts file, HOSTALIASES and nsswitch.conf are off; a server
 * that the configuration names stands alone, without resolv.conf's search list. LOCALDOMAIN and
 * RES_OPTIONS are read by c-ares and cannot be turned off here: gatherd clears the environment.
 */
#include "resolve_ares.h"

#include <ares.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "cidr.h"
#include "log.h"
#include "parse.h"
#include "resolve_failure.h"
#include "resolve_sockets.h"

#define TRY_MS 1000 /* a server's first; doubles with each round over the servers */
#define TRY_LONGEST_MS 4000
#define TRY_SHORTEST_MS 250 /* adaptive: quick servers are given no more for the first try */
#define TRIES 3             /* rounds: 1 + 2 + 4 s */
#define TRIES_ADAPTIVE 5    /* 0.25 + 0.5 + 1 + 2 + 4 s; a cold name may take seconds */
#define VERSION_ADAPTIVE 0x012000
#define AGAIN_MAX 64 /* asked for once more by one turn of the timer: 13 us each */
#define LOOKUP_MS 7000 /* that long a truncated name may wait for a stream, from its question on */
#define STREAM_TRY_MS 2000 /* a server's first over TCP, and only one when others wait */
#define STREAM_TRIES 2     /* a connection may end by chance */
#define STREAM_ASKS_MAX 32 /* at once: one that is refused at once costs 0.1 ms */
#define TIMER_MIN_MS 10    /* thousands of dead names must not make a busy loop */
#define TTL_MAX_S 3600
#define INTERFACES_MS 10000 /* how long the look at the machine's addresses is good */
#define OTHER_FAMILY_MIN 8  /* places kept for the second family */

struct resolve_ares {
    struct resolve_ares_params params;
    ares_channel channel;
    uv_timer_t timer;
    struct resolve_sockets own;  /* what c-ares reads by */
    struct list sockets;         /* struct socket, those that are watched */
    struct list node;            /* the owner's */
    size_t handles;              /* open: the timer, the sockets and the streams */
    size_t in_flight;            /* those of the streams too */
    struct resolve_ares *parent; /* of a stream, else NULL */
    struct list streams;
    size_t stream_count;
    struct list truncated; /* struct resolve_question that wait for a stream */
    bool youngest;         /* of those is the next to have one */
    struct resolve_question *question; /* of a stream */
    uint64_t asked_ms;                 /* loop time at which it was asked */
    bool closing;
    bool blind;              /* a socket that c-ares has is not watched */
    struct list again;       /* struct resolve_question, to be asked once more */
    uint64_t again_ms;       /* loop time at which those are asked for */
    unsigned closed_sockets; /* by c-ares, so far */
    bool ipv6_first;
    uint64_t interfaces_ms; /* loop time of the last look; 0 = none yet */
};

struct socket {
    uv_poll_t poll;
    struct list node;
    struct resolve_ares *channel;
    ares_socket_t fd;
    int events; /* of UV_READABLE, UV_WRITABLE */
};

/* The machine: IPv6 first where it has a global IPv6 address */

static bool is_global_ipv6(const struct ifaddrs *ifa)
{
    if (!ifa->ifa_addr || ifa->ifa_addr->sa_family != AF_INET6 || !(ifa->ifa_flags & IFF_UP))
        return false;
    struct ip_addr ip;
    uint16_t port;
    return ip_from_sockaddr(ifa->ifa_addr, &ip, &port) && (ip.bytes[0] & 0xe0) == 0x20;
}

static bool ipv6_first(struct resolve_ares *c)
{
    uint64_t now = uv_now(c->params.loop);
    struct ifaddrs *all, *ifa;
    if (c->interfaces_ms > 0 && now - c->interfaces_ms < INTERFACES_MS)
        return c->ipv6_first;
    c->interfaces_ms = now > 0 ? now : 1;
    if (getifaddrs(&all) < 0)
        return c->ipv6_first;
    for (ifa = all; ifa && !is_global_ipv6(ifa);)
        ifa = ifa->ifa_next;
    c->ipv6_first = ifa != NULL;
    freeifaddrs(all);
    return c->ipv6_first;
}

/* Answers */

void resolve_families_add(struct resolve_families *f, const struct ip_addr *ip)
{
    if (ip->family == 6 && f->v6_count < RESOLVE_ADDRESSES_MAX)
        f->v6[f->v6_count++] = *ip;
    if (ip->family == 4 && f->v4_count < RESOLVE_ADDRESSES_MAX)
        f->v4[f->v4_count++] = *ip;
}

static void add_family(struct resolve_answer *answer, const struct ip_addr *ips, size_t count,
                       size_t room)
{
    size_t n = count < room ? count : room;
    if (n > 0)
        memcpy(&answer->addresses[answer->count], ips, n * sizeof ips[0]);
    answer->count += n;
}

/* The family that goes second keeps a few places, however long the first one's list is. */
void resolve_ares_order(struct resolve_ares *c, const struct resolve_families *f,
                        struct resolve_answer *out)
{
    bool six = ipv6_first(c);
    size_t others = six ? f->v4_count : f->v6_count;
    size_t kept = others < OTHER_FAMILY_MIN ? others : OTHER_FAMILY_MIN;
    out->error = ERR_NONE;
    out->message = "";
    out->count = 0;
    add_family(out, six ? f->v6 : f->v4, six ? f->v6_count : f->v4_count,
               RESOLVE_ADDRESSES_MAX - kept);
    add_family(out, six ? f->v4 : f->v6, others, RESOLVE_ADDRESSES_MAX - out->count);
}

static void answer_addresses(struct resolve_ares *c, const struct ares_addrinfo *ai,
                             struct resolve_answer *answer)
{
    struct resolve_families families;
    struct ip_addr ip;
    uint16_t port;
    families.v4_count = families.v6_count = 0;
    for (const struct ares_addrinfo_node *node = ai->nodes; node; node = node->ai_next) {
        if (ip_from_sockaddr(node->ai_addr, &ip, &port))
            resolve_families_add(&families, &ip);
    }
    resolve_ares_order(c->parent ? c->parent : c, &families, answer);
}

/* The shortest of all addresses and aliases. */
static int lifetime_s(const struct ares_addrinfo *ai)
{
    int ttl = TTL_MAX_S;
    for (const struct ares_addrinfo_node *node = ai->nodes; node; node = node->ai_next)
        ttl = node->ai_ttl < ttl ? node->ai_ttl : ttl;
    for (const struct ares_addrinfo_cname *cname = ai->cnames; cname; cname = cname->next)
        ttl = cname->ttl < ttl ? cname->ttl : ttl;
    return ttl < 1 ? 1 : ttl;
}

/* Failed by what happened to another question. It stays in flight. */
static bool to_be_asked_again(struct resolve_question *q, int status)
{
    struct resolve_ares *c = q->channel;
    if (status != ARES_ECONNREFUSED || q->asked_again || c->closing ||
        c->closed_sockets == q->closed_before)
        return false;
    if (list_empty(&c->again))
        c->again_ms = uv_now(c->params.loop) + TRY_SHORTEST_MS;
    q->asked_again = true;
    list_append(&c->again, &q->node);
    return true;
}

/* It stays in flight, too. */
static bool to_be_streamed(struct resolve_question *q, struct ares_addrinfo *ai)
{
    struct resolve_ares *c = q->channel;
    if (c->parent || c->closing || !ai || !resolve_sockets_truncated(ai))
        return false;
    ares_freeaddrinfo(ai);
    list_append(&c->truncated, &q->node);
    return true;
}

static void tell(struct resolve_question *q, const struct resolve_answer *answer, int ttl_s)
{
    struct resolve_ares *c = q->channel;
    c->in_flight--;
    if (c->closing)
        return;
    if (c->parent)
        c->parent->in_flight--;
    c->params.answered(q, answer, ttl_s);
}

static void on_addrinfo(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
    struct resolve_question *question = arg;
    struct resolve_answer answer;
    int ttl_s = 0;
    (void)timeouts;
    if (to_be_asked_again(question, status) || to_be_streamed(question, ai))
        return;
    answer.count = 0;
    if (status == ARES_SUCCESS && ai) {
        answer_addresses(question->channel, ai, &answer);
        ttl_s = lifetime_s(ai);
    }
    if (answer.count == 0)
        ttl_s = resolve_failure(&answer, status == ARES_SUCCESS ? ARES_ENODATA : status);
    if (ai)
        ares_freeaddrinfo(ai);
    tell(question, &answer, ttl_s);
}

/* Timer */

static void on_timer(uv_timer_t *timer);

/* After c-ares was called: whatever it (re)started cannot be due earlier than this. */
static void timer_keep(struct resolve_ares *c)
{
    if (c->in_flight == 0)
        uv_timer_stop(&c->timer);
    else if (!uv_is_active((uv_handle_t *)&c->timer) ||
             uv_timer_get_due_in(&c->timer) > TRY_SHORTEST_MS)
        uv_timer_start(&c->timer, on_timer, TRY_SHORTEST_MS, 0);
}

static void watch_again(struct resolve_ares *c);

static void ask(struct resolve_ares *c, struct resolve_question *question)
{
    struct ares_addrinfo_hints hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_flags = ARES_AI_NOSORT;
    hints.ai_family = AF_UNSPEC;
    ares_getaddrinfo(c->channel, question->name, NULL, &hints, on_addrinfo, question);
}

static void ask_again(struct resolve_ares *c)
{
    struct list *node;
    if (uv_now(c->params.loop) < c->again_ms)
        return;
    for (int i = 0; i < AGAIN_MAX && (node = list_pop(&c->again)); i++)
        ask(c, LIST_CONTAINER(node, struct resolve_question, node));
}

static void timer_set(struct resolve_ares *c)
{
    struct timeval longest = {.tv_sec = TRY_MS / 1000, .tv_usec = 0}, tv;
    const struct timeval *due = ares_timeout(c->channel, &longest, &tv);
    uint64_t ms = (uint64_t)due->tv_sec * 1000 + (uint64_t)due->tv_usec / 1000 + 1;
    if ((!list_empty(&c->again) || !list_empty(&c->truncated)) && ms > TRY_SHORTEST_MS)
        ms = TRY_SHORTEST_MS;
    if (!list_empty(&c->again) && uv_now(c->params.loop) >= c->again_ms)
        ms = TIMER_MIN_MS;
    uv_timer_start(&c->timer, on_timer, ms < TIMER_MIN_MS ? TIMER_MIN_MS : ms, 0);
}

static void streams_turn(struct resolve_ares *c);

static void on_timer(uv_timer_t *timer)
{
    struct resolve_ares *c = timer->data;
    watch_again(c);
    ares_process_fd(c->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    ask_again(c);
    if (c->in_flight > 0)
        timer_set(c);
    streams_turn(c);
}

/* Handles */

static void handle_closed(struct resolve_ares *c)
{
    if (--c->handles > 0)
        return;
    void (*closed)(void *arg) = c->params.closed;
    void *arg = c->params.arg;
    free(c);
    closed(arg);
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct socket *s = handle->data;
    struct resolve_ares *c = s->channel;
    free(s);
    handle_closed(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct socket *s = poll->data;
    struct resolve_ares *c = s->channel;
    bool broken = status < 0; /* libuv has stopped the watcher; c-ares finds out by reading */
    ares_process_fd(c->channel, broken || events & UV_READABLE ? s->fd : ARES_SOCKET_BAD,
                    broken || events & UV_WRITABLE ? s->fd : ARES_SOCKET_BAD);
    if (broken && !uv_is_closing((uv_handle_t *)poll))
        uv_poll_start(poll, s->events, on_socket);
    timer_keep(c);
    streams_turn(c);
}

static struct socket *socket_find(struct resolve_ares *c, ares_socket_t fd)
{
    struct list *it, *tmp;
    LIST_FOREACH_SAFE(it, tmp, &c->sockets) {
        struct socket *s = LIST_CONTAINER(it, struct socket, node);
        if (s->fd == fd)
            return s;
    }
    return NULL;
}

static struct socket *socket_open(struct resolve_ares *c, ares_socket_t fd)
{
    struct socket *s = calloc(1, sizeof *s);
    int rc = s ? uv_poll_init(c->params.loop, &s->poll, fd) : UV_ENOMEM;
    if (rc < 0) {
        LOG_ERROR("resolve", "a name server's socket cannot be watched: %s", uv_strerror(rc));
        free(s);
        return NULL;
    }
    s->poll.data = s;
    s->channel = c;
    s->fd = fd;
    list_append(&c->sockets, &s->node);
    c->handles++;
    return s;
}

static void on_sock_state(void *data, ares_socket_t fd, int readable, int writable)
{
    struct resolve_ares *c = data;
    struct socket *s = socket_find(c, fd);
    int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    if (events == 0 && s) {
        c->closed_sockets++;
        list_remove(&s->node);
        uv_poll_stop(&s->poll);
        uv_close((uv_handle_t *)&s->poll, on_socket_closed);
    }
    if (events == 0)
        return;
    if (!s)
        s = socket_open(c, fd);
    if (s && events != s->events && uv_poll_start(&s->poll, events, on_socket) == 0)
        s->events = events;
    c->blind |= !s || s->events != events;
}

static void watch_again(struct resolve_ares *c)
{
    ares_socket_t fds[ARES_GETSOCK_MAXNUM];
    if (!c->blind)
        return;
    c->blind = false;
    unsigned wanted = (unsigned)ares_getsock(c->channel, fds, ARES_GETSOCK_MAXNUM);
    for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM; i++) { /* c-ares's macros shift into the sign */
        const bool readable = (wanted >> i & 1) != 0;
        const bool writable = (wanted >> (i + ARES_GETSOCK_MAXNUM) & 1) != 0;
        if (readable || writable)
            on_sock_state(c, fds[i], readable, writable);
    }
}

/* Life */

/* Adds one server in the form that all versions of c-ares read alike: 192.0.2.1:53 or [::1]:53. */
static bool add_server(struct buf *csv, const char *server, int64_t port)
{
    char host[IP_TEXT_MAX], text[IP_TEXT_MAX];
    struct ip_addr ip;
    size_t n = strlen(server);
    const char *colon = strrchr(server, ':');
    if (colon && (strchr(server, ':') == colon || colon[-1] == ']')) {
        n = (size_t)(colon - server);
        if (!parse_int(colon + 1, 1, UINT16_MAX, &port))
            return false;
    }
    bool bracketed = n > 2 && server[0] == '[' && server[n - 1] == ']';
    if (bracketed) {
        server++;
        n -= 2;
    }
    if (n >= sizeof host)
        return false;
    memcpy(host, server, n);
    host[n] = '\0';
    if (!ip_parse(host, &ip) || (bracketed && ip.family != 6))
        return false;
    buf_printf(csv, ip.family == 6 ? "%s[%s]:%d" : "%s%s:%d", csv->len > 0 ? "," : "",
               ip_format(&ip, text), (int)port);
    return true;
}

static bool set_servers(struct resolve_ares *c, const char **why)
{
    struct buf csv;
    bool ok = true;
    buf_init(&csv, 0);
    for (size_t i = 0; i < c->params.server_count && ok; i++)
        ok = add_server(&csv, c->params.servers[i], c->params.port);
    if (!ok)
        *why = "a name server is ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT";
    if (ok && c->params.server_count > 0) {
        const char *text = buf_cstr(&csv);
        int rc = csv.failed ? ARES_ENOMEM : ares_set_servers_ports_csv(c->channel, text);
        ok = rc == ARES_SUCCESS;
        if (!ok)
            *why = ares_strerror(rc);
    }
    buf_fini(&csv);
    return ok;
}

/* What a stream does otherwise: no UDP, fewer and longer tries. */
static void stream_options(struct ares_options *options)
{
    options->flags = (options->flags & ~ARES_FLAG_IGNTC) | ARES_FLAG_USEVC;
    options->timeout = STREAM_TRY_MS;
    options->tries = STREAM_TRIES;
}

static int channel_init(struct resolve_ares *c)
{
    char lookups[] = "b", no_file[] = "/dev/null"; /* the servers; the hosts file is ours */
    struct ares_options options;
    int version = 0;
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
               ARES_OPT_SOCK_STATE_CB | ARES_OPT_RESOLVCONF | ARES_OPT_UDP_PORT | ARES_OPT_TCP_PORT;
    memset(&options, 0, sizeof options);
    options.flags = ARES_FLAG_NOALIASES | ARES_FLAG_IGNTC;
    options.timeout = TRY_MS;
    ares_version(&version);
    options.tries = version < VERSION_ADAPTIVE ? TRIES : TRIES_ADAPTIVE;
    options.lookups = lookups;
    options.resolvconf_path = (char *)(uintptr_t)c->params.resolv_conf; /* copied, not changed */
    options.udp_port = options.tcp_port = c->params.port;
    options.sock_state_cb = on_sock_state;
    options.sock_state_cb_data = c;
    if (c->params.server_count > 0) {
        options.flags |= ARES_FLAG_NOSEARCH; /* 1.18 heeds an empty list only, 1.34 the flag only */
        options.ndomains = 0;
        options.resolvconf_path = no_file;
        mask |= ARES_OPT_DOMAINS;
    }
#ifdef ARES_OPT_MAXTIMEOUTMS
    options.maxtimeout = TRY_LONGEST_MS;
    mask |= ARES_OPT_MAXTIMEOUTMS;
#endif
#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0;
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    if (c->parent)
        stream_options(&options);
    int rc = ares_init_options(&c->channel, &options, mask);
    if (rc == ARES_SUCCESS)
        resolve_sockets_use(&c->own, c->channel);
    return rc;
}

/* Without the file c-ares goes on with 127.0.0.1, also when it is there and only no descriptor is
 * to be had for it. */
static bool can_open(const struct resolve_ares_params *params, const char **why)
{
    if (params->server_count > 0)
        return true;
    int fd = open(params->resolv_conf, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        close(fd);
        return true;
    }
    *why = "resolv.conf cannot be opened: no descriptor or no memory is left";
    return errno != EMFILE && errno != ENFILE && errno != ENOMEM;
}

static struct resolve_ares *create(const struct resolve_ares_params *params,
                                   struct resolve_ares *parent, const char **why)
{
    if (!can_open(params, why))
        return NULL;
    struct resolve_ares *c = calloc(1, sizeof *c);
    if (!c) {
        *why = "out of memory";
        return NULL;
    }
    c->params = *params;
    c->parent = parent;
    list_init(&c->sockets);
    list_init(&c->node);
    list_init(&c->streams);
    list_init(&c->truncated);
    list_init(&c->again);
    int rc = channel_init(c);
    if (rc != ARES_SUCCESS)
        *why = ares_strerror(rc);
    if (rc != ARES_SUCCESS || !set_servers(c, why)) {
        ares_destroy(c->channel);
        free(c);
        return NULL;
    }
    uv_timer_init(params->loop, &c->timer);
    c->timer.data = c;
    c->handles = 1;
    return c;
}

struct resolve_ares *resolve_ares_create(const struct resolve_ares_params *params, const char **why)
{
    return create(params, NULL, why);
}

void resolve_ares_close(struct resolve_ares *c)
{
    struct list *node;
    c->closing = true;
    while ((node = list_pop(&c->streams)))
        resolve_ares_close(resolve_ares_of_node(node));
    ares_destroy(c->channel);
    c->channel = NULL;
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

/* Streams */

static void on_stream_closed(void *arg)
{
    handle_closed(arg);
}

static struct resolve_ares *stream_open(struct resolve_ares *c)
{
    const char *why;
    struct resolve_ares_params params = c->params;
    params.closed = on_stream_closed;
    params.arg = c;
    struct resolve_ares *stream = create(&params, c, &why);
    if (!stream)
        return NULL;
    list_append(&c->streams, &stream->node);
    c->stream_count++;
    c->handles++;
    return stream;
}

/* Not from inside c-ares. */
static void stream_close_when_told(struct resolve_ares *stream)
{
    if (stream->in_flight > 0)
        return;
    list_remove(&stream->node);
    stream->parent->stream_count--;
    resolve_ares_close(stream);
}

/* False when there is no memory for it now. */
static bool stream_ask(struct resolve_ares *c, struct resolve_question *q)
{
    struct resolve_ares *stream = stream_open(c);
    if (!stream)
        return false;
    list_remove(&q->node);
    q->channel = stream;
    q->asked_again = true;
    stream->question = q;
    stream->asked_ms = uv_now(c->params.loop);
    stream->in_flight++;
    ask(stream, q);
    timer_keep(stream);
    stream_close_when_told(stream);
    return true;
}

static void tell_timeout(struct resolve_question *q)
{
    struct resolve_answer answer;
    tell(q, &answer, resolve_failure(&answer, ARES_ETIMEOUT));
}

/* Ends the oldest stream when it was not answered for long enough. Not from inside c-ares. */
static bool stream_give_up(struct resolve_ares *c)
{
    struct resolve_ares *stream = resolve_ares_of_node(c->streams.next);
    if (uv_now(c->params.loop) < stream->asked_ms + STREAM_TRY_MS)
        return false;
    list_remove(&stream->node);
    c->stream_count--;
    resolve_ares_close(stream);
    stream->question->channel = c;
    tell_timeout(stream->question);
    return true;
}

static struct resolve_question *next_truncated(struct resolve_ares *c)
{
    struct list *node = c->youngest ? c->truncated.prev : c->truncated.next;
    c->youngest = !c->youngest;
    return LIST_CONTAINER(node, struct resolve_question, node);
}

/* Asks for names that wait for a stream, or tells that they waited too long. */
static void ask_truncated(struct resolve_ares *c)
{
    for (int i = 0; i < STREAM_ASKS_MAX && !list_empty(&c->truncated); i++) {
        struct resolve_question *q =
            LIST_CONTAINER(c->truncated.next, struct resolve_question, node);
        if (uv_now(c->params.loop) >= q->until_ms) {
            list_remove(&q->node);
            tell_timeout(q);
        } else if (c->stream_count == RESOLVE_ARES_STREAMS && !stream_give_up(c)) {
            break;
        } else if (!stream_ask(c, next_truncated(c))) {
            break;
        }
    }
    if (!list_empty(&c->truncated) && c->stream_count < RESOLVE_ARES_STREAMS)
        uv_timer_start(&c->timer, on_timer, TIMER_MIN_MS, 0);
}

/* After c-ares was called by an event of c, which may be a stream and is closed then. */
static void streams_turn(struct resolve_ares *c)
{
    struct resolve_ares *parent = c->parent;
    if (parent)
        stream_close_when_told(c);
    ask_truncated(parent ? parent : c);
}

void resolve_ares_ask(struct resolve_ares *c, struct resolve_question *question, const char *name)
{
    *question = (struct resolve_question){.channel = c,
                                          .name = name,
                                          .until_ms = uv_now(c->params.loop) + LOOKUP_MS,
                                          .closed_before = c->closed_sockets};
    list_init(&question->node);
    c->in_flight++;
    watch_again(c);
    ask(c, question);
    timer_keep(c);
}

size_t resolve_ares_in_flight(const struct resolve_ares *c)
{
    return c->in_flight;
}

struct list *resolve_ares_node(struct resolve_ares *c)
{
    return &c->node;
}

struct resolve_ares *resolve_ares_of_node(struct list *node)
{
    return LIST_CONTAINER(node, struct resolve_ares, node);
}
