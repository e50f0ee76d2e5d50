/* SPDX-License-Identifier: MIT
 *
 * test_resolve_cache - the shared cache of names: what it keeps, for how long, how much, and that
 * threads see whole answers of the present generation only (run it under TSan too).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include <uv.h>

#include "resolve_cache.h"

#define THREADS 4
#define ROUNDS 20000
#define NAMES 64
#define BYTES_A_NAME 200 /* with one address */

static struct resolve_answer answer_of(uint8_t mark, size_t count)
{
    struct resolve_answer a = {.error = ERR_NONE, .message = "", .count = count};
    for (size_t i = 0; i < count; i++) {
        a.addresses[i].family = 4;
        memset(a.addresses[i].bytes, mark, 4);
    }
    return a;
}

static void put(struct resolve_cache *c, const char *name, uint64_t now_ms, uint64_t until_ms,
                const struct resolve_answer *answer)
{
    resolve_cache_put(c, name, resolve_cache_generation(c), now_ms, until_ms, answer);
}

static void name_of(char name[32], int i)
{
    snprintf(name, 32, "host-%d.test", i);
}

/* Of the numbered names, how many there are; they become the warmest. */
static int kept(struct resolve_cache *c, int from, int to, uint64_t now_ms)
{
    struct resolve_answer out;
    char name[32];
    int n = 0;
    for (int i = from; i < to; i++) {
        name_of(name, i);
        n += resolve_cache_get(c, name, now_ms, &out);
    }
    return n;
}

static void put_names(struct resolve_cache *c, int from, int to, uint64_t now_ms, uint64_t until_ms)
{
    struct resolve_answer a = answer_of(1, 1);
    char name[32];
    for (int i = from; i < to; i++) {
        name_of(name, i);
        put(c, name, now_ms, until_ms, &a);
    }
}

static void test_keeps_until(void **state)
{
    struct resolve_cache *c = resolve_cache_create();
    struct resolve_answer a = answer_of(7, 3), out;
    (void)state;
    assert_false(resolve_cache_get(c, "one.test", 0, &out));
    put(c, "one.test", 0, 1000, &a);
    assert_true(resolve_cache_get(c, "one.test", 999, &out));
    assert_int_equal(out.error, ERR_NONE);
    assert_int_equal(out.count, 3);
    assert_memory_equal(out.addresses, a.addresses, 3 * sizeof a.addresses[0]);
    assert_false(resolve_cache_get(c, "one.test", 1000, &out));
    assert_false(resolve_cache_get(c, "one.tes", 0, &out));
    assert_false(resolve_cache_get(c, "one.test.", 0, &out));
    resolve_cache_destroy(c);
    resolve_cache_destroy(NULL);
}

static void test_negative_and_replaced(void **state)
{
    struct resolve_cache *c = resolve_cache_create();
    static const char words[] = "no such name";
    struct resolve_answer a = {.error = ERR_DNS_ERROR, .message = words}, full, out;
    (void)state;
    put(c, "one.test", 0, 1000, &a);
    assert_true(resolve_cache_get(c, "one.test", 0, &out));
    assert_int_equal(out.error, ERR_DNS_ERROR);
    assert_ptr_equal(out.message, words);
    assert_int_equal(out.count, 0);
    full = answer_of(1, RESOLVE_ADDRESSES_MAX);
    put(c, "one.test", 0, 2000, &full);
    assert_true(resolve_cache_get(c, "one.test", 1500, &out));
    assert_int_equal(out.count, RESOLVE_ADDRESSES_MAX);
    assert_memory_equal(out.addresses, full.addresses, sizeof full.addresses);
    resolve_cache_destroy(c);
}

static void test_bounded(void **state)
{
    struct resolve_cache *c = resolve_cache_create();
    struct resolve_answer a = answer_of(1, 1), out;
    char name[32];
    (void)state;
    put(c, "warm.test", 0, 1000, &a);
    for (int i = 0; i < RESOLVE_CACHE_NAMES + 500; i++) {
        name_of(name, i);
        put(c, name, 0, 1000, &a);
        assert_true(resolve_cache_get(c, "warm.test", 0, &out));
    }
    assert_int_equal(kept(c, 0, 501, 0), 0);
    assert_int_equal(kept(c, 501, RESOLVE_CACHE_NAMES + 500, 0), RESOLVE_CACHE_NAMES - 1);
    resolve_cache_destroy(c);
}

/* Two of the coldest that have expired go for each that comes: who asks as of earlier does not find
 * them. */
static void test_expired_go(void **state)
{
    struct resolve_cache *c = resolve_cache_create();
    (void)state;
    put_names(c, 0, 100, 0, 10);
    put_names(c, 100, 149, 20, 1000);
    assert_int_equal(kept(c, 0, 98, 5), 0);
    assert_int_equal(kept(c, 98, 100, 5), 2);
    put_names(c, 149, 200, 20, 1000);
    assert_int_equal(kept(c, 100, 200, 20), 100);
    resolve_cache_destroy(c);
}

static void test_generations(void **state)
{
    struct resolve_cache *c = resolve_cache_create();
    struct resolve_answer a = answer_of(1, 1), out;
    uint64_t first = resolve_cache_generation(c);
    (void)state;
    assert_true(first > 0);
    put_names(c, 0, 1000, 0, 1000);
    resolve_cache_renew(c, first);
    resolve_cache_renew(c, first); /* noticed by another one too: nothing more happens */
    assert_int_equal(resolve_cache_generation(c), first + 1);
    assert_int_equal(kept(c, 0, 1000, 0), 0);
    resolve_cache_put(c, "late.test", first, 0, 1000, &a);
    assert_false(resolve_cache_get(c, "late.test", 0, &out));
    put(c, "new.test", 0, 1000, &a);
    assert_true(resolve_cache_get(c, "new.test", 0, &out));
    resolve_cache_renew(c, 0);
    assert_false(resolve_cache_get(c, "new.test", 0, &out));
    assert_int_equal(resolve_cache_generation(c), first + 2);
    resolve_cache_destroy(c);
}

/* By malloc's count, which is 0 under valgrind and sanitizers: a name that is there is replaced,
 * and a new generation gives back all but the table's buckets. */
static void test_memory(void **state)
{
    struct resolve_cache *c = resolve_cache_create();
    (void)state;
    size_t before = mallinfo2().uordblks;
    for (int round = 0; round < 100; round++)
        put_names(c, 0, 10, 0, 1000);
    assert_true(mallinfo2().uordblks - before <= 10 * BYTES_A_NAME);
    put_names(c, 0, RESOLVE_CACHE_NAMES, 0, 1000);
    size_t used = mallinfo2().uordblks - before;
    print_message("# %zu bytes a name with one address\n", used / RESOLVE_CACHE_NAMES);
    assert_true(used / RESOLVE_CACHE_NAMES <= BYTES_A_NAME);
    resolve_cache_renew(c, 0);
    assert_true(mallinfo2().uordblks - before <= used / 4);
    resolve_cache_destroy(c);
}

/* Every answer carries its generation in all of its addresses: what a thread reads is whole, and
 * not older than the generation it saw before it looked. */
struct worker {
    uv_thread_t thread;
    struct resolve_cache *cache;
    unsigned number;
    int hits, faults;
};

static bool is_sound(const struct resolve_answer *a, uint8_t oldest)
{
    uint8_t mark = a->addresses[0].bytes[0];
    struct resolve_answer whole = answer_of(mark, a->count);
    return a->count > 0 && (uint8_t)(mark - oldest) < 128 &&
           memcmp(a->addresses, whole.addresses, a->count * sizeof a->addresses[0]) == 0;
}

static void work(void *arg)
{
    struct worker *w = arg;
    unsigned random = w->number * 2654435761U + 1;
    struct resolve_answer out;
    char name[32];
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t generation = resolve_cache_generation(w->cache);
        random = random * 1103515245U + 12345U;
        name_of(name, (int)(random >> 16) % NAMES);
        if (resolve_cache_get(w->cache, name, 0, &out)) {
            w->hits++;
            w->faults += !is_sound(&out, (uint8_t)generation);
        } else {
            struct resolve_answer a = answer_of((uint8_t)generation, 1 + (random >> 24) % 32);
            resolve_cache_put(w->cache, name, generation, 0, 1000, &a);
        }
        if (i % 1000 == 999)
            resolve_cache_renew(w->cache, generation);
    }
}

static void test_threads(void **state)
{
    struct resolve_cache *c = resolve_cache_create();
    struct worker workers[THREADS];
    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.cache = c, .number = i};
        assert_int_equal(uv_thread_create(&workers[i].thread, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        uv_thread_join(&workers[i].thread);
        assert_true(workers[i].hits > 0);
        assert_int_equal(workers[i].faults, 0);
    }
    assert_true(resolve_cache_generation(c) <= 1 + THREADS * ROUNDS / 1000);
    resolve_cache_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_until), cmocka_unit_test(test_negative_and_replaced),
        cmocka_unit_test(test_bounded),     cmocka_unit_test(test_expired_go),
        cmocka_unit_test(test_generations), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
