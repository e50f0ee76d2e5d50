/* SPDX-License-Identifier: MIT
 *
 * resolve_cache - answers by name, shared by the resolvers of all loops: positive and negative
 * ones, each good until a time, 10,000 names at most, the least recently used go first.
 *
 * Times are milliseconds of the monotonic clock, uv_now() of any loop. Every answer belongs to a
 * generation: a new one empties the cache, and an answer that was asked for in an older one is not
 * taken. Any thread: every function but create and destroy may be called at any time; a call holds
 * one lock for a bounded time and neither allocates a name nor frees one under it.
 */
#ifndef GATHERD_RESOLVE_CACHE_H
#define GATHERD_RESOLVE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resolve.h"

#define RESOLVE_CACHE_NAMES 10000 /* at most */

struct resolve_cache;

/* NULL when memory runs out. destroy: no resolver uses it any more; NULL is fine. */
struct resolve_cache *resolve_cache_create(void);
void resolve_cache_destroy(struct resolve_cache *c);

/* Copies the answer out; false when there is none that is good after now_ms. */
bool resolve_cache_get(struct resolve_cache *c, const char *name, uint64_t now_ms,
                       struct resolve_answer *out);

/* Keeps a copy of an answer, good until until_ms. Not when it was asked for in another generation
 * than the present one, nor when memory runs out. */
void resolve_cache_put(struct resolve_cache *c, const char *name, uint64_t generation,
                       uint64_t now_ms, uint64_t until_ms, const struct resolve_answer *answer);

/* The present generation; never 0. */
uint64_t resolve_cache_generation(const struct resolve_cache *c);

/* Begins a generation: empties the cache, and each resolver asks by a new channel from its next
 * look-up on. With `seen` other than 0 only if that is still the present one: of several who
 * noticed the same change, one empties the cache. */
void resolve_cache_renew(struct resolve_cache *c, uint64_t seen);

#endif
