/* SPDX-License-Identifier: MIT
 *
 * resolve_failure - see resolve_failure.h. Called by resolve_ares. Pure, any thread.
 */
#include "resolve_failure.h"

#include <ares.h>
#include <stddef.h>

#define TTL_NO_NAME_S 5
#define TTL_FAILED_S 1

static const struct failure {
    int status;
    enum err_type error;
    int ttl_s;
    const char *message;
} failures[] = {
    {ARES_ENOTFOUND, ERR_DNS_ERROR, TTL_NO_NAME_S, "no such name"},
    {ARES_ENODATA, ERR_DNS_ERROR, TTL_NO_NAME_S, "the name has no address"},
    {ARES_EBADNAME, ERR_DNS_ERROR, TTL_NO_NAME_S, "the name cannot be looked up"},
    {ARES_ETIMEOUT, ERR_DNS_TIMEOUT, TTL_FAILED_S, "the name servers did not answer in time"},
    {ARES_ESERVFAIL, ERR_DNS_ERROR, TTL_FAILED_S, "the name servers failed"},
    {ARES_EREFUSED, ERR_DNS_ERROR, TTL_FAILED_S, "the name servers refused to answer"},
    {ARES_ECONNREFUSED, ERR_DNS_ERROR, TTL_FAILED_S, /* 1.18 says it of all three */
     "the name servers failed, refused to answer, or could not be reached"},
    {ARES_EFORMERR, ERR_DNS_ERROR, TTL_FAILED_S, "the name servers did not understand"},
    {ARES_ENOTIMP, ERR_DNS_ERROR, TTL_FAILED_S, "the name servers failed"},
    {ARES_EBADRESP, ERR_DNS_ERROR, TTL_FAILED_S, "the name servers' answer is malformed"},
    {ARES_ENOMEM, ERR_DNS_ERROR, TTL_FAILED_S, "out of memory"},
};

int resolve_failure(struct resolve_answer *answer, int status)
{
    static const struct failure other = {0, ERR_DNS_ERROR, TTL_FAILED_S,
                                         "the name could not be resolved"};
    const struct failure *f = &other;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        if (failures[i].status == status)
            f = &failures[i];
    }
    answer->error = f->error;
    answer->message = f->message;
    answer->count = 0;
    return f->ttl_s;
}
