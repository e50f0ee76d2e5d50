/* SPDX-License-Identifier: MIT
 *
 * transfer_connect - the connection of a hop: whether it may be opened or reused, its marks, and
 * whether it may be kept. Private to transfer.
 */
#ifndef GATHERD_TRANSFER_CONNECT_H
#define GATHERD_TRANSFER_CONNECT_H

#include "transfer.h"

/* Sets the callbacks after curl_easy_reset(); the hop's target is set. */
void transfer_set_connect_callbacks(struct transfer *t);

/* Of one whose answer over HTTP/2 did not come to its end: the others on its connection are run,
 * for libcurl (7.88) to see whether that is broken. */
void transfer_stir_streams(const struct transfer *t);

/* Whether the hop's connection is HTTP/2: a server may choose HTTP/1.1 where both are on offer. In
 * a callback of libcurl only, which knows the connection then. */
bool transfer_is_http2(const struct transfer *t);

/* Before each hop, its options set: `once` says whether its connection is kept. */
void transfer_begin_connection(struct transfer *t);

/* The hop's connection is closed after it, unless others use it. */
void transfer_forbid_reuse(struct transfer *t);

#endif
