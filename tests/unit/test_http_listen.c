/* SPDX-License-Identifier: MIT
 *
 * http_listen: sockets of all three kinds, what is refused, and above all what is left alone at a
 * Unix socket's path.
 */
#include "http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

#define SOCKETS 4
#define ABSENT "[2001:db8::4284]:0" /* documentation: no machine has it */

static char directory[80], path[100], bind_text[110];

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/test_listen.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/socket", directory);
    snprintf(bind_text, sizeof bind_text, "unix:%s", path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(directory); /* fails when a test left something */
}

struct opened {
    struct http_socket sockets[SOCKETS];
    size_t count;
    int rc;
};

static struct opened open_all(const char *const *texts, size_t n, bool is_default, int64_t mode)
{
    struct config_listener conf = {.bind_is_default = is_default, .mode = mode};
    struct opened o = {.count = 0};
    char *items[SOCKETS + 1];
    for (size_t i = 0; i < n; i++)
        items[i] = strdup(texts[i]);
    conf.bind = (struct str_list){items, n};
    o.rc = http_listen_open(&conf, o.sockets, SOCKETS, &o.count);
    for (size_t i = 0; i < n; i++)
        free(items[i]);
    return o;
}

static struct opened open_one(const char *text)
{
    return open_all(&text, 1, false, 0660);
}

static void close_all(struct opened *o)
{
    for (size_t i = 0; i < o->count; i++)
        http_socket_close(&o->sockets[i]);
}

static void check_refused(const char *text)
{
    struct opened o = open_one(text);
    assert_int_equal(o.rc, EX_UNAVAILABLE);
    assert_int_equal(o.count, 0);
}

/* 0, or the errno of a connect to the socket's own name. */
static int dial(int family, const struct sockaddr *sa, socklen_t n)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    int rc = connect(fd, sa, n) == 0 || errno == EINPROGRESS ? 0 : errno;
    close(fd);
    return rc;
}

static int dial_port(uint16_t port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int rc = connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0 ? 0 : errno;
    close(fd);
    return rc;
}

static struct sockaddr_un address_of(const char *at)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", at);
    return sa;
}

static int dial_path(void)
{
    struct sockaddr_un sa = address_of(path);
    return dial(AF_UNIX, (struct sockaddr *)&sa, sizeof sa);
}

static mode_t mode_of_path(void)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode;
}

static bool path_exists(void)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* Somebody else's socket at the path; backlog < 0: bound, and does not listen. */
static int foreign_socket(int type, int backlog)
{
    struct sockaddr_un sa = address_of(path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_true(backlog < 0 || listen(fd, backlog) == 0);
    return fd;
}

/* TCP */

static void test_port_0(void **state)
{
    (void)state;
    char name[32];
    struct opened o = open_one("127.0.0.1:0");
    struct http_socket *s = &o.sockets[0];
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.count, 1);
    assert_int_equal(s->family, AF_INET);
    assert_int_equal(s->address.family, 4);
    assert_true(s->port > 0);
    snprintf(name, sizeof name, "127.0.0.1:%u", s->port);
    assert_string_equal(s->name, name);
    assert_string_equal(s->path, "");
    assert_true(fcntl(s->fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(s->fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(dial_port(s->port), 0);
    http_socket_close(s);
    assert_int_equal(s->fd, -1);
    assert_int_equal(dial_port(s->port), ECONNREFUSED);
    http_socket_close(s); /* once is enough, twice does no harm */
}

static void test_ipv6(void **state)
{
    (void)state;
    const struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), v6only = 0;
    bool there = probe >= 0 && bind(probe, (const struct sockaddr *)&sa, sizeof sa) == 0;
    socklen_t n = sizeof v6only;
    if (probe >= 0)
        close(probe);
    if (!there)
        skip();
    struct opened o = open_one("[::1]:0");
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.sockets[0].family, AF_INET6);
    assert_memory_equal(o.sockets[0].name, "[::1]:", 6);
    assert_true(o.sockets[0].port > 0);
    assert_int_equal(getsockopt(o.sockets[0].fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &n), 0);
    assert_int_equal(v6only, 1);
    close_all(&o);
}

/* One of several fails: what is open already is the caller's to close. */
static void test_port_in_use(void **state)
{
    (void)state;
    struct opened first = open_one("127.0.0.1:0");
    const char *taken = first.sockets[0].name;
    check_refused(taken);
    const char *const texts[] = {"127.0.0.1:0", taken, "127.0.0.1:0"};
    struct opened o = open_all(texts, 3, false, 0660);
    assert_int_equal(o.rc, EX_UNAVAILABLE);
    assert_int_equal(o.count, 1);
    close_all(&o);
    o = open_all(texts, 3, true, 0660); /* nor does the default excuse it */
    assert_int_equal(o.rc, EX_UNAVAILABLE);
    close_all(&o);
    close_all(&first);
    /* Nothing lingers: the port can be had again at once. */
    o = open_one(taken);
    assert_int_equal(o.rc, 0);
    close_all(&o);
}

/* What is logged of such an address: beside one that opens, or alone. */
static void logged_of(const char *const *texts, size_t n, bool is_default, char *out, size_t max)
{
    int pipes[2], saved = dup(2);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(dup2(pipes[1], 2), 2);
    struct opened o = open_all(texts, n, is_default, 0660);
    log_flush();
    dup2(saved, 2);
    close(saved);
    close(pipes[1]);
    ssize_t got = read(pipes[0], out, max - 1);
    out[got > 0 ? got : 0] = '\0';
    close(pipes[0]);
    close_all(&o);
}

static void test_what_is_said_of_it(void **state)
{
    (void)state;
    const char *const both[] = {ABSENT, "127.0.0.1:0"};
    char text[1000];
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    logged_of(both, 2, true, text, sizeof text);
    assert_non_null(strstr(text, "address=" ABSENT " step=bind"));
    assert_non_null(strstr(text, " warn "));
    assert_null(strstr(text, " error "));
    logged_of(both, 2, false, text, sizeof text);
    assert_non_null(strstr(text, " error listen: address=" ABSENT));
    logged_of(both, 1, true, text, sizeof text);
    assert_non_null(strstr(text, " error listen: "));
}

static void test_address_the_machine_lacks(void **state)
{
    (void)state;
    const char *const both[] = {"127.0.0.1:0", ABSENT}, *const reversed[] = {ABSENT, "127.0.0.1:0"};
    const char *const only[] = {ABSENT};
    struct opened o = open_all(both, 2, true, 0660);
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.count, 1);
    close_all(&o);
    o = open_all(reversed, 2, true, 0660);
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.count, 1);
    assert_int_equal(o.sockets[0].family, AF_INET);
    close_all(&o);
    o = open_all(both, 2, false, 0660);
    assert_int_equal(o.rc, EX_UNAVAILABLE);
    assert_int_equal(o.count, 1);
    close_all(&o);
    o = open_all(only, 1, true, 0660);
    assert_int_equal(o.rc, EX_UNAVAILABLE);
    assert_int_equal(o.count, 0);
}

static void test_more_than_there_is_room_for(void **state)
{
    (void)state;
    const char *const texts[SOCKETS + 1] = {"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0",
                                            "127.0.0.1:0", "127.0.0.1:0"};
    struct opened o = open_all(texts, SOCKETS, false, 0660);
    assert_int_equal(o.rc, 0);
    assert_int_equal(o.count, SOCKETS);
    close_all(&o);
    o = open_all(texts, SOCKETS + 1, false, 0660);
    assert_int_equal(o.rc, EX_OSERR);
    assert_int_equal(o.count, SOCKETS);
    close_all(&o);
}

static void test_ill_formed(void **state)
{
    (void)state;
    check_refused("127.0.0.1");
    check_refused("127.0.0.1:65536");
    check_refused(":80");
    check_refused("localhost:0");
    check_refused("");
}

/* Unix sockets */

static void test_unix_socket(void **state)
{
    (void)state;
    struct opened o = open_one(bind_text);
    struct http_socket *s = &o.sockets[0];
    assert_int_equal(o.rc, 0);
    assert_int_equal(s->family, AF_UNIX);
    assert_string_equal(s->path, path);
    assert_string_equal(s->name, bind_text);
    assert_true(fcntl(s->fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(s->fd, F_GETFL) & O_NONBLOCK);
    assert_int_equal(dial_path(), 0);
    http_socket_close(s);
    assert_false(path_exists());
    http_socket_close(s);
}

/* The bits are those asked for, whatever the umask, which is as before afterwards. */
static void test_mode_bits(void **state)
{
    (void)state;
    static const mode_t masks[] = {0, 022, 0777}, modes[] = {0600, 0660, 0666, 0620, 0777};
    const char *const texts[] = {bind_text};
    mode_t mine = umask(0);
    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        for (size_t k = 0; k < sizeof modes / sizeof modes[0]; k++) {
            umask(masks[i]);
            struct opened o = open_all(texts, 1, false, (int64_t)modes[k]);
            assert_int_equal(umask(0), masks[i]);
            assert_int_equal(o.rc, 0);
            assert_true(S_ISSOCK(mode_of_path()));
            assert_int_equal(mode_of_path() & 07777, modes[k]);
            close_all(&o);
        }
    }
    umask(mine);
}

/* What a killed daemon left behind is taken over. */
static void test_stale_path(void **state)
{
    (void)state;
    close(foreign_socket(SOCK_STREAM, 5));
    assert_int_equal(dial_path(), ECONNREFUSED);
    struct opened o = open_one(bind_text);
    assert_int_equal(o.rc, 0);
    assert_int_equal(dial_path(), 0);
    close_all(&o);
    assert_false(path_exists());
}

static void test_living_socket(void **state)
{
    (void)state;
    int fd = foreign_socket(SOCK_STREAM, 5);
    check_refused(bind_text);
    assert_true(S_ISSOCK(mode_of_path()));
    assert_int_equal(dial_path(), 0);
    close(fd);
    unlink(path);
}

/* It lives, only it has no room for another connection just now. */
static void test_living_socket_with_full_backlog(void **state)
{
    (void)state;
    int fd = foreign_socket(SOCK_STREAM, 0), fillers[8];
    struct sockaddr_un sa = address_of(path);
    size_t n = 0;
    bool full = false;
    for (; n < 8 && !full; n++) {
        fillers[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        full = connect(fillers[n], (struct sockaddr *)&sa, sizeof sa) != 0 && errno == EAGAIN;
    }
    assert_true(full);
    check_refused(bind_text);
    assert_true(path_exists());
    while (n > 0)
        close(fillers[--n]);
    close(fd);
    unlink(path);
}

static void test_other_kind_of_socket(void **state)
{
    (void)state;
    int fd = foreign_socket(SOCK_DGRAM, -1);
    check_refused(bind_text);
    assert_true(path_exists());
    close(fd);
    unlink(path);
}

static void test_regular_file(void **state)
{
    (void)state;
    char text[16] = "";
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("precious", file);
    fclose(file);
    check_refused(bind_text);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_string_equal(text, "precious");
    unlink(path);
}

/* A link is not followed, wherever it leads. */
static void test_links(void **state)
{
    (void)state;
    char target[100];
    snprintf(target, sizeof target, "%s/target", directory);
    assert_int_equal(symlink(target, path), 0);
    check_refused(bind_text);
    assert_true(S_ISLNK(mode_of_path()));
    struct sockaddr_un sa = address_of(target);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    close(fd); /* stale, and still not ours */
    check_refused(bind_text);
    assert_true(S_ISLNK(mode_of_path()));
    assert_int_equal(unlink(target), 0);
    unlink(path);
}

static void test_paths_that_cannot_be(void **state)
{
    (void)state;
    char text[300];
    assert_int_equal(mkdir(path, 0700), 0);
    check_refused(bind_text);
    assert_int_equal(rmdir(path), 0);
    snprintf(text, sizeof text, "unix:%s/missing/socket", directory);
    check_refused(text);
    snprintf(text, sizeof text, "unix:%s/%0150d", directory, 0);
    check_refused(text);
}

/* --- what a reload names of it --- */

static bool is_named(const struct http_socket *s, const char *const *texts, size_t n)
{
    struct config_listener conf = {.bind = {.items = (char **)(uintptr_t)texts, .count = n}};
    return http_socket_is_named(s, &conf);
}

#define NAMED(s, ...)                                        \
    is_named(s, (const char *const[]){__VA_ARGS__},          \
             sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void test_named(void **state)
{
    (void)state;
    struct http_socket v4 = {.family = AF_INET, .address = {4, {127, 0, 0, 1}}, .port = 4284};
    struct http_socket v6 = {.family = AF_INET6, .address = {6, {[15] = 1}}, .port = 4284};
    struct http_socket local = {.family = AF_UNIX, .path = "/run/a"};
    assert_true(NAMED(&v4, "unix:/run/a", "127.0.0.1:4284"));
    assert_true(NAMED(&v4, "127.0.0.1:0"));
    assert_false(NAMED(&v4, "127.0.0.1:4285", "127.0.0.2:4284", "0.0.0.0:4284", "[::1]:4284"));
    assert_true(NAMED(&v6, "127.0.0.1:4284", "[::1]:4284"));
    assert_true(NAMED(&v6, "[0:0::1]:0"));
    assert_false(NAMED(&v6, "127.0.0.1:4284", "[::]:4284"));
    assert_true(NAMED(&local, "127.0.0.1:4284", "unix:/run/a"));
    assert_true(NAMED(&local, "unix://run/./a"));
    assert_false(NAMED(&local, "unix:/run/b", "unix:/run/", "127.0.0.1:4284"));
    assert_false(is_named(&local, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_port_0),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_port_in_use),
        cmocka_unit_test(test_address_the_machine_lacks),
        cmocka_unit_test(test_what_is_said_of_it),
        cmocka_unit_test(test_more_than_there_is_room_for),
        cmocka_unit_test(test_ill_formed),
        cmocka_unit_test(test_unix_socket),
        cmocka_unit_test(test_mode_bits),
        cmocka_unit_test(test_stale_path),
        cmocka_unit_test(test_living_socket),
        cmocka_unit_test(test_living_socket_with_full_backlog),
        cmocka_unit_test(test_other_kind_of_socket),
        cmocka_unit_test(test_regular_file),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_paths_that_cannot_be),
        cmocka_unit_test(test_named),
    };
    return cmocka_run_group_tests_name("http_listen", tests, set_up, tear_down);
}
