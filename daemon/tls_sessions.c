/* SPDX-License-Identifier: MIT
 *
 * tls_sessions - see tls_sessions.h. Called by transfer when libcurl begins a handshake, by fetch
 * and fetch_pool, and by OpenSSL inside libcurl; all on the loop's thread.
 *
 * Owns one entry for each origin that has a session or a connection. A connection's SSL_CTX
 * (libcurl makes one for each) points at its entry as long as it lives, because a session may come
 * with any read: a TLS 1.3 server sends its tickets after the handshake, and again when it likes.
 * OpenSSL tells when an SSL_CTX is freed only to the owner of an index of extra data, which takes a
 * pointer, but the callbacks know of no index: so the entry is set twice, as the application data
 * to be found by and under an index to be counted by. OpenSSL keeps an index until the process
 * ends, so all caches of all threads share one.
 *
 * The trick: libcurl makes the SSL after it has called us, so the session is set by the callback
 * for information, at the first thing that a handshake reports, before its first message is
 * written. And it is a copy that is set, because OpenSSL spoils a session of TLS 1.3 that was used,
 * and the next one only comes with the answer: of many that connect at once few would resume.
 *
 * With a session OpenSSL keeps all certificates that were sent. Where that may be much the chain is
 * taken out, which costs 0.2 ms, once for each full handshake.
 */
#include "tls_sessions.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "list.h"
#include "table.h"

/* Of what a server sent: certificates that are kept as they are, 3 to 8 bytes of memory each, and
 * the encoded session, 2 to 4. */
enum { CHAIN_BYTES_MAX = 4096, SESSION_BYTES_MAX = 8192 };

struct tls_sessions {
    struct table table; /* struct entry */
    struct list kept;   /* entries with a session, the one used last first */
    struct list bare;   /* entries that only have connections */
    size_t count, max;  /* of kept */
};

struct entry {
    struct table_node in_table;
    struct list node;         /* the cache's kept or bare */
    struct tls_sessions *all; /* NULL = cleared: in no table and on no list */
    SSL_SESSION *session;     /* owned; NULL = none */
    size_t contexts;          /* SSL_CTXs that point at it */
    char key[];               /* the origin's */
};

#define ENTRY_OF(node) LIST_CONTAINER(node, struct entry, in_table)

/* --- entries --- */

/* The mover: kept, bare or gone. */
static void place(struct entry *e)
{
    struct tls_sessions *s = e->all;
    list_remove(&e->node);
    if (e->session != NULL || e->contexts > 0) {
        if (s != NULL)
            list_prepend(e->session != NULL ? &s->kept : &s->bare, &e->node);
        return;
    }
    if (s != NULL)
        table_remove(&s->table, &e->in_table);
    free(e);
}

/* Takes the session; NULL = none. The entry must be in a cache, and may be gone afterwards. */
static void set_session(struct entry *e, SSL_SESSION *session)
{
    e->all->count -= e->session != NULL;
    e->all->count += session != NULL;
    SSL_SESSION_free(e->session);
    e->session = session;
    place(e);
}

static bool same_key(const struct table_node *node, const void *key)
{
    return strcmp(ENTRY_OF(node)->key, key) == 0;
}

static struct entry *find(const struct tls_sessions *s, const struct origin *origin, uint64_t *hash)
{
    *hash = table_hash(&s->table, origin->key, origin->key_len);
    struct table_node *node = table_find(&s->table, *hash, same_key, origin->key);
    return node != NULL ? ENTRY_OF(node) : NULL;
}

static struct entry *find_or_add(struct tls_sessions *s, const struct origin *origin)
{
    uint64_t hash;
    struct entry *e = find(s, origin, &hash);
    if (e != NULL)
        return e;
    e = calloc(1, sizeof *e + origin->key_len + 1U);
    if (e == NULL)
        return NULL;
    memcpy(e->key, origin->key, origin->key_len + 1U);
    e->all = s;
    list_init(&e->node);
    table_insert(&s->table, &e->in_table, hash);
    return e;
}

/* --- callbacks of OpenSSL --- */

static struct entry *entry_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* A handshake begins; one that renegotiates has its session already. */
static void on_info(const SSL *ssl, int where, int value)
{
    struct entry *e = entry_of(ssl);
    (void)value;
    if ((where & SSL_CB_HANDSHAKE_START) == 0 || e->all == NULL || e->session == NULL ||
        SSL_get_session(ssl) != NULL)
        return;
    SSL_SESSION *copy = SSL_SESSION_dup(e->session);
    if (copy == NULL)
        return;
    SSL_set_session((SSL *)ssl, copy);
    SSL_SESSION_free(copy);
    place(e);
}

static bool holds(STACK_OF(X509) *chain, const X509 *x)
{
    for (int i = 0; i < sk_X509_num(chain); i++)
        if (sk_X509_value(chain, i) == x)
            return true;
    return false;
}

/* Nothing was sent but what is needed, and little. The rest is signed by nobody, and a certificate
 * can be made of names of two bytes that take a hundred. */
static bool chain_is_small(const SSL *ssl)
{
    STACK_OF(X509) *sent = SSL_get_peer_cert_chain(ssl);
    STACK_OF(X509) *needed = SSL_get0_verified_chain(ssl);
    int bytes = 0;
    for (int i = 0; i < sk_X509_num(sent); i++) {
        const X509 *x = sk_X509_value(sent, i);
        bytes += i2d_X509(x, NULL);
        if (bytes > CHAIN_BYTES_MAX || !holds(needed, x))
            return false;
    }
    return true;
}

/* The session without the chain: its encoded form has the server's own certificate only. NULL when
 * it is too long, or memory runs out. */
static SSL_SESSION *without_chain(SSL_SESSION *session)
{
    unsigned char *der = NULL;
    int length = i2d_SSL_SESSION(session, NULL);
    if (length <= 0 || length > SESSION_BYTES_MAX || i2d_SSL_SESSION(session, &der) != length)
        return NULL;
    const unsigned char *at = der;
    SSL_SESSION *bare = d2i_SSL_SESSION(NULL, &at, length);
    OPENSSL_free(der);
    return bare;
}

/* What is kept of it, or NULL. One that was resumed has the chain that was kept then. The chain is
 * taken out once for each connection, and its next sessions are not asked for: a ticket has 250
 * bytes, and there may be thousands. */
static SSL_SESSION *to_keep(const SSL *ssl, SSL_SESSION *session)
{
    const unsigned char *ticket;
    size_t length = 0;
    SSL_SESSION_get0_ticket(session, &ticket, &length);
    if (length > SESSION_BYTES_MAX)
        return NULL;
    if (SSL_session_reused(ssl) || chain_is_small(ssl))
        return SSL_SESSION_up_ref(session) == 1 ? session : NULL;
    SSL_CTX_sess_set_new_cb(SSL_get_SSL_CTX(ssl), NULL);
    ERR_set_mark();
    SSL_SESSION *bare = without_chain(session);
    ERR_pop_to_mark();
    return bare;
}

/* Returns 1 when the session's reference is taken: never. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct entry *e = entry_of(ssl);
    struct tls_sessions *s = e->all;
    SSL_SESSION *kept = s != NULL ? to_keep(ssl, session) : NULL;
    if (kept == NULL)
        return 0;
    set_session(e, kept);
    if (s->count > s->max)
        set_session(LIST_CONTAINER(s->kept.prev, struct entry, node), NULL);
    return 0;
}

static void on_context_freed(void *ctx, void *entry, CRYPTO_EX_DATA *data, int index, long number,
                             void *arg)
{
    struct entry *e = entry;
    (void)ctx;
    (void)data;
    (void)index;
    (void)number;
    (void)arg;
    if (e == NULL) /* every SSL_CTX of the process ends here */
        return;
    e->contexts--;
    if (e->contexts == 0 && e->session == NULL)
        place(e);
}

/* --- the cache --- */

static struct {
    pthread_once_t once;
    int index; /* of SSL_CTXs; negative = none */
} shared = {.once = PTHREAD_ONCE_INIT};

static void take_index(void)
{
    shared.index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_context_freed);
}

struct tls_sessions *tls_sessions_create(size_t max)
{
    pthread_once(&shared.once, take_index);
    struct tls_sessions *s = shared.index < 0 ? NULL : calloc(1, sizeof *s);
    if (s == NULL || !table_init(&s->table)) {
        free(s);
        return NULL;
    }
    list_init(&s->kept);
    list_init(&s->bare);
    s->max = max;
    return s;
}

void tls_sessions_destroy(struct tls_sessions *s)
{
    if (s == NULL)
        return;
    tls_sessions_clear(s);
    table_fini(&s->table);
    free(s);
}

void tls_sessions_attach(struct tls_sessions *s, SSL_CTX *ctx, const struct origin *origin)
{
    struct entry *e = find_or_add(s, origin);
    if (e == NULL)
        return;
    bool set = SSL_CTX_set_ex_data(ctx, shared.index, e) == 1;
    e->contexts += set;
    place(e);
    if (!set || SSL_CTX_set_app_data(ctx, e) != 1)
        return;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_new_session);
    SSL_CTX_set_info_callback(ctx, on_info);
}

void tls_sessions_forget(struct tls_sessions *s, const struct origin *origin)
{
    uint64_t hash;
    struct entry *e = find(s, origin, &hash);
    if (e != NULL && e->session != NULL)
        set_session(e, NULL);
}

static void clear_list(struct tls_sessions *s, struct list *list)
{
    struct list *node;
    while ((node = list_pop(list)) != NULL) {
        struct entry *e = LIST_CONTAINER(node, struct entry, node);
        table_remove(&s->table, &e->in_table);
        SSL_SESSION_free(e->session);
        e->session = NULL;
        e->all = NULL;
        place(e);
    }
}

void tls_sessions_clear(struct tls_sessions *s)
{
    clear_list(s, &s->kept);
    clear_list(s, &s->bare);
    s->count = 0;
}

size_t tls_sessions_count(const struct tls_sessions *s)
{
    return s->count;
}
