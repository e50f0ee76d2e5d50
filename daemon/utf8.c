/* SPDX-License-Identifier: MIT
 *
 * utf8 - the one decoder of UTF-8: the JSON writer, the log, the text counter and the checks of
 * what clients and upstreams send all ask utf8_sequence(). Pure functions, any thread, nothing
 * owned.
 *
 * Well-formedness is table 3-7 of the Unicode standard: only the range of the second byte depends
 * on the first, all further ones are 80-BF. So "as far as it went well" is also the maximal
 * ill-formed subpart that one U+FFFD stands for, which is what WHATWG's and Python's decoders do.
 * utf8_valid() has the same rules as a table, because it is asked about whole bodies at a time.
 */
#include "utf8.h"

#include <stdint.h>
#include <string.h>

static inline bool is_continuation(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

/* The second byte after lead byte c of a sequence of three or four: the ranges keep out overlong
 * forms (E0, F0), surrogates (ED) and what lies past U+10FFFF (F4). */
static inline bool second_fits(unsigned char c, unsigned char second)
{
    unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    unsigned char high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    return second >= low && second <= high;
}

int utf8_sequence(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xC2 || u[0] > 0xF4)
        return -1;
    if (u[0] < 0xE0)
        return n >= 2 && is_continuation(u[1]) ? 2 : -1;
    if (n < 2 || !second_fits(u[0], u[1]))
        return -1;
    if (n < 3 || !is_continuation(u[2]))
        return -2;
    if (u[0] < 0xF0)
        return 3;
    return n >= 4 && is_continuation(u[3]) ? 4 : -3;
}

/* What the bytes so far leave open. The number is where a row of next_states[] has what follows. */
enum state {
    WHOLE = 0,
    BAD = 6,
    ONE = 12, /* continuation byte to come */
    TWO = 18,
    THREE = 24,
    E0 = 30, /* as second_fits(): of the second byte's values only some */
    ED = 36,
    F0 = 42,
    F4 = 48,
};

#define STATE_MASK 63

#define FROM(state, to) ((uint64_t)(to) << (state))
#define ROW(whole, one, two, three, e0, ed, f0, f4)                                                \
    (FROM(WHOLE, whole) | FROM(BAD, BAD) | FROM(ONE, one) | FROM(TWO, two) | FROM(THREE, three) |  \
     FROM(E0, e0) | FROM(ED, ed) | FROM(F0, f0) | FROM(F4, f4))
#define LEAD(to) ROW(to, BAD, BAD, BAD, BAD, BAD, BAD, BAD)

/* For each byte the state that follows on each state, 6 bits for each. */
static const uint64_t next_states[256] = {
    [0x00 ... 0x7F] = LEAD(WHOLE),
    [0x80 ... 0x8F] = ROW(BAD, WHOLE, ONE, TWO, BAD, ONE, BAD, TWO),
    [0x90 ... 0x9F] = ROW(BAD, WHOLE, ONE, TWO, BAD, ONE, TWO, BAD),
    [0xA0 ... 0xBF] = ROW(BAD, WHOLE, ONE, TWO, ONE, BAD, TWO, BAD),
    [0xC0 ... 0xC1] = LEAD(BAD),
    [0xC2 ... 0xDF] = LEAD(ONE),
    [0xE0] = LEAD(E0),
    [0xE1 ... 0xEC] = LEAD(TWO),
    [0xED] = LEAD(ED),
    [0xEE ... 0xEF] = LEAD(TWO),
    [0xF0] = LEAD(F0),
    [0xF1 ... 0xF3] = LEAD(THREE),
    [0xF4] = LEAD(F4),
    [0xF5 ... 0xFF] = LEAD(BAD),
};

/* The low bits of a row shifted by the state are the next state, so that a byte is one load, which
 * waits for nothing, and one shift: ten megabytes of any text take some 6 ms. */
static uint64_t follow(uint64_t state, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        state = next_states[(unsigned char)s[i]] >> (state & STATE_MASK);
    return state & STATE_MASK;
}

bool utf8_valid(const char *s, size_t n)
{
    uint64_t word, state = WHOLE;
    size_t i = 0;
    for (; n - i >= sizeof word; i += sizeof word) {
        memcpy(&word, s + i, sizeof word);
        if (((word & UINT64_C(0x8080808080808080)) | state) == WHOLE)
            continue;
        state = follow(state, s + i, sizeof word);
        if (state == BAD)
            return false;
    }
    return follow(state, s + i, n - i) == WHOLE;
}

size_t utf8_prefix(const char *s, size_t n, size_t max)
{
    if (max >= n)
        return n;
    for (size_t back = 1; back <= 3 && back <= max; back++) {
        size_t at = max - back;
        if (is_continuation((unsigned char)s[at]))
            continue;
        return utf8_sequence(s + at, n - at) > (int)back ? at : max;
    }
    return max;
}
