/* SPDX-License-Identifier: MIT
 *
 * err - the rows of the error table as constant arrays. Asked by the engine when a member ends, by
 * the batch when it adds up, by the encoders and the metrics when they print. Any thread, nothing
 * owned; every string is static.
 */
#include "err.h"

#include <assert.h>

static const struct {
    const char *name, *text;
    bool retryable;
} table[ERR_COUNT] = {
#define X(symbol, name, retryable, text) [symbol] = {name, text, retryable},
    ERR_TABLE(X)
#undef X
};

#define X(symbol, name, retryable, text) \
    _Static_assert(sizeof(name) - 1 <= ERR_NAME_MAX, "longer than ERR_NAME_MAX: " name);
ERR_TABLE(X)
#undef X

const char *err_name(enum err_type type)
{
    assert(type < ERR_COUNT);
    return table[type].name;
}

const char *err_text(enum err_type type)
{
    assert(type < ERR_COUNT);
    return table[type].text;
}

bool err_retryable(enum err_type type)
{
    assert(type < ERR_COUNT);
    return table[type].retryable;
}

bool err_is_timeout(enum err_type type)
{
    /* deadline_exceeded is none: what the batch's deadline cut counts as cancelled. */
    switch (type) {
    case ERR_DNS_TIMEOUT:
    case ERR_CONNECTION_TIMEOUT:
    case ERR_CONNECTION_READ_TIMEOUT:
    case ERR_CONNECTION_WRITE_TIMEOUT:
    case ERR_HTTP_RESPONSE_TIMEOUT:
    case ERR_QUEUE_TIMEOUT:
        return true;
    default:
        return false;
    }
}
