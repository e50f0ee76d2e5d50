/* SPDX-License-Identifier: MIT
 *
 * id_map - see id_map.h. Asked by peers for the accounts that the configuration names, and by
 * http_listen when it opens a Unix socket.
 *
 * A map is lines of three numbers, user_namespaces(7): the first id in here, the first outside, and
 * how many. It is whole when one line has them all, and where it is not, 65534 may be anybody.
 */
#include "id_map.h"

#include <inttypes.h>
#include <stdio.h>

#define EVERY_ID INT64_C(4294967295)
#define OVERFLOW 65534 /* the kernel's default for who has no number in here */

bool id_map_has(const char *map, int64_t id)
{
    FILE *file = fopen(map, "re");
    bool has = file == NULL;
    int64_t first, count;
    while (!has && fscanf(file, "%" SCNd64 " %*d %" SCNd64, &first, &count) == 2)
        has = id >= first && id < first + count && (id != OVERFLOW || count == EVERY_ID);
    if (file != NULL)
        fclose(file);
    return has;
}

bool id_map_is_whole(const char *map)
{
    return id_map_has(map, OVERFLOW);
}
