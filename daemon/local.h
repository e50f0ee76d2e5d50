/* SPDX-License-Identifier: MIT
 *
 * local - whether an address is one of this machine's own, as the kernel's routing has it at this
 * moment: not only those that interfaces have, but also prefixes and routes of type local, whose
 * every address leads to what listens here.
 */
#ifndef GATHERD_LOCAL_H
#define GATHERD_LOCAL_H

#include <stdbool.h>

#include "cidr.h"

/* Some 50 us, without waiting; any thread. Also true when the kernel cannot be asked (no descriptor
 * is left). A v4-mapped address is its IPv4 one. */
bool local_is_here(const struct ip_addr *ip);

#endif
