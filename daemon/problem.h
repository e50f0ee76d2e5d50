/* SPDX-License-Identifier: MIT
 *
 * problem - an error answer to the client: status and what problem+json (RFC 9457) says about it.
 */
#ifndef GATHERD_PROBLEM_H
#define GATHERD_PROBLEM_H

#include <stdint.h>

#include "buf.h"

#define PROBLEM_MEDIA_TYPE "application/problem+json"

struct problem {
    int status;
    char detail[400];  /* what is wrong and what would be right */
    char pointer[160]; /* JSON pointer into the request body; "" = none */
    int64_t offset;    /* byte offset into the request body; -1 = none */
    int retry_after_s; /* 0 = none */
    const char *allow; /* 405: the methods; static */
};

/* Fills p: status, printf-formatted detail, nothing else. */
void problem_set(struct problem *p, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The reason phrase of a status, "" when gatherd never sends it. Static. */
const char *problem_title(int status);

/* Appends the JSON document and a newline. */
void problem_print(const struct problem *p, struct buf *out);

#endif
