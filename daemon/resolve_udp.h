/* SPDX-License-Identifier: MIT
 *
 * resolve_udp - the sockets of a c-ares channel that leaves truncated answers to its owner.
 *
 * c-ares asks for a truncated answer again over TCP, beside whatever else the channel has in
 * flight; with ARES_FLAG_IGNTC it takes what there is of it, and does not say so. Here such an
 * answer becomes a short one with a mark in it: the look-up ends as it would by any other, and
 * whoever reads the addresses finds the mark. All functions: the channel's thread.
 */
#ifndef GATHERD_RESOLVE_UDP_H
#define GATHERD_RESOLVE_UDP_H

#include <stdbool.h>

#include <ares.h>

/* Gives the channel its sockets, before the first question; it must have ARES_FLAG_IGNTC. */
void resolve_udp_use(ares_channel channel);

/* Whether an answer of such a channel, of either family, was truncated. */
bool resolve_udp_truncated(const struct ares_addrinfo *ai);

#endif
