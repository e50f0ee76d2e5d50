/* SPDX-License-Identifier: MIT
 *
 * fetch_group - the jobs of a batch: what they share, and the part of it that each engine has. The
 * group is made by batch on the front's thread; each part is touched by its engine alone.
 *
 * A part stands in its engine's queue, and is counted as a user of the group, from its first job
 * there until the last has left, transfers that are still being closed included.
 */
#include "fetch_internal.h"

#include <stdlib.h>

#include "held.h"

struct fetch_group *fetch_group_create(unsigned engines, int limit)
{
    struct fetch_group *group = calloc(1, sizeof *group + engines * sizeof group->parts[0]);
    if (group == NULL)
        return NULL;
    group->engines = engines;
    group->cut_us = INT64_MAX;
    atomic_init(&group->refs, 1);
    group->slots = slots_create(limit, (int)engines);
    if (group->slots == NULL) {
        free(group);
        return NULL;
    }
    for (unsigned i = 0; i < engines; i++) {
        list_init(&group->parts[i].jobs);
        list_init(&group->parts[i].cancelling);
        list_init(&group->parts[i].mail.node);
        group->parts[i].mail.group = group;
        group->parts[i].group = group;
        arena_init(&group->parts[i].memory);
    }
    return group;
}

void fetch_group_ref(struct fetch_group *group)
{
    atomic_fetch_add_explicit(&group->refs, 1, memory_order_relaxed);
}

void fetch_group_unref(struct fetch_group *group)
{
    if (atomic_fetch_sub_explicit(&group->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < group->engines; i++) {
        struct fetch_part *part = &group->parts[i];
        arena_fini(&part->memory);
        if (part->text_held != NULL)
            held_let_go(part->text_held, part->text_bytes);
    }
    slots_destroy(group->slots);
    free(group);
}

struct fetch_part *fetch_part_of(const struct fetch *f, struct fetch_group *group)
{
    return &group->parts[f->params.index];
}

bool fetch_join_part(struct fetch *f, struct fetch_group *group)
{
    struct fetch_part *part = fetch_part_of(f, group);
    if (part->sched != NULL)
        return true;
    part->sched = sched_batch_join(f->sched, group->identity, group->slots, group->limit_per_host);
    if (part->sched == NULL)
        return false;
    if (!heap_set(&f->cuts, &part->cut, group->cut_us)) {
        sched_batch_leave(part->sched);
        part->sched = NULL;
        return false;
    }
    fetch_group_ref(group);
    if (part->paused)
        sched_batch_pause(part->sched, true);
    return true;
}

void fetch_leave_part(struct fetch *f, struct fetch_group *group)
{
    struct fetch_part *part = fetch_part_of(f, group);
    if (part->sched == NULL || !list_empty(&part->jobs) || sched_batch_running(part->sched) > 0)
        return;
    sched_batch_leave(part->sched);
    part->sched = NULL;
    list_remove(&part->cancelling);
    heap_remove(&f->cuts, &part->cut);
    fetch_group_unref(group);
}
