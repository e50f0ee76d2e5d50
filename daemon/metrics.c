/* SPDX-License-Identifier: MIT
 *
 * metrics - the table printed as Prometheus text (exposition format 0.0.4) when GET /metrics asks.
 * Runs on the front's loop over a sum that the caller made; owns nothing. metrics_observe_turn() is
 * called by each loop's thread for its own instance.
 *
 * The kernel is asked for what it knows of the process at the moment of printing. The start time is
 * the boot clock's reading at which /proc/self/stat says the process began, carried over to the
 * wall clock: /proc/stat with its btime is hidden by ProcSubset=pid. It is rounded to the kernel's
 * tick, so that it stays the same from scrape to scrape.
 */
#include "metrics.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "build.h"
#include "clock.h"
#include "memory.h"
#include "parse.h"

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_SECONDS };

static const struct row {
    enum kind kind;
    const char *name, *labels, *help;
} rows[METRIC_COUNT] = {
#define X(symbol, kind, name, labels, help) [METRIC_##symbol] = {KIND_##kind, name, labels, help},
    METRICS_TABLE(X)
#undef X
};

static const struct {
    int64_t us;
    const char *text;
} turn_bounds[METRICS_TURN_BUCKETS] = {
#define X(us, text) {us, text},
    METRICS_TURN_BOUNDS(X)
#undef X
    {INT64_MAX, "+Inf"},
};

/* --- counting -------------------------------------------------------------------------------- */

void metrics_observe_turn(struct metrics *m, int64_t us)
{
    size_t i = 0;
    while (us > turn_bounds[i].us)
        i++;
    metrics_raise(&m->turn.bucket[i], 1);
    metrics_raise(&m->turn.sum_us, us);
}

void metrics_sum(struct metrics *out, const struct metrics *one)
{
    for (int i = 0; i < METRIC_COUNT; i++)
        metrics_add(out, (enum metric)i, metrics_get(one, (enum metric)i));
    for (int i = 0; i < ERR_COUNT; i++)
        metrics_raise(&out->errors[i], metrics_load(&one->errors[i]));
    for (int i = 0; i < METRICS_TURN_BUCKETS; i++)
        metrics_raise(&out->turn.bucket[i], metrics_load(&one->turn.bucket[i]));
    metrics_raise(&out->turn.sum_us, metrics_load(&one->turn.sum_us));
}

/* --- the tables ------------------------------------------------------------------------------ */

static void add_head(struct buf *out, const char *name, const char *type, const char *help)
{
    const char *const parts[] = {"# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        buf_add_str(out, parts[i]);
}

static void add_row(struct buf *out, const struct row *row, int64_t value)
{
    buf_add_str(out, row->name);
    if (row->labels[0]) {
        buf_add_char(out, '{');
        buf_add_str(out, row->labels);
        buf_add_char(out, '}');
    }
    buf_add_char(out, ' ');
    if (row->kind == KIND_SECONDS)
        buf_add_seconds(out, value);
    else
        buf_add_int(out, value);
    buf_add_char(out, '\n');
}

static void add_table(struct buf *out, const struct metrics *m)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        const struct row *row = &rows[i];
        if (i == 0 || strcmp(row->name, rows[i - 1].name) != 0)
            add_head(out, row->name, row->kind == KIND_GAUGE ? "gauge" : "counter", row->help);
        add_row(out, row, metrics_get(m, (enum metric)i));
    }
}

static void add_errors(struct buf *out, const struct metrics *m)
{
    static const char name[] = "gatherd_member_errors_total";
    add_head(out, name, "counter", "Members that ended with an error, by type.");
    for (int type = ERR_NONE + 1; type < ERR_COUNT; type++) {
        buf_add_str(out, name);
        BUF_ADD_LITERAL(out, "{type=\"");
        buf_add_str(out, err_name((enum err_type)type));
        BUF_ADD_LITERAL(out, "\"} ");
        buf_add_int(out, metrics_load(&m->errors[type]));
        buf_add_char(out, '\n');
    }
}

/* Buckets are cumulative in print, and the count is the last of them, so that the two always
 * agree. */
static void add_turns(struct buf *out, const struct metrics *m)
{
    static const char name[] = "gatherd_loop_turn_seconds";
    int64_t count = 0;
    add_head(out, name, "histogram", "Time that turns of the loop took, without sleeping.");
    for (int i = 0; i < METRICS_TURN_BUCKETS; i++) {
        count += metrics_load(&m->turn.bucket[i]);
        buf_add_str(out, name);
        BUF_ADD_LITERAL(out, "_bucket{le=\"");
        buf_add_str(out, turn_bounds[i].text);
        BUF_ADD_LITERAL(out, "\"} ");
        buf_add_int(out, count);
        buf_add_char(out, '\n');
    }
    buf_add_str(out, name);
    BUF_ADD_LITERAL(out, "_sum ");
    buf_add_seconds(out, metrics_load(&m->turn.sum_us));
    buf_add_char(out, '\n');
    buf_add_str(out, name);
    BUF_ADD_LITERAL(out, "_count ");
    buf_add_int(out, count);
    buf_add_char(out, '\n');
}

/* --- the process ----------------------------------------------------------------------------- */

/* A small file of /proc as text; false when it cannot be read. */
static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n;
    do {
        n = read(fd, text, size - 1);
    } while (n < 0 && errno == EINTR);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return true;
}

/* The number that is the blank-separated word `index` (from 0) of text; modifies it. */
static bool word_number(char *text, int index, int64_t *out)
{
    char *word = parse_word(&text);
    while (word && index-- > 0)
        word = parse_word(&text);
    return word && parse_int(word, 0, INT64_MAX, out);
}

static int64_t clock_read_us(clockid_t id)
{
    struct timespec ts = {0};
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

/* Found out by the first scrape, and kept: a wall clock that is set later, or is read a moment
 * after the other one, must not look like a restart. */
static bool start_time_us(int64_t *out)
{
    static _Atomic int64_t known_us; /* 0 = not known; two that find it out find the same */
    char text[1024];
    int64_t ticks, tick_us = US_PER_S / sysconf(_SC_CLK_TCK);
    *out = known_us;
    if (known_us != 0)
        return true;
    if (!read_text("/proc/self/stat", text, sizeof text))
        return false;
    /* The second field, the command, may hold blanks and parentheses. Starttime is the 22nd. */
    char *rest = strrchr(text, ')');
    if (!rest || !word_number(rest + 1, 22 - 3, &ticks))
        return false;
    int64_t boot_us = clock_wall_us() - clock_read_us(CLOCK_BOOTTIME);
    *out = (boot_us + ticks * tick_us + tick_us / 2) / tick_us * tick_us;
    known_us = *out;
    return true;
}

static bool resident_bytes(int64_t *out)
{
    *out = memory_resident();
    return *out > 0;
}

static bool cpu_us(int64_t *out)
{
    *out = clock_read_us(CLOCK_PROCESS_CPUTIME_ID);
    return true;
}

/* From Linux 6.2 on the directory's size is the number of descriptors. Before, they have to be
 * listed, which takes some 8 ms for 10,000. */
static bool open_fds(int64_t *out)
{
    struct stat st;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0) {
        *out = st.st_size;
        return true;
    }
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return false;
    int64_t count = -1; /* the directory's own */
    for (const struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    *out = count;
    return true;
}

static bool max_fds(int64_t *out)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return false;
    *out = (int64_t)limit.rlim_cur;
    return true;
}

static void add_process(struct buf *out)
{
    static const struct {
        struct row row;
        bool (*read)(int64_t *out);
    } process[] = {
        {{KIND_SECONDS, "process_cpu_seconds_total", "", "CPU time used, user and system."},
         cpu_us},
        {{KIND_GAUGE, "process_resident_memory_bytes", "", "Resident memory, bytes."},
         resident_bytes},
        {{KIND_GAUGE, "process_open_fds", "", "Open file descriptors."}, open_fds},
        {{KIND_GAUGE, "process_max_fds", "", "Most file descriptors that may be open."}, max_fds},
    };
    int64_t value;
    for (size_t i = 0; i < sizeof process / sizeof *process; i++) {
        const struct row *row = &process[i].row;
        if (!process[i].read(&value))
            continue;
        add_head(out, row->name, row->kind == KIND_GAUGE ? "gauge" : "counter", row->help);
        add_row(out, row, value);
    }
    const struct row start = {KIND_SECONDS, "process_start_time_seconds", "",
                              "When the process started, seconds since 1970."};
    if (start_time_us(&value)) {
        add_head(out, start.name, "gauge", start.help);
        add_row(out, &start, value);
    }
}

void metrics_print(const struct metrics *m, struct buf *out)
{
    add_table(out, m);
    add_turns(out, m);
    add_errors(out, m);
    add_head(out, "gatherd_build_info", "gauge", "Always 1; the version is the label.");
    BUF_ADD_LITERAL(out, "gatherd_build_info{version=\"" PACKAGE_VERSION "\"} 1\n");
    add_process(out);
}
