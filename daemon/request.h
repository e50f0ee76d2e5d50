/* SPDX-License-Identifier: MIT
 *
 * request - the body and the query string of POST /v1/batch to a batch_spec. The only file that
 * sees jansson. Hostile input: bytes are capped before, depth (64) and the number of containers are
 * scanned before parsing, jansson allocates from a budget, duplicate and unknown keys are errors,
 * integers are range-checked. Any thread. A plain URL takes 0.1 us, one that needs CURLU 3 us; 4 MB
 * of objects with other fields than url and id some 45 ms, 4 MB of keys or of fractions 0.6 s.
 */
#ifndef GATHERD_REQUEST_H
#define GATHERD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "spec.h"

enum request_type {
    REQUEST_JSON,
    REQUEST_NDJSON,
    REQUEST_URI_LIST, /* text/uri-list, text/plain */
    REQUEST_GUESS,    /* what curl -d sends: JSON when the first non-blank byte is { or [ */
    REQUEST_UNSUPPORTED
};

/* From a Content-Type value (NULL = none); parameters are ignored. */
enum request_type request_type(const char *content_type);

struct request_param { /* one query parameter, percent-decoded, NUL-terminated */
    const char *name, *value;
};

struct request_input {
    const char *body;
    size_t body_len;
    enum request_type type; /* not REQUEST_UNSUPPORTED */
    const struct request_param *params; /* `format` and nothing else is passed over */
    size_t param_count;
    const struct config *config; /* limits and fetch defaults */
    bool userinfo;   /* URLs may have a user name and a password, which become an Authorization */
    bool by_jansson; /* without the short way for plain members: what that is measured against */
};

/* What is wrong, for problem+json (RFC 9457). */
struct request_error {
    int status;         /* 400 or 413; 500 when memory ran out */
    char pointer[160];  /* JSON pointer (RFC 6901) of the fault, "" = whole document or not known;
                           a query parameter: "?name"; an NDJSON or list line: "/LINE" from 0 */
    int64_t offset;     /* byte offset of a syntax error; -1 = none */
    char detail[400];   /* a sentence that names the fault and the fix; valid UTF-8 */
};

/* What request_parse() asks of a configuration: limits and a few numbers of fetch. Nothing of it
 * points into `from`. */
void request_copy_config(struct config *to, const struct config *from);

/* Returns the spec (the caller destroys it), or NULL with *error filled. Copies all it needs. */
struct batch_spec *request_parse(const struct request_input *in, struct request_error *error);

#endif
