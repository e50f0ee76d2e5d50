/* SPDX-License-Identifier: MIT
 *
 * spec - the end of a batch_spec. request makes it, the batch that took it destroys it when its
 * last job and its answer are done. All that a spec points to lies in its own arena, so there is
 * nothing to walk: one release, and the struct itself.
 */
#include "spec.h"

#include <stdlib.h>

void spec_destroy(struct batch_spec *spec)
{
    if (!spec)
        return;
    arena_fini(&spec->arena);
    free(spec);
}
