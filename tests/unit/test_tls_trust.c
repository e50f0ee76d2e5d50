/* SPDX-License-Identifier: MIT
 *
 * tls_trust: a trusted certificate without its key is noticed, and nothing that a server sends is
 * taken for one. Both ends are OpenSSL and talk through memory.
 */
#include <stdlib.h>
#include <string.h>

#include "tls_trust.h"

#include "tls_fixture.h"

/* A copy whose key is of a curve that does not exist: it cannot be read, and OpenSSL keeps the
 * rest. */
static X509 *without_key(X509 *x)
{
    static const unsigned char p256[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    unsigned char *der = NULL;
    int n = i2d_X509(x, &der);
    unsigned char *curve = memmem(der, (size_t)n, p256, sizeof p256);
    assert_non_null(curve);
    curve[sizeof p256 - 1] = 0x7f;
    const unsigned char *at = der;
    X509 *copy = d2i_X509(NULL, &at, n);
    assert_non_null(copy);
    assert_null(X509_get0_pubkey(copy));
    OPENSSL_free(der);
    return copy;
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

/* A handshake with a server that has `sent`, by a client that trusts `trusted`. */
static bool believes(struct keys *k, X509 *trusted, X509 *sent, bool *spoilt)
{
    SSL *client = make_client(trusted, spoilt), *server = make_server(sent, k->leaf);
    *spoilt = false;
    tls_join(client, server);
    for (int i = 0; i < 4; i++) {
        SSL_do_handshake(client);
        SSL_do_handshake(server);
    }
    bool ok = SSL_is_init_finished(client);
    SSL_free(client);
    SSL_free(server);
    X509_free(sent);
    return ok;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_servers_send, setup, teardown),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
