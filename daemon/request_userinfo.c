/* SPDX-License-Identifier: MIT
 *
 * request_userinfo - members whose URL has a user name or password, where the policy has
 * `userinfo = yes`. Called by request for each member, once its options are known; what it makes
 * lies in the spec's arena.
 *
 * A URL like that is refused by target as always, and only then looked at here: it is read again
 * without the userinfo, and that becomes the value of an Authorization field in the member's
 * options. So nothing behind the request knows URLs with credentials. The URL as it was posted is
 * kept for the answer, which leaves them out (encode_userinfo()).
 *
 * Members in a row with the same options and credentials share one block, as those without do.
 */
#include "request_internal.h"

#include <string.h>

#include "parse.h"
#include "url.h"

bool request_has_userinfo(const struct reader *r, const struct member *m)
{
    return r->in->userinfo && m->origin == NULL && m->why == url_has_userinfo;
}

static bool sets_authorization(const struct member_opts *opts)
{
    for (size_t i = 0; i < opts->header_count; i++) {
        const char *name = opts->headers[i].name;
        if (parse_equal_nocase(name, strlen(name), "Authorization"))
            return true;
    }
    return false;
}

/* The URL without it becomes the member's target. */
static void cut_userinfo(struct reader *r, struct member *m, const struct url_userinfo *u)
{
    size_t n = m->url_len - u->len;
    char *text = request_alloc(r, n + 1, 1);
    memcpy(text, m->url, u->at);
    memcpy(text + u->at, m->url + u->at + u->len, n - u->at);
    request_set_target(r, m, text, n);
}

/* Writes the field's value to r->text; false, and m->why says why, when there is none. */
static bool write_value(struct reader *r, struct member *m, struct url_userinfo *u)
{
    struct buf credentials;
    buf_init(&credentials, 0);
    bool ok = url_read_userinfo(m->url, m->url_len, u, &credentials, &m->why);
    buf_clear(&r->text);
    BUF_ADD_LITERAL(&r->text, "Basic ");
    buf_add_base64(&r->text, credentials.data, credentials.len);
    buf_fini(&credentials);
    if (r->text.failed || (!ok && m->why == url_no_memory))
        request_out_of_memory(r);
    return ok;
}

static void set_authorization(struct reader *r, struct member *m)
{
    const char *value = buf_cstr(&r->text);
    const struct member_opts *last = r->login;
    if (last == NULL || m->opts != r->login_base || strcmp(last->authorization, value) != 0) {
        struct member_opts *opts = request_alloc(r, 1, sizeof *opts);
        *opts = *m->opts;
        opts->authorization = request_copy(r, value, r->text.len);
        r->login_base = m->opts;
        r->login = opts;
    }
    m->opts = r->login;
}

bool request_take_userinfo(struct reader *r, const struct place *at, struct member *m)
{
    struct url_userinfo u;
    if (!request_has_userinfo(r, m))
        return true;
    if (!write_value(r, m, &u))
        return true;
    cut_userinfo(r, m, &u);
    if (m->origin == NULL)
        return true;
    if (sets_authorization(m->opts))
        return request_fail(r, at,
                            "the URL has a user name or password, and \"headers\" (its own or "
                            "those of \"defaults\") an Authorization: give one of them");
    set_authorization(r, m);
    return true;
}
