/* SPDX-License-Identifier: MIT
 *
 * curl_uv - one CURLM on one uv loop: sockets, timer, messages. Knows nothing of jobs or policies.
 *
 * A socket has one uv_poll_t from its opening to its closing, in a table by descriptor; it stays
 * armed between requests on a kept-alive connection, which saves two system calls a request (16 us
 * instead of 26 us CPU a fetch). Callbacks of the loop only take note and call wake; libcurl runs
 * in curl_uv_turn(), at the turn's end, for a bounded time, and there finished transfers are handed
 * out: the one place where handles may be added and removed. One thread.
 */
#ifndef GATHERD_CURL_UV_H
#define GATHERD_CURL_UV_H

#include <stdbool.h>
#include <stddef.h>

#include <curl/curl.h>
#include <uv.h>

#include "list.h"

struct curl_uv;

struct curl_uv_params {
    uv_loop_t *loop;
    bool few;      /* descriptors: max_idle bounds all that are not in use */
    long max_idle;             /* connections kept beyond those used since the last sweep */
    void (*wake)(void *arg);   /* curl_uv_turn() has work */
    void (*socket_closed)(void *arg, void *tag); /* of a socket that was opened with a tag */
    void *arg;
    bool shares; /* HTTP/2: transfers may share a connection */
};

/* NULL when memory runs out. */
struct curl_uv *curl_uv_create(const struct curl_uv_params *params);

/* few, max_idle: see struct curl_uv_params. */
void curl_uv_set_max_idle(struct curl_uv *m, bool few, long max_idle);

/* Closes every connection; no handle may be added any more. `closed` is called by the loop when the
 * last uv handle is closed and the memory is free. */
void curl_uv_close(struct curl_uv *m, void (*closed)(void *arg), void *arg);

/* For CURLOPT_OPENSOCKETFUNCTION, after the caller's own checks: a non-blocking socket that the
 * loop can watch, or CURL_SOCKET_BAD with errno set. handshaker: who says that the handshake which
 * it begins with is done; others are served first until then; NULL = it has none. tag: for
 * socket_closed, NULL = not wanted. */
curl_socket_t curl_uv_open_socket(struct curl_uv *m, const struct curl_sockaddr *address,
                                  const void *handshaker, void *tag);

/* A handle of the multi that connects to one of several addresses; owned by who adds it, until it
 * is taken off. */
struct curl_uv_reminder {
    struct list node;
    CURL *easy;
};

/* From now on libcurl is called for it four times a second. When an address has failed, or has had
 * its share of the time, libcurl (7.88) turns to the next one, but it sets no timer for that. To be
 * taken off with list_remove() when it is connected, and before it leaves the multi. */
void curl_uv_remind(struct curl_uv *m, struct curl_uv_reminder *r);

/* Those whose streams share the connection are run, as if it had something for them: libcurl (7.88)
 * tells only one of them that it is broken. No-op where fd is none of the multi's. */
void curl_uv_stir(struct curl_uv *m, curl_socket_t fd);

/* The connection is done with, whatever else runs on it: those who use it are told, by its end. */
void curl_uv_break_off(struct curl_uv *m, curl_socket_t fd);

/* talks_idle: it is HTTP/2 and may say something while nobody uses it; else that is its end. False
 * when the socket is closed already, or is another's, or that was said before. */
bool curl_uv_handshake_done(struct curl_uv *m, curl_socket_t fd, const void *handshaker,
                            bool talks_idle);

/* Whether a transfer uses the connection; a new one that is about to does not count yet. */
bool curl_uv_in_use(const struct curl_uv *m, curl_socket_t fd);

/* CURLOPT_CLOSESOCKETFUNCTION, with the struct curl_uv as its data. */
int curl_uv_close_socket(void *curl_uv, curl_socket_t fd);

/* Starts a transfer / takes it out, running or not. Never inside a callback of libcurl. */
CURLMcode curl_uv_add(struct curl_uv *m, CURL *easy);
void curl_uv_remove(struct curl_uv *m, CURL *easy);

/* Runs libcurl's due timer and the sockets that are ready, some milliseconds at most, and hands out
 * at most max finished transfers; returns how many. done may add and remove handles. */
size_t curl_uv_turn(struct curl_uv *m, size_t max,
                    void (*done)(void *arg, CURL *easy, CURLcode code), void *arg);

/* Has libcurl close connections that were idle for more than max_age_s, and forget addresses that
 * nobody needs any more. It looks only when a transfer starts and ends, so one is started that gets
 * no socket and ends at once; the CA store, which a new multi would have to parse again, stays.
 * No-op while such a sweep runs. due: so many connections were opened since the last one that the
 * addresses are worth it. */
void curl_uv_sweep(struct curl_uv *m, long max_age_s);
bool curl_uv_sweep_is_due(const struct curl_uv *m);

/* Descriptors have run out: connections that nobody uses are closed, at once where no transfer
 * runs, else those that were idle for a second, when libcurl looks the next time. */
void curl_uv_make_room(struct curl_uv *m);

/* Whether curl_uv_turn() has something to do now. */
bool curl_uv_pending(const struct curl_uv *m);

/* Whether a socket was refused for want of descriptors since the last call. */
bool curl_uv_starved(struct curl_uv *m);

/* Whether as many connections are kept as may be: one more would push out the oldest. */
bool curl_uv_is_full(const struct curl_uv *m);

/* Handles added and not removed. */
size_t curl_uv_transfers(const struct curl_uv *m);

/* Sockets open, for gauges and the idle sweep. */
size_t curl_uv_sockets(const struct curl_uv *m);

#endif
