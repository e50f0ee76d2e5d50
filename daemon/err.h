/* SPDX-License-Identifier: MIT
 *
 * err - the one table of member errors: the wire name of each type (RFC 9209 tokens, and gatherd's
 * own in the same style) and whether the outcome is worth another try.
 */
#ifndef GATHERD_ERR_H
#define GATHERD_ERR_H

#include <stdbool.h>

/* X(symbol, wire name, retryable, text when nothing more exact is known) */
#define ERR_TABLE(X) \
    X(ERR_NONE, "", false, "") \
    X(ERR_DNS_ERROR, "dns_error", true, "the name could not be resolved") \
    X(ERR_DNS_TIMEOUT, "dns_timeout", true, "the name servers did not answer in time") \
    X(ERR_CONNECTION_REFUSED, "connection_refused", true, "connection refused") \
    X(ERR_CONNECTION_TIMEOUT, "connection_timeout", true, "no usable connection in time") \
    X(ERR_CONNECTION_TERMINATED, "connection_terminated", true, "the connection was closed") \
    X(ERR_CONNECTION_READ_TIMEOUT, "connection_read_timeout", true, \
      "the connection timed out while reading") \
    X(ERR_CONNECTION_WRITE_TIMEOUT, "connection_write_timeout", true, \
      "the connection timed out while writing") \
    X(ERR_DESTINATION_UNAVAILABLE, "destination_unavailable", true, "destination unavailable") \
    X(ERR_DESTINATION_IP_PROHIBITED, "destination_ip_prohibited", false, \
      "the policy does not allow this address") \
    X(ERR_DESTINATION_IP_UNROUTABLE, "destination_ip_unroutable", true, \
      "no route to the address") \
    X(ERR_TLS_PROTOCOL_ERROR, "tls_protocol_error", false, "TLS failed") \
    X(ERR_TLS_CERTIFICATE_ERROR, "tls_certificate_error", false, \
      "the server's certificate was not accepted") \
    X(ERR_HTTP_REQUEST_DENIED, "http_request_denied", false, "the policy does not allow this URL") \
    X(ERR_HTTP_RESPONSE_INCOMPLETE, "http_response_incomplete", true, \
      "the answer ended before it was complete") \
    X(ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE, "http_response_header_section_size", false, \
      "the answer's head or trailers are larger than limits.upstream_head_bytes") \
    X(ERR_HTTP_RESPONSE_CONTENT_CODING, "http_response_content_coding", false, \
      "the answer's content encoding could not be decoded") \
    X(ERR_HTTP_RESPONSE_TIMEOUT, "http_response_timeout", true, \
      "the answer was not complete in time") \
    X(ERR_HTTP_PROTOCOL_ERROR, "http_protocol_error", false, "the answer is no valid HTTP") \
    X(ERR_PROXY_INTERNAL_ERROR, "proxy_internal_error", true, "gatherd failed by itself") \
    X(ERR_PROXY_LOOP_DETECTED, "proxy_loop_detected", false, "the URL leads to gatherd itself") \
    X(ERR_URL_INVALID, "url_invalid", false, "the URL is not valid") \
    X(ERR_TOO_MANY_REDIRECTS, "too_many_redirects", false, "more redirects than max_redirects") \
    X(ERR_QUEUE_TIMEOUT, "queue_timeout", true, "no slot within queue_timeout_ms") \
    X(ERR_DEADLINE_EXCEEDED, "deadline_exceeded", true, "the batch's deadline_ms passed") \
    X(ERR_CANCELLED, "cancelled", true, "the member was cancelled") \
    X(ERR_EXPECTATION_FAILED, "expectation_failed", false, "the expectation was not met")

enum err_type {
#define X(symbol, name, retryable, text) symbol,
    ERR_TABLE(X)
#undef X
    ERR_COUNT
};

#define ERR_NAME_MAX 40 /* no name is longer, bytes */

/* Static strings; type < ERR_COUNT. */
const char *err_name(enum err_type type);
const char *err_text(enum err_type type);
bool err_retryable(enum err_type type);

/* Types that count as timed_out in the summary. */
bool err_is_timeout(enum err_type type);

#endif
