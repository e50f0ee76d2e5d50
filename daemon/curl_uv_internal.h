/* SPDX-License-Identifier: MIT
 *
 * curl_uv_internal - what the files of curl_uv share: the multi with its timer and its transfers
 * (curl_uv.c), and its sockets (curl_uv_sockets.c).
 */
#ifndef GATHERD_CURL_UV_INTERNAL_H
#define GATHERD_CURL_UV_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "curl_uv.h"
#include "list.h"

struct socket_watch {
    uv_poll_t poll;
    struct list node;  /* multi->unsettled, or none */
    struct list ready; /* multi->ready or multi->handshakes, while there are events */
    struct list rest;  /* multi->resting, while nobody waits for its being writable */
    struct list again; /* multi->again, until its streams are run once more */
    struct curl_uv *multi;
    void *tag; /* the opener's; handed back when the socket is closed */
    const void *handshaker; /* to have TLS, and who has not said that it does; compared only */
    curl_socket_t fd;
    ino_t inode; /* of the socket */
    int wanted; /* what libcurl wants: UV_READABLE | UV_WRITABLE */
    int armed;  /* what the watcher waits for */
    int events; /* what has come and libcurl was not told yet */
    size_t at_most; /* bytes that a read may take, see curl_uv_recv.h */
    int idle_writes; /* times in a row that it was to be written to, and nothing was */
    bool ours;  /* opened by curl_uv_open_socket() */
    bool settled; /* was let go once and stayed open */
    bool talks_idle;  /* is HTTP/2, see curl_uv_handshake_done() */
};

struct curl_uv {
    CURLM *handle;
    uv_loop_t *loop;
    uv_timer_t timer, tick;
    uint64_t due_ms;   /* loop time at which libcurl wants to be called; NEVER */
    uint64_t armed_ms; /* when the timer fires: not later than that; NEVER */
    bool timer_due;    /* the timer fired, or libcurl asked for 0 ms */
    bool may_have_msg; /* something ran since the messages were drained */
    struct socket_watch **table; /* by descriptor */
    size_t table_size;
    struct list unsettled; /* let go for the first time in this call of libcurl */
    struct list ready, handshakes; /* sockets with events */
    struct list resting, again;    /* sockets */
    struct list reminders;         /* handles */
    size_t sockets;
    size_t open_handles; /* uv handles not yet closed */
    CURL *sweeper;       /* the transfer of a running sweep */
    CURL **easies;       /* the handles added */
    size_t transfers;    /* of them */
    size_t easies_room;
    bool broken;         /* libcurl ran out of memory in the middle of something */
    size_t peak;         /* the most of them since the last sweep */
    size_t opened;       /* sockets since the last sweep */
    long max_idle, max_connects;
    bool few;            /* descriptors: max_idle bounds all that are not in use */
    bool shares;         /* see struct curl_uv_params */
    bool starved;        /* no descriptor was left for a socket */
    bool closing;
    void (*wake)(void *arg);
    void (*socket_closed)(void *arg, void *tag);
    void *arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* A uv handle of m has been closed; with the last one a closing m is freed. */
void curl_uv_handle_closed(struct curl_uv *m);

/* CURLMOPT_SOCKETFUNCTION; arg is the multi. */
int curl_uv_on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg);

/* One call of libcurl; how long it goes on reading is bounded. fd: or CURL_SOCKET_TIMEOUT. */
void curl_uv_act(struct curl_uv *m, curl_socket_t fd, int action);

/* Has the tick come, which sees to what waits for it. */
void curl_uv_want_tick(struct curl_uv *m);

/* With the tick: to those that rest it is tried to write once more, and `again` is seen to. */
void curl_uv_tick_sockets(struct curl_uv *m);

/* After each call of libcurl that may have closed sockets. */
void curl_uv_settle(struct curl_uv *m);

/* Runs the sockets that have events, for as long as a turn may take; the others are left for the
 * next. */
void curl_uv_run_sockets(struct curl_uv *m);

/* Forgets those that libcurl has closed without a word. */
void curl_uv_drop_sockets(struct curl_uv *m);

#endif
