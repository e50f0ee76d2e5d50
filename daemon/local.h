/* SPDX-License-Identifier: MIT
 *
 * local - whether an address is one of this machine's own, as the kernel's routing has it at this
 * moment: not only those that interfaces have, but also prefixes and routes of type local, whose
 * every address leads to what listens here.
 */
#ifndef GATHERD_LOCAL_H
#define GATHERD_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include "cidr.h"

struct local { /* of one thread */
    int fd;         /* where the kernel is asked; negative = not open */
    uint32_t asked; /* how often */
};

/* Opens the descriptor that it keeps, so that none is needed for a question; without one it is
 * tried again at the next. */
void local_init(struct local *l);
void local_fini(struct local *l);

/* Some 50 us, without waiting. Also true when the kernel cannot be asked. A v4-mapped address is
 * its IPv4 one. */
bool local_is_here(struct local *l, const struct ip_addr *ip);

#endif
