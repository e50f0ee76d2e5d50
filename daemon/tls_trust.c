/* SPDX-License-Identifier: MIT
 *
 * tls_trust - see tls_trust.h. Called by transfer when libcurl begins a handshake, and by OpenSSL
 * when it comes to the server's certificate; on the loop's thread. Whether the file has changed is
 * asked by gatherd, on its own. Owns nothing.
 *
 * A certificate whose key is half read is found in the chain, one without its extensions is not
 * even taken for an issuer: so all that are trusted by the name that the failed one has, or says
 * its issuer has, are looked at. An upstream may name whom it likes, but makes nobody's certificate
 * half read by that.
 */
#include "tls_trust.h"

#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "tls_bounds.h"

/* What OpenSSL finds out about a certificate and its key it keeps: one of no strength is half read,
 * and one that signed itself and is not known for it. */
static bool is_whole(X509 *x)
{
    const EVP_PKEY *key = X509_get0_pubkey(x);
    const uint32_t flags = X509_get_extension_flags(x);
    if (key == NULL || EVP_PKEY_get_security_bits(key) <= 0 || (flags & EXFLAG_INVALID) != 0)
        return false;
    return (flags & EXFLAG_SI) == 0 || (flags & EXFLAG_SS) != 0 ||
           X509_check_issued(x, x) != X509_V_OK;
}

static bool all_whole(X509_STORE_CTX *ctx, const X509_NAME *name)
{
    STACK_OF(X509) *trusted = X509_STORE_CTX_get1_certs(ctx, name);
    bool whole = true;
    for (int i = 0; whole && i < sk_X509_num(trusted); i++)
        whole = is_whole(sk_X509_value(trusted, i));
    sk_X509_pop_free(trusted, X509_free);
    return whole;
}

/* As OpenSSL does it without us, within bounds. */
static int on_verify(X509_STORE_CTX *ctx, void *spoilt)
{
    if (!tls_bounds_keys(ctx))
        return 0;
    int verdict = X509_verify_cert(ctx);
    const X509 *failed = verdict != 1 ? X509_STORE_CTX_get_current_cert(ctx) : NULL;
    if (failed == NULL)
        return verdict;
    ERR_set_mark(); /* libcurl's words are those of the first error */
    if (!all_whole(ctx, X509_get_subject_name(failed)) ||
        !all_whole(ctx, X509_get_issuer_name(failed)))
        *(bool *)spoilt = true;
    ERR_pop_to_mark();
    return verdict;
}

void tls_trust_watch(SSL_CTX *ctx, bool *spoilt)
{
    SSL_CTX_set_cert_verify_callback(ctx, on_verify, spoilt);
}

bool tls_trust_changed(struct resolve_mark *last, const char *ca_file)
{
    if (ca_file == NULL || ca_file[0] == '\0')
        ca_file = curl_version_info(CURLVERSION_NOW)->cainfo;
    struct resolve_mark mark = {0};
    if (ca_file != NULL)
        mark = resolve_mark_of(ca_file);
    bool changed = !resolve_mark_same(&mark, last);
    *last = mark;
    return changed;
}
