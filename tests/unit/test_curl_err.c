/* SPDX-License-Identifier: MIT
 *
 * curl_err: every code of the libcurl at hand, in every phase, has a meaning; then the rules that
 * look at more than the code.
 */
#include "curl_err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const int errnos[] = {0, ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EMFILE, EPIPE};
static const char *const messages[] = {
    "",
    "Illegal or missing hexadecimal sequence in chunked-encoding",
    "Recv failure: Connection reset by peer",
    "OpenSSL SSL_read: error:0A000119:SSL routines::decryption failed or bad record mac, errno 0",
};

#define MESSAGES (sizeof messages / sizeof messages[0])

/* The plain case: nothing known but the code. */
static enum err_type type_of(CURLcode code, enum phase phase)
{
    return curl_err_type(code, &(struct curl_err_facts){.phase = phase, .message = ""});
}

static enum err_type type_by_errno(CURLcode code, enum phase phase, int os_errno)
{
    return curl_err_type(
        code, &(struct curl_err_facts){.phase = phase, .os_errno = os_errno, .message = ""});
}

static void check_everywhere(CURLcode code)
{
    for (enum phase p = PHASE_DNS; p < PHASE_COUNT; p++)
        for (size_t i = 0; i < sizeof errnos / sizeof errnos[0]; i++)
            for (size_t k = 0; k < 4 * MESSAGES; k++) {
                const struct curl_err_facts facts = {p, errnos[i], (k & 1) != 0, (k & 2) != 0,
                                                     messages[k / 4], k % 3 == 0};
                enum err_type type = curl_err_type(code, &facts);
                assert_true(type > ERR_NONE && type < ERR_COUNT);
                assert_true(err_name(type)[0] != '\0');
            }
}

static void test_every_code_has_a_type(void **state)
{
    (void)state;
    assert_int_equal(type_of(CURLE_OK, PHASE_RECEIVE), ERR_NONE);
    for (int code = 1; code < CURL_LAST; code++)
        check_everywhere((CURLcode)code);
}

/* A library newer than the header: its codes are not an error of the upstream. */
static void test_unknown_codes(void **state)
{
    (void)state;
    static const int codes[] = {102, 103, 1000, INT32_MAX, -1};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        assert_int_equal(type_of((CURLcode)codes[i], PHASE_WAIT), ERR_PROXY_INTERNAL_ERROR);
    /* newer than libcurl 7.88, and known */
    assert_int_equal(type_of((CURLcode)100, PHASE_RECEIVE), ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE);
    assert_int_equal(type_of((CURLcode)101, PHASE_TLS), ERR_TLS_PROTOCOL_ERROR);
}

static void test_codes_of_http(void **state)
{
    (void)state;
    static const struct {
        CURLcode code;
        enum err_type type;
    } rows[] = {
        {CURLE_UNSUPPORTED_PROTOCOL, ERR_HTTP_PROTOCOL_ERROR},
        {CURLE_COULDNT_RESOLVE_HOST, ERR_DNS_ERROR},
        {CURLE_WEIRD_SERVER_REPLY, ERR_HTTP_PROTOCOL_ERROR},
        {CURLE_PARTIAL_FILE, ERR_HTTP_RESPONSE_INCOMPLETE},
        {CURLE_WRITE_ERROR, ERR_HTTP_RESPONSE_CONTENT_CODING},
        {CURLE_BAD_CONTENT_ENCODING, ERR_HTTP_RESPONSE_CONTENT_CODING},
        {CURLE_SSL_CONNECT_ERROR, ERR_TLS_PROTOCOL_ERROR},
        {CURLE_SSL_CIPHER, ERR_TLS_PROTOCOL_ERROR},
        {CURLE_PEER_FAILED_VERIFICATION, ERR_TLS_CERTIFICATE_ERROR},
        {CURLE_SSL_ISSUER_ERROR, ERR_TLS_CERTIFICATE_ERROR},
        {CURLE_SSL_CACERT_BADFILE, ERR_PROXY_INTERNAL_ERROR},
        {CURLE_GOT_NOTHING, ERR_CONNECTION_TERMINATED},
        {CURLE_SEND_ERROR, ERR_CONNECTION_TERMINATED},
        {CURLE_FAILED_INIT, ERR_PROXY_INTERNAL_ERROR},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(type_of(rows[i].code, PHASE_RECEIVE), rows[i].type);
}

static void test_connect_errors(void **state)
{
    (void)state;
    static const struct {
        int os_errno;
        enum err_type type;
    } rows[] = {
        {0, ERR_CONNECTION_REFUSED},
        {ECONNREFUSED, ERR_CONNECTION_REFUSED},
        {ENETUNREACH, ERR_DESTINATION_IP_UNROUTABLE},
        {EHOSTUNREACH, ERR_DESTINATION_IP_UNROUTABLE},
        {EADDRNOTAVAIL, ERR_DESTINATION_IP_UNROUTABLE},
        {EAFNOSUPPORT, ERR_DESTINATION_IP_UNROUTABLE},
        {EACCES, ERR_DESTINATION_IP_UNROUTABLE},
        {EPERM, ERR_DESTINATION_IP_UNROUTABLE},
        {ETIMEDOUT, ERR_CONNECTION_TIMEOUT},
        {ECONNRESET, ERR_CONNECTION_TERMINATED},
        {EMFILE, ERR_PROXY_INTERNAL_ERROR},
        {ENFILE, ERR_PROXY_INTERNAL_ERROR},
        {ENOBUFS, ERR_PROXY_INTERNAL_ERROR},
        {ENOMEM, ERR_PROXY_INTERNAL_ERROR},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(type_by_errno(CURLE_COULDNT_CONNECT, PHASE_CONNECT, rows[i].os_errno),
                         rows[i].type);
    /* An errno says nothing about any other code. */
    assert_int_equal(type_by_errno(CURLE_GOT_NOTHING, PHASE_WAIT, ENETUNREACH),
                     ERR_CONNECTION_TERMINATED);
}

static void test_time_outs_by_phase(void **state)
{
    (void)state;
    assert_int_equal(type_of(CURLE_OPERATION_TIMEDOUT, PHASE_DNS), ERR_DNS_TIMEOUT);
    assert_int_equal(type_of(CURLE_OPERATION_TIMEDOUT, PHASE_CONNECT), ERR_CONNECTION_TIMEOUT);
    assert_int_equal(type_of(CURLE_OPERATION_TIMEDOUT, PHASE_TLS), ERR_CONNECTION_TIMEOUT);
    for (enum phase p = PHASE_SEND; p < PHASE_COUNT; p++)
        assert_int_equal(type_of(CURLE_OPERATION_TIMEDOUT, p), ERR_HTTP_RESPONSE_TIMEOUT);
}

/* "Out of memory" and "bad argument" are ours until the upstream had its say. */
static void test_remote_bytes_say_out_of_memory(void **state)
{
    (void)state;
    static const CURLcode codes[] = {CURLE_OUT_OF_MEMORY, CURLE_BAD_FUNCTION_ARGUMENT};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        for (enum phase p = PHASE_DNS; p <= PHASE_SEND; p++)
            assert_int_equal(type_of(codes[i], p), ERR_PROXY_INTERNAL_ERROR);
        assert_int_equal(type_of(codes[i], PHASE_WAIT), ERR_HTTP_PROTOCOL_ERROR);
        assert_int_equal(type_of(codes[i], PHASE_RECEIVE), ERR_HTTP_PROTOCOL_ERROR);
    }
    assert_int_equal(type_of(CURLE_FAILED_INIT, PHASE_RECEIVE), ERR_PROXY_INTERNAL_ERROR);
}

/* Bad chunks are a broken answer and no lost connection, but have its code. What reading came to
 * tells them apart; whatever libcurl says, a lost connection is one. */
static void test_read_errors(void **state)
{
    (void)state;
    static const enum err_type not_lost[MESSAGES] = {
        ERR_HTTP_PROTOCOL_ERROR,
        ERR_HTTP_PROTOCOL_ERROR,
        ERR_HTTP_PROTOCOL_ERROR, /* of an earlier sending */
        ERR_TLS_PROTOCOL_ERROR,
    };
    for (size_t i = 0; i < MESSAGES; i++) {
        for (enum phase p = PHASE_CONNECT; p < PHASE_COUNT; p++) {
            struct curl_err_facts facts = {.phase = p, .message = messages[i]};
            assert_int_equal(curl_err_type(CURLE_RECV_ERROR, &facts),
                             p >= PHASE_SEND ? not_lost[i] : ERR_CONNECTION_TERMINATED);
            assert_int_equal(curl_err_type(CURLE_SEND_ERROR, &facts), ERR_CONNECTION_TERMINATED);
            facts.lost = true;
            facts.os_errno = ECONNRESET;
            assert_int_equal(curl_err_type(CURLE_RECV_ERROR, &facts), ERR_CONNECTION_TERMINATED);
            facts.os_errno = 0; /* closed: an answer that had begun is not whole */
            assert_int_equal(curl_err_type(CURLE_RECV_ERROR, &facts),
                             p == PHASE_RECEIVE ? ERR_HTTP_RESPONSE_INCOMPLETE
                                                : ERR_CONNECTION_TERMINATED);
        }
    }
}

/* An upstream that gives up is told from one that breaks the protocol, and an answer that had begun
 * from one that had not. */
static void test_http2(void **state)
{
    (void)state;
    static const struct {
        CURLcode code;
        const char *message;
        bool given_up;
    } rows[] = {
        {CURLE_HTTP2_STREAM, "HTTP/2 stream 1 was not closed cleanly: INTERNAL_ERROR (err 2)", true},
        {CURLE_HTTP2_STREAM, "HTTP/2 stream 1 was not closed cleanly: CANCEL (err 8)", true},
        {CURLE_HTTP2_STREAM, "HTTP/2 stream 1 was not closed cleanly: ENHANCE_YOUR_CALM (err 11)",
         true},
        {CURLE_HTTP2_STREAM,
         "HTTP/2 stream 1 was closed cleanly, but before getting  all response header fields, "
         "treated as error",
         true},
        {CURLE_HTTP2_STREAM, "HTTP/2 stream 1 was not closed cleanly: PROTOCOL_ERROR (err 1)",
         false},
        {CURLE_HTTP2_STREAM, "HTTP/2 stream 1 was not closed cleanly: HTTP_1_1_REQUIRED (err 13)",
         false},
        {CURLE_HTTP2_STREAM, "", true},
        {CURLE_HTTP2, "", true},
        {CURLE_HTTP2, "nghttp2 recv error -904: Flooding was detected", false},
        {CURLE_PARTIAL_FILE, "", true},
        {CURLE_RECV_ERROR, "", true}, /* refused by GOAWAY */
        {CURLE_RECV_ERROR, "Connection died, tried 5 times before giving up", true},
        {CURLE_RECV_ERROR, "nghttp2_session_mem_recv() returned -902", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct curl_err_facts facts = {
            .phase = PHASE_RECEIVE, .http2 = true, .message = rows[i].message};
        assert_int_equal(curl_err_type(rows[i].code, &facts),
                         rows[i].given_up ? ERR_HTTP_RESPONSE_INCOMPLETE : ERR_HTTP_PROTOCOL_ERROR);
        facts.phase = PHASE_WAIT;
        assert_int_equal(curl_err_type(rows[i].code, &facts),
                         rows[i].given_up ? ERR_CONNECTION_TERMINATED : ERR_HTTP_PROTOCOL_ERROR);
    }
    const struct curl_err_facts mute = {
        .phase = PHASE_WAIT, .http2 = true, .message = "", .mute = true};
    assert_int_equal(curl_err_type(CURLE_HTTP2_STREAM, &mute), ERR_HTTP_PROTOCOL_ERROR);
}

static enum err_type type_of_handshake(bool lost, const char *message)
{
    const struct curl_err_facts facts = {.phase = PHASE_TLS, .lost = lost, .message = message};
    return curl_err_type(CURLE_SSL_CONNECT_ERROR, &facts);
}

/* Whoever leaves in the handshake has said nothing wrong. */
static void test_handshake_errors(void **state)
{
    (void)state;
    static const char alert[] = "OpenSSL/3.0: error:0A000410:SSL routines::sslv3 alert handshake failure";
    assert_int_equal(type_of_handshake(false, alert), ERR_TLS_PROTOCOL_ERROR);
    assert_int_equal(type_of_handshake(false, ""), ERR_TLS_PROTOCOL_ERROR);
    assert_int_equal(type_of_handshake(true, ""), ERR_CONNECTION_TERMINATED);
    assert_int_equal(type_of_handshake(true, "SSL_ERROR_SYSCALL"), ERR_CONNECTION_TERMINATED);
    assert_int_equal(type_of_handshake(false, "Send failure: Connection reset by peer"),
                     ERR_CONNECTION_TERMINATED);
    assert_int_equal(type_of_handshake(false, "getpeername() failed with errno 107: Transport "
                                              "endpoint is not connected"),
                     ERR_CONNECTION_TERMINATED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_a_type),
        cmocka_unit_test(test_unknown_codes),
        cmocka_unit_test(test_codes_of_http),
        cmocka_unit_test(test_connect_errors),
        cmocka_unit_test(test_time_outs_by_phase),
        cmocka_unit_test(test_remote_bytes_say_out_of_memory),
        cmocka_unit_test(test_read_errors),
        cmocka_unit_test(test_http2),
        cmocka_unit_test(test_handshake_errors),
    };
    return cmocka_run_group_tests_name("curl_err", tests, NULL, NULL);
}
