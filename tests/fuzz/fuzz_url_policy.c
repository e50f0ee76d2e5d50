/* SPDX-License-Identifier: MIT
 *
 * fuzz_url_policy - the way of a URL, from its text to the policy's word on its host, and on to
 * where Location headers lead. What is checked must be what is fetched.
 *
 * The input: one byte for the policy's base, then the URL up to a line feed, then Location
 * headers, a line each, every one against the target before it.
 *
 * Promised, of each target that is made:
 * - it is http or https, printable ASCII, without userinfo, backslash, fragment and zone, port
 *   1-65535;
 * - CURLU reads from its text the scheme, host and port that the origin has: libcurl will dial
 *   those;
 * - a host that any C library would take for an address (inet_aton(), inet_pton()) is known to be
 *   one;
 * - the policy's word on it is the oracle's of that very address (fuzz_oracle.h);
 * - read again, it is itself: a target is a fixed point;
 * - one that is refused for its userinfo is, when that is taken out, read as CURLU reads it with
 *   it: the same host, user name and password, and no @ is left before the path;
 * - the short way of url_plain and the long one by CURLU say the same, and in an arena that
 *   already has the origin, it is the same origin.
 */
#include "fuzz.h"

#include <locale.h>

#include <curl/curl.h>

#include "fuzz_oracle.h"
#include "policy.h"
#include "target.h"
#include "url.h"
#include "url_plain.h"

#define HOPS_MAX 8

static struct policy *policies[3];

static void make_policies(void)
{
    static char name[] = "p";
    static const enum config_base bases[] = {POLICY_BASE_PUBLIC, POLICY_BASE_PRIVATE,
                                             POLICY_BASE_UNSAFE_ANY};
    struct buf errors;
    if (policies[0] != NULL)
        return;
    setlocale(LC_CTYPE, "C.UTF-8"); /* libcurl's IDN needs it */
    buf_init(&errors, 0);
    for (int i = 0; i < 3; i++) {
        const struct config_policy conf = {.name = name, .base = bases[i]};
        policies[i] = policy_create(&conf, &errors);
        FUZZ_ASSERT(policies[i] != NULL && policy_set_own(policies[i], NULL, 0));
    }
    buf_fini(&errors);
}

/* --- what others read in it --- */

static struct oracle_ip to_oracle(const struct ip_addr *ip)
{
    struct oracle_ip out = {ip->family == 4 ? 4 : ip->family == 6 ? 16 : 0, {0}};
    memcpy(out.b, ip->bytes, sizeof out.b);
    return out;
}

/* As the C library does it, which takes 0x7f.1 for 127.0.0.1; a final dot is no part of a name. */
static struct oracle_ip read_loosely(const char *host)
{
    struct oracle_ip ip;
    struct in_addr v4;
    char copy[300];
    snprintf(copy, sizeof copy, "%s", host);
    size_t n = strlen(copy);
    if (n > 1 && copy[n - 1] == '.')
        copy[n - 1] = '\0';
    if (!oracle_ip(copy, &ip) && inet_aton(copy, &v4) != 0) {
        ip.bytes = 4;
        memcpy(ip.b, &v4, 4);
    }
    return ip;
}

static char *part(CURLU *u, CURLUPart what, unsigned flags)
{
    char *text = NULL;
    FUZZ_ASSERT(curl_url_get(u, what, &text, flags) == CURLUE_OK);
    return text;
}

static void check_curl(const struct target *t)
{
    const struct origin *o = t->origin;
    char host[300];
    CURLU *u = curl_url();
    FUZZ_ASSERT(curl_url_set(u, CURLUPART_URL, t->text, CURLU_DISALLOW_USER) == CURLUE_OK);
    char *scheme = part(u, CURLUPART_SCHEME, 0), *name = part(u, CURLUPART_HOST, 0);
    char *port = part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    snprintf(host, sizeof host, o->ip.family == 6 ? "[%s]" : "%s", o->host);
    FUZZ_ASSERT(strcmp(scheme, o->https ? "https" : "http") == 0);
    FUZZ_ASSERT(strtol(port, NULL, 10) == o->port);
    FUZZ_ASSERT(strcmp(name, host) == 0);
    curl_free(scheme);
    curl_free(port);
    curl_free(name);
    curl_url_cleanup(u);
}

/* --- a target --- */

static void check_bytes(const struct target *t)
{
    const char *s = t->text;
    bool https = strncmp(s, "https://", 8) == 0;
    FUZZ_ASSERT(strlen(s) == t->len);
    FUZZ_ASSERT(https || strncmp(s, "http://", 7) == 0);
    FUZZ_ASSERT(t->origin->https == https && t->origin->port > 0);
    for (uint32_t i = 0; i < t->len; i++)
        FUZZ_ASSERT(s[i] > 0x20 && s[i] < 0x7f && s[i] != '\\' && s[i] != '#');
    size_t end = t->origin->text_len;
    FUZZ_ASSERT(end < t->len && s[end] == '/');
    FUZZ_ASSERT(memchr(s, '@', end) == NULL && memchr(s, '%', end) == NULL);
    FUZZ_ASSERT(memchr(s + 8, '/', end - 8) == NULL && memchr(s, '?', end) == NULL);
}

static void check_host(const struct origin *o)
{
    struct oracle_ip known = to_oracle(&o->ip), loose = read_loosely(o->host);
    size_t n = strlen(o->host), label = 0;
    FUZZ_ASSERT(oracle_equal(&known, &loose) && known.bytes == loose.bytes);
    FUZZ_ASSERT(n > 0 && n <= 254);
    for (const char *c = o->host; *c != '\0' && o->ip.family != 6; c++) {
        bool letter = strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", *c) != NULL;
        FUZZ_ASSERT(letter || *c == '.');
        label = letter ? label + 1 : 0;
        FUZZ_ASSERT(label <= 63 && (letter || c > o->host));
    }
}

static void check_verdict(const struct target *t, unsigned base)
{
    struct oracle_policy expected = {.base = (enum oracle_base)base};
    const struct origin *o = t->origin;
    struct oracle_ip ip = to_oracle(&o->ip);
    const struct policy_hop hop = {.host = o->host, .port = o->port};
    struct verdict v;
    bool allowed = policy_check_host(policies[base], &hop, &o->ip, &v);
    FUZZ_ASSERT(allowed == (v.type == ERR_NONE));
    if (ip.bytes == 0) /* a name: its addresses will be judged */
        FUZZ_ASSERT(allowed);
    else
        FUZZ_ASSERT(allowed == (oracle_judge(&expected, &ip, o->port) == ORACLE_ALLOWED));
}

static void check_same(const struct target *a, const struct target *b)
{
    FUZZ_ASSERT(a->len == b->len && memcmp(a->text, b->text, a->len) == 0);
    FUZZ_ASSERT(target_same_origin(a, b) && a->origin->hash == b->origin->hash);
    FUZZ_ASSERT(strcmp(a->origin->key, b->origin->key) == 0);
    FUZZ_ASSERT(strcmp(a->origin->host, b->origin->host) == 0);
    FUZZ_ASSERT(a->origin->port == b->origin->port && a->origin->https == b->origin->https);
    FUZZ_ASSERT(ip_equal(&a->origin->ip, &b->origin->ip));
}

/* Its own text, for somebody who has never seen the origin, and for one who has. */
static void check_fixed_point(const struct target *t)
{
    struct arena arena;
    struct origins origins;
    struct target first, second;
    const char *why;
    arena_init(&arena);
    origins_init(&origins, &arena);
    FUZZ_ASSERT(target_parse(&origins, t->text, t->len, &first, &why));
    FUZZ_ASSERT(target_parse(&origins, t->text, t->len, &second, &why));
    FUZZ_ASSERT(first.origin == second.origin && origins.count == 1);
    check_same(t, &first);
    origins_fini(&origins);
    arena_fini(&arena);
}

static void check_target(const struct target *t, unsigned base)
{
    check_bytes(t);
    check_host(t->origin);
    check_curl(t);
    check_verdict(t, base);
    check_fixed_point(t);
}

/* --- the two ways to read --- */

static void check_ways(const char *s, size_t n, const struct target *t)
{
    struct url u;
    struct url_plain plain;
    const char *why = NULL;
    bool by_curl = url_parse(s, n, &u, &why);
    FUZZ_ASSERT(by_curl == (why == NULL));
    if (url_plain_scan(s, n, &plain)) {
        FUZZ_ASSERT(by_curl && t->origin != NULL);
        FUZZ_ASSERT(plain.https == u.https && plain.port == u.port);
        FUZZ_ASSERT(ip_equal(&plain.ip, &u.ip));
        FUZZ_ASSERT(!plain.normal || (strlen(u.text) == n && memcmp(s, u.text, n) == 0));
    }
    if (t->origin != NULL) {
        FUZZ_ASSERT(by_curl && strcmp(u.text, t->text) == 0);
        FUZZ_ASSERT(strcmp(u.host, t->origin->host) == 0 && ip_equal(&u.ip, &t->origin->ip));
        FUZZ_ASSERT(u.port == t->origin->port && u.https == t->origin->https);
    }
    url_fini(&u);
}

/* --- user name and password --- */

static bool part_is(CURLU *u, CURLUPart what, const char *expected, size_t n)
{
    char *text = NULL;
    CURLUcode code = curl_url_get(u, what, &text, CURLU_URLDECODE);
    bool same = code == CURLUE_OK ? strlen(text) == n && memcmp(text, expected, n) == 0 : n == 0;
    curl_free(text);
    return same;
}

/* `url` as it was given, `rest` without the userinfo: what libcurl makes of both. */
static void check_userinfo(const char *url, const char *rest, const struct buf *credentials)
{
    const char *text = credentials->data, *colon = memchr(text, ':', credentials->len);
    CURLU *with = curl_url(), *without = curl_url();
    FUZZ_ASSERT(colon != NULL);
    size_t user = (size_t)(colon - text);
    if (curl_url_set(without, CURLUPART_URL, rest, 0) == CURLUE_OK &&
        curl_url_set(with, CURLUPART_URL, url, 0) == CURLUE_OK) {
        char *host = part(with, CURLUPART_HOST, 0), *same = part(without, CURLUPART_HOST, 0);
        FUZZ_ASSERT(part_is(with, CURLUPART_USER, text, user));
        FUZZ_ASSERT(part_is(with, CURLUPART_PASSWORD, colon + 1, credentials->len - user - 1));
        FUZZ_ASSERT(strcmp(host, same) == 0);
        FUZZ_ASSERT(part_is(without, CURLUPART_USER, "", 0));
        curl_free(host);
        curl_free(same);
    }
    curl_url_cleanup(with);
    curl_url_cleanup(without);
}

/* Returns what is left of a URL that was refused for its userinfo; NULL: that is refused, too. */
static char *cut_userinfo(const char *s, size_t n)
{
    struct url_userinfo u;
    struct buf credentials;
    const char *why = NULL;
    char *rest = NULL;
    buf_init(&credentials, 0);
    if (url_read_userinfo(s, n, &u, &credentials, &why)) {
        FUZZ_ASSERT(u.len > 0 && u.at + u.len <= n && s[u.at + u.len - 1] == '@');
        rest = fuzz_text(s, n - u.len);
        memcpy(rest + u.at, s + u.at + u.len, n - u.at - u.len);
        FUZZ_ASSERT(memchr(rest + u.at, '@', strcspn(rest + u.at, "/?#")) == NULL);
        check_userinfo(s, rest, &credentials);
    } else {
        FUZZ_ASSERT(why != NULL && why[0] != '\0' && why != url_has_userinfo);
    }
    buf_fini(&credentials);
    return rest;
}

static void follow(struct target base, const uint8_t *data, size_t size, unsigned preset)
{
    struct target mine = {0};
    for (int i = 0; i < HOPS_MAX && size > 0; i++) {
        struct target next;
        const char *line, *why = NULL;
        size_t n = fuzz_take_until(&data, &size, '\n', &line);
        char *location = fuzz_copy(line, n);
        bool ok = target_resolve(&base, location, n, &next, &why);
        free(location);
        FUZZ_ASSERT(ok ? next.origin != NULL : next.origin == NULL && why != NULL);
        if (!ok)
            break;
        check_target(&next, preset);
        target_fini(&mine);
        base = mine = next;
    }
    target_fini(&mine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned preset = fuzz_take_byte(&data, &size) % 3;
    const char *line, *why = NULL;
    size_t n = fuzz_take_until(&data, &size, '\n', &line);
    char *text = fuzz_text(line, n);
    struct arena arena;
    struct origins origins;
    struct target t;
    make_policies();
    arena_init(&arena);
    origins_init(&origins, &arena);
    bool ok = target_parse(&origins, text, n, &t, &why);
    char *rest = why == url_has_userinfo ? cut_userinfo(text, n) : NULL;
    if (rest != NULL) {
        free(text);
        text = rest;
        n = strlen(text);
        ok = target_parse(&origins, text, n, &t, &why);
        FUZZ_ASSERT(ok || why != url_has_userinfo);
    }
    FUZZ_ASSERT(ok ? t.origin != NULL : t.origin == NULL && why != NULL && why[0] != '\0');
    check_ways(text, n, &t);
    if (ok) {
        check_target(&t, preset);
        follow(t, data, size, preset);
    }
    origins_fini(&origins);
    arena_fini(&arena);
    free(text);
    return 0;
}
