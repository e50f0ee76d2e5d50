/* SPDX-License-Identifier: MIT
 *
 * testdata - files written by others: below the folder GATHERD_TESTDATA, else in shared/testdata
 * beside the source tree. Where they are not there the tests that read them skip.
 */
#ifndef GATHERD_TESTS_TESTDATA_H
#define GATHERD_TESTS_TESTDATA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#define TESTDATA_PATH 4096

/* Where the file or folder of that name would be. */
static inline const char *testdata_path(const char *name, char path[TESTDATA_PATH])
{
    const char *data = getenv("GATHERD_TESTDATA"), *top = getenv("top_srcdir");
    int n = data ? snprintf(path, TESTDATA_PATH, "%s/%s", data, name)
                 : snprintf(path, TESTDATA_PATH, "%s/../shared/testdata/%s", top ? top : ".", name);
    assert_in_range(n, 1, TESTDATA_PATH - 1);
    return path;
}

/* NULL where it is not there. */
static inline FILE *testdata_open(const char *name)
{
    char path[TESTDATA_PATH];
    return fopen(testdata_path(name, path), "rb");
}

/* All of a file of less than 1 MiB, which the caller frees; NULL where it is not there. */
static inline char *testdata_read(const char *name, size_t *n)
{
    FILE *f = testdata_open(name);
    *n = 0;
    if (!f)
        return NULL;
    size_t room = 1 << 20;
    char *text = malloc(room);
    assert_non_null(text);
    *n = fread(text, 1, room, f);
    fclose(f);
    assert_in_range(*n, 1, room - 1);
    return text;
}

#endif
