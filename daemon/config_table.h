/* SPDX-License-Identifier: MIT
 *
 * config_table - the one table of options, and how a value of each type is read and refused.
 * For the files of config alone. Pure functions; a section is the struct config_* that the option's
 * row belongs to.
 *
 * A new option is one row here, one field in config.h, one entry each in conf/gatherd.conf and
 * gatherd.conf(5). The words for people stand there and not in the table; checks hold them
 * together.
 */
#ifndef GATHERD_CONFIG_TABLE_H
#define GATHERD_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"

#define CONFIG_LINE_MAX 198 /* bytes of a line; inih's buffer is 200 with \n and NUL */

enum config_section {
    CONFIG_DAEMON,
    CONFIG_LIMITS,
    CONFIG_FETCH,
    CONFIG_LISTENER, /* this and the next have names */
    CONFIG_POLICY,
    CONFIG_SECTION_COUNT
};

enum config_type {
    CONFIG_COUNT,    /* int64_t: whole number */
    CONFIG_SIZE,     /* int64_t: bytes */
    CONFIG_DURATION, /* int64_t: us */
    CONFIG_MODE,     /* int64_t: octal */
    CONFIG_WORD,     /* int64_t: index into words */
    CONFIG_TEXT,     /* char *: NULL = empty */
    CONFIG_RATE,     /* int64_t: n a second, -n a minute, 0 = none */
    CONFIG_LIST,     /* struct str_list; items are separated by blanks */
    CONFIG_LINES,    /* struct str_list; an item is a whole line */
};

struct config_option {
    enum config_section section;
    enum config_type type;
    const char *key;
    size_t offset;       /* of the field in the section's struct */
    const char *initial; /* the default as the file would say it */
    int64_t min, max;    /* of the numbers */
    const char *const *words; /* ends with NULL; of a count: the word that stands for CONFIG_AUTO */
    /* Of a text or one item of a list; false, and *why says what is wrong; what would be right. */
    bool (*check)(const char *text, struct buf *why);
    bool needs_restart; /* a reload does not take it ... */
    bool lower_at_once; /* ... but a lower number */
};

extern const struct config_option config_table[];
extern const size_t config_table_count;

/* "daemon", "limits" ...; NULL for CONFIG_SECTION_COUNT and above. */
const char *config_section_name(enum config_section section);

/* NULL = no such key in that section. */
const struct config_option *config_table_find(enum config_section section, const char *key);

/* Sets the option's field in `section`, or adds one item to it when it is a list. text: without
 * blanks around it, copied. False when refused: *why (empty before) says why, or why->failed is set
 * when memory ran out; the field is as before. */
bool config_table_set(const struct config_option *o, void *section, const char *text,
                      struct buf *why) __attribute__((warn_unused_result));

/* Frees what the field owns; a text is NULL, a list empty afterwards. Numbers stay. */
void config_table_clear(const struct config_option *o, void *section);

/* Whether the field is the same in two sections. */
bool config_table_equal(const struct config_option *o, const void *a, const void *b);

#endif
