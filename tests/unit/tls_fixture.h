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
