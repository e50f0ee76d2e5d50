/* SPDX-License-Identifier: MIT
 *
 * descriptors - the budget of file descriptors: what the configuration may need at most, and, where
 * RLIMIT_NOFILE gives less, how few clients, transfers and idle connections fit into what there is.
 * So that they do not run out in the middle of a batch: who finds no place waits, in the listener's
 * backlog or in the queue, and nothing fails.
 */
#ifndef GATHERD_DESCRIPTORS_H
#define GATHERD_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

/* How many the configuration may have open at once, with room to spare. open: how many listening
 * addresses are, whatever the configuration says; 0 = before the start, those of it. Each policy
 * has idle connections of its own in each loop, for http, https and HTTP/2; those that were busy a
 * moment ago are not counted as idle yet. Should it be more for that, or for what still runs under
 * the rules of before a reload, idle ones give theirs up and members wait (fetch_hold_starts()). */
int64_t descriptors_wanted(const struct config *config, int64_t open);

/* The fewest with which it works at all: what its loops and policies cost, one client of each
 * address, one transfer. open: as above. */
int64_t descriptors_least(const struct config *config, int64_t open);

/* How far RLIMIT_NOFILE may be raised; INT64_MAX where that is not known. */
int64_t descriptors_limit(void);

/* Fits the configuration into `available`: lowers limits.clients (which holds for each listening
 * address), limits.in_flight, fetch.idle_connections, and loops where they are `auto`, and marks
 * fetch.few_descriptors. True when something was lowered; nothing goes below 1, so of very few the
 * budget may still be more than there is. open: as above; where it is not 0, clients and loops are
 * in use already, and stay: the configuration has those, not what a file says of them. */
bool descriptors_fit(struct config *config, int64_t available, int64_t open);

/* Raises RLIMIT_NOFILE to what is wanted as far as that may be, and fits the configuration into it,
 * which is logged when something was lowered. False when the limit is not known (errno). */
bool descriptors_provide(struct config *config, int64_t open) __attribute__((warn_unused_result));

#endif
