/* SPDX-License-Identifier: MIT
 *
 * tokens - see tokens.h. Loaded by access at start, at a reload and for -t, asked by
 * http_exchange_head before a body is read.
 *
 * What is compared is the digest of what came with each digest that is kept, all of them, in
 * constant time each; so neither length nor content nor place in the file shows in the time it
 * takes. Of the file's text nothing is left in memory when it has been read.
 */
#include "tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

enum {
    NAME_MAX_BYTES = 64,
    TOKEN_MIN_BYTES = 16,
    TOKEN_MAX_BYTES = 512,
    LINE_ROOM = 1024,   /* more than a good line: it need not grow, and leave a copy behind */
    STREAM_ROOM = 4096, /* what is read ahead; wiped, too */
};

struct token {
    char name[NAME_MAX_BYTES + 1];
    uint8_t digest[SHA256_DIGEST_LENGTH];
};

struct tokens {
    struct token *items;
    size_t count;
};

static bool name_is_good(const char *s, size_t n)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-";
    return n >= 1 && n <= NAME_MAX_BYTES && strspn(s, allowed) >= n;
}

static bool token_is_good(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] >= 0x7f)
            return false;
    return n >= TOKEN_MIN_BYTES && n <= TOKEN_MAX_BYTES;
}

/* Of the last one: who asked could not be told. Two tokens of one name are fine. */
static bool is_anothers(const struct tokens *t)
{
    const struct token *last = &t->items[t->count - 1];
    for (const struct token *item = t->items; item < last; item++)
        if (memcmp(item->digest, last->digest, sizeof last->digest) == 0 &&
            strcmp(item->name, last->name) != 0)
            return true;
    return false;
}

static const char *add_line(struct tokens *t, char *line, size_t n)
{
    if (strlen(line) != n)
        return "holds a NUL byte";
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '\0' || line[0] == '#')
        return NULL;
    char *colon = strchr(line, ':');
    if (colon == NULL)
        return "needs the form name:token";
    size_t name_len = (size_t)(colon - line), token_len = strlen(colon + 1);
    if (!name_is_good(line, name_len))
        return "the name must be 1 to 64 of the characters A-Z a-z 0-9 . _ -";
    if (!token_is_good(colon + 1, token_len))
        return "the token must be 16 to 512 visible ASCII characters";
    struct token *items = realloc(t->items, (t->count + 1) * sizeof *items);
    if (items == NULL)
        return "out of memory";
    t->items = items;
    struct token *item = &items[t->count++];
    memcpy(item->name, line, name_len);
    item->name[name_len] = '\0';
    SHA256((const unsigned char *)colon + 1, token_len, item->digest);
    return is_anothers(t) ? "the token is that of another name, too; each needs its own" : NULL;
}

static bool read_lines(struct tokens *t, FILE *file, const char *path, struct buf *errors)
{
    char *line = malloc(LINE_ROOM);
    size_t cap = line != NULL ? LINE_ROOM : 0;
    bool ok = true;
    ssize_t len;
    for (int n = 1; (len = getline(&line, &cap, file)) >= 0; n++) {
        const char *why = add_line(t, line, (size_t)len);
        if (why == NULL)
            continue;
        buf_printf(errors, "%s:%d: %s\n", path, n, why);
        ok = false;
    }
    if (line != NULL)
        OPENSSL_cleanse(line, cap);
    free(line);
    if (ferror(file)) {
        buf_printf(errors, "%s: %s\n", path, strerror(errno));
        ok = false;
    }
    if (ok && t->count == 0) {
        buf_printf(errors, "%s: holds no token; write a line name:token\n", path);
        ok = false;
    }
    return ok;
}

static FILE *open_private(const char *path, struct buf *errors)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    if (fd < 0 || fstat(fd, &st) != 0) {
        buf_printf(errors, "%s: %s\n", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        buf_printf(errors, "%s: is no regular file\n", path);
    } else if ((st.st_mode & 077) != 0) {
        buf_printf(errors, "%s: others have access to it (mode %04o); chmod 600 it\n", path,
                   (unsigned)(st.st_mode & 07777));
    } else {
        FILE *file = fdopen(fd, "r");
        if (file != NULL)
            return file;
        buf_printf(errors, "%s: %s\n", path, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

struct tokens *tokens_load(const char *path, struct buf *errors)
{
    FILE *file = open_private(path, errors);
    if (file == NULL)
        return NULL;
    char ahead[STREAM_ROOM];
    struct tokens *t = calloc(1, sizeof *t);
    setvbuf(file, ahead, _IOFBF, sizeof ahead);
    bool ok = t != NULL && read_lines(t, file, path, errors);
    fclose(file);
    OPENSSL_cleanse(ahead, sizeof ahead);
    if (ok)
        return t;
    tokens_destroy(t);
    return NULL;
}

void tokens_destroy(struct tokens *t)
{
    if (t == NULL)
        return;
    free(t->items);
    free(t);
}

const char *tokens_find(const struct tokens *t, const char *token, size_t n)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    const char *found = NULL;
    SHA256((const unsigned char *)token, n, digest);
    for (size_t i = 0; i < t->count; i++)
        if (CRYPTO_memcmp(digest, t->items[i].digest, sizeof digest) == 0)
            found = t->items[i].name;
    return found;
}
