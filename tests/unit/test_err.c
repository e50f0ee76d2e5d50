/* SPDX-License-Identifier: MIT
 *
 * err: the table is the API's (RFC 9209 tokens and gatherd's own), each row whole and single.
 */
#include "err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The API document's list, in its order; a name that changes here breaks clients. */
static const char *const documented[] = {
    "dns_error", "dns_timeout", "connection_refused", "connection_timeout", "connection_terminated",
    "connection_read_timeout", "connection_write_timeout", "destination_unavailable",
    "destination_ip_prohibited", "destination_ip_unroutable", "tls_protocol_error",
    "tls_certificate_error", "http_request_denied", "http_response_incomplete",
    "http_response_header_section_size", "http_response_content_coding", "http_response_timeout",
    "http_protocol_error", "proxy_internal_error", "proxy_loop_detected", "url_invalid",
    "too_many_redirects", "queue_timeout", "deadline_exceeded", "cancelled", "expectation_failed",
};

static enum err_type find(const char *name)
{
    for (int i = 0; i < ERR_COUNT; i++) {
        if (strcmp(err_name((enum err_type)i), name) == 0)
            return (enum err_type)i;
    }
    fail_msg("no error is named %s", name);
    return ERR_NONE;
}

static void test_names_are_the_documented_ones(void **state)
{
    (void)state;
    size_t count = sizeof documented / sizeof *documented;
    assert_int_equal(ERR_COUNT, count + 1);
    for (size_t i = 0; i < count; i++)
        assert_int_not_equal(find(documented[i]), ERR_NONE);
    assert_string_equal(err_name(ERR_NONE), "");
    assert_int_equal(ERR_NONE, 0);
}

static void test_names_are_single_and_have_texts(void **state)
{
    (void)state;
    for (int i = ERR_NONE + 1; i < ERR_COUNT; i++) {
        const char *name = err_name((enum err_type)i);
        assert_int_equal(find(name), i);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
        assert_true(strlen(err_text((enum err_type)i)) > 0);
    }
}

static void test_retryable(void **state)
{
    (void)state;
    static const char *const final[] = {
        "destination_ip_prohibited", "tls_protocol_error", "tls_certificate_error",
        "http_request_denied", "http_response_header_section_size", "http_response_content_coding",
        "http_protocol_error", "proxy_loop_detected", "url_invalid", "too_many_redirects",
        "expectation_failed",
    };
    int retryable = 0;
    for (int i = ERR_NONE + 1; i < ERR_COUNT; i++)
        retryable += err_retryable((enum err_type)i);
    assert_int_equal(retryable, ERR_COUNT - 1 - (int)(sizeof final / sizeof *final));
    for (size_t i = 0; i < sizeof final / sizeof *final; i++)
        assert_false(err_retryable(find(final[i])));
    assert_false(err_retryable(ERR_NONE));
}

/* All types named so, and no other: what a deadline cuts counts as cancelled, not as timed out. */
static void test_timeouts(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_COUNT; i++) {
        const char *name = err_name((enum err_type)i);
        size_t n = strlen(name), suffix = strlen("_timeout");
        bool named = n > suffix && strcmp(name + n - suffix, "_timeout") == 0;
        assert_int_equal(err_is_timeout((enum err_type)i), named);
    }
    assert_false(err_is_timeout(ERR_DEADLINE_EXCEEDED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_the_documented_ones),
        cmocka_unit_test(test_names_are_single_and_have_texts),
        cmocka_unit_test(test_retryable),
        cmocka_unit_test(test_timeouts),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
