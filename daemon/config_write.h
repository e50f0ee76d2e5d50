/* SPDX-License-Identifier: MIT
 *
 * config_write - the value of an option as the file would say it. Pure functions, any thread; what
 * is written here config_table_set() reads as the same value.
 */
#ifndef GATHERD_CONFIG_WRITE_H
#define GATHERD_CONFIG_WRITE_H

#include <stdint.h>

struct buf;
struct config_option;

/* Appends "key = value\n"; a long list takes several such lines. section: the struct config_* that
 * the option's row belongs to. */
void config_write_option(const struct config_option *o, const void *section, struct buf *out);

/* Appends a number, or the word that it stands for, as a value of the option. */
void config_write_number(const struct config_option *o, int64_t v, struct buf *out);

#endif
