/* SPDX-License-Identifier: MIT
 *
 * tls_fixture - certificates that are made on the spot, and two ends of OpenSSL that talk through
 * memory.
 */
#ifndef GATHERD_TESTS_TLS_FIXTURE_H
#define GATHERD_TESTS_TLS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static inline void set_name(X509_NAME *name, const char *text)
{
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)text, -1, -1, 0);
}

/* Good for an hour from a minute ago. */
static inline X509 *make_certificate(const char *subject, EVP_PKEY *key, const char *issuer,
                                     EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    set_name(X509_get_subject_name(x), subject);
    set_name(X509_get_issuer_name(x), issuer);
    X509_set_pubkey(x, key);
    assert_true(X509_sign(x, issuer_key, EVP_sha256()) > 0);
    return x;
}

/* A copy whose key is of a curve that does not exist: it cannot be read, and OpenSSL keeps the
 * rest. */
static inline X509 *without_key(X509 *x)
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

static inline void tls_join(SSL *a, SSL *b)
{
    BIO *ab = BIO_new(BIO_s_mem()), *ba = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(ab, -1);
    BIO_set_mem_eof_return(ba, -1);
    BIO_up_ref(ab);
    BIO_up_ref(ba);
    SSL_set_bio(a, ba, ab);
    SSL_set_bio(b, ab, ba);
}

#endif
