/* SPDX-License-Identifier: MIT
 *
 * resolve_sockets - the sockets of a c-ares channel: over UDP it leaves truncated answers to its
 * owner, and over TCP their records are cut to what is wanted (resolve_tcp).
 *
 * c-ares asks for a truncated answer again over TCP, beside whatever else the channel has in
 * flight; with ARES_FLAG_IGNTC it takes what there is of it, and does not say so. Here such an
 * answer becomes a short one with a mark in it: the look-up ends as it would by any other, and
 * whoever reads the addresses finds the mark. All functions: the channel's thread.
 */
#ifndef GATHERD_RESOLVE_SOCKETS_H
#define GATHERD_RESOLVE_SOCKETS_H

#include <stdbool.h>

#include <ares.h>

#include "resolve_tcp.h"

#define RESOLVE_STREAMS_MAX 16 /* connections of a channel, one a server; of more nothing is cut */

struct resolve_stream {
    bool open;
    ares_socket_t fd;
    struct resolve_tcp tcp;
};

/* Of one channel, and there for as long as it is. Zeroed: none is open. */
struct resolve_sockets {
    struct resolve_stream streams[RESOLVE_STREAMS_MAX];
};

/* Gives the channel its sockets, before the first question; it must have ARES_FLAG_IGNTC or
 * ARES_FLAG_USEVC. */
void resolve_sockets_use(struct resolve_sockets *s, ares_channel channel);

/* Whether an answer of such a channel, of either family, was truncated. */
bool resolve_sockets_truncated(const struct ares_addrinfo *ai);

#endif
