/* SPDX-License-Identifier: MIT
 *
 * resolve_hosts - /etc/hosts, read once into a table by name. c-ares 1.18 opens and reads the file
 * for every look-up: 6 system calls, and 0.5 ms where it has 10,000 lines.
 *
 * A name has the addresses of all lines that name it, as their first name or a later one, in the
 * file's order; a line whose address cannot be read does not count, nor do names in .onion (RFC
 * 7686). Letters of either case are the same. Belongs to one thread.
 */
#ifndef GATHERD_RESOLVE_HOSTS_H
#define GATHERD_RESOLVE_HOSTS_H

#include <stdbool.h>
#include <stddef.h>

#include "cidr.h"

struct resolve_hosts;

/* Borrows the path. Nothing is read yet. NULL when memory runs out; destroy(NULL) is fine. */
struct resolve_hosts *resolve_hosts_create(const char *path);
void resolve_hosts_destroy(struct resolve_hosts *h);

/* Looks whether the file is another one now and reads it if so; true then. No file, and what is no
 * regular one, is an empty file; one of more than 16 MB is cut there. While it cannot be read, for
 * want of a descriptor, of memory or of permission, what was read before stays, and each call tries
 * it again; the log says so once. */
bool resolve_hosts_check(struct resolve_hosts *h);

/* Up to max addresses of a name (lower case) into out; returns how many. */
size_t resolve_hosts_find(const struct resolve_hosts *h, const char *name, struct ip_addr *out,
                          size_t max);

#endif
