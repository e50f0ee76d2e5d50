/* SPDX-License-Identifier: MIT
 *
 * resolve_tcp - see resolve_tcp.h. Called by resolve_sockets, which has the sockets.
 *
 * A message is its length in two bytes and, from there on (RFC 1035, 4.1.1): id, flags, and the
 * numbers of questions, answers, authorities and additional records, two bytes each.
 */
#include "resolve_tcp.h"

#define LENGTH_BYTES 2
#define ANSWERS (LENGTH_BYTES + 6)
#define AUTHORITIES (LENGTH_BYTES + 8)
#define HEADER_END (LENGTH_BYTES + 12)

/* One byte of the head, which may come in pieces. */
static uint8_t cut_byte(struct resolve_tcp *t, uint8_t byte)
{
    switch (t->at) {
    case 0:
        t->length = (uint16_t)(byte << 8);
        return byte;
    case 1:
        t->length |= byte;
        return byte;
    case ANSWERS:
        t->many = byte > 0;
        return 0;
    case ANSWERS + 1:
        return t->many || byte > RESOLVE_TCP_RECORDS_MAX ? RESOLVE_TCP_RECORDS_MAX : byte;
    default:
        return t->at >= AUTHORITIES ? 0 : byte;
    }
}

void resolve_tcp_cut(struct resolve_tcp *t, uint8_t *data, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (t->at < HEADER_END) {
            data[i] = cut_byte(t, data[i]);
            t->at++;
            i++;
        } else {
            size_t rest = (size_t)t->length + LENGTH_BYTES - t->at, step = n - i;
            step = step < rest ? step : rest;
            t->at += (uint32_t)step;
            i += step;
        }
        if (t->at >= LENGTH_BYTES && t->at == (uint32_t)t->length + LENGTH_BYTES)
            t->at = 0;
    }
}
