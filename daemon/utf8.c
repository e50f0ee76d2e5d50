/* SPDX-License-Identifier: MIT
 *
 * utf8 - the one decoder of UTF-8: the JSON writer, the log, the text counter and the checks of
 * what clients and upstreams send all ask utf8_sequence(). Pure functions, any thread, nothing
 * owned.
 *
 * Well-formedness is table 3-7 of the Unicode standard: only the range of the second byte depends
 * on the first, all further ones are 80-BF. So "as far as it went well" is also the maximal
 * ill-formed subpart that one U+FFFD stands for, which is what WHATWG's and Python's decoders do.
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

bool utf8_valid(const char *s, size_t n)
{
    uint64_t word;
    for (size_t i = 0; i < n;) {
        if (n - i >= sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if (!(word & UINT64_C(0x8080808080808080))) {
                i += sizeof word;
                continue;
            }
        }
        int length = utf8_sequence(s + i, n - i);
        if (length < 0)
            return false;
        i += (size_t)length;
    }
    return true;
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
