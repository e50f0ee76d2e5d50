/* SPDX-License-Identifier: MIT
 *
 * encode_internal - runs: how the JSON writers fill a buffer without a check for each piece. A run
 * is a stretch of at most RUN_MAX bytes that is written at a cursor (put.h): straight into the
 * buffer where it has the room, else into a block on the stack, which is added when the run ends,
 * so that the buffer's limit stays exact. What has no bound (a URL, a body) goes between two runs.
 * Private to the encoders.
 *
 *     char *to = run_begin(&run);
 *     to = PUT_LITERAL(to, "\"index\":");
 *     to = run_json(&run, put_uint(to, index), m->id);
 *     run_end(&run, to);
 */
#ifndef GATHERD_ENCODE_INTERNAL_H
#define GATHERD_ENCODE_INTERNAL_H

#include <assert.h>
#include <stdbool.h>

#include "buf.h"
#include "cidr.h"
#include "put.h"

#define RUN_MAX 1536 /* the longest written between two strings of a member has under 1,000 bytes */

struct run {
    struct buf *out;
    char *start;
    char block[RUN_MAX];
};

static inline char *run_begin(struct run *run)
{
    struct buf *out = run->out;
    bool fits = out->data != NULL && !out->failed && out->cap - out->len >= RUN_MAX;
    run->start = fits ? out->data + out->len : run->block;
    return run->start;
}

static inline void run_end(struct run *run, const char *to)
{
    size_t n = (size_t)(to - run->start);
    assert(n <= RUN_MAX);
    if (run->start == run->block)
        buf_add(run->out, run->block, n);
    else
        run->out->len += n;
}

/* Room for n more bytes; for lists without a bound. */
static inline char *run_more(struct run *run, char *to, size_t n)
{
    if ((size_t)(to - run->start) + n <= RUN_MAX)
        return to;
    run_end(run, to);
    return run_begin(run);
}

/* A JSON string; NULL writes null. */
static inline char *run_json(struct run *run, char *to, const char *s)
{
    run_end(run, to);
    buf_add_json_str(run->out, s);
    return run_begin(run);
}

static inline char *put_null(char *to)
{
    return PUT_LITERAL(to, "null");
}

static inline char *put_bool(char *to, bool value)
{
    return value ? PUT_LITERAL(to, "true") : PUT_LITERAL(to, "false");
}

/* A word of our own tables in quotes: it needs no escape. */
static inline char *put_word(char *to, const char *word)
{
    to = put_bytes(put_char(to, '"'), word, strlen(word));
    return put_char(to, '"');
}

static inline char *put_ms_or_null(char *to, int64_t us)
{
    return us < 0 ? put_null(to) : put_ms(to, us);
}

static inline char *put_seconds_or_null(char *to, int64_t us)
{
    return us < 0 ? put_null(to) : put_seconds(to, us);
}

static inline char *put_int_unless_zero(char *to, int64_t value)
{
    return value == 0 ? put_null(to) : put_int(to, value);
}

/* A key of a table. Copied at its full width, which is cheaper than its length. */
struct run_key {
    char text[31];
    uint8_t length;
};
#define RUN_KEY(s) {s, sizeof(s) - 1}

static inline char *put_key(char *to, const struct run_key *key)
{
    memcpy(to, key->text, sizeof key->text);
    return to + key->length;
}

#endif
