/* SPDX-License-Identifier: MIT
 *
 * log - lines on standard error, from any module and thread. The level is the program's one global;
 * beside it stands what a mutex protects: the format, whether stderr is the journal, and the
 * previous line with the number of its repeats.
 *
 * The environment is not asked (JOURNAL_STREAM): stderr is taken for the journal when it is a
 * socket. There each line gets the <N> prefix, JSON too, because the journal takes it off again.
 *
 * A line is built on the stack, so that it also gets out when memory has run out: a struct buf with
 * a lent array and cap == limit never allocates. The limit is lowered while the message is added
 * piece by piece, a piece being a character or an escape: what does not fit is left out whole and
 * room stays for the end of the line. A line fits PIPE_BUF: writers of one pipe do not mix.
 *
 * Held lines are whole lines in one more array of that size. They are written before any line that
 * is not held, so all keep their order; a process that dies by a signal takes them with it.
 *
 * Who stops reading stderr must not stop the daemon: nothing is written but what is taken at once,
 * a pipe or socket that polls writable having room for PIPE_BUF bytes. The rest is counted. (Where
 * another process fills it between the two calls, the write waits.)
 */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "clock.h"
#include "utf8.h"

#define LOG_LINE_MAX 4096
#define LOG_COUNT_MAX 256 /* a line of ours that says a number */
#define LOG_TAIL_MAX 8    /* "...", the end of a JSON object, a newline */
#define LOG_REPEAT_US US_PER_S

static const struct {
    const char *name, *prefix;
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", "<3>"},
    [LOG_LEVEL_WARN] = {"warn", "<4>"},
    [LOG_LEVEL_INFO] = {"info", "<6>"},
    [LOG_LEVEL_DEBUG] = {"debug", "<7>"},
};

static atomic_int log_level = LOG_LEVEL_INFO;
static atomic_bool any_held; /* log_state.held_len > 0; asked in each turn, without the lock */

static struct {
    pthread_mutex_t lock;
    enum log_format format;
    enum { STDERR_UNKNOWN, STDERR_JOURNAL, STDERR_OTHER } output;
    enum log_level last_level;
    char last_module[32];
    char last[LOG_LINE_MAX];
    int64_t last_us; /* when it was printed, not when it came again */
    int64_t repeats;
    int64_t unwritten; /* lines, since the last one that was written */
    bool hold;
    size_t held_len;
    char held[LOG_LINE_MAX];
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .last_us = INT64_MIN};

void log_setup(enum log_level level, enum log_format format)
{
    pthread_mutex_lock(&log_state.lock);
    log_state.format = format;
    log_state.output = STDERR_UNKNOWN;
    pthread_mutex_unlock(&log_state.lock);
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

static bool is_journal(void)
{
    struct stat st;
    if (log_state.output == STDERR_UNKNOWN) {
        bool is_socket = fstat(STDERR_FILENO, &st) == 0 && S_ISSOCK(st.st_mode);
        log_state.output = is_socket ? STDERR_JOURNAL : STDERR_OTHER;
    }
    return log_state.output == STDERR_JOURNAL;
}

/* The length of the character at s that may be printed, or minus that of the bytes to be escaped:
 * ill-formed UTF-8, C0, DEL and (a terminal obeys them) C1 controls. */
static int printable(const char *s, size_t n)
{
    unsigned char c = (unsigned char)s[0];
    int length = utf8_sequence(s, n);
    if (c < 0x20 || c == 0x7F)
        return -1;
    return length == 2 && c == 0xC2 && (unsigned char)s[1] < 0xA0 ? -2 : length;
}

/* How many characters from s on are printed as they are; ASCII only. */
static size_t plain_length(const char *s, size_t n, bool json)
{
    size_t i = 0;
    while (i < n && s[i] >= 0x20 && s[i] < 0x7F && !(json && (s[i] == '"' || s[i] == '\\')))
        i++;
    return i;
}

/* Adds them; those that fit, when not all do. */
static size_t add_plain(struct buf *line, const char *s, size_t n)
{
    size_t room = line->cap - line->len;
    buf_add(line, s, n < room ? n : room);
    line->failed |= n > room;
    return n;
}

static void add_message(struct buf *line, const char *s, size_t n, bool json)
{
    while (n > 0 && !line->failed) {
        size_t plain = add_plain(line, s, plain_length(s, n, json));
        s += plain;
        n -= plain;
        if (n == 0 || line->failed)
            break;
        int length = printable(s, n);
        size_t used = (size_t)(length < 0 ? -length : length);
        if (length < 0) {
            for (size_t i = 0; i < used; i++)
                buf_printf(line, json ? "\\\\x%02x" : "\\x%02x", (unsigned)(unsigned char)s[i]);
        } else if (json && (*s == '"' || *s == '\\')) {
            buf_add(line, (char[]){'\\', *s}, 2);
        } else {
            buf_add(line, s, used);
        }
        s += used;
        n -= used;
    }
}

static void add_start(struct buf *line, enum log_level level, const char *module)
{
    bool json = log_state.format == LOG_FORMAT_JSON;
    if (is_journal())
        buf_add_str(line, levels[level].prefix);
    if (json) {
        BUF_ADD_LITERAL(line, "{\"time\":\"");
        buf_add_rfc3339(line, clock_wall_us());
        buf_printf(line, "\",\"level\":\"%s\",\"module\":\"", levels[level].name);
    } else if (!is_journal()) {
        buf_add_rfc3339(line, clock_wall_us());
        buf_printf(line, " %s ", levels[level].name);
    }
    add_message(line, module, strlen(module), json);
    buf_add_str(line, json ? "\",\"message\":\"" : ": ");
}

/* The whole line, or as much as fits and "...". */
static void compose(struct buf *line, enum log_level level, const char *module, const char *message)
{
    bool json = log_state.format == LOG_FORMAT_JSON;
    line->limit = line->cap -= LOG_TAIL_MAX;
    add_start(line, level, module);
    add_message(line, message, strlen(message), json);
    line->limit = line->cap += LOG_TAIL_MAX;
    if (line->failed) {
        line->failed = false;
        BUF_ADD_LITERAL(line, "...");
    }
    buf_add_str(line, json ? "\"}\n" : "\n");
}

/* False: it was not taken, because that would have had to be waited for. */
static bool write_now(const char *data, size_t len)
{
    struct pollfd to = {.fd = STDERR_FILENO, .events = POLLOUT};
    ssize_t n;
    if (poll(&to, 1, 0) == 0)
        return false;
    do {
        n = write(STDERR_FILENO, data, len);
    } while (n < 0 && errno == EINTR);
    return n >= 0 || errno != EAGAIN;
}

static bool write_unwritten(void)
{
    char text[LOG_COUNT_MAX], count[80];
    struct buf line = {.data = text, .cap = sizeof text - 1, .limit = sizeof text - 1};
    snprintf(count, sizeof count, "lines=%lld error=\"not written, standard error was full\"",
             (long long)log_state.unwritten);
    compose(&line, LOG_LEVEL_WARN, "log", count);
    if (!write_now(line.data, line.len))
        return false;
    log_state.unwritten = 0;
    return true;
}

/* Whole lines, at most PIPE_BUF bytes. */
static void write_out(const char *data, size_t len)
{
    if ((log_state.unwritten == 0 || write_unwritten()) && write_now(data, len))
        return;
    for (size_t i = 0; i < len; i++)
        log_state.unwritten += data[i] == '\n';
}

static void write_held(void)
{
    if (log_state.held_len > 0)
        write_out(log_state.held, log_state.held_len);
    log_state.held_len = 0;
    atomic_store_explicit(&any_held, false, memory_order_relaxed);
}

static void put_out(enum log_level level, const struct buf *line)
{
    bool held = log_state.hold && level >= LOG_LEVEL_INFO;
    if (!held || line->len > sizeof log_state.held - log_state.held_len)
        write_held();
    if (!held) {
        write_out(line->data, line->len);
        return;
    }
    memcpy(log_state.held + log_state.held_len, line->data, line->len);
    log_state.held_len += line->len;
    atomic_store_explicit(&any_held, true, memory_order_relaxed);
}

void log_hold(bool hold)
{
    pthread_mutex_lock(&log_state.lock);
    log_state.hold = hold;
    if (!hold)
        write_held();
    pthread_mutex_unlock(&log_state.lock);
}

void log_flush(void)
{
    if (!atomic_load_explicit(&any_held, memory_order_relaxed))
        return;
    pthread_mutex_lock(&log_state.lock);
    write_held();
    pthread_mutex_unlock(&log_state.lock);
}

/* The lock is held from here on, so that lines keep their order. */
static void write_line(enum log_level level, const char *module, const char *message)
{
    char text[LOG_LINE_MAX];
    struct buf line = {.data = text, .cap = sizeof text - 1, .limit = sizeof text - 1};
    compose(&line, level, module, message);
    put_out(level, &line);
}

/* Whether this is the previous line again, within a second. */
static bool is_repeat(enum log_level level, const char *module, const char *message, int64_t now)
{
    return level == log_state.last_level && now - LOG_REPEAT_US < log_state.last_us &&
           strncmp(module, log_state.last_module, sizeof log_state.last_module - 1) == 0 &&
           strcmp(message, log_state.last) == 0;
}

static void write_repeats(void)
{
    char count[64];
    if (log_state.repeats == 0)
        return;
    snprintf(count, sizeof count, "previous line repeated=%lld", (long long)log_state.repeats);
    write_line(log_state.last_level, "log", count);
}

static void remember(enum log_level level, const char *module, const char *message, int64_t now)
{
    log_state.last_level = level;
    snprintf(log_state.last_module, sizeof log_state.last_module, "%s", module);
    memcpy(log_state.last, message, strlen(message) + 1); /* of the same size */
    log_state.last_us = now;
    log_state.repeats = 0;
}

void log_write(enum log_level level, const char *module, const char *fmt, ...)
{
    int saved_errno = errno;
    int64_t now = clock_us();
    char message[LOG_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (n < 0)
        snprintf(message, sizeof message, "a message could not be formatted");

    pthread_mutex_lock(&log_state.lock);
    if (is_repeat(level, module, message, now)) {
        log_state.repeats++;
    } else {
        write_repeats();
        write_line(level, module, message);
        remember(level, module, message, now);
    }
    pthread_mutex_unlock(&log_state.lock);
    errno = saved_errno;
}
