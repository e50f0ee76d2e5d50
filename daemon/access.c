/* SPDX-License-Identifier: MIT
 *
 * access - see access.h. Called by gatherd at start, at a reload, and for -t. Owns nothing itself.
 */
#include "access.h"

#include "ca_file.h"
#include "id_map.h"

static bool load_tokens(struct access_set *a, const struct config *config, struct buf *errors)
{
    bool ok = true;
    for (size_t i = 0; i < config->listener_count; i++) {
        const char *path = config->listeners[i].token_file;
        if (path == NULL || path[0] == '\0')
            continue;
        a->tokens[i] = tokens_load(path, errors);
        ok = ok && a->tokens[i] != NULL;
    }
    return ok;
}

static bool check_group(const struct config_listener *l, struct buf *errors)
{
    gid_t gid;
    if (!peers_find_group(l->group, &gid))
        buf_printf(errors,
                   "listener.%s.group: there is no group %s; a name of /etc/group, or a number\n",
                   l->name, l->group);
    else if (!id_map_has(ID_MAP_GROUPS, gid))
        buf_printf(errors,
                   "listener.%s.group: %s has no number in this user namespace; in a unit, "
                   "PrivateUsers=no gives it one\n",
                   l->name, l->group);
    else
        return true;
    return false;
}

static bool load_accounts(struct access_set *a, const struct config *config, struct buf *errors)
{
    bool ok = true;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        ok = (l->group == NULL || check_group(l, errors)) && ok;
        if (l->peers.count == 0)
            continue;
        a->peers[i] = peers_create(l, errors);
        ok = ok && a->peers[i] != NULL;
    }
    return ok;
}

bool access_load(struct access_set *a, const struct config *config, bool ca_known,
                 struct buf *errors)
{
    bool ok = true;
    *a = (struct access_set){{0}, {0}, {0}};
    for (size_t i = 0; i < config->policy_count; i++) {
        a->policies[i] = policy_create(&config->policies[i], errors);
        ok = ok && a->policies[i] != NULL;
    }
    ok = load_tokens(a, config, errors) && ok;
    ok = load_accounts(a, config, errors) && ok;
    ok = (ca_known || ca_file_check(config->fetch.ca_file, errors)) && ok;
    if (!ok)
        access_free(a);
    return ok;
}

void access_free(struct access_set *a)
{
    for (size_t i = 0; i < CONFIG_NAMED_MAX; i++) {
        policy_destroy(a->policies[i]);
        tokens_destroy(a->tokens[i]);
        peers_destroy(a->peers[i]);
    }
    *a = (struct access_set){{0}, {0}, {0}};
}
