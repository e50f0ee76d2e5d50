/* SPDX-License-Identifier: MIT
 *
 * tls_trust - whether the certificates that are trusted were read whole.
 *
 * Where memory runs out while OpenSSL reads one, it keeps it without its key, the key's strength,
 * its extensions or the word that it signed itself, and says nothing; nobody whom it vouches for is
 * believed then. libcurl keeps what it read for a day.
 */
#ifndef GATHERD_TLS_TRUST_H
#define GATHERD_TLS_TRUST_H

#include <stdbool.h>

#include <openssl/ssl.h>

#include "resolve_file.h"

/* Sets *spoilt when the handshake for which ctx is fails on such a certificate; the verdict stays
 * OpenSSL's, within tls_bounds. spoilt must live as long as there may be handshakes. Takes the
 * callback that verifies; after tls_bounds_set. */
void tls_trust_watch(SSL_CTX *ctx, bool *spoilt);

/* Whether the file of those that are trusted (ca_file, NULL or "" = the system's) is another one
 * than when *last was set by this, or has changed since. libcurl reads it once a day, whatever
 * happens to it. On the front's thread. */
bool tls_trust_changed(struct resolve_mark *last, const char *ca_file);

#endif
