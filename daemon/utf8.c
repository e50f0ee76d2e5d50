/* SPDX-License-Identifier: MIT
 *
 * utf8 - the one decoder of UTF-8: the JSON writer, the log, the text counter and the checks of
 * what clients and upstreams send all ask utf8_sequence(). Pure functions, any thread, nothing
 * owned.
 *
 * Well-formedness is table 3-7 of the Unicode standard: only the range of the second byte depends
 * on the first, all further ones are 80-BF. So "as far as it went well" is also the maximal
 * ill-formed subpart that one U+FFFD stands for, which is what WHATWG's and Python's decoders do.
 * utf8_valid() and utf8_count() have the same rules as tables, because they are asked about whole
 * bodies at a time.
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

/* The same without BAD: what does not go on from a state begins anew, and that is noted beside the
 * state that follows. */
enum count_state {
    COUNT_WHOLE = 0,
    COUNT_ONE = 7,
    COUNT_TWO = 14,
    COUNT_THREE = 21,
    COUNT_E0 = 28,
    COUNT_ED = 35,
    COUNT_F0 = 42,
    COUNT_F4 = 49,
};

#define BEGINS 64
#define ALONE (BEGINS | COUNT_WHOLE)

#define COUNT_ROW(whole, one, two, three, e0, ed, f0, f4)                                          \
    (FROM(COUNT_WHOLE, whole) | FROM(COUNT_ONE, one) | FROM(COUNT_TWO, two) |                      \
     FROM(COUNT_THREE, three) | FROM(COUNT_E0, e0) | FROM(COUNT_ED, ed) | FROM(COUNT_F0, f0) |     \
     FROM(COUNT_F4, f4))
#define COUNT_LEAD(to)                                                                             \
    COUNT_ROW(BEGINS | (to), BEGINS | (to), BEGINS | (to), BEGINS | (to), BEGINS | (to),           \
              BEGINS | (to), BEGINS | (to), BEGINS | (to))
#define COUNT_GOES_ON(e0, ed, f0, f4)                                                              \
    COUNT_ROW(ALONE, COUNT_WHOLE, COUNT_ONE, COUNT_TWO, e0, ed, f0, f4)

static const uint64_t count_states[256] = {
    [0x00 ... 0x7F] = COUNT_LEAD(COUNT_WHOLE),
    [0x80 ... 0x8F] = COUNT_GOES_ON(ALONE, COUNT_ONE, ALONE, COUNT_TWO),
    [0x90 ... 0x9F] = COUNT_GOES_ON(ALONE, COUNT_ONE, COUNT_TWO, ALONE),
    [0xA0 ... 0xBF] = COUNT_GOES_ON(COUNT_ONE, ALONE, COUNT_TWO, ALONE),
    [0xC0 ... 0xC1] = COUNT_LEAD(COUNT_WHOLE),
    [0xC2 ... 0xDF] = COUNT_LEAD(COUNT_ONE),
    [0xE0] = COUNT_LEAD(COUNT_E0),
    [0xE1 ... 0xEC] = COUNT_LEAD(COUNT_TWO),
    [0xED] = COUNT_LEAD(COUNT_ED),
    [0xEE ... 0xEF] = COUNT_LEAD(COUNT_TWO),
    [0xF0] = COUNT_LEAD(COUNT_F0),
    [0xF1 ... 0xF3] = COUNT_LEAD(COUNT_THREE),
    [0xF4] = COUNT_LEAD(COUNT_F4),
    [0xF5 ... 0xFF] = COUNT_LEAD(COUNT_WHOLE),
};

size_t utf8_count(const char *s, size_t n, unsigned *state)
{
    uint64_t word, at = *state;
    size_t count = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i + (n - i < sizeof word ? n - i : sizeof word);
        if (end - i == sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if (((word & UINT64_C(0x8080808080808080)) | (at & STATE_MASK)) == COUNT_WHOLE) {
                count += sizeof word;
                i = end;
                continue;
            }
        }
        for (; i < end; i++) {
            at = count_states[(unsigned char)s[i]] >> (at & STATE_MASK);
            count += at / BEGINS & 1;
        }
    }
    *state = (unsigned)(at & STATE_MASK);
    return count;
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
