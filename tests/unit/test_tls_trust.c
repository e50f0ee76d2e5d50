/* SPDX-License-Identifier: MIT
 *
 * tls_trust: a trusted certificate that memory did not suffice to read whole is noticed, and
 * nothing that a server sends is taken for one. Both ends are OpenSSL and talk through memory.
 */
#include <stdlib.h>

#include "tls_trust.h"

#include "tls_fixture.h"

/* OpenSSL's memory: call number fail_at from now on fails; 0 = none does. */
static long calls, fail_at;

static bool fails_now(void)
{
    return fail_at > 0 && ++calls == fail_at;
}

static void *their_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return n == 0 || fails_now() ? NULL : malloc(n);
}

static void *their_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    if (n == 0)
        free(p);
    return n == 0 || fails_now() ? NULL : realloc(p, n);
}

static void their_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

static void arm(long at)
{
    calls = 0;
    fail_at = at;
}

/* Whether one has failed. */
static bool disarm(void)
{
    bool failed = fail_at > 0 && calls >= fail_at;
    fail_at = 0;
    return failed;
}

struct keys {
    EVP_PKEY *ca, *other, *leaf;
    X509 *trusted;
};

static int setup(void **state)
{
    struct keys *k = calloc(1, sizeof *k);
    k->ca = EVP_EC_gen("P-256");
    k->other = EVP_EC_gen("P-256");
    k->leaf = EVP_EC_gen("P-256");
    k->trusted = make_certificate("ca", k->ca, "ca", k->ca);
    *state = k;
    return 0;
}

static int teardown(void **state)
{
    struct keys *k = *state;
    EVP_PKEY_free(k->ca);
    EVP_PKEY_free(k->other);
    EVP_PKEY_free(k->leaf);
    X509_free(k->trusted);
    free(k);
    return 0;
}

static SSL *make_client(X509 *trusted, bool *spoilt)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), trusted);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    tls_trust_watch(ctx, spoilt);
    SSL *ssl = SSL_new(ctx);
    SSL_set_connect_state(ssl);
    SSL_CTX_free(ctx);
    return ssl;
}

static SSL *make_server(X509 *certificate, EVP_PKEY *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    SSL *ssl = SSL_new(ctx);
    SSL_set_accept_state(ssl);
    SSL_CTX_free(ctx);
    return ssl;
}

static bool had_failed; /* a call in the last handshake */

/* A handshake with a server that has `sent`, by a client that trusts `trusted`; call number `at`
 * fails, 0 = none does. */
static bool believes_at(struct keys *k, X509 *trusted, X509 *sent, bool *spoilt, long at)
{
    SSL *client = make_client(trusted, spoilt), *server = make_server(sent, k->leaf);
    *spoilt = false;
    tls_join(client, server);
    arm(at);
    for (int i = 0; i < 4; i++) {
        SSL_do_handshake(client);
        SSL_do_handshake(server);
    }
    had_failed = disarm();
    bool ok = SSL_is_init_finished(client);
    SSL_free(client);
    SSL_free(server);
    X509_free(sent);
    return ok;
}

static bool believes(struct keys *k, X509 *trusted, X509 *sent, bool *spoilt)
{
    return believes_at(k, trusted, sent, spoilt, 0);
}

static void test_whole(void **state)
{
    struct keys *k = *state;
    bool spoilt;
    assert_true(believes(k, k->trusted, make_certificate("leaf", k->leaf, "ca", k->ca), &spoilt));
    assert_false(spoilt);
}

static void test_half_read(void **state)
{
    struct keys *k = *state;
    bool spoilt;
    X509 *half = without_key(k->trusted);
    assert_false(believes(k, half, make_certificate("leaf", k->leaf, "ca", k->ca), &spoilt));
    assert_true(spoilt);
    assert_false(believes(k, half, make_certificate("leaf", k->leaf, "nobody", k->other), &spoilt));
    assert_false(spoilt); /* another's fault */
    X509_free(half);
}

static void test_what_servers_send(void **state)
{
    struct keys *k = *state;
    X509 *sent[] = {
        make_certificate("leaf", k->leaf, "ca", k->other),
        make_certificate("ca", k->leaf, "ca", k->leaf),
        make_certificate("leaf", k->leaf, "leaf", k->leaf),
    };
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
        bool spoilt;
        assert_false(believes(k, k->trusted, sent[i], &spoilt));
        assert_false(spoilt);
    }
}

/* Whichever allocation fails while it is read (1,537 of them) or first used (2,800): it is believed
 * afterwards, or known to be spoilt. The short form takes every 53rd. */
static void test_memory_fails(void **state)
{
    struct keys *k = *state;
    unsigned char *der = NULL;
    int n = i2d_X509(k->trusted, &der), spoilts = 0;
    const long step = getenv("GATHERD_TEST_LONG") != NULL ? 1 : 53;
    bool spoilt, failed = true;
    for (long at = 1; failed; at += step) {
        const unsigned char *in = der;
        arm(at);
        X509 *trusted = d2i_X509(NULL, &in, n);
        failed = disarm();
        assert_true(failed || trusted != NULL);
        if (trusted == NULL)
            continue;
        bool ok = believes(k, trusted, make_certificate("leaf", k->leaf, "ca", k->ca), &spoilt);
        assert_true(ok || (failed && spoilt));
        spoilts += spoilt;
        X509_free(trusted);
    }
    assert_true(spoilts > 0); /* or there is nothing to look for any more */
    failed = true;
    for (long at = 1; failed; at += step) {
        const unsigned char *in = der;
        X509 *trusted = d2i_X509(NULL, &in, n);
        believes_at(k, trusted, make_certificate("leaf", k->leaf, "ca", k->ca), &spoilt, at);
        failed = had_failed;
        bool ok = believes(k, trusted, make_certificate("leaf", k->leaf, "ca", k->ca), &spoilt);
        assert_true(ok || spoilt);
        X509_free(trusted);
    }
    OPENSSL_free(der);
}

/* Weak, and read whole: no reason to read it again. */
static void test_weak(void **state)
{
    struct keys *k = *state;
    bool spoilt;
    EVP_PKEY *key = EVP_RSA_gen(512);
    X509 *weak = make_certificate("weak", key, "weak", key);
    assert_false(believes(k, weak, make_certificate("leaf", k->leaf, "weak", key), &spoilt));
    assert_false(spoilt);
    X509_free(weak);
    EVP_PKEY_free(key);
}

int main(void)
{
    if (CRYPTO_set_mem_functions(their_malloc, their_realloc, their_free) != 1)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_servers_send, setup, teardown),
        cmocka_unit_test_setup_teardown(test_weak, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_fails, setup, teardown),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
