/* SPDX-License-Identifier: MIT
 *
 * target - what is to be fetched, small enough for every member of a batch: the normalised text of
 * a URL and the origin it belongs to. Members of one origin share one struct origin, so that what
 * depends on the origin alone (its key, its host, the policy's first word) is there once a batch.
 *
 * A target is read when the request is, and never again: neither submit nor dispatch parses, and
 * nothing is malloc'ed per URL. What url.h says of a URL (what is refused, what is normalised)
 * holds here word for word, because the same code reads it.
 *
 * Immutable once made: any thread may read a target and its origin, also while struct origins adds
 * more. An arena and its struct origins belong to one thread at a time.
 */
#ifndef GATHERD_TARGET_H
#define GATHERD_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "cidr.h"
#include "spec.h"
#include "table.h"

/* Scheme, host and port. Equal keys within one struct origins are one struct origin. */
struct origin {
    const char *key;  /* "https://host:443", IPv6 bracketed: what limits and reuse go by */
    const char *host; /* as in struct url: lower case, punycode, IPv6 without brackets */
    uint64_t hash;    /* of the key, the same in every process: to shard by; no secret, so no key
                          of a table that a client could want to be slow */
    uint16_t key_len;
    uint16_t text_len; /* of scheme and authority in a target's text: its path begins there */
    uint16_t port;
    bool https;
    struct ip_addr ip; /* the host as a literal, family 0 when it is a name */
};

/* Small: passed by value. */
struct target {
    const struct origin *origin;
    const char *text; /* normalised, NUL-terminated, without fragment and userinfo; given to libcurl
                         as CURLOPT_URL, which reads from it the origin's scheme, host and port and
                         the rest as it stands */
    uint32_t len;
};

#define ORIGINS_FEW 8 /* so many are compared one by one; most batches have no more */

struct origin_node {
    struct table_node in_table; /* beyond the few */
    const struct origin *origin;
};

/* The origins of one batch while it is read. */
struct origins {
    struct arena *arena;       /* borrowed: origins and texts lie in it, and outlive this struct */
    uint32_t count;            /* origins so far */
    const struct origin *last; /* that was asked for */
    struct origin_node few[ORIGINS_FEW];
    struct table table;
    struct arena more; /* the nodes of the table */
};

void origins_init(struct origins *o, struct arena *arena);
void origins_fini(struct origins *o); /* the origins stay */

/* Reads n bytes at s, which must outlive the arena's content and be followed by a NUL: where the
 * URL is normalised already, out->text is s itself. On failure *out is empty and *why a static
 * sentence, url_no_memory among them. */
bool target_parse(struct origins *o, const char *s, size_t n, struct target *out, const char **why)
    __attribute__((warn_unused_result));

/* Resolves a Location header against base (url_join()), then as target_parse(); out->origin is of
 * its own, one malloc with the text, and may outlive base. The caller gives it to target_fini(). On
 * failure *out is empty. */
bool target_resolve(const struct target *base, const char *location, size_t n, struct target *out,
                    const char **why) __attribute__((warn_unused_result));
void target_fini(struct target *t); /* of target_resolve() only; {0} is fine */

/* Same scheme, host and port; also across batches. */
bool target_same_origin(const struct target *a, const struct target *b);

/* A member's target; origin NULL when its URL was refused (m->why says why). */
static inline struct target target_of(const struct member *m)
{
    return (struct target){m->origin, m->origin ? m->text : NULL, m->text_len};
}

#endif
