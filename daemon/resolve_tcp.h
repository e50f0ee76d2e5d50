/* SPDX-License-Identifier: MIT
 *
 * resolve_tcp - what a name server says over TCP, cut to the records that are wanted.
 *
 * c-ares 1.18 appends each record to a list whose end it looks for, so that an answer of 64 KiB,
 * which any owner of a name can give, takes the loop 20 to 25 ms, for 32 addresses that are kept.
 * Cut here are the counts in a message's header, as its bytes come: what lies behind the last
 * counted record is not looked at.
 *
 * All functions: the channel's thread. Owns nothing.
 */
#ifndef GATHERD_RESOLVE_TCP_H
#define GATHERD_RESOLVE_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESOLVE_TCP_RECORDS_MAX 128 /* 32 addresses are kept; chains of names are a few long */

/* Where in its messages a connection is. Zeroed: at the beginning. */
struct resolve_tcp {
    uint32_t at;     /* bytes of the current message, its length's two included */
    uint16_t length; /* of the message, without those two */
    bool many;       /* the number of its answers is above 255 */
};

/* Cuts the n bytes that came next, in whatever pieces. No errors. */
void resolve_tcp_cut(struct resolve_tcp *t, uint8_t *data, size_t n);

#endif
