/* SPDX-License-Identifier: MIT
 *
 * quota - what one identity may have at once and in a time: batches, members, members a second or a
 * minute. One table of identities; an identity that has nothing and owes nothing is forgotten, so
 * that the table is no larger than what runs. Pure but for memory; one thread; the caller's clock.
 *
 * The rate is a bucket of one second's (or minute's) members that may go into debt: a batch larger
 * than what is left is taken while one member is left, and what it took too much is waited for by
 * the next one. So no batch is too large to ever be taken, and in the long run the rate holds.
 */
#ifndef GATHERD_QUOTA_H
#define GATHERD_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

struct quotas;
struct quota; /* of one identity, while a batch of it counts */

/* NULL when memory runs out. */
struct quotas *quotas_create(void);
void quotas_destroy(struct quotas *all);

enum quota_verdict {
    QUOTA_OK,
    QUOTA_BATCHES, /* limits.per_client_batches are there */
    QUOTA_MEMBERS, /* limits.per_client_members would be passed */
    QUOTA_RATE,    /* limits.per_client_rate is used up */
};

struct quota_answer {
    enum quota_verdict verdict;
    size_t excess;   /* QUOTA_MEMBERS: so many are too many */
    int64_t wait_us; /* QUOTA_RATE: until there is one left */
};

/* Whether a batch may begin, of which no more is known yet. limits: those of now, here and below;
 * they may change between calls. */
struct quota_answer quota_check(struct quotas *all, const char *identity,
                                const struct config_limits *limits, int64_t now_us);

/* Takes the batch that quota_check() found free: returns what quota_give_back() is to be given in
 * the end, or NULL with *ok = true when no quota is set, or *ok = false when memory ran out. */
struct quota *quota_take(struct quotas *all, const char *identity,
                         const struct config_limits *limits, int64_t now_us, bool *ok);

/* The same for the members of a batch that was taken; with NULL all are free. */
struct quota_answer quota_check_members(struct quota *q, size_t members,
                                        const struct config_limits *limits, int64_t now_us);
void quota_take_members(struct quota *q, size_t members, const struct config_limits *limits,
                        int64_t now_us);

/* Of one batch, with all members that were taken for it. NULL is fine. */
void quota_give_back(struct quotas *all, struct quota *q, size_t members);

/* Identities that are known, for tests of the table's bound. */
size_t quotas_known(const struct quotas *all);

#endif
