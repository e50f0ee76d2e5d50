/* SPDX-License-Identifier: MIT
 *
 * curl_uv_recv - how long libcurl may read before it has to let go of the loop, what its reads
 * brought, and how the last one ended. Bounding is curl_uv's alone; transfer asks for the rest.
 *
 * libcurl reads on while there is something to be read: 101 times BUFFERSIZE in one
 * curl_multi_socket_action() with 7.88, 11 times with 8.14; 6.6 MB of one-byte chunks are 90 ms. No
 * option bounds that and a write callback sees only what is a body, so the bound is put where the
 * bytes come from. So is one for what a single read brings: libcurl unpacks all of it before it
 * looks at a clock again, and pausing does not stop its decoder.
 *
 * It is also the one place that knows for certain whether a connection was lost. libcurl gives bad
 * chunks the code of a lost connection; its message is that of the first failure of a transfer,
 * also when the request was sent again since; its errno may be from any earlier transfer of the
 * handle.
 */
#ifndef GATHERD_CURL_UV_RECV_H
#define GATHERD_CURL_UV_RECV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most that the first read of an answer takes. What an upstream packed is unpacked in the same
 * call of libcurl, and 64 KiB can be 64 MiB then; see curl_uv_recv_at_most(). */
#define CURL_UV_RECV_FIRST 2048

struct ssl_st; /* OpenSSL's SSL */

/* What is told while a call of libcurl runs, from inside of it. */
struct curl_uv_recv_told {
    /* The socket fd was read from, and now another is, or the call has ended. at_most: what a read
     * would take by now, for the socket's next begin; more: the last one got all that it asked for,
     * there may be more. */
    void (*read)(void *arg, int fd, size_t at_most, bool more);

    /* EAGAIN was said for it although its TLS has bytes, of which no watcher tells. */
    void (*held_back)(void *arg, int fd);

    /* libcurl looks at a connection that it is about to use again, and there are bytes in it.
     * True = it is to take it for closed: on HTTP/1.1 they would be its next answer. */
    bool (*speaks)(void *arg, int fd);

    /* Whether the connection's TLS is read without a bound in bytes: it is HTTP/2. libcurl does not
     * come back to the rest of a record for the stream of another, and unpacks what is kept for a
     * stream in one go anyway. fd may be negative: not known which. */
    bool (*whole)(void *arg, int fd);
    void *arg;
};

/* From now on this thread's recv() gives EAGAIN but for the first call for the socket fd (of all
 * where fd is negative) and those that come after it before the monotonic clock (uv_hrtime())
 * reaches until_ns. It is as if the other sockets were empty; a level-triggered watcher comes back
 * to them. A call takes at most so many bytes, of another socket CURL_UV_RECV_FIRST; of a TLS
 * connection, of what is in it: a record of 16 KB, which OpenSSL reads as a whole, is handed on in
 * pieces, but not of HTTP/2. *told is borrowed until the end. */
void curl_uv_recv_begin(int fd, uint64_t until_ns, size_t at_most,
                        const struct curl_uv_recv_told *told);
void curl_uv_recv_end(void);

/* In a callback of a transfer that read: the next calls for its socket take at most n bytes. */
void curl_uv_recv_at_most(size_t n);

/* So much for a body in two layers, for as long as its connection is in use: what is said later is
 * not heard. zlib's inflate() then fails when what it is given in one call of libcurl comes to four
 * times what was read, and a little, and with what came in the head's read, which is more, when it
 * has had some milliseconds of a processor beyond that: what is between the layers would be bounded
 * by nobody. 2 KiB can be 640 KiB there, and 200 ms of zlib, of which not one byte is delivered. */
#define CURL_UV_RECV_LAYERS 256

/* How many bytes were taken since begin, of TLS what was in it; *call is another number for each
 * begin of this thread. */
size_t curl_uv_recv_taken(uint64_t *call);

/* What reads brought, of TLS what was in it. libcurl drops what comes behind an answer in the same
 * read; where it ended is seen from this. */
struct curl_uv_recv_sum {
    size_t bytes;
    size_t end_len; /* less than all of `end` when there were no more */
    char end[5];    /* the last ones */
    bool nul;       /* one of them is */
};

/* Of this thread's reads since begin, since it was last asked for, and since another socket was
 * read from: in a callback of a transfer its own, if it read. What libcurl reads when it closes a
 * TLS connection may be added to the next one's, which can end the keeping of its connection and
 * nothing else. */
struct curl_uv_recv_sum curl_uv_recv_ask(void);

/* Whether one of these bytes is NUL, without asking for them. Where a read may take more than
 * CURL_UV_RECV_FIRST it is not looked for: what comes there is no head. */
bool curl_uv_recv_has_nul(void);

/* *more came after *sum. */
void curl_uv_recv_join(struct curl_uv_recv_sum *sum, const struct curl_uv_recv_sum *more);

/* Whether bytes came or went since begin, on any socket. */
bool curl_uv_recv_moved(void);

/* The socket of a TLS connection that was read from; negative = not known. */
int curl_uv_recv_socket_of(const struct ssl_st *ssl);

/* Whether the last recv() of this thread since begin found its connection lost: *os_errno says how,
 * 0 = the other side had closed it. Of interest in a callback of the transfer that read, before
 * libcurl reads for another or shuts TLS down. */
bool curl_uv_recv_lost(int *os_errno);

/* The socket is closed: what was found out about it is void, another may get its number. */
void curl_uv_recv_forget(int fd);

#endif
