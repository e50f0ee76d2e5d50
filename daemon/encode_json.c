/* SPDX-License-Identifier: MIT
 *
 * application/json, and the summary that NDJSON shares. Written straight from the results into the
 * buffer, without a tree; it never fails on bytes that are no UTF-8. encode_member.c has the
 * members.
 *
 * The view is one line for the summary and one for each member, so that an answer can be read in a
 * terminal and searched with grep; a line itself is compact, as NDJSON needs it. Durations are
 * whole microseconds up to here and are printed as milliseconds with three decimals, so sums that
 * were exact stay exact for the reader.
 */
#include "encode.h"

#include "encode_internal.h"

static char *put_counts(char *to, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    to = PUT_LITERAL(to, ",\"counts\":{\"requests\":");
    to = put_uint(to, v->spec->count);
    to = PUT_LITERAL(to, ",\"done\":");
    to = put_int(to, s->done);
    to = PUT_LITERAL(to, ",\"ok\":");
    to = put_int(to, s->n_ok);
    to = PUT_LITERAL(to, ",\"http_error\":");
    to = put_int(to, s->http_error);
    to = PUT_LITERAL(to, ",\"failed\":");
    to = put_int(to, s->failed);
    to = PUT_LITERAL(to, ",\"timed_out\":");
    to = put_int(to, s->timed_out);
    to = PUT_LITERAL(to, ",\"denied\":");
    to = put_int(to, s->denied);
    to = PUT_LITERAL(to, ",\"cancelled\":");
    to = put_int(to, s->cancelled);
    to = PUT_LITERAL(to, ",\"retried\":");
    to = put_int(to, s->retried);
    to = PUT_LITERAL(to, ",\"reused_connections\":");
    to = put_int(to, s->reused);
    return put_char(to, '}');
}

static char *write_status_codes(struct run *run, char *to, const struct view_summary *s)
{
    bool first = true;
    to = PUT_LITERAL(to, ",\"status_codes\":{");
    for (int i = s->status_first; i <= s->status_last; i++) {
        if (s->status_codes[i] == 0)
            continue;
        to = run_more(run, to, 8 + PUT_INT_MAX);
        to = first ? PUT_LITERAL(to, "\"") : PUT_LITERAL(to, ",\"");
        to = put_int(to, i);
        to = PUT_LITERAL(to, "\":");
        to = put_uint(to, s->status_codes[i]);
        first = false;
    }
    return put_char(run_more(run, to, 1), '}');
}

static char *write_errors(struct run *run, char *to, const struct view_summary *s)
{
    bool first = true;
    to = PUT_LITERAL(run_more(run, to, 16), ",\"errors\":{");
    for (enum err_type type = ERR_NONE; type < ERR_COUNT; type++) {
        if (type == ERR_NONE || s->errors[type] == 0)
            continue;
        to = run_more(run, to, ERR_NAME_MAX + 4 + PUT_INT_MAX);
        if (!first)
            to = put_char(to, ',');
        to = put_word(to, err_name(type));
        to = put_char(to, ':');
        to = put_int(to, s->errors[type]);
        first = false;
    }
    return put_char(run_more(run, to, RUN_MAX), '}');
}

static char *put_sizes(char *to, const struct result_sizes *sizes)
{
    to = PUT_LITERAL(to, ",\"sizes\":{\"size_request\":");
    to = put_int(to, sizes->request);
    to = PUT_LITERAL(to, ",\"size_upload\":");
    to = put_int(to, sizes->upload);
    to = PUT_LITERAL(to, ",\"size_header\":");
    to = put_int(to, sizes->header);
    to = PUT_LITERAL(to, ",\"size_download\":");
    to = put_int(to, sizes->download);
    to = PUT_LITERAL(to, ",\"size_delivered\":");
    to = put_int(to, sizes->delivered);
    return put_char(to, '}');
}

static char *put_stats(char *to, const struct view_stats *s)
{
    if (s->min < 0)
        return put_null(to);
    to = PUT_LITERAL(to, "{\"min\":");
    to = put_ms(to, s->min);
    to = PUT_LITERAL(to, ",\"mean\":");
    to = put_ms(to, (int64_t)(s->mean + 0.5));
    to = PUT_LITERAL(to, ",\"p50\":");
    to = put_ms(to, s->p50);
    to = PUT_LITERAL(to, ",\"p90\":");
    to = put_ms(to, s->p90);
    to = PUT_LITERAL(to, ",\"p95\":");
    to = put_ms(to, s->p95);
    to = PUT_LITERAL(to, ",\"p99\":");
    to = put_ms(to, s->p99);
    to = PUT_LITERAL(to, ",\"max\":");
    to = put_ms(to, s->max);
    return put_char(to, '}');
}

static char *put_latency(char *to, const struct view_summary *s)
{
    to = PUT_LITERAL(to, ",\"latency_ms\":{\"population\":\"done\",\"count\":");
    to = put_int(to, s->latency_count);
    to = PUT_LITERAL(to, ",\"total\":");
    to = put_stats(to, &s->latency_total);
    to = PUT_LITERAL(to, ",\"ttfb\":");
    to = put_stats(to, &s->latency_ttfb);
    return put_char(to, '}');
}

static char *put_concurrency(char *to, const struct view_summary *s)
{
    to = PUT_LITERAL(to, ",\"concurrency\":{\"limit\":");
    to = put_int(to, s->concurrency_limit);
    to = PUT_LITERAL(to, ",\"peak\":");
    to = put_int(to, s->concurrency_peak);
    to = PUT_LITERAL(to, ",\"sequential_ms\":");
    to = put_ms(to, s->sequential_us);
    to = PUT_LITERAL(to, ",\"speedup\":");
    /* Thousandths with three decimals are what put_ms() writes. */
    to = put_ms_or_null(to, s->speedup > 0.0 ? (int64_t)(s->speedup * 1000.0 + 0.5) : TIME_NULL);
    return put_char(to, '}');
}

static char *put_critical(char *to, const struct view_summary *s)
{
    if (s->critical_index < 0)
        return PUT_LITERAL(to, ",\"critical_path\":null");
    to = PUT_LITERAL(to, ",\"critical_path\":{\"index\":");
    to = put_int(to, s->critical_index);
    to = PUT_LITERAL(to, ",\"phase\":");
    to = put_word(to, phase_name(s->critical_phase));
    to = PUT_LITERAL(to, ",\"ms\":");
    to = put_ms(to, s->critical_us);
    to = PUT_LITERAL(to, ",\"saves_ms\":");
    to = put_ms(to, s->critical_saves_us);
    return put_char(to, '}');
}

static char *write_head(struct run *run, char *to, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    to = PUT_LITERAL(to, "\"schema_version\":1,\"batch_id\":");
    to = run_json(run, to, v->id);
    to = PUT_LITERAL(to, ",\"ok\":");
    to = put_bool(to, s->ok);
    to = PUT_LITERAL(to, ",\"complete\":");
    to = put_bool(to, s->complete);
    to = PUT_LITERAL(to, ",\"started_at\":\"");
    to = put_rfc3339(to, v->started_wall_us);
    to = PUT_LITERAL(to, "\",\"total_ms\":");
    return put_ms(to, s->total_us);
}

void encode_summary_fields(struct buf *out, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    struct run run;
    run.out = out;
    assert(s != NULL);
    char *to = write_head(&run, run_begin(&run), v);
    to = put_counts(to, v);
    to = write_status_codes(&run, to, s);
    to = write_errors(&run, to, s);
    to = put_sizes(to, &s->sizes);
    to = put_latency(to, s);
    to = put_concurrency(to, s);
    to = put_critical(to, s);
    to = PUT_LITERAL(to, ",\"daemon\":{\"loop_lag_max_ms\":");
    to = put_ms(to, s->loop_lag_max_us);
    to = PUT_LITERAL(to, ",\"overhead_ms\":");
    to = put_ms(to, s->overhead_us);
    run_end(&run, put_char(to, '}'));
}

static void json_begin(struct buf *out, const struct batch_view *v)
{
    buf_add_char(out, '{');
    encode_summary_fields(out, v);
    BUF_ADD_LITERAL(out, ",\n\"results\":[\n");
}

static bool json_item(struct buf *out, const struct batch_view *v, struct encode_at *at)
{
    if (at->index > 0 && at->part == ENCODE_FIELDS)
        BUF_ADD_LITERAL(out, ",\n");
    return encode_member_object(out, v, at, NULL);
}

static void json_end(struct buf *out, const struct batch_view *v)
{
    (void)v;
    BUF_ADD_LITERAL(out, "\n],\n\"retry\":null}\n");
}

const struct encoder encode_json = {
    .name = "json",
    .media_type = "application/json",
    .streams = false,
    .begin = json_begin,
    .item = json_item,
    .end = json_end,
};
