/* SPDX-License-Identifier: MIT
 *
 * http_listen - listening sockets: TCP, Unix, and their clean end. Knows no libmicrohttpd.
 */
#ifndef GATHERD_HTTP_LISTEN_H
#define GATHERD_HTTP_LISTEN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cidr.h"
#include "config.h"

struct http_socket {
    int fd;
    int family; /* AF_INET, AF_INET6, AF_UNIX */
    struct ip_addr address;
    uint16_t port;  /* the real one, also when 0 was asked */
    char name[128]; /* "127.0.0.1:4284", "[::1]:4284", "unix:/run/..." */
    char path[108]; /* of a Unix socket; unlinked at close while it is still ours */
    ino_t inode;
};

/* Opens what `bind` of the listener names, in order. With the built-in default an address the
 * machine lacks is a warning while another opened. Returns 0, EX_UNAVAILABLE (69) or EX_OSERR (71),
 * the reason logged; *n sockets are open also on failure and are the caller's to close. */
int http_listen_open(const struct config_listener *conf, struct http_socket *out, size_t max,
                     size_t *n);

/* Whether `bind` of the listener names the address; port 0 is any of it. */
bool http_socket_is_named(const struct http_socket *s, const struct config_listener *conf);

/* Closes; a Unix socket's path goes too. */
void http_socket_close(struct http_socket *s);

/* What the client behind fd, a connection to s, has taken: its kernel of what was sent, or by a
 * Unix socket it of what was written. Counted from anywhere, so that only the difference of two
 * calls says something, and by a Unix socket only where nothing was written in between. False: not
 * known. */
bool http_socket_taken(const struct http_socket *s, int fd, int64_t *bytes);

/* Bytes of the client behind fd that wait to be read, and those that were read, counted from
 * anywhere: two calls with the same count and unread ones in between mean that nobody reads. By a
 * Unix socket the count falls by what comes in, so that it can stay the same although somebody
 * does. False: not known, as in the moment in which bytes come. */
bool http_socket_read(const struct http_socket *s, int fd, int64_t *unread, int64_t *read_bytes);

#endif
