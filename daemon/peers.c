/* SPDX-License-Identifier: MIT
 *
 * peers - the users that may ask on a Unix socket. Made by access at start, at a reload and for -t;
 * asked by http_exchange_head before a body is read, with the uid that the kernel keeps for the
 * connection (SO_PEERCRED), which nobody can forge. http_listen asks for a group's number.
 *
 * A name of digits is a number, as chown(1) has it only where no such name exists; but who names a
 * user "0" must not get root's rights by it, so here digits are never looked up.
 */
#include "peers.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "id_map.h"
#include "parse.h"

#define ID_MAX (INT64_C(0xFFFFFFFF) - 1) /* (uid_t)-1 is nobody */

struct peers {
    size_t count;
    uid_t uids[];
};

static bool is_number(const char *text, int64_t *out)
{
    return parse_int(text, 0, ID_MAX, out);
}

static bool find_user(const char *user, uid_t *out)
{
    int64_t id;
    if (is_number(user, &id)) {
        *out = (uid_t)id;
        return true;
    }
    const struct passwd *entry = getpwnam(user);
    if (entry != NULL)
        *out = entry->pw_uid;
    return entry != NULL;
}

bool peers_find_group(const char *group, gid_t *out)
{
    int64_t id;
    if (is_number(group, &id)) {
        *out = (gid_t)id;
        return true;
    }
    const struct group *entry = getgrnam(group);
    if (entry != NULL)
        *out = entry->gr_gid;
    return entry != NULL;
}

static bool take_user(const char *listener, const char *user, uid_t *out, struct buf *errors)
{
    if (!find_user(user, out))
        buf_printf(errors,
                   "listener.%s.peers: there is no user %s; a name of /etc/passwd, or a number\n",
                   listener, user);
    else if (!id_map_has(ID_MAP_USERS, *out))
        buf_printf(errors,
                   "listener.%s.peers: %s cannot be told from other users in this user namespace; "
                   "in a unit, PrivateUsers=no lets gatherd see them\n",
                   listener, user);
    else
        return true;
    return false;
}

struct peers *peers_create(const struct config_listener *listener, struct buf *errors)
{
    const struct str_list *users = &listener->peers;
    struct peers *p = calloc(1, sizeof *p + users->count * sizeof p->uids[0]);
    bool ok = p != NULL;
    if (!ok)
        BUF_ADD_LITERAL(errors, "out of memory\n");
    for (size_t i = 0; p != NULL && i < users->count; i++)
        ok &= take_user(listener->name, users->items[i], &p->uids[p->count++], errors);
    if (ok)
        return p;
    peers_destroy(p);
    return NULL;
}

void peers_destroy(struct peers *p)
{
    free(p);
}

bool peers_has(const struct peers *p, uid_t uid)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->uids[i] == uid)
            return true;
    return false;
}
