/* SPDX-License-Identifier: MIT
 *
 * tls_start - has OpenSSL make at the start what it else makes when it is first asked.
 *
 * Whatever it has no memory for then, an algorithm or a reader of keys, it goes without until the
 * process ends: each connection fails that needs it. A start may end instead.
 */
#ifndef GATHERD_TLS_START_H
#define GATHERD_TLS_START_H

#include <stdbool.h>

/* Before any thread. False when memory ran out, and says so in the log. */
bool tls_start(void) __attribute__((warn_unused_result));

#endif
