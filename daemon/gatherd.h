/* SPDX-License-Identifier: MIT
 *
 * gatherd - the assembly: everything made, put on one loop, run, and taken apart again.
 */
#ifndef GATHERD_GATHERD_H
#define GATHERD_GATHERD_H

#include <stdbool.h>

#include "config.h"

/* Where a configuration comes from, for a reload; borrowed while the daemon runs. */
struct config_source {
    const char *path; /* NULL = none, now and later */
    bool absent;      /* nothing was there at the start; a reload looks again */
    const char *const *overrides;
    size_t override_count;
};

/* Runs the daemon with this configuration (taken) until it is told to stop. Returns 0, or an exit
 * code of sysexits(3): EX_UNAVAILABLE (69) an address could not be bound, EX_OSERR (71), EX_CONFIG
 * (78) policies or tokens are not usable; the reason is logged. Call once, from main(). */
int gatherd_run(struct config *config, const struct config_source *source);

/* Whether the policies and token files that a configuration names can be used (-t). Messages go to
 * *errors. */
bool gatherd_check(const struct config *config, struct buf *errors);

#endif
