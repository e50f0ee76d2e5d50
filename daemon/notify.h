/* SPDX-License-Identifier: MIT
 *
 * notify - the service manager's datagram protocol (sd_notify(3)) by hand, as its authors advise
 * for daemons that want no further library. Does nothing where NOTIFY_SOCKET is not set.
 */
#ifndef GATHERD_NOTIFY_H
#define GATHERD_NOTIFY_H

#include <stdint.h>

/* Reads NOTIFY_SOCKET and WATCHDOG_USEC/WATCHDOG_PID from the environment, once, at start. */
struct notify {
    char path[108]; /* "" = nobody listens; a leading '@' stands for the abstract namespace */
    int64_t watchdog_us; /* 0 = no watchdog */
};

void notify_init(struct notify *n);

/* Sends one state, "READY=1\nSTATUS=...". Never blocks, never fails visibly. */
void notify_send(const struct notify *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
