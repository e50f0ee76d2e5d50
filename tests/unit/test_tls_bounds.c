/* SPDX-License-Identifier: MIT
 *
 * tls_bounds: what a server may pick and send, in TLS 1.2 and 1.3, verified or not. Both ends are
 * OpenSSL and talk through memory.
 */
#include <stdbool.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>

#include "tls_bounds.h"

#include "tls_fixture.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

struct peer {
    SSL_CTX *server;
    EVP_PKEY *key;
    int version;
    const char *why; /* that the handshake failed */
    long verdict;
};

static struct peer make_peer(int version)
{
    struct peer p = {SSL_CTX_new(TLS_server_method()), EVP_EC_gen("P-256"), version, NULL, 0};
    X509 *x = make_certificate("server", p.key, "server", p.key);
    SSL_CTX_set_min_proto_version(p.server, version);
    SSL_CTX_set_max_proto_version(p.server, version);
    assert_int_equal(SSL_CTX_use_certificate(p.server, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(p.server, p.key), 1);
    X509_free(x);
    return p;
}

static void free_peer(struct peer *p)
{
    SSL_CTX_free(p->server);
    EVP_PKEY_free(p->key);
}

/* One certificate more that the server sends, of this key and with a serial number of so many
 * bytes. */
static void send_more(struct peer *p, EVP_PKEY *key, int bytes)
{
    X509 *x = make_certificate("more", p->key, "server", p->key);
    unsigned char serial[4096];
    memset(serial, 1, sizeof serial);
    assert_int_equal(ASN1_STRING_set(X509_get_serialNumber(x), serial, bytes), 1);
    assert_int_equal(X509_set_pubkey(x, key), 1);
    assert_true(X509_sign(x, p->key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_add_extra_chain_cert(p->server, x), 1);
}

/* level: OpenSSL's, of security; 0 = its default. */
static SSL *make_client(int level)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (level > 0)
        SSL_CTX_set_security_level(ctx, level);
    tls_bounds_set(ctx);
    SSL *ssl = SSL_new(ctx);
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    SSL_set_connect_state(ssl);
    SSL_CTX_free(ctx);
    return ssl;
}

static void shake_hands(struct peer *p, SSL *client, SSL *server)
{
    p->why = NULL;
    tls_join(client, server);
    for (int i = 0; i < 4; i++) {
        ERR_clear_error();
        if (SSL_do_handshake(client) != 1 && p->why == NULL && ERR_peek_error() != 0)
            p->why = ERR_reason_error_string(ERR_peek_error());
        SSL_do_handshake(server);
    }
    p->verdict = SSL_get_verify_result(client);
}

static bool connects_at(struct peer *p, int level)
{
    SSL *client = make_client(level), *server = SSL_new(p->server);
    SSL_set_accept_state(server);
    shake_hands(p, client, server);
    bool done = SSL_is_init_finished(client);
    SSL_free(client);
    SSL_free(server);
    return done;
}

static bool connects(struct peer *p)
{
    return connects_at(p, 0);
}

static void test_common_keys(void **state)
{
    static const char *const groups[] = {"X25519", "P-256", "P-384", "P-521", "X448"};
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct peer p = make_peer(versions[v]);
        for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
            assert_int_equal(SSL_CTX_set1_groups_list(p.server, groups[i]), 1);
            assert_true(connects(&p));
        }
        free_peer(&p);
    }
}

/* name: "RSA" or "RSA-PSS", by which the same key may be sent. */
static EVP_PKEY *make_rsa(const char *name, int bits, int exponent_bits)
{
    BIGNUM *n = BN_new(), *e = BN_new();
    BN_rand(n, bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD);
    BN_rand(e, exponent_bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n);
    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, name, NULL);
    EVP_PKEY *key = NULL;
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    return key;
}

/* A server that can do nothing else than Diffie-Hellman in a finite field. */
static void test_finite_fields(void **state)
{
    static const char *const groups[] = {"ffdhe2048", "ffdhe3072", "ffdhe8192"};
    (void)state;
    struct peer p = make_peer(TLS1_3_VERSION);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        assert_int_equal(SSL_CTX_set1_groups_list(p.server, groups[i]), 1);
        assert_false(connects(&p));
    }
    free_peer(&p);

    p = make_peer(TLS1_2_VERSION);
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    X509 *x = make_certificate("rsa", rsa, "rsa", rsa);
    assert_int_equal(SSL_CTX_use_certificate(p.server, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(p.server, rsa), 1);
    assert_int_equal(SSL_CTX_set_dh_auto(p.server, 1), 1);
    assert_int_equal(SSL_CTX_set_cipher_list(p.server, "kDHE"), 1);
    assert_false(connects(&p));
    assert_int_equal(SSL_CTX_set_cipher_list(p.server, "kDHE:kECDHE"), 1); /* picks what it can */
    assert_true(connects(&p));
    X509_free(x);
    EVP_PKEY_free(rsa);
    free_peer(&p);
}

/* What was forbidden before stays so: a level at which P-256 is too weak. */
static void test_security_of_before(void **state)
{
    (void)state;
    struct peer p = make_peer(TLS1_3_VERSION);
    assert_int_equal(SSL_CTX_set1_groups_list(p.server, "P-256"), 1);
    assert_true(connects_at(&p, 3));
    assert_false(connects_at(&p, 4));
    free_peer(&p);
}

static void test_number_of_certificates(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct peer p = make_peer(versions[v]);
        for (int n = 2; n <= TLS_BOUNDS_CHAIN; n++)
            send_more(&p, p.key, 1);
        assert_true(connects(&p));
        send_more(&p, p.key, 1);
        assert_false(connects(&p));
        assert_string_equal(p.why, "excessive message size");
        free_peer(&p);
    }
}

static void test_bytes_of_certificates(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct peer p = make_peer(versions[v]);
        for (int n = 0; n < 7; n++)
            send_more(&p, p.key, 4096);
        assert_true(connects(&p));
        send_more(&p, p.key, 4096);
        assert_false(connects(&p));
        assert_string_equal(p.why, "excessive message size");
        free_peer(&p);
    }
}

static void check_key(int version, const char *name, int bits, int exponent_bits, bool good)
{
    struct peer p = make_peer(version);
    EVP_PKEY *key = make_rsa(name, bits, exponent_bits);
    send_more(&p, key, 1);
    assert_int_equal(connects(&p), good);
    if (!good) {
        assert_string_equal(p.why, "certificate verify failed");
        assert_int_equal(p.verdict, X509_V_ERR_APPLICATION_VERIFICATION);
    }
    EVP_PKEY_free(key);
    free_peer(&p);
}

static void test_keys(void **state)
{
    static const char *const names[] = {"RSA", "RSA-PSS"};
    static const struct {
        int bits, exponent_bits;
        bool good;
    } cases[] = {
        {2048, 17, true}, {2048, 64, true}, {2048, 65, false}, {3072, 3000, false},
        {8192, 17, true}, {8192, 64, true}, {8200, 17, false}, {16384, 17, false},
    };
    (void)state;
    for (size_t v = 0; v < 2; v++)
        for (size_t n = 0; n < 2; n++)
            for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                check_key(versions[v], names[n], cases[i].bits, cases[i].exponent_bits,
                          cases[i].good);
}

/* Of the two faults it is the key that is dear which is told. */
static void test_key_that_cannot_be_read(void **state)
{
    (void)state;
    struct peer p = make_peer(TLS1_3_VERSION);
    X509 *x = make_certificate("more", p.key, "server", p.key);
    SSL_CTX_set_security_level(p.server, 0); /* or it would not send it */
    assert_int_equal(SSL_CTX_add_extra_chain_cert(p.server, without_key(x)), 1);
    assert_true(connects(&p));
    EVP_PKEY *dear = make_rsa("RSA", 2048, 65);
    send_more(&p, dear, 1);
    assert_false(connects(&p));
    assert_string_equal(p.why, "certificate verify failed");
    X509_free(x);
    EVP_PKEY_free(dear);
    free_peer(&p);
}

/* The server asks for it, and goes on without. */
static void test_no_renegotiation(void **state)
{
    (void)state;
    struct peer p = make_peer(TLS1_2_VERSION);
    SSL *client = make_client(0), *server = SSL_new(p.server);
    char byte;
    SSL_set_accept_state(server);
    shake_hands(&p, client, server);
    assert_true(SSL_is_init_finished(client));
    size_t sent = BIO_number_written(SSL_get_wbio(client));
    assert_int_equal(SSL_renegotiate(server), 1);
    SSL_do_handshake(server);
    SSL_read(client, &byte, 1);
    assert_true(BIO_number_written(SSL_get_wbio(client)) - sent < 100); /* an alert, no hello */
    assert_true(SSL_is_init_finished(client));
    SSL_free(client);
    SSL_free(server);
    free_peer(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_common_keys),           cmocka_unit_test(test_finite_fields),
        cmocka_unit_test(test_security_of_before),    cmocka_unit_test(test_number_of_certificates),
        cmocka_unit_test(test_bytes_of_certificates), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_key_that_cannot_be_read),
        cmocka_unit_test(test_no_renegotiation),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
