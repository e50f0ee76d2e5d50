/* SPDX-License-Identifier: MIT
 *
 * text/plain: a batch for a person in front of a terminal. A header line, a table with one row and
 * one waterfall bar a member, then what went wrong, what the batch waited for, and the sums. Lines
 * of the table have at most 100 columns; the URL comes last and is cut, so that a terminal of 80
 * columns wraps long URLs and nothing else.
 *
 * An encoder keeps nothing between two calls, so the widths of the columns come from the summary
 * in O(1), never from a look at all members. Only what is known to be harmless reaches the
 * terminal: controls, escape sequences and characters that reorder or hide text are written as
 * \x1b or \u202e. A character is taken for one column; wide ones make a line look longer.
 */
#include "encode.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "utf8.h"

#define LINE_COLUMNS 100
#define BAR_COLUMNS 30
#define URL_COLUMNS_MIN 16
#define SIZE_COLUMNS 8      /* "999.9 kB" */
#define MESSAGE_COLUMNS 400 /* of an error; longer than any of ours, a hostile peer's are cut */
#define ERROR_LINES_MAX 100
#define SMALL 32 /* bytes of a formatted number with its unit */

static const char phase_letters[PHASE_COUNT + 1] = "qdctswr";

/* Milliseconds with one decimal. */
static const char *format_ms(int64_t us, char text[SMALL])
{
    int64_t tenths = us / 100 + (us % 100 >= 50);
    snprintf(text, SMALL, "%" PRId64 ".%d", tenths / 10, (int)(tenths % 10));
    return text;
}

/* "512 B", "19.3 kB": powers of 1000, as curl and browsers show them. */
static const char *format_size(int64_t bytes, char text[SMALL])
{
    static const char units[] = "kMGTPE";
    if (bytes < 1000) {
        snprintf(text, SMALL, "%" PRId64 " B", bytes);
        return text;
    }
    int64_t tenth = 100; /* a tenth of the unit */
    size_t unit = 0;
    while (units[unit + 1] != '\0' && bytes / tenth + (bytes % tenth >= tenth / 2) >= 10000) {
        tenth *= 1000;
        unit++;
    }
    int64_t tenths = bytes / tenth + (bytes % tenth >= tenth / 2);
    snprintf(text, SMALL, "%" PRId64 ".%d %cB", tenths / 10, (int)(tenths % 10), units[unit]);
    return text;
}

static int digits_of(int64_t value)
{
    char text[SMALL];
    return snprintf(text, sizeof text, "%" PRId64, value);
}

static int at_least(int value, int least)
{
    return value > least ? value : least;
}

/* Widths of the columns, the same in every call for one batch. */
struct layout {
    int index, status, total, url;
};

static struct layout layout_of(const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    char text[SMALL];
    assert(s != NULL);
    struct layout l = {
        .index = 1 + digits_of((int64_t)v->spec->count - 1),
        .status = (int)strlen(s->cancelled > 0 ? "cancelled" : "status"),
        .total = at_least((int)strlen(format_ms(s->total_us, text)), (int)strlen("total ms")),
    };
    int used = l.index + 2 + l.status + 2 + SIZE_COLUMNS + 2 + l.total + 2 + BAR_COLUMNS + 2;
    l.url = at_least(LINE_COLUMNS - used, URL_COLUMNS_MIN);
    return l;
}

/* Writes foreign text into a limited number of columns; what is too long ends in an ellipsis. */
struct clip {
    struct buf *out;
    int left;        /* columns */
    size_t last_fit; /* the length of out where an ellipsis still fits behind it */
    bool full;
};

static uint32_t decode(const char *s, int length)
{
    const unsigned char *u = (const unsigned char *)s;
    switch (length) {
    case 1:
        return u[0];
    case 2:
        return (u[0] & 0x1FU) << 6 | (u[1] & 0x3FU);
    case 3:
        return (u[0] & 0x0FU) << 12 | (u[1] & 0x3FU) << 6 | (u[2] & 0x3FU);
    default:
        return (u[0] & 0x07U) << 18 | (u[1] & 0x3FU) << 12 | (u[2] & 0x3FU) << 6 | (u[3] & 0x3FU);
    }
}

/* Controls (C0, DEL, C1), and the format characters that hide, join or turn round what is near. */
static bool is_unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0xAD || c == 0x61C || c == 0x180E ||
           (c >= 0x200B && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
           (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFB) ||
           (c >= 0xE0000 && c <= 0xE0FFF);
}

/* One character or ill-formed sequence, and how it may be printed. */
struct piece {
    const char *text; /* the character itself, or what is in own */
    size_t used, len; /* bytes it has, and bytes it is printed as */
    int columns;
    char own[16];
};

static void take_piece(struct piece *p, const char *s, size_t n)
{
    int length = utf8_sequence(s, n);
    if (length < 0) {
        *p = (struct piece){"\xEF\xBF\xBD", (size_t)-length, 3, 1, ""};
        return;
    }
    p->text = s;
    p->used = p->len = (size_t)length;
    p->columns = 1;
    uint32_t c = decode(s, length);
    if (is_unsafe(c)) {
        p->columns =
            snprintf(p->own, sizeof p->own, c < 0x80 ? "\\x%02" PRIx32 : "\\u%04" PRIx32, c);
        p->text = p->own;
        p->len = (size_t)p->columns;
    }
}

static void clip_add(struct clip *c, const char *s, size_t n)
{
    struct piece p;
    for (; n > 0 && !c->full; s += p.used, n -= p.used) {
        take_piece(&p, s, n);
        if (p.columns > c->left) {
            c->full = true;
            if (!c->out->failed)
                c->out->len = c->last_fit;
            BUF_ADD_LITERAL(c->out, "\xE2\x80\xA6");
            return;
        }
        buf_add(c->out, p.text, p.len);
        c->left -= p.columns;
        if (c->left > 0)
            c->last_fit = c->out->len;
    }
}

static struct clip clip_start(struct buf *out, int columns)
{
    return (struct clip){.out = out, .left = columns, .last_fit = out->len};
}

static void add_foreign(struct buf *out, const char *s, int columns)
{
    struct clip c = clip_start(out, columns);
    if (s != NULL)
        clip_add(&c, s, strlen(s));
}

static void add_url(struct buf *out, const struct member *m, int columns)
{
    struct clip c = clip_start(out, columns);
    size_t at = 0;
    size_t secret = encode_userinfo(m->url, m->url_len, m->origin != NULL, &at);
    if (secret > 0)
        clip_add(&c, m->url, at);
    else
        at = 0;
    clip_add(&c, m->url + at + secret, m->url_len - at - secret);
}

/* A count with its word, when there is any. */
static void add_some(struct buf *out, int64_t count, const char *word)
{
    if (count > 0)
        buf_printf(out, ", %" PRId64 " %s", count, word);
}

static void add_requests(struct buf *out, const char *before, size_t count)
{
    buf_printf(out, "%s%zu request%s", before, count, count == 1 ? "" : "s");
}

static void text_begin(struct buf *out, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    struct layout l = layout_of(v);
    char text[SMALL];
    BUF_ADD_LITERAL(out, "batch ");
    add_foreign(out, v->id, 40);
    add_requests(out, ": ", v->spec->count);
    buf_printf(out, ", %" PRId64 " ok", s->n_ok);
    add_some(out, s->http_error, "http error");
    add_some(out, s->failed, "failed");
    add_some(out, s->denied, "denied");
    add_some(out, s->cancelled, "cancelled");
    buf_printf(out, "; %s ms", format_ms(s->total_us, text));
    int64_t speedup = (int64_t)(s->speedup * 100.0 + 0.5);
    if (speedup > 0)
        buf_printf(out, ", speedup %" PRId64 ".%02d", speedup / 100, (int)(speedup % 100));
    buf_printf(out, "%s\n\n", s->complete ? "" : " (cut short)");
    buf_printf(out, "%*s  %-*s  %*s  %*s  0%*s ms  url\n", l.index, "#", l.status, "status",
               SIZE_COLUMNS, "size", l.total, "total ms", BAR_COLUMNS - 4, text);
}

/* Paints the columns of which no longer phase took up more so far. */
static void paint(char *bar, int64_t *share, const int64_t *edges, int64_t from, int64_t to,
                  char letter)
{
    for (int i = 0; i < BAR_COLUMNS; i++) {
        int64_t first = from > edges[i] ? from : edges[i];
        int64_t last = to < edges[i + 1] ? to : edges[i + 1];
        if (last - first > share[i]) {
            share[i] = last - first;
            bar[i] = letter;
        }
    }
}

/* The member's life on the batch's time line. Each column shows the phase that took most of it, and
 * a dot only when nothing ran in it at all: even a member of 1 ms in a batch of 10 s is seen. */
static void add_bar(struct buf *out, const struct batch_view *v, const struct result *r)
{
    char bar[BAR_COLUMNS];
    int64_t share[BAR_COLUMNS] = {0};
    int64_t edges[BAR_COLUMNS + 1];
    int64_t total = v->summary->total_us;
    int64_t at = r->end_us - v->started_us - timings_total(&r->timings);
    memset(bar, '.', sizeof bar);
    for (int i = 0; i <= BAR_COLUMNS; i++)
        edges[i] = total / BAR_COLUMNS * i + total % BAR_COLUMNS * i / BAR_COLUMNS;
    at = r->end_us == TIME_NULL || at < 0 ? 0 : at;
    for (enum phase p = PHASE_QUEUE; p < PHASE_COUNT; p++) {
        if (r->timings.us[p] <= 0)
            continue;
        paint(bar, share, edges, at, at + r->timings.us[p], phase_letters[p]);
        at += r->timings.us[p];
    }
    buf_add(out, bar, sizeof bar);
}

static bool text_item(struct buf *out, const struct batch_view *v, struct encode_at *at)
{
    const size_t index = at->index;
    const struct result *r = view_result(v, index);
    struct layout l = layout_of(v);
    char status[SMALL], size[SMALL] = "-", total[SMALL] = "-";
    if (r->state == MEMBER_DONE)
        snprintf(status, sizeof status, "%d", r->status);
    else
        snprintf(status, sizeof status, "%s", member_state_name(r->state));
    if (r->start_us != TIME_NULL) {
        format_size(r->sizes.delivered, size);
        format_ms(result_work_us(r), total);
    }
    buf_printf(out, "%*zu  %-*s  %*s  %*s  ", l.index, index, l.status, status, SIZE_COLUMNS, size,
               l.total, total);
    add_bar(out, v, r);
    BUF_ADD_LITERAL(out, "  ");
    add_url(out, &v->spec->members[index], l.url);
    buf_add_char(out, '\n');
    return true;
}

static void add_error_line(struct buf *out, const struct batch_view *v, size_t index)
{
    const struct result *r = view_result(v, index);
    const struct result_error *e = &r->error;
    buf_printf(out, "%*s%zu  %s", layout_of(v).index - digits_of((int64_t)index), "#", index,
               err_name(e->type));
    if (r->timings.us[e->phase] >= 0)
        buf_printf(out, " in %s", phase_name(e->phase));
    BUF_ADD_LITERAL(out, ": ");
    add_foreign(out, e->message != NULL ? e->message : err_text(e->type), MESSAGE_COLUMNS);
    if (e->rule != NULL) {
        BUF_ADD_LITERAL(out, " (rule: ");
        add_foreign(out, e->rule, MESSAGE_COLUMNS);
        buf_add_char(out, ')');
    }
    buf_add_char(out, '\n');
}

static void add_errors(struct buf *out, const struct batch_view *v)
{
    int64_t total = 0;
    int64_t shown = 0;
    for (enum err_type type = ERR_NONE; type < ERR_COUNT; type++)
        total += v->summary->errors[type];
    if (total == 0)
        return;
    BUF_ADD_LITERAL(out, "errors:\n");
    for (size_t i = 0; i < v->spec->count && shown < ERROR_LINES_MAX; i++) {
        if (view_result(v, i)->error.type == ERR_NONE)
            continue;
        add_error_line(out, v, i);
        shown++;
    }
    if (total > shown)
        buf_printf(out, "and %" PRId64 " more; format=json has them all\n", total - shown);
    buf_add_char(out, '\n');
}

static void add_critical(struct buf *out, const struct view_summary *s)
{
    char waited[SMALL], saved[SMALL];
    if (s->critical_index < 0)
        return;
    buf_printf(out, "critical path: #%" PRId64 " %s %s ms; without it %s ms less\n",
               s->critical_index, phase_name(s->critical_phase), format_ms(s->critical_us, waited),
               format_ms(s->critical_saves_us, saved));
}

static void add_stats_row(struct buf *out, const char *name, const struct view_stats *s, int width)
{
    const int64_t values[] = {s->min, (int64_t)(s->mean + 0.5), s->p50, s->p90, s->p95, s->p99,
                              s->max};
    if (s->min < 0)
        return;
    buf_printf(out, "%-8s", name);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[SMALL];
        buf_printf(out, "%*s", width, format_ms(values[i], text));
    }
    buf_add_char(out, '\n');
}

static void add_latency(struct buf *out, const struct view_summary *s)
{
    static const char *const names[] = {"min", "mean", "p50", "p90", "p95", "p99", "max"};
    char text[SMALL];
    int width = 2 + at_least((int)strlen(format_ms(s->latency_total.max, text)), 6);
    if (s->latency_total.min < 0)
        return;
    buf_printf(out, "\n%8s", "");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        buf_printf(out, "%*s", width, names[i]);
    buf_add_char(out, '\n');
    add_stats_row(out, "total ms", &s->latency_total, width);
    add_stats_row(out, "ttfb ms", &s->latency_ttfb, width);
    buf_add_char(out, '\n');
}

static void add_counts(struct buf *out, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    add_requests(out, "counts: ", v->spec->count);
    add_some(out, s->done, "done");
    add_some(out, s->failed, "failed");
    if (s->timed_out > 0)
        buf_printf(out, " (%" PRId64 " timed out)", s->timed_out);
    add_some(out, s->denied, "denied");
    add_some(out, s->cancelled, "cancelled");
    add_some(out, s->retried, "retried");
    add_some(out, s->reused, "on a reused connection");
    buf_add_char(out, '\n');
}

static void add_statuses(struct buf *out, const struct view_summary *s)
{
    const char *before = "status: ";
    if (s->done == 0)
        return;
    for (int i = s->status_first; i <= s->status_last; i++) {
        if (s->status_codes[i] == 0)
            continue;
        buf_printf(out, "%s%" PRIu32 " x %d", before, s->status_codes[i], i);
        before = ", ";
    }
    buf_add_char(out, '\n');
}

static void add_sizes(struct buf *out, const struct result_sizes *sizes)
{
    char sent[SMALL], header[SMALL], body[SMALL], delivered[SMALL];
    format_size(sizes->request + sizes->upload, sent);
    format_size(sizes->header, header);
    format_size(sizes->download, body);
    format_size(sizes->delivered, delivered);
    buf_printf(out, "size: sent %s, received %s of headers, %s of bodies (%s decoded)\n", sent,
               header, body, delivered);
}

static void add_legend(struct buf *out)
{
    BUF_ADD_LITERAL(out, "bar: ");
    for (enum phase p = PHASE_QUEUE; p < PHASE_COUNT; p++)
        buf_printf(out, "%c %s, ", phase_letters[p], phase_name(p));
    BUF_ADD_LITERAL(out, ". not running\n");
}

static void text_end(struct buf *out, const struct batch_view *v)
{
    const struct view_summary *s = v->summary;
    buf_add_char(out, '\n');
    add_errors(out, v);
    add_critical(out, s);
    add_latency(out, s);
    add_counts(out, v);
    add_statuses(out, s);
    add_sizes(out, &s->sizes);
    add_legend(out);
}

const struct encoder encode_text = {
    .name = "text",
    .media_type = "text/plain; charset=utf-8",
    .streams = false,
    .begin = text_begin,
    .item = text_item,
    .end = text_end,
};
