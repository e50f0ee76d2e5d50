/* SPDX-License-Identifier: MIT
 *
 * fuzz - what the targets share: the entry that libFuzzer and fuzz_main.c call, and a check that
 * does not go away with NDEBUG.
 *
 * A target is one file with LLVMFuzzerTestOneInput(). `make fuzz` links it with libFuzzer;
 * everywhere else fuzz_main.c is its main and runs the inputs of seeds/NAME/ once, as a test of
 * `make check`. It returns 0 for every input, and aborts when a promise is broken; what it makes
 * in a call it frees in the call.
 */
#ifndef GATHERD_TESTS_FUZZ_H
#define GATHERD_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

_Noreturn static inline void fuzz_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: broken promise: %s\n", file, line, what);
    abort();
}

#define FUZZ_ASSERT(condition) \
    do { \
        if (!(condition)) \
            fuzz_fail(__FILE__, __LINE__, #condition); \
    } while (0)

/* A block of exactly n bytes, so that a read past the end is seen; never NULL. The caller frees
 * it. */
static inline char *fuzz_copy(const void *data, size_t n)
{
    char *copy = malloc(n > 0 ? n : 1);
    FUZZ_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, data, n);
    return copy;
}

/* The same with a NUL behind it. */
static inline char *fuzz_text(const void *data, size_t n)
{
    char *copy = malloc(n + 1);
    FUZZ_ASSERT(copy != NULL);
    if (n > 0)
        memcpy(copy, data, n);
    copy[n] = '\0';
    return copy;
}

/* Takes the bytes up to the first `end`, which is dropped, off the input: their count, and where
 * they were in *out. All of it when there is no such byte. */
static inline size_t fuzz_take_until(const uint8_t **data, size_t *size, char end, const char **out)
{
    const uint8_t *at = *size > 0 ? memchr(*data, end, *size) : NULL;
    size_t n = at != NULL ? (size_t)(at - *data) : *size;
    *out = (const char *)*data;
    *data += n + (at != NULL);
    *size -= n + (at != NULL);
    return n;
}

/* Takes one byte; 0 when there is none left. */
static inline unsigned fuzz_take_byte(const uint8_t **data, size_t *size)
{
    if (*size == 0)
        return 0;
    --*size;
    return *(*data)++;
}

#endif
