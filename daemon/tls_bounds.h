/* SPDX-License-Identifier: MIT
 *
 * tls_bounds - what a server can make a handshake cost, whether its certificate is verified or not.
 *
 * It picks the way to a common key, its certificates and their keys, and all of it is computed in
 * one step of the loop. Refused are: Diffie-Hellman in finite fields, which is not offered; more
 * than TLS_BOUNDS_CHAIN certificates, or more than TLS_BOUNDS_CHAIN_BYTES of them; and RSA keys of
 * more than TLS_BOUNDS_RSA_BITS or with an exponent of more than TLS_BOUNDS_EXPONENT_BITS. It is
 * not shaken hands with anew on a connection that stands (renegotiation).
 */
#ifndef GATHERD_TLS_BOUNDS_H
#define GATHERD_TLS_BOUNDS_H

#include <stdbool.h>

#include <openssl/ssl.h>

enum {
    TLS_BOUNDS_CHAIN = 16,          /* 0.2 ms to read each; GnuTLS takes no more either */
    TLS_BOUNDS_CHAIN_BYTES = 32768, /* the longest chains of the public web have some 20 KB */
    TLS_BOUNDS_RSA_BITS = 8192,     /* 1.4 ms to verify with; 16384 of OpenSSL's: 5 ms */
    TLS_BOUNDS_EXPONENT_BITS = 64,  /* OpenSSL has this for keys of more than 3072 bits; 7 ms */
};

/* For the connection that ctx is for. Before its SSL is made, when all else of ctx is set; once for
 * each ctx. Takes the callbacks for security, for messages, and the one that verifies, which as it
 * is set here verifies nothing but tls_bounds_keys. */
void tls_bounds_set(SSL_CTX *ctx);

/* For a callback that verifies in the place of that one, to ask first: whether the keys of the
 * certificates sent are within bounds. When not, the handshake fails, and ctx has the error. */
bool tls_bounds_keys(X509_STORE_CTX *ctx);

#endif
