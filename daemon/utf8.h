/* SPDX-License-Identifier: MIT
 *
 * utf8 - strict UTF-8 (Unicode 15, table 3-7): no overlongs, no surrogates, nothing past U+10FFFF.
 * Pure functions.
 */
#ifndef GATHERD_UTF8_H
#define GATHERD_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Looks at the sequence at s (n >= 1 bytes left). Returns its length (1-4) when well-formed, else
 * minus the length of the maximal ill-formed subpart (1-3) that one U+FFFD stands for. */
int utf8_sequence(const char *s, size_t n);

/* Whether all of s is well-formed. */
bool utf8_valid(const char *s, size_t n);

/* How many characters begin in s, an ill-formed subpart being one; *state is 0 for the first piece
 * of a text and then handed on from piece to piece. Whatever the bytes are, 1 ns each. */
size_t utf8_count(const char *s, size_t n, unsigned *state);

/* The longest prefix of at most `max` bytes that does not cut a code point. */
size_t utf8_prefix(const char *s, size_t n, size_t max);

#endif
