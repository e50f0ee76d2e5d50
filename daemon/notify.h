/* SPDX-License-Identifier: MIT
 *
 * notify - the service manager's datagram protocol (sd_notify(3)) by hand, as its authors advise
 * for daemons that want no further library. Does nothing where NOTIFY_SOCKET is not set.
 */
#ifndef GATHERD_NOTIFY_H
#define GATHERD_NOTIFY_H

#include <stdint.h>

/* The socket stays open: who has no descriptor left is still alive, and says so. */
struct notify {
    char path[108]; /* "" = nobody listens; a leading '@' stands for the abstract namespace */
    int fd;         /* -1: nobody listens, or it could not be opened; then each word tries again */
    int64_t watchdog_us; /* 0 = no watchdog */
};

/* Reads NOTIFY_SOCKET and WATCHDOG_USEC/WATCHDOG_PID from the environment, once, at start. */
void notify_init(struct notify *n);
void notify_fini(struct notify *n);

/* Sends one state, "READY=1\nSTATUS=...". Never blocks, never fails visibly. */
void notify_send(struct notify *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
