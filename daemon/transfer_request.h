/* SPDX-License-Identifier: MIT
 *
 * transfer_request - what a hop sends: method, header fields, body, HTTP version, and to whom: the
 * addresses and whether the certificate is checked, as options of its easy handle. Private to
 * transfer.
 */
#ifndef GATHERD_TRANSFER_REQUEST_H
#define GATHERD_TRANSFER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "transfer.h"

/* Whether the hop may speak HTTP/2; its url and opts are set. */
bool transfer_wants_http2(const struct transfer *t);

/* Whether its request has nothing of its own but the URL: a GET without fields, body or trace. */
bool transfer_is_plain(const struct transfer *t);

/* Sets the request's options after curl_easy_reset(). The lists that libcurl borrows stand in t.
 * False when memory runs out. */
bool transfer_set_request(struct transfer *t) __attribute__((warn_unused_result));

/* libcurl gets the addresses from us and never looks a name up: "+host:port:address,...". None for
 * a literal. False when memory runs out. */
bool transfer_set_addresses(struct transfer *t, const struct ip_addr *addresses, size_t count)
    __attribute__((warn_unused_result));

#endif
