/* SPDX-License-Identifier: MIT
 *
 * curl_err - what a CURLcode means to a client of gatherd. Every code of libcurl has a row; the
 * count is checked by the compiler. Pure.
 */
#ifndef GATHERD_CURL_ERR_H
#define GATHERD_CURL_ERR_H

#include <curl/curl.h>

#include "err.h"
#include "result.h"

/* The error type of a transfer that libcurl ended with `code` (not CURLE_OK) in `phase`; os_errno
 * as libcurl or our socket callback reported it, 0 = none; message: its error buffer. For transfers
 * that our own callbacks did not end. Remote bytes can make libcurl say "out of memory" or "bad
 * argument": after the request was sent these are the upstream's doing; bad chunks show only in the
 * message, the code is that of a lost connection; a write error without our doing is the decoder's. */
enum err_type curl_err_type(CURLcode code, enum phase phase, int os_errno, const char *message);

#endif
