/* SPDX-License-Identifier: MIT
 *
 * peers - who may ask on a Unix socket: users as the kernel names them at the other end. Accounts
 * are looked up once, at start or reload; immutable then; any thread.
 */
#ifndef GATHERD_PEERS_H
#define GATHERD_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "buf.h"
#include "config.h"

struct peers;

/* The users of a listener's `peers`, names or numbers. NULL with messages in *errors: no such user,
 * or no memory. destroy(NULL) is fine. */
struct peers *peers_create(const struct config_listener *listener, struct buf *errors);
void peers_destroy(struct peers *p);

bool peers_has(const struct peers *p, uid_t uid);

/* Looks up a group, name or number. False when there is none. May block on files. */
bool peers_find_group(const char *group, gid_t *out);

#endif
