/* SPDX-License-Identifier: MIT
 *
 * spec - a batch as the client asked for it: parsed, checked, defaults applied; read-only from then
 * on. Everything lives in the arena; the batch owns the spec and outlives every job made from it,
 * so jobs and results point into it. Members that say nothing of their own share one option block.
 */
#ifndef GATHERD_SPEC_H
#define GATHERD_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "config.h"

enum include {
    INCLUDE_HEADERS = 1 << 0,
    INCLUDE_BODY = 1 << 1,
    INCLUDE_BODY_SHA256 = 1 << 2,
    INCLUDE_TEXT_LENGTH = 1 << 3,
    INCLUDE_REDIRECTS = 1 << 4,
    INCLUDE_CURL = 1 << 5,
};

enum fail_mode { FAIL_NEVER, FAIL_ANY, FAIL_ALL };

struct spec_header {
    const char *name;  /* a token, not one of the refused names */
    const char *value; /* may be "" */
};

struct member_opts {
    const char *method; /* NUL-terminated token, upper or lower case as given */
    const struct spec_header *headers;
    size_t header_count;
    const char *authorization; /* of the URL's user name and password: the field's value, secret,
                                * not among headers; never leaves the first origin. NULL = none */
    const char *body; /* NULL = none (an empty body is not NULL) */
    size_t body_len;
    bool body_is_json; /* came from `json`: Content-Type: application/json unless set */
    bool fresh_connection;
    bool insecure;    /* certificates are not checked, on no hop; the policy has to allow it */
    int http_version; /* enum config_http_version */
    int max_redirects;
    int64_t timeout_us, connect_timeout_us;
    int64_t queue_timeout_us; /* -1 = none */
    int64_t max_response_bytes;
};

struct origin;

struct member {
    const char *url; /* as posted, any bytes; NUL-terminated beyond url_len */
    union {
        const char *text; /* the normalised URL, often url itself: see target.h */
        const char *why;  /* where origin is NULL: what is wrong with the URL, a static sentence */
    };
    const struct origin *origin; /* shared with other members; NULL: the URL is refused */
    const char *id; /* NULL = none */
    const struct member_opts *opts;
    uint32_t url_len, text_len;
};

struct batch_spec {
    struct arena arena; /* holds all of this, the struct itself excepted */
    struct member *members;
    size_t count; /* 1 .. limits.requests */
    int concurrency;          /* already lowered to limits.in_flight */
    int concurrency_per_host; /* already lowered to limits.per_host */
    int64_t deadline_us;
    bool stop_on_error;
    enum fail_mode fail;
    unsigned include; /* enum include bits */
    const char *traceparent; /* the client's W3C trace context, 55 bytes; NULL = none */
};

void spec_destroy(struct batch_spec *spec);

#endif
