/* SPDX-License-Identifier: MIT
 *
 * log - levelled key=value lines on standard error.
 *
 *     LOG_INFO("batch", "id=%s requests=%d", id, n);
 *     -> <6>batch: id=... requests=...          (stderr is the journal: prefix for sd-daemon(3))
 *     -> 2026-11-01T12:00:00.123456Z info batch: id=... requests=...      (any other stderr)
 *
 * Arguments are not evaluated when the level is off. Control bytes and ill-formed UTF-8 in the
 * finished line are escaped as \xNN, so a hostile string cannot forge a line. A line that repeats
 * the previous one within a second is counted and the count printed with the next line. Never log
 * credentials, query strings or bodies. One write(2) a line, or for some lines after log_hold();
 * lines that stderr does not take at once are left out, and their number is said before the next
 * one. Usable from any thread; never blocks.
 */
#ifndef GATHERD_LOG_H
#define GATHERD_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Sets what is printed and how; at start and at reload. With LOG_FORMAT_JSON a line is one object:
 * {"time":..., "level":..., "module":..., "message": "id=... requests=..."}. */
void log_setup(enum log_level level, enum log_format format);

bool log_enabled(enum log_level level);

/* From now on lines of info and debug are held until log_flush(), a line of error or warn, or 4 KiB
 * of them: for a loop that flushes at the end of each turn, so that clients need not wait for the
 * log. false: at once again, and what is held is written; at the latest before the program ends. */
void log_hold(bool hold);
void log_flush(void);

void log_write(enum log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define LOG_AT(level, module, ...) \
    do { \
        if (log_enabled(level)) \
            log_write((level), (module), __VA_ARGS__); \
    } while (0)
#define LOG_ERROR(module, ...) LOG_AT(LOG_LEVEL_ERROR, module, __VA_ARGS__)
#define LOG_WARN(module, ...) LOG_AT(LOG_LEVEL_WARN, module, __VA_ARGS__)
#define LOG_INFO(module, ...) LOG_AT(LOG_LEVEL_INFO, module, __VA_ARGS__)
#define LOG_DEBUG(module, ...) LOG_AT(LOG_LEVEL_DEBUG, module, __VA_ARGS__)

#endif
