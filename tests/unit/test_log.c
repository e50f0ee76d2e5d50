/* SPDX-License-Identifier: MIT
 *
 * log: the two formats on both kinds of stderr, escaping, one write(2) a line, repeats on a fake
 * clock, threads. log.c is included, so that its write and fstat are this test's.
 */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "clock.h"

static int64_t fake_us = 1;
static int64_t fake_wall_us = INT64_C(1793534400123456);
static bool stderr_is_socket;
static int interrupts;  /* that many writes fail with EINTR first */
static int write_errno; /* every write fails with it; 0 = none does */
static bool is_full;    /* stderr does not poll writable */
static int pipe_end = -1; /* what stderr is, when it is real */
static char written[1 << 20];
static size_t written_len;
static int writes;

int64_t clock_us(void)
{
    return fake_us;
}

int64_t clock_wall_us(void)
{
    return fake_wall_us;
}

static int test_log_fstat(int fd, struct stat *st)
{
    assert_int_equal(fd, STDERR_FILENO);
    *st = (struct stat){.st_mode = stderr_is_socket ? S_IFSOCK : S_IFIFO};
    return 0;
}

static int test_log_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    assert_int_equal(count, 1);
    assert_int_equal(fds->fd, STDERR_FILENO);
    assert_int_equal(timeout, 0);
    struct pollfd real = {.fd = pipe_end, .events = fds->events};
    return pipe_end < 0 ? !is_full : poll(&real, 1, 0);
}

static ssize_t test_log_write(int fd, const void *data, size_t n)
{
    assert_int_equal(fd, STDERR_FILENO);
    if (pipe_end >= 0)
        return write(pipe_end, data, n);
    if (interrupts > 0 || write_errno) {
        errno = interrupts > 0 ? EINTR : write_errno;
        interrupts -= interrupts > 0;
        return -1;
    }
    assert_true(written_len + n < sizeof written);
    memcpy(written + written_len, data, n);
    written_len += n;
    written[written_len] = '\0';
    writes++;
    return (ssize_t)n;
}

#define fstat test_log_fstat
#define poll test_log_poll
#define write test_log_write
#include "log.c"
#undef fstat
#undef poll
#undef write

static int setup(void **state)
{
    (void)state;
    fake_us += 10 * US_PER_S; /* what the test before logged is no repeat */
    interrupts = write_errno = writes = 0;
    is_full = false;
    stderr_is_socket = true;
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    LOG_DEBUG("setup", "%d", rand());
    written_len = 0;
    written[0] = '\0';
    writes = 0;
    return 0;
}

static void test_journal(void **state)
{
    (void)state;
    LOG_ERROR("front", "a=%d", 1);
    LOG_WARN("front", "b=%s", "x");
    LOG_INFO("batch", "id=7 requests=3");
    LOG_DEBUG("fetch", "d");
    assert_string_equal(written, "<3>front: a=1\n<4>front: b=x\n<6>batch: id=7 requests=3\n"
                                 "<7>fetch: d\n");
    assert_int_equal(writes, 4);
}

static void test_timestamps(void **state)
{
    (void)state;
    stderr_is_socket = false;
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    LOG_WARN("batch", "id=%d", 7);
    assert_string_equal(written, "2026-11-01T12:00:00.123456Z warn batch: id=7\n");
}

static void test_levels(void **state)
{
    (void)state;
    static const char *const expected[] = {"<3>m: e\n", "<3>m: e\n<4>m: w\n",
                                           "<3>m: e\n<4>m: w\n<6>m: i\n",
                                           "<3>m: e\n<4>m: w\n<6>m: i\n<7>m: d\n"};
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        written_len = 0;
        log_setup((enum log_level)level, LOG_FORMAT_TEXT);
        LOG_ERROR("m", "e");
        LOG_WARN("m", "w");
        LOG_INFO("m", "i");
        LOG_DEBUG("m", "d");
        assert_string_equal(written, expected[level]);
        for (int l = LOG_LEVEL_ERROR; l <= LOG_LEVEL_DEBUG; l++)
            assert_int_equal(log_enabled((enum log_level)l), l <= level);
        fake_us += 2 * US_PER_S;
    }
}

static void test_arguments_are_not_evaluated(void **state)
{
    (void)state;
    int evaluated = 0;
    log_setup(LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
    LOG_INFO("m", "%d", ++evaluated);
    assert_int_equal(evaluated, 0);
    LOG_WARN("m", "%d", ++evaluated);
    assert_int_equal(evaluated, 1);
    assert_string_equal(written, "<4>m: 1\n");
}

static void test_escapes(void **state)
{
    (void)state;
    LOG_INFO("m", "v=%s %s", "a\nb\r\t\x1B[31m\x7F \xFF",
             "\xC3\xA4 \xE2\x82\xAC \xE2\x82 \xC2\x9B \\ \"");
    assert_string_equal(written, "<6>m: v=a\\x0ab\\x0d\\x09\\x1b[31m\\x7f \\xff "
                                 "\xC3\xA4 \xE2\x82\xAC \\xe2\\x82 \\xc2\\x9b \\ \"\n");
}

/* Whatever byte a stranger sends, it is one line and no byte of it is a control. */
static void test_no_byte_forges_a_line(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        char value[] = {'a', (char)c, '<', '3', '>', 'x', '\0'};
        written_len = 0;
        LOG_INFO("m", "%s", value);
        for (size_t i = 0; i + 1 < written_len; i++)
            assert_true((unsigned char)written[i] >= 0x20 && written[i] != 0x7F);
        assert_int_equal(written[written_len - 1], '\n');
    }
    assert_int_equal(writes, 255);
}

static json_t *parse_line(const char *line)
{
    json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(object) || json_object_size(object) != 4)
        fail_msg("no log object: %s", line);
    return object;
}

static void test_json(void **state)
{
    (void)state;
    stderr_is_socket = false;
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    LOG_WARN("batch", "id=%s", "\"\\\n\x01\xFF\xC3\xA4");
    json_t *object = parse_line(written);
    assert_string_equal(json_string_value(json_object_get(object, "time")),
                        "2026-11-01T12:00:00.123456Z");
    assert_string_equal(json_string_value(json_object_get(object, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(object, "module")), "batch");
    assert_string_equal(json_string_value(json_object_get(object, "message")),
                        "id=\"\\\\x0a\\x01\\xff\xC3\xA4");
    assert_int_equal(written[0], '{');
    assert_int_equal(written[written_len - 1], '\n');
    json_decref(object);
}

/* The journal strips the prefix and keeps the priority. */
static void test_json_in_the_journal(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
    LOG_ERROR("m", "x");
    assert_memory_equal(written, "<3>{", 4);
    json_decref(parse_line(written + 3));
}

static void check_long_line(enum log_format format, const char *unit)
{
    static char value[3 * LOG_LINE_MAX + 8];
    size_t n = strlen(unit);
    written_len = 0;
    fake_us += 2 * US_PER_S;
    log_setup(LOG_LEVEL_DEBUG, format);
    for (size_t i = 0; i + n < sizeof value; i += n)
        memcpy(value + i, unit, n + 1);
    LOG_INFO("m", "%s%s", "x", value);
    assert_in_range(written_len, LOG_LINE_MAX - 24, LOG_LINE_MAX);
    assert_int_equal(written[written_len - 1], '\n');
    if (format == LOG_FORMAT_JSON) {
        json_decref(parse_line(written + 3));
        return;
    }
    assert_memory_equal(written + written_len - 4, "...\n", 4);
    assert_true(utf8_valid(written, written_len));
}

static void test_long_lines_are_cut_whole(void **state)
{
    (void)state;
    static const char *const units[] = {"a", "\"", "\\", "\n", "\xFF", "\xC3\xA4", "\xE2\x82\xAC",
                                        "\xF0\x9D\x92\x9C", "z\xE2\x82\xAC"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        check_long_line(LOG_FORMAT_TEXT, units[i]);
        check_long_line(LOG_FORMAT_JSON, units[i]);
    }
}

/* The longest line that is not cut, and one byte more. */
static void test_line_limit(void **state)
{
    (void)state;
    static char value[LOG_LINE_MAX + 1];
    size_t most = LOG_LINE_MAX - 1 - LOG_TAIL_MAX - strlen("<6>m: ");
    memset(value, 'v', sizeof value - 1);
    LOG_INFO("m", "%.*s", (int)most, value);
    assert_int_equal(written_len, LOG_LINE_MAX - LOG_TAIL_MAX);
    assert_null(strstr(written, "..."));
    written_len = 0;
    LOG_INFO("m", "%.*s", (int)most + 1, value);
    assert_non_null(strstr(written, "v...\n"));
}

static void test_repeats_are_counted(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        LOG_WARN("m", "same");
        fake_us += 1000;
    }
    assert_string_equal(written, "<4>m: same\n");
    LOG_INFO("m", "other");
    assert_string_equal(written, "<4>m: same\n<4>log: previous line repeated=99\n<6>m: other\n");
    LOG_INFO("m", "third"); /* nothing left to report */
    assert_string_equal(strstr(written, "other"), "other\n<6>m: third\n");
}

/* A storm shows once a second, with its count, not only when it is over. */
static void test_storm(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        LOG_WARN("m", "same");
        fake_us += US_PER_S - 1;
        LOG_WARN("m", "same");
        fake_us += 1;
    }
    assert_string_equal(written, "<4>m: same\n"
                                 "<4>log: previous line repeated=1\n<4>m: same\n"
                                 "<4>log: previous line repeated=1\n<4>m: same\n");
}

static void test_what_is_no_repeat(void **state)
{
    (void)state;
    LOG_WARN("m", "same");
    LOG_INFO("m", "same");
    LOG_INFO("n", "same");
    LOG_INFO("n", "same ");
    LOG_INFO("n", "same");
    assert_string_equal(written, "<4>m: same\n<6>m: same\n<6>n: same\n<6>n: same \n<6>n: same\n");
}

static void test_interrupted_write(void **state)
{
    (void)state;
    interrupts = 3;
    LOG_INFO("m", "x");
    assert_string_equal(written, "<6>m: x\n");
}

#define UNWRITTEN(n) "<4>log: lines=" n " error=\"not written, standard error was full\"\n"

static void test_errno_survives(void **state)
{
    (void)state;
    errno = ENOENT;
    LOG_INFO("m", "%m");
    assert_int_equal(errno, ENOENT);
    assert_string_equal(written, "<6>m: No such file or directory\n");
    write_errno = EAGAIN; /* a full pipe: the line is lost, the program goes on */
    LOG_INFO("m", "y");
    assert_int_equal(errno, ENOENT);
    write_errno = 0;
    LOG_INFO("m", "z");
    assert_string_equal(written, "<6>m: No such file or directory\n" UNWRITTEN("1") "<6>m: z\n");
}

enum { THREADS = 8, LINES = 200 };

static void *log_lines(void *number)
{
    for (int i = 0; i < LINES; i++)
        LOG_INFO("m", "thread=%d line=%d end", *(int *)number, i);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int numbers[THREADS], next[THREADS] = {0}, lines = 0;
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (char *line = written, *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
        int thread = -1, number = -1, used = 0;
        *end = '\0';
        sscanf(line, "<6>m: thread=%d line=%d end%n", &thread, &number, &used);
        assert_int_equal(line + used - end, 0);
        assert_in_range(thread, 0, THREADS - 1);
        assert_int_equal(number, next[thread]++);
    }
    assert_int_equal(lines, THREADS * LINES);
    assert_int_equal(writes, THREADS * LINES);
}

static void test_held_lines(void **state)
{
    (void)state;
    log_flush(); /* nothing is held: nothing happens */
    log_hold(true);
    LOG_INFO("batch", "a");
    LOG_DEBUG("batch", "b");
    assert_int_equal(writes, 0);
    log_flush();
    assert_string_equal(written, "<6>batch: a\n<7>batch: b\n");
    assert_int_equal(writes, 1);
    log_flush();
    assert_int_equal(writes, 1);
    LOG_INFO("batch", "c");
    log_hold(false);
    LOG_INFO("batch", "d");
    assert_string_equal(written + strlen("<6>batch: a\n<7>batch: b\n"),
                        "<6>batch: c\n<6>batch: d\n");
    assert_int_equal(writes, 3);
}

/* What is not held waits for nobody, and is not written before what was logged earlier. */
static void test_held_lines_keep_their_order(void **state)
{
    (void)state;
    log_hold(true);
    LOG_INFO("m", "a");
    LOG_INFO("m", "a");
    LOG_WARN("m", "b");
    LOG_INFO("m", "c");
    LOG_ERROR("m", "d");
    assert_string_equal(written, "<6>m: a\n<6>log: previous line repeated=1\n<4>m: b\n<6>m: c\n"
                                 "<3>m: d\n");
    assert_int_equal(writes, 4);
    log_hold(false);
    assert_int_equal(writes, 4);
}

/* No line is cut, no write is longer than PIPE_BUF, and none is lost. */
static void test_many_held_lines(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    size_t at = 0;
    log_hold(true);
    for (int i = 0; i < COUNT; i++) {
        size_t before = written_len;
        LOG_INFO("m", "%0*d", 1 + i % 97, i);
        assert_true(written_len - before <= 4096);
        assert_true(written_len == 0 || written[written_len - 1] == '\n');
    }
    assert_true(writes > 1 && writes < COUNT / 10);
    LOG_INFO("m", "%05000d", 7); /* as long as a line can be */
    log_hold(false);
    for (int i = 0; i < COUNT; i++) {
        char line[160];
        size_t n = (size_t)snprintf(line, sizeof line, "<6>m: %0*d\n", 1 + i % 97, i);
        assert_memory_equal(written + at, line, n);
        at += n;
    }
    assert_int_equal(written_len - at, LOG_LINE_MAX - 1 - LOG_TAIL_MAX + strlen("...\n"));
}

/* What stderr does not take is counted by the line, held or not, and said before the next one. */
static void test_lines_not_written(void **state)
{
    (void)state;
    is_full = true;
    LOG_WARN("m", "a");
    LOG_WARN("m", "b");
    log_hold(true);
    LOG_INFO("m", "c");
    LOG_INFO("m", "d");
    log_flush();
    assert_int_equal(writes, 0);
    is_full = false;
    LOG_INFO("m", "e");
    log_hold(false);
    LOG_INFO("m", "f");
    assert_string_equal(written, UNWRITTEN("4") "<6>m: e\n<6>m: f\n");
}

/* A pipe that nobody reads: no line waits for its reader, whatever its length and the pipe's. */
static void fill_pipe(int size)
{
    static char read_back[1 << 17];
    int fds[2], lines = 0;
    long long unwritten = -1;
    assert_int_equal(pipe(fds), 0);
    assert_true(fcntl(fds[1], F_SETPIPE_SZ, size) >= size);
    pipe_end = fds[1];
    for (int i = 0; i < 400; i++)
        LOG_WARN("m", "%0*d", 1 + i * 37 % 4090, i);
    ssize_t n = read(fds[0], read_back, sizeof read_back - 1);
    assert_true(n > 0);
    read_back[n] = '\0';
    for (const char *s = read_back; (s = strchr(s, '\n')) != NULL; s++)
        lines++;
    LOG_WARN("m", "last");
    n = read(fds[0], read_back, sizeof read_back - 1);
    assert_true(n > 0);
    read_back[n] = '\0';
    sscanf(read_back, "<4>log: lines=%lld error=", &unwritten);
    assert_int_equal(lines + unwritten, 400);
    assert_non_null(strstr(read_back, "\n<4>m: last\n"));
    pipe_end = -1;
    close(fds[0]);
    close(fds[1]);
}

static void test_a_pipe_that_nobody_reads(void **state)
{
    (void)state;
    alarm(60); /* a write that waits would wait for good */
    fill_pipe(8192);
    fill_pipe(16384);
    fill_pipe(65536);
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_journal, setup),
        cmocka_unit_test_setup(test_timestamps, setup),
        cmocka_unit_test_setup(test_levels, setup),
        cmocka_unit_test_setup(test_arguments_are_not_evaluated, setup),
        cmocka_unit_test_setup(test_escapes, setup),
        cmocka_unit_test_setup(test_no_byte_forges_a_line, setup),
        cmocka_unit_test_setup(test_json, setup),
        cmocka_unit_test_setup(test_json_in_the_journal, setup),
        cmocka_unit_test_setup(test_long_lines_are_cut_whole, setup),
        cmocka_unit_test_setup(test_line_limit, setup),
        cmocka_unit_test_setup(test_repeats_are_counted, setup),
        cmocka_unit_test_setup(test_storm, setup),
        cmocka_unit_test_setup(test_what_is_no_repeat, setup),
        cmocka_unit_test_setup(test_interrupted_write, setup),
        cmocka_unit_test_setup(test_errno_survives, setup),
        cmocka_unit_test_setup(test_threads, setup),
        cmocka_unit_test_setup(test_held_lines, setup),
        cmocka_unit_test_setup(test_held_lines_keep_their_order, setup),
        cmocka_unit_test_setup(test_many_held_lines, setup),
        cmocka_unit_test_setup(test_lines_not_written, setup),
        cmocka_unit_test_setup(test_a_pipe_that_nobody_reads, setup),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
