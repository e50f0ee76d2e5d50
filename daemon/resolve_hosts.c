/* SPDX-License-Identifier: MIT
 *
 * resolve_hosts - see resolve_hosts.h. Called by resolve on its loop's thread. Owns the file's
 * text, in which the names are ended and lowered in place, and an arena with the table's elements,
 * which point into it; a new version of the file is read into a fresh set of them.
 */
#include "resolve_hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "list.h"
#include "log.h"
#include "resolve_file.h"
#include "table.h"

#define FILE_MAX_BYTES (16 << 20)
#define BLANKS " \t\r\v\f"

struct address {
    struct address *next;
    struct ip_addr ip;
};

struct host {
    struct table_node in_table;
    const char *name;
    struct address *first, **end;
};

struct contents {
    char *text;
    struct table names;
    struct arena memory;
};

struct resolve_hosts {
    const char *path;
    struct resolve_mark mark;
    struct contents contents;
    bool failed; /* to read what is there now; it was said */
};

static bool same_name(const struct table_node *node, const void *name)
{
    return strcmp(LIST_CONTAINER(node, struct host, in_table)->name, name) == 0;
}

static struct host *find(const struct contents *c, const char *name, uint64_t hash)
{
    struct table_node *node = table_find(&c->names, hash, same_name, name);
    return node != NULL ? LIST_CONTAINER(node, struct host, in_table) : NULL;
}

static struct host *find_or_add(struct contents *c, const char *name)
{
    uint64_t hash = table_hash(&c->names, name, strlen(name));
    struct host *host = find(c, name, hash);
    if (host != NULL)
        return host;
    host = arena_calloc(&c->memory, 1, sizeof *host);
    if (host == NULL)
        return NULL;
    host->name = name;
    host->end = &host->first;
    table_insert(&c->names, &host->in_table, hash);
    return host;
}

/* False when memory runs out. */
static bool add(struct contents *c, const char *name, const struct ip_addr *ip)
{
    struct host *host = find_or_add(c, name);
    struct address *address = host != NULL ? arena_calloc(&c->memory, 1, sizeof *address) : NULL;
    if (address == NULL)
        return false;
    address->ip = *ip;
    *host->end = address;
    host->end = &address->next;
    return true;
}

/* The next word of a line, ended in place and in lower case, or NULL. */
static char *next_word(char **at)
{
    char *word = *at + strspn(*at, BLANKS);
    if (*word == '\0')
        return NULL;
    char *end = word + strcspn(word, BLANKS);
    *at = *end != '\0' ? end + 1 : end;
    *end = '\0';
    for (char *c = word; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return word;
}

static bool is_onion(const char *name)
{
    size_t n = strlen(name);
    if (n > 0 && name[n - 1] == '.')
        n--;
    return n >= 6 && memcmp(name + n - 6, ".onion", 6) == 0;
}

static bool read_line(struct contents *c, char *line)
{
    struct ip_addr ip;
    line[strcspn(line, "#")] = '\0';
    char *name = next_word(&line);
    if (name == NULL || !ip_parse(name, &ip))
        return true;
    while ((name = next_word(&line)) != NULL)
        if (!is_onion(name) && !add(c, name, &ip))
            return false;
    return true;
}

static bool read_lines(struct contents *c)
{
    char *line = c->text;
    while (*line != '\0') {
        char *end = line + strcspn(line, "\n");
        char *next = *end != '\0' ? end + 1 : end;
        *end = '\0';
        if (!read_line(c, line))
            return false;
        line = next;
    }
    return true;
}

/* A descriptor, or -1 with errno, which is 0 when there is no file to read. */
static int open_regular(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        errno = errno == ENOENT || errno == ENOTDIR ? 0 : errno;
        return -1;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        errno = 0;
        return -1;
    }
    *size = st.st_size < FILE_MAX_BYTES ? (size_t)st.st_size : FILE_MAX_BYTES;
    return fd;
}

/* Allocated; NULL with errno, see open_regular(). */
static char *read_text(const char *path)
{
    ssize_t n = 1;
    size_t len = 0, size = 0;
    int fd = open_regular(path, &size);
    if (fd < 0)
        return NULL;
    char *text = malloc(size + 1);
    while (text != NULL && len < size && n > 0) {
        n = read(fd, text + len, size - len);
        len += n > 0 ? (size_t)n : 0;
    }
    int error = text == NULL ? ENOMEM : n < 0 ? errno : 0;
    close(fd);
    if (error == 0) {
        text[len] = '\0';
        return text;
    }
    free(text);
    errno = error;
    return NULL;
}

static void contents_free(struct contents *c)
{
    table_fini(&c->names);
    arena_fini(&c->memory);
    free(c->text);
    c->text = NULL;
}

/* 0 or an errno. */
static int contents_read(struct contents *c, const char *path)
{
    arena_init(&c->memory);
    c->text = NULL;
    if (!table_init(&c->names))
        return ENOMEM;
    c->text = read_text(path);
    if (c->text == NULL)
        return errno;
    return read_lines(c) ? 0 : ENOMEM;
}

/* The mark is taken first: a change in between is seen next time. With the old mark a file that
 * could not be read is tried again then. */
bool resolve_hosts_check(struct resolve_hosts *h)
{
    struct contents fresh;
    struct resolve_mark mark = resolve_mark_of(h->path);
    if (resolve_mark_same(&mark, &h->mark))
        return false;
    int error = contents_read(&fresh, h->path);
    if (error != 0) {
        if (!h->failed)
            LOG_ERROR("resolve", "%s cannot be read, what was read before stays: %s", h->path,
                      strerror(error));
        h->failed = true;
        contents_free(&fresh);
        return false;
    }
    h->failed = false;
    contents_free(&h->contents);
    h->contents = fresh;
    h->mark = mark;
    return true;
}

size_t resolve_hosts_find(const struct resolve_hosts *h, const char *name, struct ip_addr *out,
                          size_t max)
{
    const struct contents *c = &h->contents;
    size_t n = 0;
    if (c->names.count == 0)
        return 0;
    const struct host *host = find(c, name, table_hash(&c->names, name, strlen(name)));
    const struct address *address = host != NULL ? host->first : NULL;
    for (; address != NULL && n < max; address = address->next)
        out[n++] = address->ip;
    return n;
}

struct resolve_hosts *resolve_hosts_create(const char *path)
{
    struct resolve_hosts *h = calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->path = path;
    arena_init(&h->contents.memory);
    return h;
}

void resolve_hosts_destroy(struct resolve_hosts *h)
{
    if (h == NULL)
        return;
    contents_free(&h->contents);
    free(h);
}
