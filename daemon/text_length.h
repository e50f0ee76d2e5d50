/* SPDX-License-Identifier: MIT
 *
 * text_length - counts the characters of a body as it streams by: len(await response.text()) of the
 * aiohttp program that gatherd replaces. The charset is that of the Content-Type, else of a BOM
 * (UTF-8, UTF-16, UTF-32; the BOM itself is not counted), else UTF-8. An ill-formed byte counts as
 * one U+FFFD as Python's errors="replace" does; an unknown charset gives -1. iconv(3) converts all
 * but UTF-8 and the single-byte charsets. One thread.
 */
#ifndef GATHERD_TEXT_LENGTH_H
#define GATHERD_TEXT_LENGTH_H

#include <stddef.h>
#include <stdint.h>

struct text_length;

/* content_type: the header's value or NULL. NULL when memory runs out. */
struct text_length *text_length_create(const char *content_type);
void text_length_destroy(struct text_length *t);

void text_length_feed(struct text_length *t, const char *data, size_t n);

/* The count after the last byte (an incomplete sequence at the end counts as one); -1 = unknown
 * charset. Call once. */
int64_t text_length_finish(struct text_length *t);

#endif
