/* SPDX-License-Identifier: MIT
 *
 * tls_bounds - see tls_bounds.h. Called by transfer when libcurl begins a handshake, by tls_trust,
 * and by OpenSSL inside libcurl; on the loop's thread. Owns nothing.
 *
 * What is not wanted of groups and ciphers goes by the callback for security, which is asked before
 * anything is offered and again when the server has picked: so what the system's settings for
 * OpenSSL or libcurl's say stays, less that.
 *
 * The trick: OpenSSL bounds certificates by bytes only, and the one place before it reads them is
 * the callback for messages, which cannot refuse. So it spoils the message, which is OpenSSL's own
 * buffer, and says why first: libcurl's words are those of the first error.
 */
#include "tls_bounds.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

typedef int security_fn(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                        void *arg);

static bool is_finite_field(int op, int nid, const void *other)
{
    switch (op) {
    case SSL_SECOP_CURVE_SUPPORTED:
    case SSL_SECOP_CURVE_SHARED:
    case SSL_SECOP_CURVE_CHECK:
        return nid >= NID_ffdhe2048 && nid <= NID_ffdhe8192;
    case SSL_SECOP_CIPHER_SUPPORTED:
    case SSL_SECOP_CIPHER_SHARED:
    case SSL_SECOP_CIPHER_CHECK:
        return SSL_CIPHER_get_kx_nid(other) == NID_kx_dhe;
    default:
        return false;
    }
}

/* arg: the callback that was there before. */
static int on_security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                       void *arg)
{
    security_fn *before = (security_fn *)arg;
    return !is_finite_field(op, nid, other) && before(ssl, ctx, op, bits, nid, other, NULL);
}

/* --- the number of certificates --- */

/* Steps over a length of `bytes` bytes and what it is of; NULL when that is not all there. */
static const uint8_t *skip(const uint8_t *p, const uint8_t *end, int bytes)
{
    size_t length = 0;
    for (; bytes > 0 && p < end; bytes--)
        length = length << 8 | *p++;
    return bytes == 0 && length <= (size_t)(end - p) ? p + length : NULL;
}

/* Of a message of this version of TLS. One that is cut short OpenSSL refuses itself. */
static int count_certificates(const uint8_t *p, const uint8_t *end, int version)
{
    int count = 0;
    if (version >= TLS1_3_VERSION)
        p = skip(p, end, 1); /* its context */
    if (p == NULL || end - p < 3)
        return 0;
    for (p += 3; p != NULL && p < end; count++) {
        p = skip(p, end, 3);
        if (p != NULL && version >= TLS1_3_VERSION)
            p = skip(p, end, 2); /* its extensions */
    }
    return count;
}

static void on_message(int written, int version, int type, const void *message, size_t length,
                       SSL *ssl, void *arg)
{
    const uint8_t *m = message;
    (void)version;
    (void)arg;
    if (written || type != SSL3_RT_HANDSHAKE || length < SSL3_HM_HEADER_LENGTH ||
        m[0] != SSL3_MT_CERTIFICATE)
        return;
    const uint8_t *body = m + SSL3_HM_HEADER_LENGTH;
    if (count_certificates(body, m + length, SSL_version(ssl)) <= TLS_BOUNDS_CHAIN)
        return;
    ERR_raise(ERR_LIB_SSL, SSL_R_EXCESSIVE_MESSAGE_SIZE);
    memset((uint8_t *)body, 0xff, length - SSL3_HM_HEADER_LENGTH); /* lengths that are too long */
}

/* --- keys --- */

static bool key_is_cheap(const X509 *x)
{
    const EVP_PKEY *key = X509_get0_pubkey(x);
    BIGNUM *e = NULL;
    if (key == NULL || (!EVP_PKEY_is_a(key, "RSA") && !EVP_PKEY_is_a(key, "RSA-PSS")))
        return true;
    bool cheap = EVP_PKEY_get_bits(key) <= TLS_BOUNDS_RSA_BITS &&
                 EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) == 1 &&
                 BN_num_bits(e) <= TLS_BOUNDS_EXPONENT_BITS;
    BN_free(e);
    return cheap;
}

bool tls_bounds_keys(X509_STORE_CTX *ctx)
{
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx);
    bool cheap = true;
    ERR_set_mark(); /* a key that cannot be read is an error, and none of ours */
    for (int i = 0; cheap && i < sk_X509_num(sent); i++)
        cheap = key_is_cheap(sk_X509_value(sent, i));
    ERR_pop_to_mark();
    if (cheap)
        return true;
    X509_STORE_CTX_set_error(ctx, X509_V_ERR_APPLICATION_VERIFICATION);
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL); /* else nobody would look at the verdict */
    return false;
}

static int on_verify(X509_STORE_CTX *ctx, void *arg)
{
    (void)arg;
    return tls_bounds_keys(ctx);
}

void tls_bounds_set(SSL_CTX *ctx)
{
    SSL_CTX_set0_security_ex_data(ctx, (void *)SSL_CTX_get_security_callback(ctx));
    SSL_CTX_set_security_callback(ctx, on_security);
    SSL_CTX_set_max_cert_list(ctx, TLS_BOUNDS_CHAIN_BYTES);
    SSL_CTX_set_msg_callback(ctx, on_message);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
#ifdef SSL_OP_NO_RX_CERTIFICATE_COMPRESSION
    SSL_CTX_set_options(ctx, SSL_OP_NO_RX_CERTIFICATE_COMPRESSION); /* counted before it is read */
#endif
    SSL_CTX_set_cert_verify_callback(ctx, on_verify, NULL);
}
