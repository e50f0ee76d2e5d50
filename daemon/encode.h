/* SPDX-License-Identifier: MIT
 *
 * encode - the views of a batch: one vtable a media type, and the choice by Accept or ?format=.
 *
 * An answer is begin, then item for each member, then end, all appended to one buffer that the
 * caller drains as the client reads, so no answer is ever held whole, nor is a member with a long
 * body or URL: those are written in pieces. Views with `streams` print a
 * member as it ends, before the summary is known; all others are called when the batch has ended,
 * in the order asked. Encoders never fail on bytes: output is valid in its own syntax whatever an
 * upstream sent.
 */
#ifndef GATHERD_ENCODE_H
#define GATHERD_ENCODE_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "view.h"

/* Where the writing of one member stands; {.index = N} before its first call. */
struct encode_at {
    size_t index;
    enum { ENCODE_FIELDS, ENCODE_URL, ENCODE_TEXT, ENCODE_BASE64 } part; /* the next call */
    size_t done; /* bytes of the URL or the body that are written, or passed over */
    size_t len;  /* and that will be */
    size_t secret_at, secret_len; /* in a URL, to be passed over */
};

/* Bytes of a body, or of what should have been a URL, that a call takes; three go into four of
 * base64. */
#define ENCODE_BODY_PIECE 8190

struct encoder {
    const char *name;       /* ?format= */
    const char *media_type; /* Content-Type of the answer, with parameters */
    bool streams;
    void (*begin)(struct buf *out, const struct batch_view *v);
    /* Writes a member, of a long body or URL a piece. True when the member is complete, else it is
     * called again with the same *at, and with nothing written between. */
    bool (*item)(struct buf *out, const struct batch_view *v, struct encode_at *at);
    void (*end)(struct buf *out, const struct batch_view *v);
};

extern const struct encoder encode_json;   /* encode_json.c */
extern const struct encoder encode_ndjson; /* encode_ndjson.c; shares the member writer */
extern const struct encoder encode_text;   /* encode_text.c: a table a person can read */

/* Picks by `format` (a name; NULL = not given), else by the Accept value (RFC 9110 with q-values,
 * wildcards; NULL = anything; ties go to JSON, NDJSON, text in this order). NULL = nothing fits. */
const struct encoder *encode_pick(const char *accept, const char *format);

/* "application/json, application/x-ndjson, ..." for the 406 message; static. */
const char *encode_media_types(void);

/* The writers that JSON and NDJSON share: one member's object (as item()), and the fields of the
 * summary (without braces, from "schema_version" to "daemon"). */
bool encode_member_object(struct buf *out, const struct batch_view *v, struct encode_at *at,
                          const char *type /* "result": written first as "type"; NULL = not */);
void encode_summary_fields(struct buf *out, const struct batch_view *v);

/* What no view may echo of a would-be URL: returns the length of the userinfo with its "@" (0 =
 * there is none) and sets *at to where it starts. Those without scheme or slashes
 * ("user:password@host") are understood too, and of ill-formed ones all that may be a userinfo is
 * in it. */
size_t encode_userinfo(const char *url, size_t n, bool well_formed, size_t *at);

#endif
