/* SPDX-License-Identifier: MIT
 *
 * metrics: the text is read by a small parser that holds it to the exposition format and to
 * promtool's rules; values, units, and what is left out when /proc cannot be read. metrics.c is
 * included, so that opening files can be made to fail.
 */
#include "metrics.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static bool no_proc;
static const char *fd_dir; /* stands for /proc/self/fd; NULL = that itself */

static int test_metrics_open(const char *path, int flags)
{
    return no_proc ? -1 : open(path, flags);
}

/* An older kernel, too, when fd_dir stands for the directory. */
static int test_metrics_stat(const char *path, struct stat *st)
{
    int rc = no_proc ? -1 : stat(path, st);
    if (fd_dir)
        st->st_size = 0;
    return rc;
}

static DIR *test_metrics_opendir(const char *path)
{
    return no_proc ? NULL : opendir(fd_dir ? fd_dir : path);
}

#define open test_metrics_open
#define opendir test_metrics_opendir
#define stat(path, st) test_metrics_stat(path, st)
#include "memory.c"
#include "metrics.c"
#undef stat
#undef open
#undef opendir

/* --- a parser of the exposition format ------------------------------------------------------- */

#define SAMPLES_MAX 256

struct sample {
    char name[80], labels[120], type[16];
    double value;
    char text[40]; /* the value as written */
};

struct exposition {
    struct sample samples[SAMPLES_MAX];
    size_t count, families;
};

static const char *const name_chars = "abcdefghijklmnopqrstuvwxyz_";

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* promtool's rules for a family's name. */
static void check_name(const char *name, const char *type)
{
    static const char *const units[] = {"_ms", "_us", "_milliseconds", "_kilobytes", "_mb", "_min"};
    assert_int_equal(strspn(name, name_chars), strlen(name));
    assert_int_equal(ends_with(name, "_total"), strcmp(type, "counter") == 0);
    assert_null(strstr(name, "gauge"));
    assert_null(strstr(name, "counter"));
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        assert_false(ends_with(name, units[i]));
}

/* name="value" pairs, comma separated. */
static void check_labels(const char *s)
{
    while (*s) {
        size_t n = strspn(s, name_chars);
        assert_true(n > 0);
        s += n;
        assert_memory_equal(s, "=\"", 2);
        s += 2;
        s += strcspn(s, "\"\\\n");
        assert_int_equal(*s++, '"');
        if (*s)
            assert_int_equal(*s++, ',');
    }
}

static void read_sample(struct exposition *e, const char *line, const char *family,
                        const char *type)
{
    assert_true(e->count < SAMPLES_MAX);
    struct sample *s = &e->samples[e->count];
    memset(s, 0, sizeof *s);
    if (strchr(line, '{'))
        assert_int_equal(sscanf(line, "%79[^{]{%119[^}]} %39s", s->name, s->labels, s->text), 3);
    else
        assert_int_equal(sscanf(line, "%79s %39s", s->name, s->text), 2);
    snprintf(s->type, sizeof s->type, "%s", type);
    if (strcmp(type, "histogram") == 0) {
        size_t n = strlen(family);
        assert_memory_equal(s->name, family, n);
        assert_true(strcmp(s->name + n, "_bucket") == 0 || strcmp(s->name + n, "_sum") == 0 ||
                    strcmp(s->name + n, "_count") == 0);
        assert_int_equal(strncmp(s->labels, "le=\"", 4) == 0, strcmp(s->name + n, "_bucket") == 0);
    } else {
        assert_string_equal(s->name, family);
    }
    check_labels(s->labels);
    char *end, again[256];
    s->value = strtod(s->text, &end);
    assert_int_equal(*end, '\0');
    snprintf(again, sizeof again, s->labels[0] ? "%s{%s} %s" : "%s%s %s", s->name, s->labels,
             s->text);
    assert_string_equal(line, again); /* nothing else stood on the line */
    for (size_t i = 0; i < e->count; i++) {
        if (strcmp(e->samples[i].name, s->name) == 0)
            assert_string_not_equal(e->samples[i].labels, s->labels);
    }
    e->count++;
}

/* Reads "# HELP name text", then "# TYPE name type", into family and type. */
static void read_head(struct exposition *e, const char *help, const char *type_line, char *family,
                      char *type)
{
    char text[200], name[80];
    assert_int_equal(sscanf(help, "# HELP %79s %199[^\n]", family, text), 2);
    assert_true(ends_with(text, "."));
    assert_int_equal(sscanf(type_line, "# TYPE %79s %15s", name, type), 2);
    assert_string_equal(name, family);
    assert_true(strcmp(type, "counter") == 0 || strcmp(type, "gauge") == 0 ||
                strcmp(type, "histogram") == 0);
    check_name(family, type);
    /* One family stands together and has one head. */
    for (size_t i = 0; i < e->count; i++)
        assert_string_not_equal(e->samples[i].name, family);
    e->families++;
}

static void parse(struct exposition *e, const struct metrics *m)
{
    struct buf b;
    char family[80] = "", type[16] = "";
    buf_init(&b, 0);
    metrics_print(m, &b);
    assert_false(b.failed);
    assert_true(b.len > 0 && b.data[b.len - 1] == '\n');
    buf_cstr(&b);
    e->count = e->families = 0;
    for (char *line = b.data, *next; *line; line = next) {
        next = strchr(line, '\n');
        *next++ = '\0';
        if (line[0] != '#') {
            read_sample(e, line, family, type);
            continue;
        }
        char *type_line = next;
        next = strchr(type_line, '\n');
        assert_non_null(next);
        *next++ = '\0';
        read_head(e, line, type_line, family, type);
        assert_true(*next && *next != '#'); /* a head has samples */
    }
    buf_fini(&b);
}

static const struct sample *find(const struct exposition *e, const char *name, const char *labels)
{
    for (size_t i = 0; i < e->count; i++) {
        if (strcmp(e->samples[i].name, name) == 0 && strcmp(e->samples[i].labels, labels) == 0)
            return &e->samples[i];
    }
    return NULL;
}

static struct exposition parsed;

/* --- the tests ------------------------------------------------------------------------------- */

static void test_format(void **state)
{
    (void)state;
    struct metrics m = {0};
    parse(&parsed, &m);
    /* table, buckets with sum and count, errors without ERR_NONE, build_info, five of the
     * process */
    assert_int_equal(parsed.count,
                     METRIC_COUNT + METRICS_TURN_BUCKETS + 2 + ERR_COUNT - 1 + 1 + 5);
    size_t names = 0;
    for (int i = 0; i < METRIC_COUNT; i++)
        names += i == 0 || strcmp(rows[i].name, rows[i - 1].name) != 0;
    assert_int_equal(parsed.families, names + 1 + 1 + 1 + 5);
}

/* Each metric has a value of its own, so that a mixed-up row shows. */
static void test_every_value_is_printed(void **state)
{
    (void)state;
    struct metrics m = {0};
    for (int i = 0; i < METRIC_COUNT; i++) {
        metrics_set(&m, (enum metric)i, INT64_C(1000000007) * i);
        metrics_add(&m, (enum metric)i, 3);
    }
    for (int i = 0; i < ERR_COUNT; i++)
        m.errors[i] = 500 + i;
    parse(&parsed, &m);
    for (int i = 0; i < METRIC_COUNT; i++) {
        const struct sample *s = find(&parsed, rows[i].name, rows[i].labels);
        assert_non_null(s);
        char expected[40];
        int64_t v = INT64_C(1000000007) * i + 3;
        if (rows[i].kind == KIND_SECONDS)
            snprintf(expected, sizeof expected, "%lld.%06lld", (long long)(v / 1000000),
                     (long long)(v % 1000000));
        else
            snprintf(expected, sizeof expected, "%lld", (long long)v);
        assert_string_equal(s->text, expected);
        assert_string_equal(s->type, rows[i].kind == KIND_GAUGE ? "gauge" : "counter");
    }
    for (int i = ERR_NONE + 1; i < ERR_COUNT; i++) {
        char labels[80];
        snprintf(labels, sizeof labels, "type=\"%s\"", err_name((enum err_type)i));
        const struct sample *s = find(&parsed, "gatherd_member_errors_total", labels);
        assert_non_null(s);
        assert_true(s->value == 500 + i);
    }
    assert_null(find(&parsed, "gatherd_member_errors_total", "type=\"\""));
}

static double turn_bucket(const char *le)
{
    char labels[40];
    snprintf(labels, sizeof labels, "le=\"%s\"", le);
    const struct sample *s = find(&parsed, "gatherd_loop_turn_seconds_bucket", labels);
    assert_non_null(s);
    assert_string_equal(s->type, "histogram");
    return s->value;
}

/* A bound belongs to its bucket; what is printed counts everything up to it. */
static void test_turns(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *le;
        double count;
    } turns[] = {{0, "0.0001", 2},      {100, "0.0001", 2},   {101, "0.00025", 3},
                 {500, "0.0005", 4},    {501, "0.001", 5},    {2500, "0.0025", 6},
                 {5000, "0.005", 7},    {9999, "0.01", 8},    {20000, "0.02", 9},
                 {50000, "0.05", 10},   {100000, "0.1", 11},  {100001, "+Inf", 12}};
    struct metrics m = {0};
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++)
        metrics_observe_turn(&m, turns[i].us);
    parse(&parsed, &m);
    for (size_t i = 0; i < sizeof turns / sizeof *turns; i++)
        assert_true(turn_bucket(turns[i].le) == turns[i].count);
    assert_string_equal(find(&parsed, "gatherd_loop_turn_seconds_sum", "")->text, "0.288702");
    assert_string_equal(find(&parsed, "gatherd_loop_turn_seconds_count", "")->text, "12");
}

/* The text of a bound is what it says in seconds, and bounds rise. */
static void test_turn_bounds(void **state)
{
    (void)state;
    for (int i = 0; i + 1 < METRICS_TURN_BUCKETS; i++) {
        double us = strtod(turn_bounds[i].text, NULL) * 1e6;
        assert_true(us > (double)turn_bounds[i].us - 0.01 && us < (double)turn_bounds[i].us + 0.01);
        assert_true(turn_bounds[i].us < turn_bounds[i + 1].us);
    }
    assert_string_equal(turn_bounds[METRICS_TURN_BUCKETS - 1].text, "+Inf");
}

/* Two instances and their sum: whatever the struct has, nothing is forgotten. */
static void test_sum(void **state)
{
    (void)state;
    struct metrics one, two, sum = {0};
    int64_t *a = (int64_t *)&one, *b = (int64_t *)&two;
    const int64_t *s = (const int64_t *)&sum;
    const size_t n = sizeof sum / sizeof *s;
    for (size_t i = 0; i < n; i++) {
        a[i] = 1000 + (int64_t)i;
        b[i] = INT64_C(5000000000) * (int64_t)i;
    }
    metrics_sum(&sum, &one);
    metrics_sum(&sum, &two);
    for (size_t i = 0; i < n; i++)
        assert_true(s[i] == a[i] + b[i]);
}

static void test_error_is_counted(void **state)
{
    (void)state;
    struct metrics m = {0};
    metrics_add_error(&m, ERR_CONNECTION_REFUSED);
    metrics_add_error(&m, ERR_CONNECTION_REFUSED);
    assert_int_equal(m.errors[ERR_CONNECTION_REFUSED], 2);
    assert_int_equal(metrics_get(&m, METRIC_MEMBERS_FAILED), 0);
}

static void test_build_info(void **state)
{
    (void)state;
    struct metrics m = {0};
    parse(&parsed, &m);
    const struct sample *s =
        find(&parsed, "gatherd_build_info", "version=\"" PACKAGE_VERSION "\"");
    assert_non_null(s);
    assert_true(s->value == 1);
}

static double process_value(const char *name)
{
    struct metrics m = {0};
    parse(&parsed, &m);
    const struct sample *s = find(&parsed, name, "");
    assert_non_null(s);
    return s->value;
}

static void test_descriptors(void **state)
{
    (void)state;
    int fds[4];
    double before = process_value("process_open_fds");
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pipe(fds + 2), 0);
    assert_true(process_value("process_open_fds") == before + 4);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    assert_true(process_value("process_open_fds") == before);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur != RLIM_INFINITY)
        assert_true(process_value("process_max_fds") == (double)limit.rlim_cur);
}

/* The descriptor that reads the list is not counted: three entries are two. */
static void test_own_descriptor_is_left_out(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_metrics.XXXXXX", path[3][40];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%d", dir, i);
        assert_int_equal(mkdir(path[i], 0700), 0);
    }
    fd_dir = dir;
    double count = process_value("process_open_fds");
    fd_dir = "/proc/self/fd"; /* listed, and asked for its size: the same */
    double listed = process_value("process_open_fds");
    fd_dir = NULL;
    assert_true(process_value("process_open_fds") == listed);
    for (int i = 0; i < 3; i++)
        rmdir(path[i]);
    rmdir(dir);
    assert_true(count == 2);
}

/* The first of all tests: what was found out about the start stays known. */
static void test_unreadable_proc_leaves_lines_out(void **state)
{
    (void)state;
    struct metrics m = {0};
    no_proc = true;
    parse(&parsed, &m);
    no_proc = false;
    assert_null(find(&parsed, "process_start_time_seconds", ""));
    assert_null(find(&parsed, "process_resident_memory_bytes", ""));
    assert_null(find(&parsed, "process_open_fds", ""));
    assert_non_null(find(&parsed, "gatherd_build_info", "version=\"" PACKAGE_VERSION "\""));
}

static void test_start_time(void **state)
{
    (void)state;
    double start = process_value("process_start_time_seconds");
    double now = (double)clock_wall_us() / 1e6;
    assert_true(start < now + 0.02 && start > now - 3600);
    /* A scrape must not look like a restart. */
    for (int i = 0; i < 20; i++) {
        no_proc = i % 2 == 1;
        assert_true(process_value("process_start_time_seconds") == start);
    }
    no_proc = false;
}

/* The thread sanitizer keeps notes of each byte in several others. */
#if defined(__has_feature)
#define IS_TSAN __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define IS_TSAN 1
#else
#define IS_TSAN 0
#endif
#define GROWTH_MAX (IS_TSAN ? 9 : 3)

static void test_cpu_and_memory(void **state)
{
    (void)state;
    double cpu = process_value("process_cpu_seconds_total");
    double resident = process_value("process_resident_memory_bytes");
    assert_true(cpu > 0 && resident > 100e3);
    size_t n = 64 << 20;
    char *block = malloc(n);
    assert_non_null(block);
    for (size_t i = 0; i < n; i += 1024)
        block[i] = (char)(i >> 10 | 1);
    double grown = process_value("process_resident_memory_bytes") - resident;
    assert_int_equal(block[1024 * 5], 5);
    free(block);
    assert_true(grown > 0.8 * (double)n && grown < GROWTH_MAX * (double)n);
    assert_true(process_value("process_cpu_seconds_total") > cpu);
}

static void test_limit(void **state)
{
    (void)state;
    struct metrics m = {0};
    struct buf b;
    buf_init(&b, 100);
    metrics_print(&m, &b);
    assert_true(b.failed);
    assert_true(b.len <= 100);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unreadable_proc_leaves_lines_out),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_every_value_is_printed),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_turn_bounds),
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_error_is_counted),
        cmocka_unit_test(test_build_info),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_own_descriptor_is_left_out),
        cmocka_unit_test(test_start_time),
        cmocka_unit_test(test_cpu_and_memory),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
