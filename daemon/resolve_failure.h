/* SPDX-License-Identifier: MIT
 *
 * resolve_failure - what a status of c-ares means to who asked for a name.
 */
#ifndef GATHERD_RESOLVE_FAILURE_H
#define GATHERD_RESOLVE_FAILURE_H

#include "resolve.h"

/* Makes it the answer of a status other than ARES_SUCCESS, without addresses. Returns for how many
 * seconds that is good. */
int resolve_failure(struct resolve_answer *answer, int status);

#endif
