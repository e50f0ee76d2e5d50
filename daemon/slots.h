/* SPDX-License-Identifier: MIT
 *
 * slots - a limit that several loops share: never one too many in use, and none idle for long while
 * anybody waits for it.
 *
 * Takers are the loops, numbered from 0. A loop joins with a `struct slots_taker` that its owner
 * embeds. It takes a slot and gives it back; refused, it may register that it waits. Turns: a taker
 * leaves so many slots free that each registered one that holds fewer can hold as many as it does,
 * and one more if that has waited longer. So slots are shared evenly by those who want them, and a
 * limit of 1 goes round.
 *
 * Nobody looks on its own: whoever leaves a slot free that it will not take itself calls
 * slots_tell(). That puts as many as there are slots, in the order of their turns, into their
 * loops' inboxes and returns the loops to be woken; each empties its inbox (slots_inbox_take) and
 * takes, or tells in its turn.
 *
 * Threads: a taker and all calls with it belong to its loop's thread; one taker's calls need no
 * lock against another's. With one taker there is no atomic read-modify-write and no registering.
 */
#ifndef GATHERD_SLOTS_H
#define GATHERD_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOTS_TAKERS_MAX 64

struct slots_taker;

/* What others may know of a taker without touching it. */
struct slots_claim {
    _Atomic size_t held;
    _Atomic uint64_t ticket; /* lower: has waited longer since it registered or gave one back */
    _Atomic(struct slots_taker *) taker;
};

/* All fields are the module's: here for the inline functions. */
struct slots {
    _Atomic size_t used, limit, peak;
    _Atomic uint64_t waiting, told; /* a bit for each taker */
    _Atomic uint64_t tickets;
    int takers;
    struct slots_claim claims[];
};

/* One for each loop; zeroed before use. */
struct slots_inbox {
    _Atomic(struct slots_taker *) first;
};

/* Embedded; the fields are the module's, too. */
struct slots_taker {
    struct slots *slots;
    struct slots_inbox *inbox;
    struct slots_taker *next; /* in the inbox */
    int index;
    bool alone, registered;
};

/* limit >= 1, 1 <= takers <= SLOTS_TAKERS_MAX. NULL when memory runs out. destroy: after every
 * taker has left. */
struct slots *slots_create(int limit, int takers);
void slots_destroy(struct slots *s);

/* Any thread. Lowered below what is in use it refuses until that fell. Tells nobody: every taker
 * that was refused has to try again. */
void slots_set_limit(struct slots *s, int limit);

/* Any thread: slots in use, and the most that ever were. */
size_t slots_used(const struct slots *s);
size_t slots_peak(const struct slots *s);

/* Joins as taker number index (nobody else is it); borrows s and inbox until it left. */
void slots_join(struct slots_taker *t, struct slots *s, int index, struct slots_inbox *inbox);

/* t holds no slot. False: another loop is about to put t into the inbox; empty that and call again.
 * True: t is in no inbox and never will be. */
bool slots_leave(struct slots_taker *t) __attribute__((warn_unused_result));

/* Takes a slot if there is one and t has its turn; t is then no longer registered. */
static inline bool slots_take(struct slots_taker *t) __attribute__((warn_unused_result));
static inline void slots_give(struct slots_taker *t);

/* Whether slots_take() would succeed now. */
static inline bool slots_may(const struct slots_taker *t);

/* Registers that t waits, unless slots_take() would succeed now (looked at after registering, so
 * that no slot is missed). True: t has to wait and will be told (a single taker will not: only its
 * own slots_give() can help). A registered taker keeps its place until it took or withdraws. */
static inline bool slots_wait(struct slots_taker *t) __attribute__((warn_unused_result));
static inline void slots_withdraw(struct slots_taker *t);

/* Whether another taker waits. */
static inline bool slots_others_wait(const struct slots_taker *t);

/* Offers the free slots to the others who wait: puts them into their inboxes. Returns a bit for
 * each loop that has to be woken: one that has been told and has not looked yet is left out. */
static inline uint64_t slots_tell(struct slots_taker *t) __attribute__((warn_unused_result));

/* Empties the inbox: NULL, or the first taker that was told; then slots_inbox_next() for each
 * gives the one after it. The taker may be told again from then on. */
struct slots_taker *slots_inbox_take(struct slots_inbox *inbox);
struct slots_taker *slots_inbox_next(struct slots_taker *t);

/* With one taker nothing is but a counter. The rest of this file are the functions above for that
 * case; for several takers slots.c has them. */

bool slots_shared_take(struct slots_taker *t) __attribute__((warn_unused_result));
void slots_shared_give(struct slots_taker *t);
bool slots_shared_may(const struct slots_taker *t);
bool slots_shared_wait(struct slots_taker *t) __attribute__((warn_unused_result));
void slots_shared_withdraw(struct slots_taker *t);
uint64_t slots_shared_tell(struct slots_taker *t) __attribute__((warn_unused_result));

static inline size_t slots_relaxed(const _Atomic size_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

static inline void slots_set_relaxed(_Atomic size_t *n, size_t value)
{
    atomic_store_explicit(n, value, memory_order_relaxed);
}

static inline bool slots_may(const struct slots_taker *t)
{
    const struct slots *s = t->slots;
    return t->alone ? slots_relaxed(&s->used) < slots_relaxed(&s->limit) : slots_shared_may(t);
}

static inline bool slots_take(struct slots_taker *t)
{
    struct slots *s = t->slots;
    if (!t->alone)
        return slots_shared_take(t);
    size_t used = slots_relaxed(&s->used);
    if (used >= slots_relaxed(&s->limit))
        return false;
    slots_set_relaxed(&s->used, ++used);
    if (used > slots_relaxed(&s->peak))
        slots_set_relaxed(&s->peak, used);
    return true;
}

static inline void slots_give(struct slots_taker *t)
{
    struct slots *s = t->slots;
    if (t->alone)
        slots_set_relaxed(&s->used, slots_relaxed(&s->used) - 1);
    else
        slots_shared_give(t);
}

static inline bool slots_wait(struct slots_taker *t)
{
    return t->alone ? !slots_may(t) : slots_shared_wait(t);
}

static inline void slots_withdraw(struct slots_taker *t)
{
    if (t->registered)
        slots_shared_withdraw(t);
}

static inline bool slots_others_wait(const struct slots_taker *t)
{
    return !t->alone && (atomic_load(&t->slots->waiting) & ~(UINT64_C(1) << t->index)) != 0;
}

static inline uint64_t slots_tell(struct slots_taker *t)
{
    return slots_others_wait(t) ? slots_shared_tell(t) : 0;
}

#endif
