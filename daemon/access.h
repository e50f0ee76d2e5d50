/* SPDX-License-Identifier: MIT
 *
 * access - what one configuration allows: its policies, token files and users, made and freed
 * together.
 */
#ifndef GATHERD_ACCESS_H
#define GATHERD_ACCESS_H

#include <stdbool.h>

#include "buf.h"
#include "config.h"
#include "peers.h"
#include "policy.h"
#include "tokens.h"

struct access_set {
    struct policy *policies[CONFIG_NAMED_MAX]; /* as config->policies */
    struct tokens *tokens[CONFIG_NAMED_MAX];   /* as config->listeners; NULL = no token asked */
    struct peers *peers[CONFIG_NAMED_MAX];     /* the same; NULL = every user */
};

/* Makes all of it, and looks whether fetch.ca_file can be used unless that is known; false with
 * messages in *errors, and then there is nothing to free. */
bool access_load(struct access_set *a, const struct config *config, bool ca_known,
                 struct buf *errors);

/* Frees what is left in it: take out what goes on being used by setting it to NULL. */
void access_free(struct access_set *a);

#endif
