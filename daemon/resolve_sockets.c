/* SPDX-License-Identifier: MIT
 *
 * resolve_sockets - see resolve_sockets.h. Called by resolve_ares, and by c-ares on the channel's
 * thread. Owns nothing.
 *
 * The mark is an answer of one record, the unspecified address of the family asked for with a TTL
 * of 68 years. A server that says the very same has its name asked for over TCP, and no more.
 */
#include "resolve_sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUFFER_BYTES (1 << 20)
#define PLAIN_MAX 512 /* of an answer to a question without EDNS, RFC 1035 */
#define HEADER 12
#define TRUNCATED 0x02 /* in byte 2 */
#define TYPE_A 1
#define TYPE_AAAA 28
#define MARK_TTL 0x7ffffffe

/* Where the only question ends, or 0. */
static size_t question_end(const uint8_t *packet, size_t n)
{
    size_t at = HEADER;
    if (n < HEADER || packet[4] != 0 || packet[5] != 1)
        return 0;
    while (at < n && packet[at] != 0 && packet[at] < 64)
        at += packet[at] + 1U;
    return at + 5 <= n && packet[at] == 0 ? at + 5 : 0;
}

/* What is truncated becomes the mark; returns the length. What is no question for addresses stays
 * as it is: c-ares asked for nothing like it. */
static size_t mark(uint8_t *packet, size_t n, size_t room)
{
    static const uint8_t counts[8] = {0, 1, 0, 1, 0, 0, 0, 0};
    size_t at = question_end(packet, n);
    uint8_t type = at > 0 ? packet[at - 3] : 0;
    uint8_t length = type == TYPE_A ? 4 : 16;
    const uint8_t record[12] = {0xc0,
                                HEADER,
                                0,
                                type,
                                0,
                                1,
                                MARK_TTL >> 24,
                                MARK_TTL >> 16 & 0xff,
                                MARK_TTL >> 8 & 0xff,
                                MARK_TTL & 0xff,
                                0,
                                length};
    if ((type != TYPE_A && type != TYPE_AAAA) || at + sizeof record + length > room)
        return n;
    packet[2] &= (uint8_t)~TRUNCATED;
    packet[3] &= 0xf0; /* whatever the code was */
    memcpy(packet + 4, counts, sizeof counts);
    memcpy(packet + at, record, sizeof record);
    memset(packet + at + sizeof record, 0, length);
    return at + sizeof record + length;
}

static struct resolve_stream *stream_find(struct resolve_sockets *s, bool open, ares_socket_t fd)
{
    for (size_t i = 0; i < RESOLVE_STREAMS_MAX; i++) {
        struct resolve_stream *stream = &s->streams[i];
        if (stream->open == open && (!open || stream->fd == fd))
            return stream;
    }
    return NULL;
}

/* What c-ares calls */

/* An empty datagram would be the end of the connection to c-ares 1.18, and of all that is in
 * flight with it. Without `from` it is a stream. */
static ares_ssize_t on_receive(ares_socket_t fd, void *data, size_t size, int flags,
                               struct sockaddr *from, ares_socklen_t *from_len, void *arg)
{
    uint8_t *packet = data;
    ssize_t n = recvfrom(fd, data, size, flags, from, from_len);
    struct resolve_stream *stream = from == NULL ? stream_find(arg, true, fd) : NULL;
    if (n == 0 && from != NULL) {
        errno = EAGAIN;
        return -1;
    }
    if (n > 0 && stream != NULL)
        resolve_tcp_cut(&stream->tcp, packet, (size_t)n);
    if (n >= HEADER && from != NULL && (n > PLAIN_MAX || packet[2] & TRUNCATED))
        n = (ssize_t)mark(packet, (size_t)n, size);
    return n;
}

/* The rest is what c-ares does by itself where it is given no functions. */

static ares_socket_t on_open(int family, int type, int protocol, void *arg)
{
    const int bytes = BUFFER_BYTES, yes = 1;
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd >= 0 && type == SOCK_STREAM) {
        struct resolve_stream *stream = stream_find(arg, false, fd);
        if (stream != NULL)
            *stream = (struct resolve_stream){.open = true, .fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    }
    return fd;
}

static int on_close(ares_socket_t fd, void *arg)
{
    struct resolve_stream *stream = stream_find(arg, true, fd);
    if (stream != NULL)
        stream->open = false;
    return close(fd);
}

static int on_connect(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t len, void *arg)
{
    (void)arg;
    return connect(fd, to, len);
}

/* A refusal that comes with a send is that of an earlier question, which c-ares would leave to wait
 * for its time, and go to the next server with this one alone. The refusal of what is sent again is
 * read, and then c-ares takes all of them elsewhere. */
static ares_ssize_t on_send(ares_socket_t fd, const struct iovec *parts, int count, void *arg)
{
    (void)arg;
    ssize_t n = writev(fd, parts, count);
    return n < 0 && errno == ECONNREFUSED ? writev(fd, parts, count) : n;
}

void resolve_sockets_use(struct resolve_sockets *s, ares_channel channel)
{
    static const struct ares_socket_functions functions = {on_open, on_close, on_connect,
                                                           on_receive, on_send};
    ares_set_socket_functions(channel, &functions, s);
}

bool resolve_sockets_truncated(const struct ares_addrinfo *ai)
{
    for (const struct ares_addrinfo_node *node = ai->nodes; node != NULL; node = node->ai_next)
        if (node->ai_ttl == MARK_TTL)
            return true;
    return false;
}
