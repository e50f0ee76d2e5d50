/* SPDX-License-Identifier: MIT
 *
 * tls_start - see tls_start.h. Called by gatherd before the loops are made. Owns nothing
 * afterwards.
 *
 * What is needed is not listed anywhere, so it is used once: the process shakes hands with itself,
 * through memory, in TLS 1.3 and 1.2, with a certificate that is made, signed, sent, read and
 * verified. That takes some milliseconds, most of which the first fetch from an https:// origin is
 * spared.
 *
 * A handshake that fails though there was memory is no reason not to start: the system's own
 * settings for OpenSSL may forbid what is tried here and allow what upstreams want.
 */
#include "tls_start.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "log.h"

#define STEPS_MAX 8 /* of each side; a handshake has fewer */

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

static bool fill_certificate(const struct identity *id)
{
    X509 *x = id->certificate;
    X509_NAME *name = X509_get_subject_name(x);
    return X509_set_version(x, X509_VERSION_3) == 1 &&
           ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(x), -60) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(x), 3600) != NULL &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                      (const unsigned char *)"gatherd", -1, -1, 0) == 1 &&
           X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, id->key) == 1 &&
           X509_sign(x, id->key, EVP_sha256()) > 0;
}

static bool identity_init(struct identity *id)
{
    *id = (struct identity){EVP_EC_gen("P-256"), X509_new()};
    return id->key != NULL && id->certificate != NULL && fill_certificate(id);
}

static void identity_fini(struct identity *id)
{
    X509_free(id->certificate);
    EVP_PKEY_free(id->key);
}

static SSL *make_server(const struct identity *id)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL *ssl = NULL;
    if (ctx != NULL && SSL_CTX_use_certificate(ctx, id->certificate) == 1 &&
        SSL_CTX_use_PrivateKey(ctx, id->key) == 1)
        ssl = SSL_new(ctx);
    if (ssl != NULL)
        SSL_set_accept_state(ssl);
    SSL_CTX_free(ctx);
    return ssl;
}

static SSL *make_client(const struct identity *id, int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;
    if (ctx != NULL && SSL_CTX_set_max_proto_version(ctx, version) == 1 &&
        X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), id->certificate) == 1)
        ssl = SSL_new(ctx);
    if (ssl != NULL) {
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        SSL_set_connect_state(ssl);
    }
    SSL_CTX_free(ctx);
    return ssl;
}

/* Through a pair of BIOs, each side's own. */
static bool join(SSL *client, SSL *server)
{
    BIO *a, *b;
    if (client == NULL || server == NULL || BIO_new_bio_pair(&a, 0, &b, 0) != 1)
        return false;
    SSL_set_bio(client, a, a);
    SSL_set_bio(server, b, b);
    return true;
}

static bool shake_hands(const struct identity *id, int version)
{
    SSL *client = make_client(id, version), *server = make_server(id);
    bool done = false;
    if (join(client, server)) {
        for (int i = 0; i < STEPS_MAX && !done; i++) {
            SSL_do_handshake(client);
            SSL_do_handshake(server);
            done = SSL_is_init_finished(client) && SSL_is_init_finished(server);
        }
    }
    SSL_free(client);
    SSL_free(server);
    return done;
}

/* Empties the queue of errors. */
static bool was_memory(void)
{
    bool memory = false;
    for (unsigned long e = ERR_get_error(); e != 0; e = ERR_get_error())
        memory |= ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE;
    return memory;
}

bool tls_start(void)
{
    struct identity id;
    bool done = identity_init(&id) && shake_hands(&id, TLS1_3_VERSION) &&
                shake_hands(&id, TLS1_2_VERSION);
    identity_fini(&id);
    bool memory = was_memory();
    if (done)
        return true;
    LOG_WARN("tls_start", "error=\"%s\"", memory ? "out of memory" : "no handshake with itself");
    return !memory;
}
