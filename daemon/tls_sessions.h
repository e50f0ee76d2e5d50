/* SPDX-License-Identifier: MIT
 *
 * tls_sessions - the TLS sessions of one pool, by origin, so that the next new connection to an
 * origin needs no full handshake, whichever handle asked the last time.
 *
 * In libcurl's place, whose own cache (five sessions a handle) is switched off: 7.88 keeps the name
 * of a session that it had no memory to file, and frees it again with a later one.
 *
 * What a session vouches for is what was verified when it was made. One cache must therefore serve
 * connections of one trust only, and is cleared when that changes. Belongs to one thread.
 */
#ifndef GATHERD_TLS_SESSIONS_H
#define GATHERD_TLS_SESSIONS_H

#include <stddef.h>

#include <openssl/ssl.h>

#include "target.h"

struct tls_sessions;

/* Keeps at most max sessions (one or more), those used last; each without certificates that a
 * server sent for nothing, or with the server's own only, and none with a ticket or a certificate
 * that is very long: 4 to 20 KB of memory each. NULL when memory runs out. A destroyed cache may be
 * outlived by the connections that it was attached to. */
struct tls_sessions *tls_sessions_create(size_t max);
void tls_sessions_destroy(struct tls_sessions *s);

/* The connection that ctx is for, to this origin, resumes the session kept and leaves new ones
 * here. Before its SSL is made; once for each ctx, of which the application data and the callbacks
 * for information and new sessions are taken. When memory runs out the connection goes without. */
void tls_sessions_attach(struct tls_sessions *s, SSL_CTX *ctx, const struct origin *origin);

/* A handshake with the origin came to nothing: the next is a full one. */
void tls_sessions_forget(struct tls_sessions *s, const struct origin *origin);

/* Drops all, also what connections that stand would still leave here. */
void tls_sessions_clear(struct tls_sessions *s);

/* Sessions kept. */
size_t tls_sessions_count(const struct tls_sessions *s);

#endif
