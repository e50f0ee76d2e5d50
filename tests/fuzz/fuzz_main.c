/* SPDX-License-Identifier: MIT
 *
 * fuzz_main - a fuzz target as a test: the main of each tests/fuzz/fuzz_NAME where there is no
 * libFuzzer. Without arguments it runs every file of seeds/NAME/ below $top_srcdir, in order, one
 * TAP case each; with arguments those files, which is how a finding is looked at with any compiler
 * and under valgrind.
 *
 * A broken promise aborts: the cases that follow are missing then, which the harness counts as an
 * error. The line before the end names the input.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>

static char *join(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *join(const char *fmt, ...)
{
    char *out;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&out, fmt, args);
    va_end(args);
    FUZZ_ASSERT(n >= 0);
    return out;
}

static bool read_all(FILE *file, char **data, size_t *size)
{
    char piece[4096];
    size_t n;
    *data = NULL;
    *size = 0;
    while ((n = fread(piece, 1, sizeof piece, file)) > 0) {
        *data = realloc(*data, *size + n);
        FUZZ_ASSERT(*data != NULL);
        memcpy(*data + *size, piece, n);
        *size += n;
    }
    return ferror(file) == 0;
}

static void run(const char *path, const char *name, int number)
{
    char *data = NULL;
    size_t size = 0;
    printf("# %s\n", name);
    FILE *file = fopen(path, "rb");
    bool ok = file != NULL && read_all(file, &data, &size);
    if (file != NULL)
        fclose(file);
    if (ok) {
        char *exact = fuzz_copy(data, size);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, size);
        free(exact);
    } else {
        printf("# %s: %s\n", path, strerror(errno));
    }
    free(data);
    printf("%s %d - %s\n", ok ? "ok" : "not ok", number, name);
}

static int is_seed(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* "/a/b/fuzz_cidr" -> "cidr" */
static const char *name_of(const char *program)
{
    const char *slash = strrchr(program, '/');
    const char *name = slash != NULL ? slash + 1 : program;
    return strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name;
}

static int run_seeds(const char *program)
{
    const char *top = getenv("top_srcdir");
    char *folder = join("%s/tests/fuzz/seeds/%s", top != NULL ? top : ".", name_of(program));
    struct dirent **entries;
    int count = scandir(folder, &entries, is_seed, alphasort);
    if (count <= 0) {
        printf("1..1\nnot ok 1 - %s has no seeds\n", folder);
        free(folder);
        return 1;
    }
    printf("1..%d\n", count);
    for (int i = 0; i < count; i++) {
        char *path = join("%s/%s", folder, entries[i]->d_name);
        run(path, entries[i]->d_name, i + 1);
        free(path);
        free(entries[i]);
    }
    free(entries);
    free(folder);
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2)
        return run_seeds(argv[0]);
    printf("1..%d\n", argc - 1);
    for (int i = 1; i < argc; i++)
        run(argv[i], argv[i], i);
    return 0;
}
