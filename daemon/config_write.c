/* SPDX-License-Identifier: MIT
 *
 * config_write - see config_write.h. Called by config.c for the dump, and by config_table.c for the
 * bounds that it names in messages; owns nothing.
 *
 * Numbers are written with the largest unit that loses nothing, lists on as many lines as keep each
 * short enough to be read again.
 */
#include "config_write.h"

#include <string.h>

#include "buf.h"
#include "clock.h"
#include "config_table.h"

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define DAY_US (86400 * US_PER_S)

struct unit {
    const char *name;
    int64_t factor;
};

static void write_with_unit(int64_t v, const struct unit *units, struct buf *out)
{
    while (units->factor > 1 && (v % units->factor != 0 || v / units->factor == 0))
        units++;
    buf_add_int(out, v / units->factor);
    buf_add_str(out, units->name);
}

/* Two minutes are 2m, one is 60s: that is how people write it, and what the manual says. */
static void write_duration(int64_t v, struct buf *out)
{
    static const struct unit units[] = {
        {"d", DAY_US},   {"h", 3600 * US_PER_S}, {"m", 60 * US_PER_S},
        {"s", US_PER_S}, {"ms", US_PER_MS},      {"us", 1},
    };
    size_t first = 0;
    while (first < 3 && v < 2 * units[first].factor)
        first++;
    write_with_unit(v, units + first, out);
}

static void write_size(int64_t v, struct buf *out)
{
    static const struct unit units[] = {{"G", GIB}, {"M", MIB}, {"K", KIB}, {"", 1}};
    write_with_unit(v, units, out);
}

void config_write_number(const struct config_option *o, int64_t v, struct buf *out)
{
    if (o->type == CONFIG_DURATION)
        write_duration(v, out);
    else if (o->type == CONFIG_SIZE)
        write_size(v, out);
    else if (o->type == CONFIG_MODE)
        buf_printf(out, "%04o", (unsigned)v);
    else if (o->type == CONFIG_WORD)
        buf_add_str(out, o->words[v]);
    else if (o->type == CONFIG_RATE && v != 0)
        buf_printf(out, v > 0 ? "%lld/s" : "%lld/m", (long long)(v > 0 ? v : -v));
    else if (o->words != NULL && v == CONFIG_AUTO)
        buf_add_str(out, o->words[0]);
    else
        buf_add_int(out, v);
}

#define LIST_LINE_MAX 100 /* for the eye; a single long item may need more */

static void write_lines(const struct config_option *o, const struct str_list *list, struct buf *out)
{
    for (size_t i = 0; i < list->count; i++)
        buf_printf(out, "%s%s = %s", i > 0 ? "\n" : "", o->key, list->items[i]);
    if (list->count == 0)
        buf_printf(out, "%s =", o->key);
}

static void write_list(const struct config_option *o, const struct str_list *list, struct buf *out)
{
    size_t line = 0;
    for (size_t i = 0; i < list->count || i == 0; i++) {
        size_t n = list->count > 0 ? strlen(list->items[i]) : 0;
        if (i == 0 || line + 1 + n > LIST_LINE_MAX) {
            buf_printf(out, "%s%s =", i == 0 ? "" : "\n", o->key);
            line = strlen(o->key) + 2;
        }
        if (n > 0)
            buf_printf(out, " %s", list->items[i]);
        line += 1 + n;
    }
}

void config_write_option(const struct config_option *o, const void *section, struct buf *out)
{
    const void *field = (const char *)section + o->offset;
    if (o->type == CONFIG_LIST) {
        write_list(o, field, out);
    } else if (o->type == CONFIG_LINES) {
        write_lines(o, field, out);
    } else if (o->type == CONFIG_TEXT) {
        const char *text = *(char *const *)field;
        buf_printf(out, "%s =%s%s", o->key, text ? " " : "", text ? text : "");
    } else {
        buf_printf(out, "%s = ", o->key);
        config_write_number(o, *(const int64_t *)field, out);
    }
    buf_add_char(out, '\n');
}
