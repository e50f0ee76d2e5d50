/* SPDX-License-Identifier: MIT
 *
 * table - see table.h. Used by sched (origins, lanes), resolve and its cache (names), upstream and
 * target (origins), tls_sessions and quota, each on the thread of its owner. Owns the bucket array
 * only.
 *
 * The hash is SipHash-1-3 (one round per word, three at the end), the variant that other languages
 * use for their tables. A resize relinks all nodes at once: O(1) amortised, a few milliseconds for
 * 100,000 nodes. It grows at a load of 1 and shrinks at 1/8, so that it does not swing.
 */
#include "table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define SIZE_MIN_BUCKETS 16

static uint64_t rotate(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t table_hash(const struct table *t, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t v[4] = {t->key[0] ^ 0x736f6d6570736575U, t->key[1] ^ 0x646f72616e646f6dU,
                     t->key[0] ^ 0x6c7967656e657261U, t->key[1] ^ 0x7465646279746573U};
    uint64_t word, last = (uint64_t)n << 56;
    size_t left = n;
    for (; left >= sizeof word; left -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)p[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

bool table_init(struct table *t)
{
    t->count = 0;
    t->size = SIZE_MIN_BUCKETS;
    t->buckets = calloc(t->size, sizeof(struct table_node *));
    if (getrandom(t->key, sizeof t->key, GRND_NONBLOCK) != (ssize_t)sizeof t->key) {
        /* Before the kernel's pool is seeded, in early boot: an address and a clock are better
         * than a start that hangs. */
        struct timespec now = {0, 0};
        (void)clock_gettime(CLOCK_REALTIME, &now);
        t->key[0] = (uint64_t)(uintptr_t)t->buckets;
        t->key[1] = (uint64_t)now.tv_nsec;
    }
    return t->buckets != NULL;
}

void table_fini(struct table *t)
{
    free(t->buckets);
    memset(t, 0, sizeof *t);
}

struct table_node *table_find(const struct table *t, uint64_t hash,
                              bool (*same)(const struct table_node *node, const void *key),
                              const void *key)
{
    struct table_node *node = t->buckets[hash & (t->size - 1)];
    while (node && !(node->hash == hash && same(node, key)))
        node = node->next;
    return node;
}

static void resize(struct table *t, size_t size)
{
    struct table_node **buckets = calloc(size, sizeof(struct table_node *));
    if (!buckets)
        return;
    for (size_t i = 0; i < t->size; i++) {
        for (struct table_node *node = t->buckets[i], *next; node; node = next) {
            struct table_node **head = &buckets[node->hash & (size - 1)];
            next = node->next;
            node->next = *head;
            *head = node;
        }
    }
    free(t->buckets);
    t->buckets = buckets;
    t->size = size;
}

void table_insert(struct table *t, struct table_node *node, uint64_t hash)
{
    if (t->count >= t->size)
        resize(t, t->size * 2);
    struct table_node **head = &t->buckets[hash & (t->size - 1)];
    node->hash = hash;
    node->next = *head;
    *head = node;
    t->count++;
}

void table_remove(struct table *t, struct table_node *node)
{
    struct table_node **link = &t->buckets[node->hash & (t->size - 1)];
    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    node->next = NULL;
    t->count--;
    if (t->size > SIZE_MIN_BUCKETS && t->count < t->size / 8)
        resize(t, t->size / 2);
}

void table_each(struct table *t, void (*visit)(struct table_node *node, void *arg), void *arg)
{
    for (size_t i = 0; i < t->size; i++) {
        for (struct table_node *node = t->buckets[i], *next; node; node = next) {
            next = node->next;
            visit(node, arg);
        }
    }
}
