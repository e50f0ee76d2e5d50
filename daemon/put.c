/* SPDX-License-Identifier: MIT
 *
 * put - see put.h. An answer of 100,000 members holds two million numbers, most of them short:
 * digits come in pairs from a table, in order, without a loop.
 */
#include "put.h"

#include "clock.h"

const char put_pairs[200] = "00010203040506070809"
                            "10111213141516171819"
                            "20212223242526272829"
                            "30313233343536373839"
                            "40414243444546474849"
                            "50515253545556575859"
                            "60616263646566676869"
                            "70717273747576777879"
                            "80818283848586878889"
                            "90919293949596979899";

char *put_long(char *to, uint64_t v)
{
    uint64_t rest = v % 10000;
    to = put_uint(to, v / 10000); /* calls back at most four times */
    to = put_pair(to, rest / 100);
    return put_pair(to, rest % 100);
}

static inline uint64_t magnitude(char **to, int64_t v)
{
    if (v >= 0)
        return (uint64_t)v;
    *to = put_char(*to, '-');
    return 0 - (uint64_t)v;
}

char *put_ms(char *to, int64_t us)
{
    uint64_t v = magnitude(&to, us);
    uint64_t rest = v % (uint64_t)US_PER_MS;
    to = put_uint(to, v / (uint64_t)US_PER_MS);
    to = put_char(to, '.');
    to = put_char(to, (char)('0' + rest / 100));
    return put_pair(to, rest % 100);
}

/* Six digits; v < 1,000,000. */
static inline char *put_six(char *to, uint64_t v)
{
    to = put_pair(to, v / 10000);
    to = put_pair(to, v / 100 % 100);
    return put_pair(to, v % 100);
}

char *put_seconds(char *to, int64_t us)
{
    uint64_t v = magnitude(&to, us);
    to = put_uint(to, v / (uint64_t)US_PER_S);
    to = put_char(to, '.');
    return put_six(to, v % (uint64_t)US_PER_S);
}

/* --- time ------------------------------------------------------------------------------------ */

/* The first and last microsecond that RFC 3339 can say: years 0000 to 9999. */
#define RFC3339_MIN_US (INT64_C(-62167219200) * US_PER_S)
#define RFC3339_MAX_US (INT64_C(253402300800) * US_PER_S - 1)

/* Days since 1970-01-01 to the Gregorian date (Howard Hinnant's civil_from_days; gmtime_r() takes
 * a lock). The year of the calculation starts in March, so that the leap day is its last; it counts
 * from 400 years early, so that nothing is negative. */
static void civil_from_days(int64_t days, uint64_t *year, uint64_t *month, uint64_t *day)
{
    uint64_t z = (uint64_t)(days + 719468 + 146097);
    uint64_t era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;
    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = yoe + era * 400 - 400 + (*month <= 2);
}

static char *put_date(char *to, int64_t days)
{
    uint64_t year, month, day;
    civil_from_days(days, &year, &month, &day);
    to = put_pair(to, year / 100);
    to = put_pair(to, year % 100);
    to = put_char(to, '-');
    to = put_pair(to, month);
    to = put_char(to, '-');
    return put_pair(to, day);
}

char *put_rfc3339(char *to, int64_t wall_us)
{
    int64_t us = wall_us < RFC3339_MIN_US ? RFC3339_MIN_US : wall_us;
    us = us > RFC3339_MAX_US ? RFC3339_MAX_US : us;
    int64_t day_us = 86400 * US_PER_S;
    int64_t days = us / day_us - (us % day_us < 0);
    uint64_t rest = (uint64_t)(us - days * day_us);
    uint64_t s = rest / (uint64_t)US_PER_S;
    to = put_date(to, days);
    to = put_char(to, 'T');
    to = put_pair(to, s / 3600);
    to = put_char(to, ':');
    to = put_pair(to, s / 60 % 60);
    to = put_char(to, ':');
    to = put_pair(to, s % 60);
    to = put_char(to, '.');
    to = put_six(to, rest % (uint64_t)US_PER_S);
    return put_char(to, 'Z');
}
