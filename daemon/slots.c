/* SPDX-License-Identifier: MIT
 *
 * slots - see slots.h. Used by sched, one per loop, each on its thread: one struct slots for the
 * daemon, one for each batch. Owns its counters; the takers are their owners'.
 *
 * `used` goes up by compare-and-swap from below the limit only: it is never over it, and nobody is
 * refused because of another's trial. No wake-up is lost: a taker sets its bit in `waiting` and
 * then looks again at `used` and at whose turn it is, while who gives lowers `used`, and who took
 * or withdraws clears its own bit, and looks at `waiting` then. All of these are sequentially
 * consistent, so of two at least one sees the other. And turns have a total order (slots held,
 * ticket), so that for the first of those who wait nothing is reserved.
 *
 * `told` is a token: only who sets a taker's bit there may follow the pointer to that taker and
 * push it into its inbox, a stack that is emptied as a whole. Leaving takes the token for good; so
 * a taker can be freed while others are telling.
 */
#include "slots.h"

#include <assert.h>
#include <sched.h>
#include <stdlib.h>

static uint64_t bit(const struct slots_taker *t)
{
    return UINT64_C(1) << t->index;
}

struct slots *slots_create(int limit, int takers)
{
    assert(limit >= 1 && takers >= 1 && takers <= SLOTS_TAKERS_MAX);
    struct slots *s = calloc(1, sizeof *s + (size_t)takers * sizeof s->claims[0]);
    if (!s)
        return NULL;
    s->takers = takers;
    atomic_init(&s->limit, (size_t)limit);
    return s;
}

void slots_destroy(struct slots *s)
{
    assert(!s || slots_relaxed(&s->used) == 0);
    free(s);
}

void slots_set_limit(struct slots *s, int limit)
{
    assert(limit >= 1);
    atomic_store(&s->limit, (size_t)limit);
}

size_t slots_used(const struct slots *s)
{
    return slots_relaxed(&s->used);
}

size_t slots_peak(const struct slots *s)
{
    return slots_relaxed(&s->peak);
}

void slots_join(struct slots_taker *t, struct slots *s, int index, struct slots_inbox *inbox)
{
    assert(index >= 0 && index < s->takers);
    *t = (struct slots_taker){.slots = s, .inbox = inbox, .index = index};
    t->alone = s->takers == 1;
    atomic_store(&s->claims[index].taker, t);
    atomic_fetch_and(&s->told, ~bit(t));
}

bool slots_leave(struct slots_taker *t)
{
    struct slots *s = t->slots;
    assert(slots_relaxed(&s->claims[t->index].held) == 0);
    slots_withdraw(t);
    if ((atomic_fetch_or(&s->told, bit(t)) & bit(t)) == 0)
        return true;
    (void)sched_yield(); /* it may be between taking the token and pushing */
    return false;
}

/* Turns */

static void draw_ticket(struct slots_taker *t)
{
    struct slots *s = t->slots;
    atomic_store(&s->claims[t->index].ticket, atomic_fetch_add(&s->tickets, 1));
}

/* The slots that those who come before t need until they do not any more. */
static size_t reserved(const struct slots_taker *t)
{
    struct slots *s = t->slots;
    uint64_t others = atomic_load(&s->waiting) & ~bit(t);
    if (others == 0)
        return 0;
    size_t sum = 0, held = slots_relaxed(&s->claims[t->index].held);
    uint64_t ticket = t->registered ? atomic_load(&s->claims[t->index].ticket) : UINT64_MAX;
    for (; others != 0; others &= others - 1) {
        struct slots_claim *other = &s->claims[__builtin_ctzll(others)];
        size_t theirs = slots_relaxed(&other->held);
        if (theirs <= held)
            sum += held - theirs + (atomic_load(&other->ticket) < ticket);
    }
    return sum;
}

static bool has_room(const struct slots_taker *t, size_t used)
{
    size_t limit = atomic_load(&t->slots->limit);
    return used < limit && reserved(t) < limit - used;
}

bool slots_shared_may(const struct slots_taker *t)
{
    return has_room(t, atomic_load(&t->slots->used));
}

static void note_peak(struct slots *s, size_t used)
{
    size_t peak = slots_relaxed(&s->peak);
    while (used > peak && !atomic_compare_exchange_weak(&s->peak, &peak, used))
        continue;
}

bool slots_shared_take(struct slots_taker *t)
{
    struct slots *s = t->slots;
    size_t used = atomic_load(&s->used);
    do {
        if (!has_room(t, used))
            return false;
    } while (!atomic_compare_exchange_weak(&s->used, &used, used + 1));
    _Atomic size_t *held = &s->claims[t->index].held;
    slots_set_relaxed(held, slots_relaxed(held) + 1);
    note_peak(s, used + 1);
    slots_withdraw(t);
    return true;
}

void slots_shared_give(struct slots_taker *t)
{
    struct slots *s = t->slots;
    _Atomic size_t *held = &s->claims[t->index].held;
    assert(slots_relaxed(held) > 0);
    slots_set_relaxed(held, slots_relaxed(held) - 1);
    if (t->registered)
        draw_ticket(t);
    atomic_fetch_sub(&s->used, 1);
}

/* Waiting */

bool slots_shared_wait(struct slots_taker *t)
{
    struct slots *s = t->slots;
    if (slots_shared_may(t))
        return false;
    if (!t->registered) {
        draw_ticket(t);
        atomic_fetch_or(&s->waiting, bit(t));
        t->registered = true;
    }
    return !slots_shared_may(t);
}

void slots_shared_withdraw(struct slots_taker *t)
{
    t->registered = false;
    atomic_fetch_and(&t->slots->waiting, ~bit(t));
}

static void push(struct slots_taker *t)
{
    struct slots_inbox *inbox = t->inbox;
    t->next = atomic_load_explicit(&inbox->first, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&inbox->first, &t->next, t))
        continue;
}

/* Of the takers in mask the one that comes first. */
static uint64_t first_of(struct slots *s, uint64_t mask)
{
    size_t least = SIZE_MAX;
    uint64_t first = 0, oldest = 0;
    for (; mask != 0; mask &= mask - 1) {
        struct slots_claim *claim = &s->claims[__builtin_ctzll(mask)];
        size_t held = slots_relaxed(&claim->held);
        uint64_t ticket = atomic_load(&claim->ticket);
        if (held < least || (held == least && ticket < oldest)) {
            first = mask & -mask;
            least = held;
            oldest = ticket;
        }
    }
    return first;
}

/* Whether it has to be woken: not when it was told already. */
static bool tell(struct slots *s, uint64_t one)
{
    if ((atomic_load(&s->told) & one) != 0 || (atomic_fetch_or(&s->told, one) & one) != 0)
        return false;
    push(atomic_load(&s->claims[__builtin_ctzll(one)].taker));
    return true;
}

uint64_t slots_shared_tell(struct slots_taker *t)
{
    struct slots *s = t->slots;
    uint64_t woken = 0;
    size_t used = atomic_load(&s->used), limit = atomic_load(&s->limit);
    uint64_t others = atomic_load(&s->waiting) & ~bit(t);
    for (; used < limit && others != 0; used++) {
        uint64_t first = first_of(s, others);
        if (tell(s, first))
            woken |= first;
        others &= ~first;
    }
    return woken;
}

/* The token goes back before its owner looks: what is given after that tells anew. */
struct slots_taker *slots_inbox_next(struct slots_taker *t)
{
    struct slots_taker *next = t->next;
    atomic_fetch_and(&t->slots->told, ~bit(t));
    return next;
}

struct slots_taker *slots_inbox_take(struct slots_inbox *inbox)
{
    if (atomic_load_explicit(&inbox->first, memory_order_relaxed) == NULL)
        return NULL;
    return atomic_exchange(&inbox->first, NULL);
}
