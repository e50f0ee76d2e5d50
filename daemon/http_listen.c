/* SPDX-License-Identifier: MIT
 *
 * http_listen - see http_listen.h. Called by http_front at start and end, on the loop's thread.
 *
 * A path on which another process still listens is not taken over: a connect tells a living socket
 * from one that a killed daemon left behind.
 */
#include "http_listen.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* more of struct tcp_info than <netinet/tcp.h> has */
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "id_map.h"
#include "log.h"
#include "peers.h"

enum {
    UNSENT_BYTES = 256 << 10, /* of an answer in the kernel before a client takes more of it */
};

static bool fail(const char *step, const char *text)
{
    LOG_ERROR("listen", "address=%s step=%s error=\"%s\"", text, step, strerror(errno));
    return false;
}

/* Nobody asked for the address, and the machine has none of that kind. */
static bool is_excused(const struct config_listener *conf)
{
    return conf->bind_is_default && (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT);
}

static bool fail_tcp(const struct config_listener *conf, const char *step, const char *text)
{
    if (!is_excused(conf))
        return fail(step, text);
    LOG_WARN("listen", "address=%s step=%s error=\"%s\"", text, step, strerror(errno));
    return false;
}

static void name_socket(struct http_socket *s)
{
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    char text[IP_TEXT_MAX];
    if (getsockname(s->fd, (struct sockaddr *)&bound, &n) == 0)
        ip_from_sockaddr((struct sockaddr *)&bound, &s->address, &s->port);
    ip_format(&s->address, text);
    snprintf(s->name, sizeof s->name, s->family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, s->port);
}

static bool open_tcp(const char *text, const struct config_bind *bind_to,
                     const struct config_listener *conf, struct http_socket *s)
{
    struct sockaddr_storage to;
    const int one = 1, unsent = UNSENT_BYTES;
    s->address = bind_to->ip;
    s->port = bind_to->port;
    s->family = s->address.family == 6 ? AF_INET6 : AF_INET;
    socklen_t n = ip_to_sockaddr(&s->address, s->port, &to);
    s->fd = socket(s->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        return fail_tcp(conf, "socket", text);
    setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* clients inherit it */
    setsockopt(s->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    if (s->family == AF_INET6)
        setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(s->fd, (struct sockaddr *)&to, n) != 0)
        return fail_tcp(conf, "bind", text);
    if (listen(s->fd, SOMAXCONN) != 0)
        return fail("listen", text);
    name_socket(s);
    return true;
}

/* Removes a socket file nobody listens on; anything else at the path is left and is an error. */
static bool clear_path(const struct sockaddr_un *to, const char *text)
{
    struct stat st;
    if (lstat(to->sun_path, &st) != 0)
        return errno == ENOENT || fail("stat", text);
    if (!S_ISSOCK(st.st_mode)) {
        errno = EEXIST;
        return fail("stat", text);
    }
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = probe < 0 ? -1 : connect(probe, (const struct sockaddr *)to, sizeof *to);
    bool dead = rc != 0 && errno == ECONNREFUSED;
    if (probe >= 0)
        close(probe);
    if (dead)
        return unlink(to->sun_path) == 0 || fail("unlink", text);
    errno = EADDRINUSE;
    return fail("bind", text);
}

/* Before listen(), so that nobody connects to a socket that is not yet whose it shall be. */
static bool give_to_group(const char *text, const char *path, const char *group)
{
    gid_t gid;
    if (group == NULL)
        return true;
    if (!peers_find_group(group, &gid)) {
        errno = EINVAL;
        return fail("group", text);
    }
    return lchown(path, (uid_t)-1, gid) == 0 || fail("chown", text);
}

/* Of use on a socket that only one user reaches, and where tokens say who asks. */
static void warn_of_namespace(const char *text)
{
    if (!id_map_is_whole(ID_MAP_USERS))
        LOG_WARN("listen",
                 "address=%s in this user namespace the users that it does not map count as one "
                 "and share its quotas; PrivateUsers=no in a unit tells them apart",
                 text);
}

static bool open_unix(const char *text, const char *path, const struct config_listener *conf,
                      struct http_socket *s)
{
    mode_t mode = (mode_t)conf->mode;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    s->family = AF_UNIX;
    if (strlen(path) >= sizeof to.sun_path) {
        errno = ENAMETOOLONG;
        return fail("parse", text);
    }
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    if (!clear_path(&to, text))
        return false;
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0)
        return fail("socket", text);
    mode_t old = umask(0777 & ~mode); /* bind() makes the file: never open wider than asked */
    int rc = bind(s->fd, (struct sockaddr *)&to, sizeof to);
    umask(old);
    if (rc != 0)
        return fail("bind", text);
    snprintf(s->path, sizeof s->path, "%s", path);
    struct stat st;
    s->inode = stat(path, &st) == 0 ? st.st_ino : 0;
    snprintf(s->name, sizeof s->name, "%s", text);
    warn_of_namespace(text);
    return give_to_group(text, path, conf->group) &&
           (listen(s->fd, SOMAXCONN) == 0 || fail("listen", text));
}

static bool open_one(const struct config_listener *conf, const char *text, struct http_socket *s)
{
    struct config_bind to;
    *s = (struct http_socket){.fd = -1};
    if (!config_parse_bind(text, &to)) {
        errno = EINVAL;
        return fail("parse", text);
    }
    bool ok = to.path != NULL ? open_unix(text, to.path, conf, s) : open_tcp(text, &to, conf, s);
    if (!ok)
        http_socket_close(s);
    return ok;
}

int http_listen_open(const struct config_listener *conf, struct http_socket *out, size_t max,
                     size_t *n)
{
    bool excused = false;
    for (size_t i = 0; i < conf->bind.count; i++) {
        if (*n == max) {
            LOG_ERROR("listen", "address=%s error=\"no room for it\"", conf->bind.items[i]);
            return EX_OSERR;
        }
        errno = 0;
        if (open_one(conf, conf->bind.items[i], &out[*n])) {
            (*n)++;
            continue;
        }
        if (!is_excused(conf))
            return EX_UNAVAILABLE;
        excused = true;
    }
    if (!excused || *n > 0)
        return 0;
    LOG_ERROR("listen", "error=\"the machine has no address of the default\"");
    return EX_UNAVAILABLE;
}

static bool is_at(const struct http_socket *s, const struct config_bind *at)
{
    if (s->family == AF_UNIX)
        return at->path != NULL && config_path_equal(at->path, s->path);
    return at->path == NULL && ip_equal(&at->ip, &s->address) &&
           (at->port == 0 || at->port == s->port);
}

bool http_socket_is_named(const struct http_socket *s, const struct config_listener *conf)
{
    struct config_bind at;
    for (size_t i = 0; i < conf->bind.count; i++)
        if (config_parse_bind(conf->bind.items[i], &at) && is_at(s, &at))
            return true;
    return false;
}

bool http_socket_taken(const struct http_socket *s, int fd, int64_t *bytes)
{
    struct tcp_info info = {.tcpi_bytes_acked = 0};
    socklen_t n = sizeof info;
    int unread = 0;
    bool ok;
    if (s->family == AF_UNIX) {
        ok = ioctl(fd, SIOCOUTQ, &unread) == 0;
        *bytes = -unread;
    } else {
        ok = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0;
        *bytes = (int64_t)info.tcpi_bytes_acked;
    }
    return ok;
}

bool http_socket_read(const struct http_socket *s, int fd, int64_t *unread, int64_t *read_bytes)
{
    struct tcp_info info = {.tcpi_bytes_received = 0};
    socklen_t n = sizeof info;
    int before = 0, after = 0;
    bool ok = ioctl(fd, FIONREAD, &before) == 0;
    if (s->family != AF_UNIX)
        ok = ok && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0 &&
             info.tcpi_bytes_received > 0;
    ok = ok && ioctl(fd, FIONREAD, &after) == 0 && before == after;
    *unread = before;
    *read_bytes = (int64_t)info.tcpi_bytes_received - before;
    return ok;
}

void http_socket_close(struct http_socket *s)
{
    int saved = errno;
    struct stat st;
    if (s->path[0] != '\0' && lstat(s->path, &st) == 0 && st.st_ino == s->inode)
        unlink(s->path);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->path[0] = '\0';
    errno = saved;
}
