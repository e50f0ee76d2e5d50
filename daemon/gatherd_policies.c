/* SPDX-License-Identifier: MIT
 *
 * gatherd_policies - policies by name, and the pools of connections that run under them. Called by
 * gatherd at the start and by gatherd_reload, on the front's thread.
 *
 * A name keeps its pool from its first use to the end, because batches may still run in it: a
 * policy that a reload no longer names is replaced by one that denies all, whose pool has no
 * connections and no descriptors once they have ended.
 */
#include "gatherd_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "http_front.h"
#include "log.h"
#include "shard.h"
#include "tls_trust.h"

struct gatherd_slot *gatherd_find_slot(struct gatherd *g, const char *name)
{
    for (size_t i = 0; i < g->slot_count; i++)
        if (strcmp(g->slots[i].name, name) == 0)
            return &g->slots[i];
    return NULL;
}

/* Gives a policy to the pool of its name, which is opened on first use. */
static bool install_policy(struct gatherd *g, struct policy *policy, bool changed)
{
    struct gatherd_slot *slot = gatherd_find_slot(g, policy_name(policy));
    if (slot == NULL) {
        struct shard_pool *pool =
            g->slot_count < CONFIG_NAMED_MAX ? shard_pool_open(g->shard, policy) : NULL;
        if (pool == NULL)
            return false;
        slot = &g->slots[g->slot_count++];
        snprintf(slot->name, sizeof slot->name, "%s", policy_name(policy));
        slot->pool = pool;
    } else {
        shard_pool_set_policy(slot->pool, policy, changed);
        policy_destroy(slot->policy);
    }
    slot->policy = policy;
    slot->removed = false;
    return true;
}

/* Batches may still run under policies that are no longer in the file. */
static bool remove_policies(struct gatherd *g, const struct config *config)
{
    bool ok = true;
    for (size_t i = 0; i < g->slot_count; i++) {
        struct gatherd_slot *slot = &g->slots[i];
        if (slot->removed || config_find_policy(config, slot->name) != NULL)
            continue;
        struct policy *policy = policy_create_removed(slot->name);
        slot->removed = policy != NULL && install_policy(g, policy, true);
        ok &= slot->removed;
    }
    return ok;
}

/* Who may connect, without a token: more than the users that a Unix socket's mode, group or peers
 * name. */
static bool is_for_everybody(struct gatherd *g, const struct config_listener *l)
{
    enum front_reach reach = front_reach(g->front, l->name);
    if (l->token_file != NULL)
        return false;
    return reach > REACH_UNIX ||
           (reach == REACH_UNIX && (l->mode & S_IWOTH) != 0 && l->peers.count == 0);
}

/* base = unsafe-any is refused without a token, for one word opens what nobody has listed. This was
 * listed, or is a trial: it is said, as whoever reaches the port reaches all that it opens. */
static void warn_unguarded(struct gatherd *g, const struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        const struct gatherd_slot *slot = gatherd_find_slot(g, l->policy);
        const char *by = slot != NULL ? policy_opens_all(slot->policy) : NULL;
        if (by == NULL || !is_for_everybody(g, l))
            continue;
        LOG_WARN("policy",
                 "listener=%s policy=%s %s and no token_file: every user and program of this "
                 "machine may fetch from all that this machine reaches",
                 l->name, slot->name, by);
    }
}

bool gatherd_install_policies(struct gatherd *g, struct access_set *access,
                              const struct config *config, const struct config *before)
{
    bool ok = remove_policies(g, config);
    bool renew = tls_trust_changed(&g->authorities, config->fetch.ca_file);
    for (size_t i = 0; i < config->policy_count; i++) {
        const struct config_policy *now = &config->policies[i];
        const struct config_policy *was = config_find_policy(before, now->name);
        bool changed = renew || was == NULL || !config_policy_equal(was, now);
        if (now->mode == POLICY_MODE_REPORT)
            LOG_WARN("policy",
                     "policy=%s mode=report: it denies own listeners, metadata addresses and "
                     "insecure members, and nothing else",
                     now->name);
        if (policy_set_own(access->policies[i], g->own, g->own_count) &&
            install_policy(g, access->policies[i], changed))
            access->policies[i] = NULL;
        else
            ok = false;
    }
    warn_unguarded(g, config);
    return ok;
}

bool gatherd_has_room(struct gatherd *g, const struct config *next)
{
    size_t wanted = g->slot_count;
    for (size_t i = 0; i < next->policy_count; i++)
        wanted += gatherd_find_slot(g, next->policies[i].name) == NULL;
    if (wanted <= CONFIG_NAMED_MAX)
        return true;
    LOG_ERROR("config", "%zu names of policies since the start, at most %d: that needs a restart",
              wanted, CONFIG_NAMED_MAX);
    return false;
}
