/* SPDX-License-Identifier: MIT
 *
 * process - the process around a test: what it has open, its threads, and the libraries that the
 * daemon brings up before its first loop.
 */
#ifndef GATHERD_TESTS_PROCESS_H
#define GATHERD_TESTS_PROCESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include <ares.h>
#include <curl/curl.h>
#include <uv.h>

static inline size_t entries_of(const char *folder)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Of both only the difference means something. */
static inline size_t open_descriptors(void)
{
    return entries_of("/proc/self/fd");
}

static inline size_t running_threads(void)
{
    return entries_of("/proc/self/task");
}

/* Says what is open when it should not be. */
static inline void check_descriptors(size_t expected)
{
    char path[64], target[128];
    if (open_descriptors() == expected)
        return;
    for (int fd = 0; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n >= 0)
            print_message("descriptor %d: %.*s\n", fd, (int)n, target);
    }
    assert_int_equal(open_descriptors(), expected);
}

/* A sanitizer that has something to say, or to suppress, may start a program that reads symbols. */
void __sanitizer_symbolize_pc(void *pc, const char *format, char *out, size_t size)
    __attribute__((weak));

static inline void start_symbolizer(void)
{
    char text[64];
    if (__sanitizer_symbolize_pc != NULL)
        __sanitizer_symbolize_pc((void *)(uintptr_t)start_symbolizer, "%f", text, sizeof text);
}

/* A group's set-up: what the first of its kind leaves open is open before any test counts. */
static inline int libraries_up(void **state)
{
    (void)state;
    uv_loop_t first;
    start_symbolizer();
    if (uv_loop_init(&first) != 0 || uv_loop_close(&first) != 0)
        return -1;
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK &&
                   ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS
               ? 0
               : -1;
}

static inline int libraries_down(void **state)
{
    (void)state;
    ares_library_cleanup();
    curl_global_cleanup();
    return 0;
}

#endif
