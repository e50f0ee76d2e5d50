/* SPDX-License-Identifier: MIT
 *
 * target - the URLs of a batch as targets and origins. Called by request for each member, and by
 * the engine for the next hop of a redirect; owns nothing but the table it looks origins up in.
 *
 * The trick is that an origin has one spelling. A normalised text begins with it, and what follows
 * is a slash: so a text that begins with the scheme and authority of an origin already met, and a
 * slash, is of that origin, and only its path is left to be looked at. The few first origins are
 * compared one by one (most batches have no more); the others are found by a hash of that spelling.
 *
 * libcurl is given texts, not handles. For a plain text that is proved by tests (url_plain.c says
 * why it holds), and most are plain once they are normalised; any other one is shown to libcurl
 * here and now, and refused if libcurl would read it in another way than it was judged.
 */
#include "target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "list.h"
#include "url.h"
#include "url_plain.h"

/* What is found before it is known whose it will be. */
struct draft {
    const char *text;
    size_t len, authority_len;
    const char *host;
    size_t host_len;
    bool https;
    uint16_t port;
    struct ip_addr ip;
};

/* --- what libcurl makes of a text ------------------------------------------------------------- */

/* Whether the part is `expected`; NULL: it is not there. */
static bool part_is(CURLU *handle, CURLUPart part, const char *expected, size_t n, unsigned flags)
{
    char *found = NULL;
    CURLUcode code = curl_url_get(handle, part, &found, flags);
    bool same = code ? !expected && code != CURLUE_OUT_OF_MEMORY
                     : expected && strlen(found) == n && memcmp(found, expected, n) == 0;
    curl_free(found);
    return same;
}

/* Of an IPv6 address any spelling will do. */
static bool host_is(CURLU *handle, const struct url *u)
{
    struct ip_addr ip = {0};
    char *found = NULL;
    if (u->ip.family != 6)
        return part_is(handle, CURLUPART_HOST, u->host, strlen(u->host), 0);
    if (curl_url_get(handle, CURLUPART_HOST, &found, 0))
        return false;
    found[strcspn(found, "]")] = '\0';
    bool same = found[0] == '[' && ip_parse(found + 1, &ip) && ip_equal(&ip, &u->ip);
    curl_free(found);
    return same;
}

/* Where the path of a normalised text begins: the host has one byte at least. */
static const char *find_path(const char *text)
{
    return strchr(text + sizeof "http://", '/');
}

/* With the flags with which libcurl reads a CURLOPT_URL, and for the parts it then asks for. */
static bool reads_back(const struct url *u)
{
    const char *path = find_path(u->text), *query = strchr(path, '?');
    size_t path_len = query ? (size_t)(query - path) : strlen(path);
    size_t query_len = query ? strlen(query + 1) : 0;
    CURLU *handle = curl_url();
    char port[8];
    (void)snprintf(port, sizeof port, "%u", (unsigned)u->port);
    bool same = handle &&
                !curl_url_set(handle, CURLUPART_URL, u->text,
                              CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME) &&
                part_is(handle, CURLUPART_SCHEME, u->text, u->https ? 5 : 4, 0) &&
                part_is(handle, CURLUPART_PORT, port, strlen(port), CURLU_DEFAULT_PORT) &&
                part_is(handle, CURLUPART_PATH, path, path_len, 0) &&
                part_is(handle, CURLUPART_QUERY, query ? query + 1 : NULL, query_len, 0) &&
                part_is(handle, CURLUPART_USER, NULL, 0, 0) && host_is(handle, u);
    curl_url_cleanup(handle);
    return same;
}

/* Whether libcurl will see in the text what CURLU has said. A text that has become plain says so by
 * itself. */
static bool is_safe(const struct url *u)
{
    struct url_plain p;
    if (!url_plain_scan(u->text, strlen(u->text), &p) || !p.normal)
        return reads_back(u);
    return p.https == u->https && p.port == u->port && p.host_len == strlen(u->host) &&
           memcmp(u->text + p.host_at, u->host, p.host_len) == 0 && ip_equal(&p.ip, &u->ip);
}

/* --- origins ---------------------------------------------------------------------------------- */

void origins_init(struct origins *o, struct arena *arena)
{
    *o = (struct origins){.arena = arena};
    arena_init(&o->more);
}

void origins_fini(struct origins *o)
{
    table_fini(&o->table);
    arena_fini(&o->more);
}

/* Whether the text begins with the origin and a slash. */
static bool begins_with(const struct origin *origin, const char *s, size_t n)
{
    size_t len = origin->text_len;
    return n > len && s[len] == '/' && memcmp(s, origin->key, len) == 0;
}

/* The origin that a text, normalised or not, begins with, if it is the last or one of the first. */
static const struct origin *find_near(const struct origins *o, const char *s, size_t n)
{
    if (o->last && begins_with(o->last, s, n))
        return o->last;
    for (uint32_t i = 0; i < o->count && i < ORIGINS_FEW; i++) {
        if (begins_with(o->few[i].origin, s, n))
            return o->few[i].origin;
    }
    return NULL;
}

static bool same_authority(const struct table_node *node, const void *key)
{
    const struct origin *origin = LIST_CONTAINER(node, struct origin_node, in_table)->origin;
    const struct draft *d = key;
    return origin->text_len == d->authority_len &&
           memcmp(origin->key, d->text, d->authority_len) == 0;
}

/* `key` has room for the key and the host, each with a NUL. */
static void fill_origin(struct origin *origin, const struct draft *d, char *key)
{
    static const struct table unkeyed;
    bool said = d->port != (d->https ? 443 : 80);
    const char *port = said ? "" : url_plain_default_port(d->https);
    size_t port_len = strlen(port), key_len = d->authority_len + port_len;
    char *host = key + key_len + 1;
    memcpy(key, d->text, d->authority_len);
    memcpy(key + d->authority_len, port, port_len + 1);
    memcpy(host, d->host, d->host_len);
    host[d->host_len] = '\0';
    *origin = (struct origin){
        .key = key,
        .host = host,
        .hash = table_hash(&unkeyed, key, key_len),
        .key_len = (uint16_t)key_len,
        .text_len = (uint16_t)d->authority_len,
        .port = d->port,
        .https = d->https,
        .ip = d->ip,
    };
}

/* Of what fill_origin() wants beside the origin. */
static size_t key_size(const struct draft *d)
{
    return d->authority_len + sizeof ":443" + d->host_len + 1;
}

static struct origin_node *node_create(struct origins *o)
{
    if (o->count < ORIGINS_FEW)
        return &o->few[o->count];
    if (!o->table.buckets && !table_init(&o->table))
        return NULL;
    return arena_alloc(&o->more, sizeof(struct origin_node));
}

static const struct origin *add_origin(struct origins *o, const struct draft *d)
{
    struct origin *origin = arena_alloc(o->arena, sizeof *origin);
    char *key = arena_text(o->arena, key_size(d));
    struct origin_node *node = node_create(o);
    if (!origin || !key || !node)
        return NULL;
    fill_origin(origin, d, key);
    node->origin = origin;
    if (o->count++ >= ORIGINS_FEW)
        table_insert(&o->table, &node->in_table, table_hash(&o->table, key, d->authority_len));
    return origin;
}

/* The origin of a draft, whose text is normalised; NULL when memory runs out. */
static const struct origin *intern(struct origins *o, const struct draft *d)
{
    const struct origin *origin = find_near(o, d->text, d->len);
    if (!origin && o->count > ORIGINS_FEW) {
        uint64_t hash = table_hash(&o->table, d->text, d->authority_len);
        struct table_node *node = table_find(&o->table, hash, same_authority, d);
        if (node)
            return LIST_CONTAINER(node, struct origin_node, in_table)->origin;
    }
    return origin ? origin : add_origin(o, d);
}

/* --- targets ---------------------------------------------------------------------------------- */

static const char *finish(struct origins *o, const struct draft *d, struct target *out)
{
    const struct origin *origin = d->text ? intern(o, d) : NULL;
    if (!origin)
        return url_no_memory;
    o->last = origin;
    *out = (struct target){origin, d->text, (uint32_t)d->len};
    return NULL;
}

static const char *parse_by_curl(struct origins *o, const char *s, size_t n, struct target *out)
{
    struct url u;
    const char *why;
    if (!url_parse(s, n, &u, &why))
        return why;
    size_t len = strlen(u.text);
    bool normal = len == n && memcmp(u.text, s, n) == 0;
    struct draft d = {
        .text = normal ? s : arena_strndup(o->arena, u.text, len),
        .len = len,
        .authority_len = (size_t)(find_path(u.text) - u.text),
        .host = u.host,
        .host_len = strlen(u.host),
        .https = u.https,
        .port = u.port,
        .ip = u.ip,
    };
    why = is_safe(&u) ? finish(o, &d, out) : "libcurl would read the URL in another way";
    url_fini(&u);
    return why;
}

static const char *parse(struct origins *o, const char *s, size_t n, struct target *out)
{
    struct url_plain plain;
    if (!url_plain_scan(s, n, &plain))
        return parse_by_curl(o, s, n, out);
    struct draft d = {
        .text = s,
        .len = n,
        .authority_len = plain.rest_at,
        .host_len = plain.host_len,
        .https = plain.https,
        .port = plain.port,
        .ip = plain.ip,
    };
    if (!plain.normal) {
        char *text = arena_text(o->arena, n + 2);
        if (text)
            d.len = url_plain_text(&plain, s, n, text, &d.authority_len);
        d.text = text;
    }
    d.host = d.text ? d.text + plain.host_at : NULL;
    return finish(o, &d, out);
}

bool target_parse(struct origins *o, const char *s, size_t n, struct target *out, const char **why)
{
    const struct origin *near = n <= URL_BYTES_MAX ? find_near(o, s, n) : NULL;
    *out = (struct target){0};
    if (near && url_plain_rest(s + near->text_len, n - near->text_len)) {
        o->last = near;
        *out = (struct target){near, s, (uint32_t)n};
        return true;
    }
    *why = parse(o, s, n, out);
    return *why == NULL;
}

/* --- redirects -------------------------------------------------------------------------------- */

/* One block: the origin, its key and host, the text. */
static bool copy_target(const struct target *t, struct target *out)
{
    const char *host = t->origin->host;
    size_t host_at = (size_t)(host - t->origin->key);
    size_t key_bytes = host_at + strlen(host) + 1;
    struct origin *origin = malloc(sizeof *origin + key_bytes + t->len + 1);
    if (!origin)
        return false;
    char *key = memcpy(origin + 1, t->origin->key, key_bytes);
    *origin = *t->origin;
    origin->key = key;
    origin->host = key + host_at;
    *out = (struct target){origin, memcpy(key + key_bytes, t->text, t->len + 1), t->len};
    return true;
}

bool target_resolve(const struct target *base, const char *location, size_t n, struct target *out,
                    const char **why)
{
    struct arena arena;
    struct origins origins;
    struct target t;
    size_t len;
    char *joined = url_join(base->text, location, n, &len);
    *out = (struct target){0};
    *why = joined ? NULL : url_no_memory;
    if (!joined)
        return false;
    arena_init(&arena);
    origins_init(&origins, &arena);
    if (target_parse(&origins, joined, len, &t, why) && !copy_target(&t, out))
        *why = url_no_memory;
    origins_fini(&origins);
    arena_fini(&arena);
    free(joined);
    return out->origin != NULL;
}

void target_fini(struct target *t)
{
    free((void *)(uintptr_t)t->origin);
    *t = (struct target){0};
}

bool target_same_origin(const struct target *a, const struct target *b)
{
    return a->origin == b->origin ||
           (a->origin->hash == b->origin->hash && strcmp(a->origin->key, b->origin->key) == 0);
}
