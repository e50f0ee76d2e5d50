/* SPDX-License-Identifier: MIT
 *
 * metrics - every metric of gatherd in one table: declared, counted, printed as Prometheus text,
 * and checked against gatherd(8) from here. An instance is a plain struct of counters that belongs
 * to one loop; instances are added up before printing. Gauges are list lengths: the owner
 * sets them just before printing. Labels are fixed words from these tables, never a URL.
 *
 * Threads: only the owner's thread writes an instance, and through the functions below; any thread
 * may read it, with metrics_get(), metrics_sum() or metrics_print(). Loads and stores are relaxed
 * atomics: on 64 bits they are plain moves, without a lock prefix. A reader sees each value whole,
 * but not all of one moment; what was counted stays counted.
 */
#ifndef GATHERD_METRICS_H
#define GATHERD_METRICS_H

#include <stdint.h>

#include "buf.h"
#include "err.h"

/* X(symbol, kind, name, labels, help). Rows of one name stand together; the first one's help and
 * kind are printed. Kinds: COUNTER, GAUGE; SECONDS is a counter kept in us and printed in s. */
#define METRICS_TABLE(X) \
    X(BATCHES_ACCEPTED, COUNTER, "gatherd_batches_total", "", "Batches admitted.") \
    X(BATCHES_REFUSED_FULL, COUNTER, "gatherd_batches_refused_total", "reason=\"full\"", \
      "Batches refused with 503, or with 429 for a quota.") \
    X(BATCHES_REFUSED_DRAINING, COUNTER, "gatherd_batches_refused_total", "reason=\"draining\"", \
      "") \
    X(BATCHES_REFUSED_QUOTA, COUNTER, "gatherd_batches_refused_total", "reason=\"quota\"", "") \
    X(BATCHES_REFUSED_UNREAD, COUNTER, "gatherd_batches_refused_total", "reason=\"unread\"", "") \
    X(BATCHES_CLIENT_GONE, COUNTER, "gatherd_batches_client_gone_total", "", \
      "Batches cancelled because the client hung up, or was cut.") \
    X(BATCHES_RUNNING, GAUGE, "gatherd_batches_running", "", "Batches not yet answered.") \
    X(MEMBERS_DONE, COUNTER, "gatherd_members_total", "state=\"done\"", \
      "Members finished, by state.") \
    X(MEMBERS_FAILED, COUNTER, "gatherd_members_total", "state=\"failed\"", "") \
    X(MEMBERS_DENIED, COUNTER, "gatherd_members_total", "state=\"denied\"", "") \
    X(MEMBERS_CANCELLED, COUNTER, "gatherd_members_total", "state=\"cancelled\"", "") \
    X(MEMBERS_QUEUED, GAUGE, "gatherd_members_queued", "", "Members waiting for a slot.") \
    X(MEMBERS_ACTIVE, GAUGE, "gatherd_members_active", "", "Members holding a slot.") \
    X(FETCH_HOPS, COUNTER, "gatherd_fetch_requests_total", "", \
      "Requests sent upstream, redirects counted singly.") \
    X(FETCH_CONNECTS, COUNTER, "gatherd_fetch_connects_total", "", \
      "Upstream connections opened by requests.") \
    X(FETCH_REUSED, COUNTER, "gatherd_fetch_reused_total", "", \
      "Requests sent on a kept-alive connection.") \
    X(FETCH_BYTES_RECEIVED, COUNTER, "gatherd_fetch_received_bytes_total", "", \
      "Body bytes received from upstreams, as encoded.") \
    X(FETCH_BYTES_DELIVERED, COUNTER, "gatherd_fetch_delivered_bytes_total", "", \
      "Body bytes after decoding.") \
    X(FETCH_SECONDS, SECONDS, "gatherd_fetch_seconds_total", "", \
      "Work time of finished members, without queueing.") \
    X(QUEUE_SECONDS, SECONDS, "gatherd_queue_seconds_total", "", \
      "Time that finished members waited for slots.") \
    X(POLICY_REPORTED, COUNTER, "gatherd_policy_reported_total", "", \
      "Requests that a policy of mode = report would have denied.") \
    X(DNS_LOOKUPS, COUNTER, "gatherd_dns_lookups_total", "", "Name look-ups sent.") \
    X(DNS_CACHE_HITS, COUNTER, "gatherd_dns_cache_hits_total", "", \
      "Name look-ups answered from the cache.") \
    X(CLIENTS, GAUGE, "gatherd_clients", "", "Open client connections.") \
    X(HTTP_2XX, COUNTER, "gatherd_http_requests_total", "code=\"2xx\"", \
      "Requests answered, by class of status.") \
    X(HTTP_4XX, COUNTER, "gatherd_http_requests_total", "code=\"4xx\"", "") \
    X(HTTP_5XX, COUNTER, "gatherd_http_requests_total", "code=\"5xx\"", "") \
    X(HTTP_REFUSED_HEAD, COUNTER, "gatherd_http_refused_total", "reason=\"head\"", \
      "Requests refused because a limit of their size was met.") \
    X(HTTP_REFUSED_BODY, COUNTER, "gatherd_http_refused_total", "reason=\"body\"", "") \
    X(HTTP_REFUSED_MEMORY, COUNTER, "gatherd_http_refused_total", "reason=\"memory\"", "") \
    X(CLIENTS_CUT_HEAD, COUNTER, "gatherd_clients_cut_total", "reason=\"head\"", \
      "Connections of clients closed at a deadline.") \
    X(CLIENTS_CUT_BODY, COUNTER, "gatherd_clients_cut_total", "reason=\"body\"", "") \
    X(CLIENTS_CUT_ANSWER, COUNTER, "gatherd_clients_cut_total", "reason=\"answer\"", "") \
    X(CLIENTS_CUT_IDLE, COUNTER, "gatherd_clients_cut_total", "reason=\"idle\"", "") \
    X(REQUEST_BYTES_HELD, GAUGE, "gatherd_request_bytes", "", \
      "Request bodies held until their answer is sent, bytes.") \
    X(MEMBERS_UNREAD, GAUGE, "gatherd_members_unread", "", \
      "Members that are final and whose answer is not read to its end.") \
    X(ANSWER_BYTES_HELD, GAUGE, "gatherd_answer_bytes", "", \
      "Bodies and headers held for answers, bytes.")

/* Upper bounds of the buckets of gatherd_loop_turn_seconds: X(microseconds, "seconds"), rising;
 * what is longer than the last counts in +Inf only. */
#define METRICS_TURN_BOUNDS(X) \
    X(100, "0.0001") \
    X(250, "0.00025") \
    X(500, "0.0005") \
    X(1000, "0.001") \
    X(2500, "0.0025") \
    X(5000, "0.005") \
    X(10000, "0.01") \
    X(20000, "0.02") \
    X(50000, "0.05") \
    X(100000, "0.1")

enum metric {
#define X(symbol, kind, name, labels, help) METRIC_##symbol,
    METRICS_TABLE(X)
#undef X
    METRIC_COUNT
};

enum {
#define X(us, text) +1
    METRICS_TURN_BUCKETS = METRICS_TURN_BOUNDS(X) + 1 /* the last is +Inf */
#undef X
};

struct metrics {
    int64_t value[METRIC_COUNT];
    int64_t errors[ERR_COUNT]; /* gatherd_member_errors_total{type="..."} */
    struct {
        int64_t bucket[METRICS_TURN_BUCKETS]; /* each turn is in one; added up when printed */
        int64_t sum_us;
    } turn; /* gatherd_loop_turn_seconds */
};

static inline int64_t metrics_load(const int64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* By the owner: nobody else writes, so two steps lose nothing. */
static inline void metrics_raise(int64_t *at, int64_t n)
{
    __atomic_store_n(at, metrics_load(at) + n, __ATOMIC_RELAXED);
}

static inline void metrics_add(struct metrics *m, enum metric id, int64_t n)
{
    metrics_raise(&m->value[id], n);
}

static inline void metrics_set(struct metrics *m, enum metric id, int64_t v)
{
    __atomic_store_n(&m->value[id], v, __ATOMIC_RELAXED);
}

static inline int64_t metrics_get(const struct metrics *m, enum metric id)
{
    return metrics_load(&m->value[id]);
}

/* A member ended with this error. */
static inline void metrics_add_error(struct metrics *m, enum err_type type)
{
    metrics_raise(&m->errors[type], 1);
}

/* A turn of the loop took us microseconds, without sleeping. */
void metrics_observe_turn(struct metrics *m, int64_t us);

/* Adds every value of `one` (any thread's) to `out` (the caller's own), gauges too. Begin with a
 * zeroed struct. */
void metrics_sum(struct metrics *out, const struct metrics *one);

/* Appends the Prometheus text exposition (version 0.0.4): the table, the histogram of turns, the
 * errors family (every type, also those at 0), gatherd_build_info{version="..."} 1,
 * process_start_time_seconds, process_resident_memory_bytes, process_cpu_seconds_total,
 * process_open_fds, process_max_fds (from /proc/self; a line that cannot be read is left out). */
void metrics_print(const struct metrics *m, struct buf *out);

#endif
