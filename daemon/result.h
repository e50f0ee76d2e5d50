/* SPDX-License-Identifier: MIT
 *
 * result - what is known about one member: plain values that the engine fills, the batch adds up
 * and an encoder prints. Times are int64 microseconds; -1 = null, did not happen. Its strings
 * belong to the batch (the member's own, or kept by the engine with the batch) and live as long as
 * that; only `extra` is its own.
 */
#ifndef GATHERD_RESULT_H
#define GATHERD_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "cidr.h"
#include "err.h"

#define TIME_NULL INT64_C(-1)

enum phase {
    PHASE_QUEUE,
    PHASE_DNS,
    PHASE_CONNECT,
    PHASE_TLS,
    PHASE_SEND,
    PHASE_WAIT,
    PHASE_RECEIVE,
    PHASE_COUNT
};

/* "queue", "dns", ... : HAR's phases in the order in which they happen. */
const char *phase_name(enum phase phase);

enum member_state {
    MEMBER_PENDING, /* not finished */
    MEMBER_DONE,
    MEMBER_FAILED,
    MEMBER_DENIED,
    MEMBER_CANCELLED,
    MEMBER_STATE_COUNT
};
const char *member_state_name(enum member_state state);

struct timings {
    int64_t us[PHASE_COUNT]; /* durations, TIME_NULL = did not happen */
};

void timings_clear(struct timings *t);                       /* all null */
void timings_add(struct timings *t, enum phase p, int64_t us); /* null counts as 0; us >= 0 */
int64_t timings_total(const struct timings *t);              /* all phases with queue, null = 0 */

struct result_error {
    enum err_type type; /* ERR_NONE = no error */
    enum phase phase;   /* where it died */
    int exitcode;       /* CURLcode, 0 = not libcurl's doing */
    int os_errno;       /* 0 = none known */
    bool sent;          /* the request may have reached the upstream */
    const char *message; /* NULL = err_text(type) */
    const char *rule;    /* the policy's rule, or NULL */
};

/* Sizes in bytes as curl names them, summed over hops. */
struct result_sizes {
    int64_t request;   /* request line and header fields sent */
    int64_t upload;    /* request body bytes sent */
    int64_t header;    /* header bytes received */
    int64_t download;  /* body bytes received, as encoded */
    int64_t delivered; /* body bytes after decoding */
};

/* One answered hop that led on (include=redirects). */
struct result_hop {
    char *url; /* owned, without credentials */
    int status;
    struct ip_addr remote_ip;
    uint16_t remote_port;
    struct timings timings;
};

/* libcurl's own marks of the last hop, us since its start (include=curl); TIME_NULL = unknown. */
struct result_curl {
    int64_t namelookup, connect, appconnect, pretransfer, starttransfer, total;
    int64_t num_connects;
    struct ip_addr local_ip;
    uint16_t local_port;
};

/* What only some batches ask for; allocated when one of them is. */
struct result_extra {
    struct buf headers; /* of the last hop: name NUL value NUL ..., in order */
    bool has_headers, headers_cut;
    struct buf body; /* decoded */
    bool has_body, body_cut; /* cut: larger than limits.answer_bytes left; printed as null */
    bool has_sha256;
    uint8_t sha256[32]; /* of the delivered bytes */
    bool has_text_length;
    int64_t text_length; /* characters; -1 = unknown charset */
    struct result_hop *hops;
    size_t hop_count;
    bool lacks; /* something that was asked for had no memory: printed as null, and truncated */
    bool has_curl;
    struct result_curl curl;
    size_t held_bytes; /* what is charged to limits.answer_bytes */
};

struct result {
    enum member_state state;
    bool ok;
    bool truncated;
    bool https;
    bool reused;          /* at least one hop on a kept-alive connection */
    uint8_t http_version; /* 10, 11, 20, 30; 0 = no answer */
    uint16_t remote_port;
    int status;           /* 0 = no answer */
    int num_connects, num_redirects, num_retries;
    struct ip_addr remote_ip;
    struct timings timings;
    int64_t start_us;       /* first dispatch on the monotonic clock; TIME_NULL = never */
    int64_t end_us;         /* the end, monotonic */
    int64_t ttfb_us;        /* on the work clock, first byte of the final answer; TIME_NULL */
    int64_t retry_after_us; /* from a Retry-After header; TIME_NULL */
    struct result_sizes sizes;
    struct result_error error;
    const char *url_effective; /* no credentials, no fragment; NULL = never got that far */
    const char *content_type;  /* NULL = none */
    struct result_extra *extra; /* owned; NULL = nothing asked */
};

void result_init(struct result *r);
void result_drop_extra(struct result *r); /* frees the extra part, all that a result owns */

/* The extra part, made on first use; NULL when memory runs out. */
struct result_extra *result_extra(struct result *r);

/* Work time: the sum of all phases but queue; TIME_NULL when never dispatched. */
int64_t result_work_us(const struct result *r);

/* Whether posting the member again may help: the error table's word, or curl's list of statuses
 * (408 429 500 502 503 504). */
bool result_retryable(const struct result *r);

#endif
