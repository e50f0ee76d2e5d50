/* SPDX-License-Identifier: MIT
 *
 * notify: what the environment says, and what a service manager's socket receives, by path and by
 * abstract name. Nothing that goes wrong may show.
 */
#include "notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "../lib/process.h"

static char directory[80];

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/test_notify.XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(directory);
}

static void environment(const char *socket_name, const char *watchdog, const char *pid)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    if (socket_name)
        setenv("NOTIFY_SOCKET", socket_name, 1);
    if (watchdog)
        setenv("WATCHDOG_USEC", watchdog, 1);
    if (pid)
        setenv("WATCHDOG_PID", pid, 1);
}

static struct notify init(const char *socket_name, const char *watchdog, const char *pid)
{
    struct notify n;
    memset(&n, 0x55, sizeof n);
    environment(socket_name, watchdog, pid);
    notify_init(&n);
    environment(NULL, NULL, NULL);
    return n;
}

/* The same for what the environment alone decides. */
static struct notify said(const char *socket_name, const char *watchdog, const char *pid)
{
    struct notify n = init(socket_name, watchdog, pid);
    notify_fini(&n);
    return n;
}

/* The service manager: a datagram socket at a path, or at an abstract name (a leading '@'). */
static int manager_open(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    size_t n = strlen(name);
    assert_true(n < sizeof at.sun_path);
    memcpy(at.sun_path, name, n);
    if (name[0] == '@')
        at.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (struct sockaddr *)&at,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)), 0);
    return fd;
}

static void check_received(int fd, const char *expected)
{
    char text[1024];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    assert_string_equal(text, expected);
}

static void test_environment(void **state)
{
    (void)state;
    char too_long[200] = "/", longest[108] = "/", me[16];
    memset(too_long + 1, 'x', sizeof too_long - 2);
    memset(longest + 1, 'x', sizeof longest - 2);
    snprintf(me, sizeof me, "%d", (int)getpid());
    assert_string_equal(said(NULL, NULL, NULL).path, "");
    assert_string_equal(said("/run/systemd/notify", NULL, NULL).path, "/run/systemd/notify");
    assert_string_equal(said("@abstract", NULL, NULL).path, "@abstract");
    assert_string_equal(said("relative", NULL, NULL).path, "");
    assert_string_equal(said("", NULL, NULL).path, "");
    assert_string_equal(said(too_long, NULL, NULL).path, "");
    assert_string_equal(said(longest, NULL, NULL).path, longest);
    assert_int_equal(said(NULL, NULL, NULL).watchdog_us, 0);
    assert_int_equal(said(NULL, "30000000", NULL).watchdog_us, 30000000);
    assert_int_equal(said(NULL, "30000000", me).watchdog_us, 30000000);
}

/* The watchdog of another process, or none that makes sense. */
static void test_watchdog_refused(void **state)
{
    (void)state;
    assert_int_equal(said(NULL, "30000000", "1").watchdog_us, 0);
    assert_int_equal(said(NULL, "30000000", "me").watchdog_us, 0);
    assert_int_equal(said(NULL, "0", NULL).watchdog_us, 0);
    assert_int_equal(said(NULL, "-1", NULL).watchdog_us, 0);
    assert_int_equal(said(NULL, "soon", NULL).watchdog_us, 0);
    assert_int_equal(said(NULL, "9223372036854775807", NULL).watchdog_us, 0);
}

static void test_received_at_a_path(void **state)
{
    (void)state;
    char path[100];
    snprintf(path, sizeof path, "%s/notify", directory);
    int fd = manager_open(path);
    struct notify n = init(path, NULL, NULL);
    notify_send(&n, "READY=1\nSTATUS=%s %d", "listens on", 2);
    check_received(fd, "READY=1\nSTATUS=listens on 2");
    notify_send(&n, "STOPPING=1");
    check_received(fd, "STOPPING=1");
    notify_fini(&n);
    close(fd);
    unlink(path);
}

static void test_received_at_an_abstract_name(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "@gatherd-test-%d", (int)getpid());
    int fd = manager_open(name);
    struct notify n = init(name, NULL, NULL);
    notify_send(&n, "WATCHDOG=1");
    check_received(fd, "WATCHDOG=1");
    notify_fini(&n);
    close(fd);
}

/* A state that is too long is cut; it never grows beyond its room. */
static void test_long_state_is_cut(void **state)
{
    (void)state;
    char name[64], words[800], expected[512];
    snprintf(name, sizeof name, "@gatherd-test-%d", (int)getpid());
    memset(words, 'w', sizeof words);
    words[sizeof words - 1] = '\0';
    snprintf(expected, sizeof expected, "STATUS=%.504s", words);
    int fd = manager_open(name);
    struct notify n = init(name, NULL, NULL);
    notify_send(&n, "STATUS=%s", words);
    check_received(fd, expected);
    notify_fini(&n);
    close(fd);
}

static void test_nobody_there(void **state)
{
    (void)state;
    size_t before = open_descriptors();
    struct notify nobody = init(NULL, NULL, NULL), gone = init("/nonexistent/notify", NULL, NULL);
    notify_send(&nobody, "READY=1");
    notify_send(&gone, "READY=1");
    notify_fini(&nobody);
    notify_fini(&gone);
    assert_int_equal(open_descriptors(), before);
}

/* A manager that does not read must not hold us up: what finds no room is lost. */
static void test_full_socket_does_not_block(void **state)
{
    (void)state;
    char name[64], text[64];
    int received = 0;
    enum { SENT = 20000 };
    snprintf(name, sizeof name, "@gatherd-test-%d", (int)getpid());
    int fd = manager_open(name);
    struct notify n = init(name, NULL, NULL);
    size_t before = open_descriptors();
    for (int i = 0; i < SENT; i++)
        notify_send(&n, "WATCHDOG=1");
    assert_int_equal(open_descriptors(), before);
    while (recv(fd, text, sizeof text, 0) > 0)
        received++;
    assert_in_range(received, 1, SENT - 1);
    notify_send(&n, "READY=1");
    check_received(fd, "READY=1");
    notify_fini(&n);
    close(fd);
}

/* Whoever has no descriptor left is still alive. */
static void test_no_descriptor_is_left(void **state)
{
    (void)state;
    char name[64];
    struct rlimit before, none;
    snprintf(name, sizeof name, "@gatherd-test-%d", (int)getpid());
    int fd = manager_open(name);
    struct notify n = init(name, NULL, NULL);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    notify_send(&n, "WATCHDOG=1");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    check_received(fd, "WATCHDOG=1");
    notify_fini(&n);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_watchdog_refused),
        cmocka_unit_test(test_received_at_a_path),
        cmocka_unit_test(test_received_at_an_abstract_name),
        cmocka_unit_test(test_long_state_is_cut),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_full_socket_does_not_block),
        cmocka_unit_test(test_no_descriptor_is_left),
    };
    return cmocka_run_group_tests_name("notify", tests, set_up, tear_down);
}
