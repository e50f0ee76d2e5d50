/* SPDX-License-Identifier: MIT
 *
 * config_read - from bytes to sections, keys and values: the file, its conf.d, and -o. What a key
 * means is config.c's business; the two share the struct config_loader of one config_load() and see
 * each other through this header, which nobody else includes. One thread.
 */
#ifndef GATHERD_CONFIG_READ_H
#define GATHERD_CONFIG_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "buf.h"
#include "config.h"
#include "config_table.h"

/* Sections by number: the three that stand once, then the listeners, then the policies. */
enum config_slot {
    CONFIG_SLOT_LISTENER = CONFIG_LISTENER,
    CONFIG_SLOT_POLICY = CONFIG_SLOT_LISTENER + CONFIG_NAMED_MAX,
    CONFIG_SLOT_COUNT = CONFIG_SLOT_POLICY + CONFIG_NAMED_MAX,
    CONFIG_SLOT_NONE = -1,   /* before the first section line */
    CONFIG_SLOT_REFUSED = -2 /* after one that is wrong: its keys are passed over */
};

enum config_source { CONFIG_FROM_DEFAULT, CONFIG_FROM_FILE, CONFIG_FROM_OVERRIDE };

struct config_origin { /* where a value came from */
    enum config_source source;
    const char *file; /* borrowed from the caller or the loader */
    int line;         /* from 1; 0 = none */
    int order;        /* grows with everything that is set */
    bool refused;     /* the value there was wrong, the field has an older one */
};

struct config_loader {
    struct config *config;
    struct buf *errors;
    size_t error_count;
    bool no_memory;
    struct config_origin here;     /* what is being read */
    int slot;                      /* section that it stands in */
    FILE *stream;                  /* the file that is open */
    size_t stream_bytes;           /* read of it */
    char **files;                  /* names of conf.d's files, which origins point to */
    size_t file_count;
    struct config_origin *origins; /* CONFIG_SLOT_COUNT rows of config_table_count */
    struct config_origin made[CONFIG_SLOT_COUNT]; /* where a named section was first mentioned */
};

/* config_read.c: each goes through all it is given, calls the functions below for what it finds,
 * and sets no_memory when memory runs out. */
void config_read_file(struct config_loader *l, const char *path);
void config_read_directory(struct config_loader *l, const char *path); /* the conf.d beside path */
void config_read_overrides(struct config_loader *l, const char *const *overrides, size_t count);

/* config.c: "file:line: [section NAME] key: words\n", the first 20 of a load. slot < 0: no section;
 * key NULL: none. */
void config_report(struct config_loader *l, const struct config_origin *at, int slot,
                   const char *key, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#define CONFIG_REPORT_HERE(l, ...) \
    config_report((l), &(l)->here, CONFIG_SLOT_NONE, NULL, __VA_ARGS__)

/* config.c: the slot of a section as it was written, made with its defaults when it is new; name
 * NULL: none was written. CONFIG_SLOT_REFUSED and a message when there is no such section. between:
 * what stands between section and name in the place that is read, for the message. */
int config_section_slot(struct config_loader *l, const char *section, const char *name,
                        char between);

/* config.c: gives the option a value, or adds to a list that the same source has begun. Copies. */
void config_set_key(struct config_loader *l, int slot, const char *key, const char *value);

#endif
