/* SPDX-License-Identifier: MIT
 *
 * config_check - whether the text of an option, or one item of a list, says what it has to. Pure
 * functions, any thread; for config_table.c, which names each in the rows of the keys it is for.
 *
 * A check gets the text without blanks around it. False: *why, empty before, says what is wrong;
 * what would be right.
 */
#ifndef GATHERD_CONFIG_CHECK_H
#define GATHERD_CONFIG_CHECK_H

#include <stdbool.h>

#include "buf.h"

bool config_check_bind(const char *text, struct buf *why);   /* config_parse_bind() takes it */
bool config_check_host(const char *text, struct buf *why);   /* a name as in Host */
bool config_check_rule(const char *text, struct buf *why);   /* ADDRESS or PREFIX, [:PORT[-PORT]] */
bool config_check_ports(const char *text, struct buf *why);  /* PORT or LOW-HIGH */
bool config_check_pattern(const char *text, struct buf *why); /* see hostname.h */
bool config_check_allow_host(const char *text, struct buf *why); /* PATTERN -> rules */
bool config_check_account(const char *text, struct buf *why); /* a name, a number, or nothing */
bool config_check_server(const char *text, struct buf *why);  /* ADDRESS[:PORT] */
bool config_check_policy_name(const char *text, struct buf *why); /* not empty */
bool config_check_user_agent(const char *text, struct buf *why);  /* a field's value, not empty */

/* The text in quotes for a message: other bytes than printable ASCII as \xNN, cut after 64. Returns
 * out. */
#define CONFIG_QUOTE_BYTES 64
#define CONFIG_QUOTE_MAX (CONFIG_QUOTE_BYTES * 4 + (int)sizeof("\"...\""))
const char *config_quote(const char *text, char out[CONFIG_QUOTE_MAX]);

/* Appends the quoted text, a blank and the words. */
void config_say_quoted(struct buf *why, const char *text, const char *words);

#endif
