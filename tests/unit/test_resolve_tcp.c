/* SPDX-License-Identifier: MIT
 *
 * test_resolve_tcp - the counts of a name server's messages, in every way they may come in pieces.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "resolve_tcp.h"

#define HEADER 12
#define MOST RESOLVE_TCP_RECORDS_MAX
#define ROOM 2000

/* Appends a message of `body` bytes behind a header with that number of answers. */
static size_t add(uint8_t *out, size_t at, unsigned answers, unsigned others, size_t body)
{
    const size_t n = HEADER + body;
    const uint8_t head[2 + HEADER] = {
        (uint8_t)(n >> 8), (uint8_t)n, 0x12, 0x34, 0x81, 0x80, 0, 1,
        (uint8_t)(answers >> 8), (uint8_t)answers, (uint8_t)(others >> 8), (uint8_t)others,
        (uint8_t)(others >> 8), (uint8_t)others,
    };
    assert_true(at + 2 + n <= ROOM);
    memcpy(out + at, head, sizeof head);
    memset(out + at + sizeof head, 0xff, body);
    return at + 2 + n;
}

static const unsigned answers[] = {0, 1, MOST, MOST + 1, 255, 256, 4000, 65535};
#define MESSAGES (sizeof answers / sizeof *answers)

/* Messages one behind the other, and a short one between them, in pieces of each size. */
static void test_pieces(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < 200; piece++) {
        uint8_t given[ROOM], expected[ROOM];
        struct resolve_tcp t = {0};
        size_t n = 0, m = 0;
        for (size_t i = 0; i < MESSAGES; i++) {
            n = add(given, n, answers[i], 513, i * 30);
            m = add(expected, m, answers[i] < MOST ? answers[i] : MOST, 0, i * 30);
            memcpy(given + n, "\0\3abc\0\0", 7); /* no header, and an empty one */
            memcpy(expected + m, "\0\3abc\0\0", 7);
            n += 7;
            m += 7;
        }
        for (size_t at = 0; at < n; at += piece)
            resolve_tcp_cut(&t, given + at, n - at < piece ? n - at : piece);
        assert_int_equal(n, m);
        assert_memory_equal(given, expected, n);
    }
}

/* The longest there is, and what comes behind it. */
static void test_longest(void **state)
{
    (void)state;
    static uint8_t bytes[2 + UINT16_MAX + 2 + HEADER];
    struct resolve_tcp t = {0};
    memset(bytes, 0xff, sizeof bytes);
    resolve_tcp_cut(&t, bytes, sizeof bytes);
    assert_memory_equal(bytes + 8, "\0\x80\0\0\0\0\xff", 7);
    assert_memory_equal(bytes + 2 + UINT16_MAX + 8, "\0\x80\0\0\0\0", 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
