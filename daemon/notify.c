/* SPDX-License-Identifier: MIT
 *
 * notify - see notify.h. Called by gatherd when its run mode changes and by its watchdog timer.
 */
#include "notify.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "parse.h"

static int open_socket(void)
{
    return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

void notify_init(struct notify *n)
{
    const char *path = getenv("NOTIFY_SOCKET");
    const char *watchdog = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    int64_t value;
    *n = (struct notify){.fd = -1};
    if (path != NULL && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof n->path)
        snprintf(n->path, sizeof n->path, "%s", path);
    if (n->path[0] != '\0')
        n->fd = open_socket();
    bool for_us = pid == NULL || (parse_int(pid, 1, INT32_MAX, &value) && value == getpid());
    if (watchdog != NULL && for_us && parse_int(watchdog, 1, INT64_MAX / 2, &value))
        n->watchdog_us = value;
}

void notify_fini(struct notify *n)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

void notify_send(struct notify *n, const char *fmt, ...)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char text[512];
    va_list args;
    if (n->path[0] == '\0')
        return;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n->fd < 0)
        n->fd = open_socket();
    if (len < 0 || n->fd < 0)
        return;
    size_t path_len = strlen(n->path);
    memcpy(to.sun_path, n->path, path_len);
    if (n->path[0] == '@')
        to.sun_path[0] = '\0';
    size_t size = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
    (void)!sendto(n->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_len));
}
