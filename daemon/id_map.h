/* SPDX-License-Identifier: MIT
 *
 * id_map - which users and groups of the machine this process can tell apart. In a user namespace
 * (PrivateUsers= of a unit, a container without root) the kernel names everybody who is not mapped
 * into it by one number, 65534, and gives no file to a group that is not. Reads /proc at each call;
 * any thread.
 */
#ifndef GATHERD_ID_MAP_H
#define GATHERD_ID_MAP_H

#include <stdbool.h>
#include <stdint.h>

#define ID_MAP_USERS "/proc/self/uid_map"
#define ID_MAP_GROUPS "/proc/self/gid_map"

/* Whether this id is one user or group of the machine, and no other. map: a path from above. True
 * where it cannot be read: then there is no /proc, or a kernel without such namespaces. */
bool id_map_has(const char *map, int64_t id);

/* Whether that is so of every id. */
bool id_map_is_whole(const char *map);

#endif
