/* SPDX-License-Identifier: MIT
 *
 * parse - numbers, durations, sizes and HTTP tokens from text. All functions take the whole text
 * (no trailing rubbish, no leading blanks), return false and leave *out alone when it is not of
 * their form or out of range. Pure, locale-independent.
 */
#ifndef GATHERD_PARSE_H
#define GATHERD_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits with an optional '-'. */
bool parse_int(const char *s, int64_t min, int64_t max, int64_t *out);

/* A duration: digits with an optional fraction and a unit `us`, `ms`, `s`, `m`, `h`, `d`; a bare
 * number means seconds, as systemd reads it. Result in microseconds: "500ms" -> 500000. */
bool parse_duration_us(const char *s, int64_t *out);

/* A size: digits with an optional `K`, `M`, `G` (powers of 1024; KiB-style suffixes `KiB`... and a
 * `B` are taken too). "4M" -> 4194304. */
bool parse_size(const char *s, int64_t *out);

/* yes/no, true/false, on/off, 1/0; case does not matter. */
bool parse_bool(const char *s, bool *out);

/* RFC 9110 token characters; names of methods and header fields. n == 0 is no token. */
bool parse_is_token(const char *s, size_t n);

/* A header value that may be sent: no CR, LF, NUL or other control but TAB; n may be 0. */
bool parse_is_field_value(const char *s, size_t n);

/* Base64 (standard alphabet, padding needed, no blanks). Writes at most n / 4 * 3 bytes to out
 * and their number to *out_len. */
bool parse_base64(const char *s, size_t n, uint8_t *out, size_t *out_len);

/* Cuts the next blank-separated word off *s (spaces and tabs); returns it NUL-terminated in place,
 * or NULL when there is none left. Modifies the text. */
char *parse_word(char **s);

/* Percent-decodes in place; '+' becomes a blank. Returns the new length, or (size_t)-1 when an
 * escape is broken or decodes to NUL. */
size_t parse_percent_decode(char *s, size_t n);

/* Case-insensitive comparison of n bytes, ASCII only. */
bool parse_equal_nocase(const char *a, size_t a_len, const char *b);

#endif
