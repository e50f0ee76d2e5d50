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

/* How many the configuration may have open at once, with room to spare. Each policy has idle
 * connections of its own in each loop, for http, https and HTTP/2; those that were busy a moment ago
 * are not counted as idle yet. Should it be more for that, or for policies that a reload took away,
 * idle ones give theirs up and members wait (fetch_hold_starts()). */
int64_t descriptors_wanted(const struct config *config);

/* Fits the configuration into `available`: lowers limits.clients (which holds for each listening
 * address), limits.in_flight, fetch.idle_connections, and loops where they are `auto`, and marks
 * fetch.few_descriptors. True when something was lowered; nothing goes below 1, so of very few the
 * budget may still be more than there is. running: clients and loops are in use already, and stay. */
bool descriptors_fit(struct config *config, int64_t available, bool running);

#endif
