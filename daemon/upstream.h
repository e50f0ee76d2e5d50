/* SPDX-License-Identifier: MIT
 *
 * upstream - what one engine knows of an origin that it has connections to: how many there are, and
 * how many transfers use them. Says whether the next fetch will find one that is free.
 *
 * An entry lives while it has a socket or a transfer, so the table is as large as the connection
 * caches, whatever number of hosts was ever fetched from. Belongs to one thread.
 */
#ifndef GATHERD_UPSTREAM_H
#define GATHERD_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "table.h"
#include "target.h"

struct upstreams {
    struct table table;
};

struct upstream {
    struct table_node in_table;
    struct upstreams *all;
    size_t sockets;   /* open to it, whoever uses them */
    size_t transfers; /* handed to libcurl */
    char key[];       /* the origin's */
};

/* False when memory runs out. fini: no entry may be left. */
bool upstreams_init(struct upstreams *all) __attribute__((warn_unused_result));
void upstreams_fini(struct upstreams *all);

/* The origin's entry, for a transfer that is about to start, counted; NULL when memory runs out.
 * The transfer gives it back with upstream_transfer_ended(). */
struct upstream *upstream_transfer_starts(struct upstreams *all, const struct origin *origin);
void upstream_transfer_ended(struct upstream *u);

/* A socket to it was opened / closed. The entry must have a transfer when one is opened. */
void upstream_socket_opened(struct upstream *u);
void upstream_socket_closed(struct upstream *u);

#endif
