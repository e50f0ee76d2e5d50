/* SPDX-License-Identifier: MIT
 *
 * transfer - see transfer.h. Called by fetch at the turn's end; its callbacks are called by libcurl
 * inside curl_multi_socket_action(), on the loop's thread, and only count, mark, copy and refuse.
 *
 * Owns the easy handle and the option lists of one hop. What happens to it is in the files beside
 * this one: transfer_request (what is sent), transfer_connect (the connection), transfer_answer
 * (what comes back), transfer_stream (whether all of it has come), transfer_account (phases and
 * sizes). Marks come from our own clock at our own callbacks (socket opened, TLS begun, request
 * about to be sent, body read, first byte). libcurl's times serve for one figure only, how long
 * sending a request without a body took, as the difference of two of its own marks: their zero is
 * not known outside.
 */
#include "transfer.h"

#include <stdlib.h>

#include "clock.h"
#include "curl_options.h"
#include "transfer_answer.h"
#include "transfer_connect.h"
#include "transfer_request.h"
#include "transfer_stream.h"

/* Our own time-out for connecting runs first. libcurl gives each of several addresses a share of
 * its own, so it has to know about how long that is. */
#define CONNECT_LATER_US (200 * INT64_C(1000))

struct transfer *transfer_create(const struct transfer_env *env)
{
    struct transfer *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->easy = curl_easy_init();
    if (t->easy == NULL) {
        free(t);
        return NULL;
    }
    t->env = env;
    list_init(&t->node);
    list_init(&t->query.node);
    list_init(&t->reminder.node);
    t->reminder.easy = t->easy;
    return t;
}

static void free_hop(struct transfer *t)
{
    curl_slist_free_all(t->headers);
    curl_slist_free_all(t->resolve);
    t->headers = t->resolve = NULL;
    transfer_answer_free(t);
}

void transfer_destroy(struct transfer *t)
{
    if (t == NULL)
        return;
    free_hop(t);
    curl_easy_cleanup(t->easy);
    free(t);
}

static enum transfer_kind kind_of(const struct transfer *t)
{
    if (!t->target.origin->https)
        return KIND_PLAIN;
    if (t->opts->insecure)
        return transfer_wants_http2(t) ? KIND_HTTP2_UNVERIFIED : KIND_HTTP1_UNVERIFIED;
    return transfer_wants_http2(t) ? KIND_HTTP2 : KIND_HTTP1;
}

void transfer_begin(struct transfer *t, const struct transfer_hop *hop)
{
    t->target = hop->target;
    t->opts = hop->opts;
    t->method = hop->method;
    t->traceparent = hop->traceparent;
    t->send_body = hop->send_body;
    t->first_hop_origin = hop->first_hop_origin;
    t->from = hop->from;
    t->may_follow = hop->may_follow;
    t->fresh = hop->fresh;
    t->include = hop->include;
    t->body_cap = hop->body_cap;
    t->result = hop->result;
    t->kind = kind_of(t);
    hop_marks_clear(&t->marks);
    t->marks.dispatched = hop->dispatched_us;
    t->connect_until_us = hop->connect_until_us;
    t->opened_us = t->tls_us = t->ready_us = t->body_sent_us = TIME_NULL;
    t->sends = t->connects = t->os_errno = t->lost_errno = 0;
    t->uploaded = t->uploaded_before = 0;
    t->opening = t->was_stream = t->is_stream = t->broken_off = false;
    t->lost = false;
    t->opened_count = 0;
    t->cut = CUT_NONE;
    t->verdict.type = ERR_NONE;
    t->would_deny[0] = '\0';
    t->body_read = 0;
    t->message[0] = '\0';
    transfer_stream_begin(t);
    t->mute = false;
    transfer_answer_begin(t);
}

/* --- options --- */

static struct transfer_shape shape_of(const struct transfer *t)
{
    return (struct transfer_shape){
        .multi = t->multi,
        .generation = t->env->generation,
        .plain = transfer_is_plain(t),
        .starved = t->marks.dispatched < t->env->starved_until_us,
        .fresh = t->fresh,
    };
}

static bool same_shape(const struct transfer_shape *a, const struct transfer_shape *b)
{
    return a->plain && b->plain && a->multi == b->multi && a->generation == b->generation &&
           a->starved == b->starved && a->fresh == b->fresh;
}

/* Everything anew, for a handle that had other options. */
static bool set_all(struct transfer *t)
{
    const struct config_fetch *f = t->env->fetch;
    const struct curl_options options = {
        .ca_file = f->ca_file,
        .user_agent = f->user_agent,
        .max_age_s = t->shape.starved ? 1 : (long)(f->idle_time_us / US_PER_S + 1),
        .connect_timeout_ms = TRANSFER_CONNECT_BACKSTOP_MS,
    };
    curl_easy_reset(t->easy);
    curl_options_set(t->easy, &options);
    /* its addresses are ours, so none is too old; curl_uv_sweep() drops them */
    curl_easy_setopt(t->easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    t->forbids = false;
    transfer_set_connect_callbacks(t);
    transfer_set_answer_callbacks(t);
    curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->message);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    return transfer_set_request(t);
}

static void set_connect_timeout(struct transfer *t, bool choices)
{
    long ms = TRANSFER_CONNECT_BACKSTOP_MS;
    if (choices)
        ms = (long)((t->connect_until_us + CONNECT_LATER_US - clock_us()) / US_PER_MS);
    if (choices || t->choices)
        curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, ms > 0 ? ms : 1L);
    t->choices = choices;
}

/* The handles of a pool mostly fetch alike, hop after hop: then the URL is all that changes, which
 * saves some thirty options and a twentieth of what a fetch costs. */
static bool set_options(struct transfer *t, const struct ip_addr *addresses, size_t count)
{
    const struct transfer_shape shape = shape_of(t);
    bool same = same_shape(&shape, &t->shape);
    t->shape = shape;
    if (!same && !set_all(t)) {
        t->shape.plain = false; /* half set */
        return false;
    }
    if (t->renews)
        curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, t->fresh ? 1L : 0L);
    t->renews = false;
    set_connect_timeout(t, count > 1);
    transfer_begin_connection(t);
    curl_easy_setopt(t->easy, CURLOPT_URL, t->target.text);
    return transfer_set_addresses(t, addresses, count);
}

const struct curl_uv *transfer_multi(const struct transfer *t)
{
    return t->env->multis[t->kind];
}

bool transfer_launch(struct transfer *t, const struct ip_addr *addresses, size_t count,
                     struct upstream *upstream, bool once)
{
    t->upstream = upstream;
    t->once = once;
    t->multi = t->env->multis[t->kind];
    if (t->multi == NULL || !set_options(t, addresses, count) ||
        curl_uv_add(t->multi, t->easy) != CURLM_OK)
        return false;
    t->added = true;
    if (t->choices)
        curl_uv_remind(t->multi, &t->reminder);
    return true;
}

/* --- the end --- */

void transfer_abandon(struct transfer *t)
{
    resolve_cancel(&t->query);
    list_remove(&t->reminder.node);
    t->cut = CUT_CLOSED;
    t->owner = NULL;
    t->result = NULL;
    t->opts = NULL;
    t->target = (struct target){0};
}

void transfer_end(struct transfer *t)
{
    resolve_cancel(&t->query);
    t->cut = CUT_CLOSED;
    list_remove(&t->reminder.node);
    if (t->added)
        curl_uv_remove(t->multi, t->easy);
    t->added = false;
    transfer_stir_streams(t);
    upstream_transfer_ended(t->upstream);
    t->upstream = NULL;
    /* libcurl counts over the transfers of a handle how often it sent one again, and gives up at
     * the fifth; only a reset forgets it */
    if (t->sends != 1 || t->marks.first_byte == TIME_NULL)
        t->shape.plain = false;
    if (t->resolve != NULL)
        curl_easy_setopt(t->easy, CURLOPT_RESOLVE, NULL); /* a hop cut early leaves it to be read */
    free_hop(t);
    t->owner = NULL;
    t->result = NULL;
}
