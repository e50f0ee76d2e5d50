/* SPDX-License-Identifier: MIT
 *
 * url_fixture - what the tests of url, url_plain and target share. Each URL is read by CURLU alone
 * and as the daemon reads it, and the two must not differ in anything; and libcurl must read from
 * the text that came out what was told of it. libcurl's memory can be made to fail.
 */
#ifndef GATHERD_TESTS_URL_FIXTURE_H
#define GATHERD_TESTS_URL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "target.h"
#include "url.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define ORIGIN_MAX 400 /* a host of 253 bytes, scheme and port */

/* --- failing memory of libcurl --- */

static long allocations_left = -1; /* that many succeed; below 0 all do */

static inline bool may_allocate(void)
{
    return allocations_left < 0 || allocations_left-- > 0;
}

static inline void *limited_malloc(size_t n)
{
    return may_allocate() ? malloc(n) : NULL;
}

static inline void *limited_calloc(size_t count, size_t n)
{
    return may_allocate() ? calloc(count, n) : NULL;
}

static inline void *limited_realloc(void *p, size_t n)
{
    return may_allocate() ? realloc(p, n) : NULL;
}

static inline char *limited_strdup(const char *s)
{
    return may_allocate() ? strdup(s) : NULL;
}

/* --- what libcurl reads --- */

static inline char *part_of(CURLU *handle, CURLUPart part, unsigned flags)
{
    char *text;
    return curl_url_get(handle, part, &text, flags) ? NULL : text;
}

/* What libcurl makes of a text with the flags that it has for a CURLOPT_URL. */
static inline CURLU *as_given(const char *text)
{
    CURLU *handle = curl_url();
    assert_non_null(handle);
    if (curl_url_set(handle, CURLUPART_URL, text, CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME))
        fail_msg("%s is refused as a text", text);
    return handle;
}

/* NULL: it has no such part. */
static inline void check_part(CURLU *handle, CURLUPart part, unsigned flags, const char *expected)
{
    char *found = part_of(handle, part, flags);
    if (expected ? !found || strcmp(found, expected) != 0 : found != NULL)
        fail_msg("libcurl's part %d is %s, not %s", (int)part, found ? found : "(none)",
                 expected ? expected : "(none)");
    curl_free(found);
}

static inline const char *origin_of(const struct url *u, char out[ORIGIN_MAX])
{
    const char *open = u->ip.family == 6 ? "[" : "", *close = u->ip.family == 6 ? "]" : "";
    snprintf(out, ORIGIN_MAX, "%s://%s%s%s:%u", u->https ? "https" : "http", open, u->host, close,
             (unsigned)u->port);
    return out;
}

/* libcurl will fetch what the strings say. */
static inline void check_given(const struct url *u)
{
    CURLU *handle = as_given(u->text);
    char host[ORIGIN_MAX], port[8], canonical[IP_TEXT_MAX];
    snprintf(host, sizeof host, u->ip.family == 6 ? "[%s]" : "%s", u->host);
    snprintf(port, sizeof port, "%u", (unsigned)u->port);
    check_part(handle, CURLUPART_URL, CURLU_NO_DEFAULT_PORT, u->text);
    check_part(handle, CURLUPART_SCHEME, 0, u->https ? "https" : "http");
    check_part(handle, CURLUPART_HOST, 0, host);
    check_part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT, port);
    check_part(handle, CURLUPART_FRAGMENT, 0, NULL);
    check_part(handle, CURLUPART_USER, 0, NULL);
    check_part(handle, CURLUPART_PASSWORD, 0, NULL);
    check_part(handle, CURLUPART_ZONEID, 0, NULL);
    if (u->ip.family != 0)
        assert_string_equal(u->host, ip_format(&u->ip, canonical));
    for (const char *s = u->text; *s; s++)
        if (*s < 0x21 || *s > 0x7e)
            fail_msg("%s has a byte %d", u->text, *s);
    curl_url_cleanup(handle);
}

/* --- both ways --- */

struct batch {
    struct arena arena;
    struct origins origins;
};

static inline void batch_begin(struct batch *b)
{
    arena_init(&b->arena);
    origins_init(&b->origins, &b->arena);
}

static inline void batch_end(struct batch *b)
{
    origins_fini(&b->origins);
    arena_fini(&b->arena);
}

static inline struct target take(struct batch *b, const char *s)
{
    struct target t;
    const char *why;
    if (!target_parse(&b->origins, s, strlen(s), &t, &why))
        fail_msg("%s is refused: %s", s, why);
    return t;
}

static inline void check_target(const struct target *t, const struct url *u)
{
    const struct origin *o = t->origin;
    char key[ORIGIN_MAX];
    assert_string_equal(t->text, u->text);
    assert_int_equal(t->len, strlen(t->text));
    assert_string_equal(o->key, origin_of(u, key));
    assert_int_equal(o->key_len, strlen(o->key));
    assert_string_equal(o->host, u->host);
    assert_int_equal(o->https, u->https);
    assert_int_equal(o->port, u->port);
    assert_memory_equal(&o->ip, &u->ip, sizeof o->ip);
    assert_memory_equal(t->text, o->key, o->text_len);
    assert_int_equal(t->text[o->text_len], '/');
    assert_int_equal(strcspn(t->text + 8, "/"), o->text_len - 8u);
}

/* Either both ways take it, or both refuse it for one reason. */
static inline void check_outcome(const char *s, bool ok, const struct target *t, const char *why,
                                 bool expected, const struct url *u, const char *expected_why)
{
    if (ok != expected)
        fail_msg("%s: by CURLU %s, else %s", s, expected ? "taken" : expected_why,
                 ok ? "taken" : why);
    if (ok) {
        check_target(t, u);
        return;
    }
    assert_string_equal(why, expected_why);
    assert_true(!t->origin && !t->text && t->len == 0);
    assert_true(!u->text && !u->host);
}

/* Read twice as the daemon does: the second time its origin is known. */
static inline bool parse_in(struct batch *b, const char *s, size_t n, struct url *u,
                            const char **why)
{
    char *text = malloc(n + 1); /* so that ASan sees who reads on */
    assert_non_null(text);
    memcpy(text, s, n);
    text[n] = '\0';
    bool ok = url_parse(text, n, u, why);
    for (int round = 0; round < 2; round++) {
        struct target t;
        const char *target_why;
        bool taken = target_parse(&b->origins, text, n, &t, &target_why);
        check_outcome(text, taken, &t, target_why, ok, u, *why);
    }
    free(text);
    if (ok)
        check_given(u);
    return ok;
}

static inline bool parse_n(const char *s, size_t n, struct url *u, const char **why)
{
    struct batch b;
    batch_begin(&b);
    bool ok = parse_in(&b, s, n, u, why);
    batch_end(&b);
    return ok;
}

static inline bool parse(const char *s, struct url *u, const char **why)
{
    return parse_n(s, strlen(s), u, why);
}

/* A Location header, against a base that is taken. */
static inline bool resolve_n(const char *base_text, const char *location, size_t n, struct url *u,
                             const char **why)
{
    struct batch b;
    struct target t;
    const char *target_why;
    size_t joined_n;
    batch_begin(&b);
    struct target base = take(&b, base_text);
    char *joined = url_join(base.text, location, n, &joined_n);
    assert_non_null(joined);
    bool ok = parse_n(joined, joined_n, u, why);
    bool taken = target_resolve(&base, location, n, &t, &target_why);
    batch_end(&b);
    check_outcome(joined, taken, &t, target_why, ok, u, *why);
    target_fini(&t);
    target_fini(&t);
    free(joined);
    return ok;
}

static inline bool resolve(const char *base_text, const char *location, struct url *u,
                           const char **why)
{
    return resolve_n(base_text, location, strlen(location), u, why);
}

/* --- of the group --- */

static inline int set_up(void **state)
{
    (void)state;
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        return -1;
    return curl_global_init_mem(CURL_GLOBAL_NOTHING, limited_malloc, free, limited_realloc,
                                limited_strdup, limited_calloc) == CURLE_OK
               ? 0
               : -1;
}

static inline int tear_down(void **state)
{
    (void)state;
    curl_global_cleanup();
    return 0;
}

#endif
