/* SPDX-License-Identifier: MIT
 *
 * request_field - reads a value as its line in a field table says: type, range, where to store it.
 * Called by request and request_member; owns nothing.
 *
 * A member's object, `defaults`, the batch object and the query string all end here, so that a
 * field is written once. A query parameter becomes the JSON value that it would be in a body
 * first; what it cannot become stays a string and is refused as a string would be.
 */
#include "request_internal.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "clock.h"
#include "parse.h"
#include "utf8.h"

#define INTEGRAL_MAX 9007199254740992.0 /* 2^53: up to here a double counts exactly */

/* --- values ----------------------------------------------------------------------------------- */

static int64_t field_max(const struct reader *r, const struct field *f)
{
    if (!f->limit)
        return f->max;
    return *(const int64_t *)(const void *)((const char *)r->limits + f->limit_offset);
}

/* An integer, also when it is written as 5.0 or 5e0. */
static bool to_integer(const json_t *value, int64_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    double d = json_real_value(value);
    if (!json_is_real(value) || d < -INTEGRAL_MAX || d > INTEGRAL_MAX || d != (double)(int64_t)d)
        return false;
    *out = (int64_t)d;
    return true;
}

/* Milliseconds, perhaps with a fraction, as microseconds. */
static bool to_us(const struct field *f, const json_t *value, int64_t *out)
{
    if (f->kind == FIELD_MS_OR_NULL && json_is_null(value)) {
        *out = -1;
        return true;
    }
    double ms = json_number_value(value);
    if (!json_is_number(value) || ms < (double)f->min || ms > (double)f->max)
        return false;
    *out = (int64_t)(ms * (double)US_PER_MS + 0.5);
    return true;
}

static bool to_word(const struct field *f, const json_t *value, int64_t *out)
{
    const char *s = json_string_value(value);
    for (int i = 0; s && f->words[i]; i++) {
        if (strcmp(f->words[i], s) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* The number that is stored for a field of any of the first six kinds. */
static bool to_number(const struct reader *r, const struct field *f, const json_t *value,
                      int64_t *out)
{
    switch (f->kind) {
    case FIELD_BOOL:
        *out = json_is_true(value);
        return json_is_boolean(value);
    case FIELD_MS:
    case FIELD_MS_OR_NULL:
        return to_us(f, value, out);
    case FIELD_WORD:
        return to_word(f, value, out);
    default:
        return to_integer(value, out) && *out >= f->min && *out <= field_max(r, f);
    }
}

static bool has_type(const struct field *f, const json_t *value)
{
    switch (f->kind) {
    case FIELD_TEXT:
        return json_is_string(value);
    case FIELD_ARRAY:
        return json_is_array(value);
    case FIELD_OBJECT:
        return json_is_object(value);
    default:
        return true;
    }
}

static void store(const struct field *f, void *target, int64_t number)
{
    char *slot = (char *)target + f->offset;
    bool flag = number != 0;
    int small = (int)number;
    if (f->kind == FIELD_BOOL)
        memcpy(slot, &flag, sizeof flag);
    else if (f->kind == FIELD_INT || f->kind == FIELD_WORD)
        memcpy(slot, &small, sizeof small);
    else
        memcpy(slot, &number, sizeof number);
}

/* --- refusals --------------------------------------------------------------------------------- */

#define EXPECTED_MAX 120

static const char *expected_word(char out[EXPECTED_MAX], const struct field *f)
{
    int n = snprintf(out, EXPECTED_MAX, "one of");
    for (int i = 0; f->words[i] && n < EXPECTED_MAX; i++)
        n += snprintf(out + n, (size_t)(EXPECTED_MAX - n), "%s \"%s\"", i > 0 ? "," : "",
                      f->words[i]);
    return out;
}

static const char *expected(char out[EXPECTED_MAX], const struct reader *r, const struct field *f)
{
    switch (f->kind) {
    case FIELD_BOOL:
        return "true or false";
    case FIELD_TEXT:
        return "a string";
    case FIELD_ARRAY:
        return "an array";
    case FIELD_OBJECT:
        return "an object";
    case FIELD_WORD:
        return expected_word(out, f);
    default:
        break;
    }
    bool ms = f->kind == FIELD_MS || f->kind == FIELD_MS_OR_NULL;
    (void)snprintf(out, EXPECTED_MAX, "%s from %lld to %lld%s",
                   ms ? "a number of milliseconds" : "an integer", (long long)f->min,
                   (long long)field_max(r, f), f->kind == FIELD_MS_OR_NULL ? ", or null" : "");
    return out;
}

static bool fail_value(struct reader *r, const struct field *f, const struct place *at,
                       const json_t *value)
{
    char want[EXPECTED_MAX], got[REQUEST_QUOTE_MAX + 16];
    int64_t number;
    if (f->limit && to_integer(value, &number) && number > field_max(r, f))
        return request_fail(r, at, "\"%s\" is %lld, above limits.%s of this daemon, which is %lld",
                            f->name, (long long)number, f->limit, (long long)field_max(r, f));
    return request_fail(r, at, "\"%s\" must be %s, not %s", f->name, expected(want, r, f),
                        request_describe(got, value));
}

bool request_set_field(struct reader *r, const struct field *f, const struct place *at,
                       json_t *value, void *target)
{
    int64_t number;
    if (f->kind == FIELD_LATER)
        return request_fail(r, at, "\"%s\" is not supported yet by this version", f->name);
    if (f->set)
        return has_type(f, value) ? f->set(r, at, value, target) : fail_value(r, f, at, value);
    if (!to_number(r, f, value, &number))
        return fail_value(r, f, at, value);
    store(f, target, number);
    return true;
}

/* --- objects ---------------------------------------------------------------------------------- */

const struct field *request_find_field(const struct field_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct field *f = &table->fields[i];
        if (f->name[0] == name[0] && strcmp(f->name, name) == 0)
            return f;
    }
    return NULL;
}

bool request_read_object(struct reader *r, const struct field_table *table, const struct place *at,
                         json_t *object, void *target)
{
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        struct place here = {.up = at, .key = json_object_iter_key(it)};
        const struct field *f = request_find_field(table, here.key);
        if (!f)
            return request_fail_unknown(r, table, &here);
        if (!request_set_field(r, f, &here, json_object_iter_value(it), target))
            return false;
    }
    return true;
}

/* --- query parameters ------------------------------------------------------------------------- */

/* "a, b,c" to ["a","b","c"]; no word, no element. */
static json_t *list_value(const char *text)
{
    json_t *list = json_array();
    while (*text) {
        text += strspn(text, " \t,");
        size_t n = strcspn(text, ",");
        size_t end = n;
        while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\t'))
            end--;
        if (end > 0)
            (void)json_array_append_new(list, json_stringn_nocheck(text, end));
        text += n;
    }
    return list;
}

/* "500", "0.5" and "null" are what they are in JSON; NULL when it is neither. */
static json_t *number_value(const char *text)
{
    if (!strchr("-0123456789n", text[0]))
        return NULL;
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    return json_is_number(value) || json_is_null(value) ? value : NULL;
}

json_t *request_param_value(const struct field *f, const char *text)
{
    json_t *value = NULL;
    bool flag;
    if (!utf8_valid(text, strlen(text)))
        return NULL;
    switch (f->kind) {
    case FIELD_BOOL:
        value = parse_bool(text, &flag) ? json_boolean(flag) : NULL;
        break;
    case FIELD_ARRAY:
        return list_value(text);
    case FIELD_INT:
    case FIELD_INT64:
    case FIELD_MS:
    case FIELD_MS_OR_NULL:
        value = number_value(text);
        break;
    default:
        break;
    }
    return value ? value : json_string_nocheck(text);
}
