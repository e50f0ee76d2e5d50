/* SPDX-License-Identifier: MIT
 *
 * fetch_text - what the engine keeps of an upstream's texts until the answer is read: content types
 * and the URLs that redirects led to, of 60 KB each where an upstream likes it. Called by fetch.c
 * and fetch_hop.c.
 *
 * Short ones are part of what a member costs. Long ones are charged to limits.answer_bytes as
 * bodies and headers are, and go with the batch; they are counted by part, since a job that moves
 * may be charged in one engine and let go in another: then a part's count is negative, and only the
 * sum is right.
 */
#include "fetch_internal.h"

#include <string.h>

#include "held.h"

/* Kept for nothing. */
#define TEXT_FREE 256

bool fetch_hold(struct fetch *f, size_t n)
{
    return held_take(f->params.answer_held, n, f->params.limits->answer_bytes);
}

bool fetch_hold_text(struct fetch *f, struct fetch_job *job, size_t len)
{
    struct fetch_part *part = fetch_part_of(f, job->group);
    if (len <= TEXT_FREE)
        return true;
    if (!fetch_hold(f, len))
        return false;
    part->text_held = f->params.answer_held;
    part->text_bytes += (long long)len;
    return true;
}

void fetch_let_text_go(struct fetch *f, struct fetch_job *job, size_t len)
{
    struct fetch_part *part = fetch_part_of(f, job->group);
    if (len <= TEXT_FREE)
        return;
    part->text_held = f->params.answer_held;
    part->text_bytes -= (long long)len;
    held_let_go(f->params.answer_held, (long long)len);
}

const char *fetch_keep_text(struct fetch *f, struct fetch_job *job, const char *text)
{
    if (text == NULL || text[0] == '\0')
        return NULL;
    return arena_strdup(&fetch_part_of(f, job->group)->memory, text);
}

const char *fetch_keep_type(struct fetch *f, struct fetch_job *job, const char *text)
{
    struct fetch_part *part = fetch_part_of(f, job->group);
    size_t len = strlen(text);
    for (unsigned i = 0; i < part->type_count; i++)
        if (part->types[i].len == len && memcmp(part->types[i].text, text, len) == 0)
            return part->types[i].text;
    if (!fetch_hold_text(f, job, len))
        return NULL;
    const char *copy = arena_strndup(&part->memory, text, len);
    if (copy != NULL && part->type_count < FETCH_TYPES_KEPT) {
        part->types[part->type_count].text = copy;
        part->types[part->type_count++].len = len;
    }
    return copy;
}
