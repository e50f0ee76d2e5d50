/* SPDX-License-Identifier: MIT
 *
 * gatherd_internal - the one struct that holds all, for the three files of the assembly: gatherd.c
 * has the stages of start and stop, the run modes and the turn; gatherd_policies.c the policies and
 * their pools; gatherd_reload.c what SIGHUP does. Private to them; front's thread.
 */
#ifndef GATHERD_GATHERD_INTERNAL_H
#define GATHERD_GATHERD_INTERNAL_H

#include <uv.h>

#include "access.h"
#include "gatherd.h"
#include "lag.h"
#include "metrics.h"
#include "notify.h"
#include "resolve_file.h"
#include "turn.h"

enum mode { MODE_RUN, MODE_DRAIN, MODE_ABORT, MODE_OFF };

struct gatherd_size { /* what needs a restart, and descriptors */
    int64_t clients, loops;
};

struct gatherd_slot { /* a policy by name; one that a reload takes away stays, and denies all */
    char name[64];
    bool removed;
    struct policy *policy;
    struct shard_pool *pool;
};

struct gatherd {
    struct config *config;
    const struct config_source *source;
    bool no_file; /* the source's has not been there yet; once it was, it must be */
    uv_loop_t loop;
    struct turn turn;
    uv_timer_t mode_timer, watchdog;
    uv_signal_t sigterm, sigint, sighup;
    enum mode mode;
    struct gatherd_size in_force; /* since the start */
    struct gatherd_size asked;    /* by the configuration; descriptors may allow less */
    bool loop_open, engine_closing;
    struct metrics metrics;
    struct lag lag;
    struct notify notify;
    struct access_set access; /* its policies have moved to the slots */
    struct gatherd_slot slots[CONFIG_NAMED_MAX];
    size_t slot_count;
    struct policy_endpoint own[CONFIG_ADDRESSES_MAX];
    size_t own_count;
    struct resolve_mark authorities; /* the file that TLS servers are checked against */
    struct shard *shard;
    struct batches *batches;
    struct routes *routes;
    struct front *front;
};

/* --- gatherd.c --- */

/* Logs each line, and frees them. */
void gatherd_log_errors(struct buf *errors);

/* --- gatherd_policies.c --- */

/* The policy of that name and its pool; NULL = it never had one. */
struct gatherd_slot *gatherd_find_slot(struct gatherd *g, const char *name);

/* Whether the names of *next fit beside those since the start; if not, that is logged. */
bool gatherd_has_room(struct gatherd *g, const struct config *next);

/* Puts the policies of *config in force, whose access they are taken from. One that says what it
 * said in *before keeps its connections, but not those to servers that other authorities have
 * vouched for. False when memory ran out: some are the old ones. */
bool gatherd_install_policies(struct gatherd *g, struct access_set *access,
                              const struct config *config, const struct config *before);

/* --- gatherd_reload.c --- */

/* Reads the configuration again; what becomes of it is logged. */
void gatherd_reload(struct gatherd *g);

#endif
