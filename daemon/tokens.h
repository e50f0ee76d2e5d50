/* SPDX-License-Identifier: MIT
 *
 * tokens - who may ask: a file of `name:token` lines. Only SHA-256 digests are kept; a look-up
 * takes the same time for an absent, a short and a wrong token. Immutable; any thread.
 */
#ifndef GATHERD_TOKENS_H
#define GATHERD_TOKENS_H

#include <stddef.h>

#include "buf.h"

struct tokens;

/* Reads the file: one `name:token` a line, `#` comments and blank lines; a name is 1-64 bytes of
 * [A-Za-z0-9._-], a token 16-512 visible ASCII bytes. The file must be a regular one that only its
 * owner can read (0600 or stricter). NULL with messages in *errors. */
struct tokens *tokens_load(const char *path, struct buf *errors);
void tokens_destroy(struct tokens *t);

/* The name that goes with the token, or NULL. */
const char *tokens_find(const struct tokens *t, const char *token, size_t n);

#endif
