/* SPDX-License-Identifier: MIT
 *
 * curl_err - what a CURLcode means to a client of gatherd. Every code of libcurl has a row; the
 * count is checked by the compiler. Pure.
 */
#ifndef GATHERD_CURL_ERR_H
#define GATHERD_CURL_ERR_H

#include <stdbool.h>

#include <curl/curl.h>

#include "err.h"
#include "result.h"

/* What is known of a failed transfer beside its code. */
struct curl_err_facts {
    enum phase phase;    /* in which it ended */
    int os_errno;        /* of the system call that failed; 0 = none */
    bool lost;           /* its connection was closed or reset: reading from it said so */
    bool http2;          /* the answer, as far as it came, is HTTP/2 */
    const char *message; /* libcurl's error buffer; "" = none of this sending */
    bool mute;           /* it may have had one that it did not tell */
};

/* The error type of a transfer that libcurl ended with `code` (not CURLE_OK). For transfers that
 * our own callbacks did not end. Remote bytes can make libcurl say "out of memory" or "bad
 * argument": after the request was sent these are the upstream's doing; bad chunks, broken TLS and
 * a lost connection share a code, and so do HTTP/2 streams that the upstream gave up and those that
 * it got wrong; a write error without our doing is the decoder's. */
enum err_type curl_err_type(CURLcode code, const struct curl_err_facts *facts);

#endif
