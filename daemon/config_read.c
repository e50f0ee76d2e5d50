/* SPDX-License-Identifier: MIT
 *
 * config_read - see config_read.h. Called by config_load(), config_exists() by main; may block on
 * files; owns the open stream.
 *
 * inih splits the lines, but what it would guess about it never sees: read_line() hands it a blank
 * line in place of one that it would cut (over-long, a comment behind a value), join to the
 * previous (indented), or name by its number only (no `=`), and reports that line itself. It also
 * takes the section lines, because inih says nothing of a section without keys and cuts long names.
 */
#include "config_read.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config_check.h"
#include "parse.h"

#define FILE_BYTES_MAX (4 << 20) /* a device without end is no configuration */

bool config_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

static void begin_source(struct config_loader *l, enum config_source source, const char *file)
{
    int order = l->here.order;
    l->here = (struct config_origin){.source = source, .file = file, .order = order};
}

/* --- lines ----------------------------------------------------------------------------------- */

/* What reading would misunderstand; a value that passes is written to a file and read again as it
 * is. */
static bool check_plain(struct config_loader *l, const char *value)
{
    bool blank = true;
    for (const char *p = value; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if ((c < 0x20 && c != '\t') || c == 0x7F) {
            CONFIG_REPORT_HERE(l, "control byte 0x%02X; printable text only", c);
            return false;
        }
        if (blank && (c == ';' || c == '#')) {
            CONFIG_REPORT_HERE(l, "a comment after a value; put it on a line of its own");
            return false;
        }
        blank = c == ' ' || c == '\t';
    }
    return true;
}

/* text: behind the `[`. */
static void enter_section(struct config_loader *l, const char *text)
{
    char words[CONFIG_LINE_MAX + 1];
    size_t n = strcspn(text, "]");
    l->slot = CONFIG_SLOT_REFUSED;
    if (!text[n]) {
        CONFIG_REPORT_HERE(l, "a section without its ]; write [daemon], for instance");
        return;
    }
    const char *rest = text + n + 1;
    if (rest[strspn(rest, " \t")]) {
        CONFIG_REPORT_HERE(l, "text after ]; put it on a line of its own");
        return;
    }
    memcpy(words, text, n);
    words[n] = '\0';
    char *p = words;
    const char *kind = parse_word(&p), *name = parse_word(&p), *more = parse_word(&p);
    if (!kind || more)
        CONFIG_REPORT_HERE(
            l, "a section is [daemon], [limits], [fetch], [listener NAME] or [policy NAME]");
    else
        l->slot = config_section_slot(l, kind, name, ' ');
}

struct line {
    size_t length; /* all of it; the text may be cut */
    bool nul;
};

/* A line without its end; false at the end of the file. size >= CONFIG_LINE_MAX + 2. */
static bool take_line(struct config_loader *l, char *text, size_t size, struct line *line)
{
    int c = EOF, last = 0;
    *line = (struct line){0};
    for (; l->stream_bytes < FILE_BYTES_MAX && (c = getc(l->stream)) != EOF; last = c) {
        l->stream_bytes++;
        if (c == '\n')
            break;
        line->nul |= c == '\0';
        if (line->length < size - 1)
            text[line->length] = (char)c;
        line->length++;
    }
    bool any = c == '\n' || line->length > 0;
    line->length -= last == '\r';
    text[line->length < size - 1 ? line->length : size - 1] = '\0';
    return any;
}

static void skip_bom(char *text, struct line *line)
{
    if (strncmp(text, "\xEF\xBB\xBF", 3) == 0) {
        line->length -= 3;
        memmove(text, text + 3, strlen(text + 3) + 1);
    }
}

/* Whether inih may have the line; if not, it is dealt with. */
static bool judge_line(struct config_loader *l, const char *text, const struct line *line)
{
    bool blank = text[0] == ' ' || text[0] == '\t';
    if (line->nul) {
        CONFIG_REPORT_HERE(l, "a NUL byte; the file is plain text, UTF-8 or ASCII");
    } else if (line->length > CONFIG_LINE_MAX) {
        CONFIG_REPORT_HERE(l, "a line of %zu bytes; at most %d, repeat the key for a long list",
                           line->length, CONFIG_LINE_MAX);
    } else if (!text[strspn(text, " \t")] || *text == '#' || *text == ';') {
        return false;
    } else if (blank) {
        CONFIG_REPORT_HERE(
            l, "an indented line; start in the first column, repeat the key for a long list");
    } else if (*text == '[') {
        enter_section(l, text + 1);
    } else if (text[strcspn(text, "=:")] != '=') {
        CONFIG_REPORT_HERE(l, "neither a section nor a key; write key = value");
    } else {
        return check_plain(l, text) && check_plain(l, strchr(text, '=') + 1);
    }
    return false;
}

static char *read_line(char *text, int size, void *arg)
{
    struct config_loader *l = arg;
    struct line line;
    if (!take_line(l, text, (size_t)size, &line))
        return NULL;
    if (l->here.line++ == 0)
        skip_bom(text, &line);
    if (!judge_line(l, text, &line))
        text[0] = '\0';
    return text;
}

static int handle_key(void *arg, const char *section, const char *key, const char *value)
{
    struct config_loader *l = arg;
    (void)section; /* inih's has at most 49 bytes; enter_section() knows it whole */
    if (l->slot >= 0)
        config_set_key(l, l->slot, key, value);
    else if (l->slot == CONFIG_SLOT_NONE)
        CONFIG_REPORT_HERE(l, "a key before any section; write [daemon] or another above");
    return 1;
}

static void read_stream(struct config_loader *l)
{
    errno = 0;
    int rc = ini_parse_stream(read_line, l, handle_key, l);
    l->no_memory |= rc < 0;
    if (rc > 0) {
        l->here.line = rc;
        CONFIG_REPORT_HERE(l, "not understood; write key = value");
    }
    int error = errno;
    l->here.line = 0;
    if (ferror(l->stream))
        CONFIG_REPORT_HERE(l, "cannot be read: %s", strerror(error));
    else if (l->stream_bytes >= FILE_BYTES_MAX)
        CONFIG_REPORT_HERE(l, "is too large; at most %d bytes", FILE_BYTES_MAX - 1);
}

void config_read_file(struct config_loader *l, const char *path)
{
    begin_source(l, CONFIG_FROM_FILE, path);
    l->slot = CONFIG_SLOT_NONE;
    l->stream_bytes = 0;
    l->stream = fopen(path, "re");
    if (!l->stream) {
        CONFIG_REPORT_HERE(l, "cannot be read: %s", strerror(errno));
        return;
    }
    read_stream(l);
    fclose(l->stream);
    l->stream = NULL;
}

/* "directory/name", freed with the loader; NULL when memory runs out. */
static const char *file_name(struct config_loader *l, const char *directory, const char *name)
{
    struct buf text;
    size_t length;
    buf_init(&text, 0);
    buf_printf(&text, "%s%s", directory, name);
    buf_add_char(&text, '\0');
    char **files = text.failed ? NULL : realloc(l->files, (l->file_count + 1) * sizeof *files);
    if (!files) {
        l->no_memory = true;
        buf_fini(&text);
        return NULL;
    }
    l->files = files;
    return l->files[l->file_count++] = buf_take(&text, &length);
}

static int is_fragment(const struct dirent *entry)
{
    static const char suffix[] = ".conf";
    size_t n = strlen(entry->d_name);
    return entry->d_name[0] != '.' && n >= sizeof suffix &&
           strcmp(entry->d_name + n - (sizeof suffix - 1), suffix) == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Opening a pipe would wait for somebody to write to it, and a reload holds all clients up. */
static void read_fragment(struct config_loader *l, const char *file)
{
    struct stat st;
    if (stat(file, &st) == 0 && S_ISFIFO(st.st_mode)) {
        begin_source(l, CONFIG_FROM_FILE, file);
        CONFIG_REPORT_HERE(l, "is a pipe; a file is wanted");
        return;
    }
    config_read_file(l, file);
}

/* The conf.d beside the file; none is fine. */
void config_read_directory(struct config_loader *l, const char *path)
{
    struct dirent **entries;
    const char *slash = strrchr(path, '/');
    char *beside = strndup(path, slash ? (size_t)(slash - path) + 1 : 0);
    const char *directory = beside ? file_name(l, beside, "conf.d/") : NULL;
    free(beside);
    l->no_memory |= !directory;
    if (!directory)
        return;
    int count = scandir(directory, &entries, is_fragment, by_name);
    if (count < 0 && errno != ENOENT && errno != ENOTDIR) {
        begin_source(l, CONFIG_FROM_FILE, directory);
        CONFIG_REPORT_HERE(l, "cannot be read: %s", strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        const char *file = file_name(l, directory, entries[i]->d_name);
        if (file)
            read_fragment(l, file);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

/* --- the command line ------------------------------------------------------------------------ */

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        text[--n] = '\0';
    return text;
}

/* Cuts "listener.NAME.key" up; *name is NULL for "section.key". False for anything else. */
static bool split_path(char *path, char **section, char **name, char **key)
{
    char *first = strchr(path, '.');
    char *last = strrchr(path, '.');
    if (!first || memchr(first + 1, '.', (size_t)(last > first ? last - first - 1 : 0)))
        return false;
    *first = *last = '\0';
    *section = path;
    *name = first < last ? first + 1 : NULL;
    *key = last + 1;
    return **section && **key && (!*name || **name);
}

static void apply_override(struct config_loader *l, const char *text, char *copy)
{
    char quoted[CONFIG_QUOTE_MAX];
    char *section, *name, *key;
    char *value = strchr(copy, '=');
    if (value)
        *value++ = '\0';
    if (!value || !split_path(trim(copy), &section, &name, &key)) {
        CONFIG_REPORT_HERE(l,
                           "%s is not of the right form; section.key=value, "
                           "listener.NAME.key=value or policy.NAME.key=value",
                           config_quote(text, quoted));
        return;
    }
    value = trim(value);
    if (!check_plain(l, value))
        return;
    int slot = config_section_slot(l, section, name, '.');
    if (slot >= 0)
        config_set_key(l, slot, key, value);
}

void config_read_overrides(struct config_loader *l, const char *const *overrides, size_t count)
{
    begin_source(l, CONFIG_FROM_OVERRIDE, "-o");
    for (size_t i = 0; i < count; i++) {
        char *copy = strdup(overrides[i]);
        if (copy)
            apply_override(l, overrides[i], copy);
        else
            l->no_memory = true;
        free(copy);
    }
}
