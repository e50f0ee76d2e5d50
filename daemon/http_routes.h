/* SPDX-License-Identifier: MIT
 *
 * http_routes - what a request means: the route table, admission, batches in and out, problem
 * documents. The front calls it, it calls the batch runner.
 */
#ifndef GATHERD_HTTP_ROUTES_H
#define GATHERD_HTTP_ROUTES_H

#include <stdbool.h>

#include <uv.h>

#include "batch.h"
#include "config.h"
#include "http_front.h"
#include "metrics.h"
#include "shard.h"

struct routes;

struct routes_params {
    uv_loop_t *loop;
    const struct config *config; /* borrowed */
    struct shard *shard;         /* borrowed */
    struct batches *batches;     /* borrowed */
    struct metrics *metrics;     /* borrowed */
};

/* NULL when memory runs out. */
struct routes *routes_create(const struct routes_params *params);

/* No exchange may be left. `closed` is called by the loop when the memory is free. */
void routes_close(struct routes *r, void (*closed)(void *arg), void *arg);

/* What front_create() is to be given; exchange_listener_data() must be the listener's
 * shard_pool. */
struct front_handler routes_handler(struct routes *r);

/* For gauges and what bodies count; set once the front exists, NULL when it no longer does. */
void routes_set_front(struct routes *r, struct front *front);

/* A reload: from now on this one is asked; the old one may be freed when this returns. */
void routes_reload(struct routes *r, const struct config *config);

/* From now on new batches and /-/ready are answered with 503, and those whose body is not read yet
 * at once. */
void routes_drain(struct routes *r);

#endif
