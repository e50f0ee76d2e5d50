/* SPDX-License-Identifier: MIT
 *
 * fail - one call of malloc, or of the system, fails: the Nth since it was armed. Preloaded into
 * gatherd by tests/lib/failing.py (LD_PRELOAD), which maps the same file as the shared `struct
 * control` and can so arm a running daemon again and again.
 *
 * Counts what the program's threads ask for between the beginning and the end of main(), whatever
 * library asks; not what libuv does, which aborts by design when memory or an epoll entry is denied
 * to it: its mapping is looked up once and the caller's address compared. Calls through which libuv
 * begins a loop (epoll_create1, eventfd, pipe2) report their failure and do count, and so does the
 * epoll entry that uv_poll_init() makes on trial.
 *
 * It also sees what is closed and was not open: once more than it was opened, mostly.
 *
 * The one trick: until the dynamic linker is through (and the address sanitizer, whose allocator
 * may be the real one) memory comes from a small array, which free() knows by its address.
 */
#undef _FILE_OFFSET_BITS /* open() and open64() are two functions here */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    KIND_MEMORY = 1,
    KIND_SYSTEM = 2,
    KIND_MULTI = 4,  /* curl_multi_init() */
    KIND_STALL = 8,  /* connect() does not return while this is set; what calls it counts as failed */
    KIND_LIMIT = 16, /* setrlimit() */
};

struct control { /* failing.py has the same layout */
    _Atomic int64_t kinds;   /* a mask of KIND_; 0 = nothing is counted */
    _Atomic int64_t at;      /* which one fails; 0 = none does, -1 = all do */
    _Atomic int64_t counted; /* since failing.py set it to 0 */
    _Atomic int64_t failed;
    _Atomic int64_t not_open; /* closes of what was not */
    char what[64]; /* the call that failed, and who made it */
    char who[192];
};

static struct control *control;
static atomic_bool in_main;
static uintptr_t uv_begin, uv_end;
static __thread bool inside; /* this file's own calls do not count */

#define CALLER ((uintptr_t)__builtin_return_address(0))

/* --- when --- */

static int find_uv(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    if (strstr(info->dlpi_name, "/libuv.so") == NULL)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD)
            continue;
        uintptr_t begin = info->dlpi_addr + p->p_vaddr, end = begin + p->p_memsz;
        uv_begin = uv_begin == 0 || begin < uv_begin ? begin : uv_begin;
        uv_end = end > uv_end ? end : uv_end;
    }
    return 1;
}

static void setup(void)
{
    const char *path = getenv("GATHERD_FAIL");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    dl_iterate_phdr(find_uv, NULL);
    if (map != MAP_FAILED)
        control = map;
}

static void note(const char *what, uintptr_t caller)
{
    Dl_info info = {0};
    inside = true;
    snprintf(control->what, sizeof control->what, "%s", what);
    if (dladdr((void *)caller, &info) != 0 && info.dli_fname != NULL)
        snprintf(control->who, sizeof control->who, "%s+0x%lx (%s)", info.dli_fname,
                 (unsigned long)(caller - (uintptr_t)info.dli_fbase),
                 info.dli_sname != NULL ? info.dli_sname : "?");
    inside = false;
}

static bool fails(int kind, const char *what, uintptr_t caller, bool also_uv)
{
    if (!atomic_load_explicit(&in_main, memory_order_relaxed) || control == NULL || inside)
        return false;
    if ((control->kinds & kind) == 0 || (!also_uv && caller >= uv_begin && caller < uv_end))
        return false;
    int64_t number = atomic_fetch_add(&control->counted, 1) + 1, at = control->at;
    if (at >= 0 && number != at)
        return false;
    note(what, caller);
    atomic_fetch_add(&control->failed, 1);
    return true;
}

static void *next(const char *name)
{
    inside = true;
    void *real = dlsym(RTLD_NEXT, name);
    inside = false;
    if (real == NULL)
        abort();
    return real;
}

/* REAL(x): a static pointer to the function of that name behind this one. */
#define REAL(name)                         \
    static __typeof__(name) *real;         \
    if (real == NULL)                      \
        real = (__typeof__(name) *)next(#name)

#define FAILS(what, error)                                  \
    if (fails(KIND_SYSTEM, (what), CALLER, true)) {         \
        errno = (error);                                    \
        return -1;                                          \
    }

/* --- memory --- */

static char early[1 << 20];
static size_t early_used;
static void *(*real_malloc)(size_t), *(*real_calloc)(size_t, size_t), *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);

static bool is_early(const void *p)
{
    return (const char *)p >= early && (const char *)p < early + sizeof early;
}

static void *early_alloc(size_t n)
{
    size_t at = early_used;
    early_used += (n + 31) & ~(size_t)15;
    if (early_used > sizeof early)
        abort();
    return early + at;
}

static bool ready(void)
{
    return real_free != NULL;
}

static void __attribute__((constructor)) find_memory(void)
{
    real_malloc = (void *(*)(size_t))next("malloc");
    real_calloc = (void *(*)(size_t, size_t))next("calloc");
    real_realloc = (void *(*)(void *, size_t))next("realloc");
    real_free = (void (*)(void *))next("free");
}

static bool denied(const char *what, uintptr_t caller)
{
    if (!fails(KIND_MEMORY, what, caller, false))
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n)
{
    if (!ready())
        return early_alloc(n);
    return denied("malloc", CALLER) ? NULL : real_malloc(n);
}

void *calloc(size_t count, size_t n)
{
    if (!ready())
        return early_alloc(count * n);
    return denied("calloc", CALLER) ? NULL : real_calloc(count, n);
}

void *realloc(void *p, size_t n)
{
    if (!ready() || is_early(p)) {
        void *to = malloc(n);
        if (to != NULL && p != NULL)
            memcpy(to, p, n < (size_t)(early + sizeof early - (char *)p)
                              ? n
                              : (size_t)(early + sizeof early - (char *)p));
        return to;
    }
    return denied("realloc", CALLER) ? NULL : real_realloc(p, n);
}

void free(void *p)
{
    if (!is_early(p) && ready())
        real_free(p);
}

/* --- descriptors and threads --- */

int socket(int domain, int type, int protocol)
{
    REAL(socket);
    FAILS("socket", EMFILE)
    return real(domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int fds[2])
{
    REAL(socketpair);
    FAILS("socketpair", EMFILE)
    return real(domain, type, protocol, fds);
}

int accept(int fd, struct sockaddr *address, socklen_t *n)
{
    REAL(accept);
    FAILS("accept", EMFILE)
    return real(fd, address, n);
}

int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
    REAL(accept4);
    FAILS("accept4", ENFILE)
    return real(fd, address, n, flags);
}

int epoll_create1(int flags)
{
    REAL(epoll_create1);
    FAILS("epoll_create1", EMFILE)
    return real(flags);
}

int eventfd(unsigned value, int flags)
{
    REAL(eventfd);
    FAILS("eventfd", EMFILE)
    return real(value, flags);
}

int pipe2(int fds[2], int flags)
{
    REAL(pipe2);
    FAILS("pipe2", EMFILE)
    return real(fds, flags);
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

#define OPEN_LIKE(name)                     \
    int name(const char *path, int flags, ...) \
    {                                       \
        va_list args;                       \
        va_start(args, flags);              \
        mode_t mode = mode_of(flags, args); \
        va_end(args);                       \
        REAL(name);                         \
        FAILS(#name, EMFILE)                \
        return real(path, flags, mode);     \
    }

OPEN_LIKE(open)
OPEN_LIKE(open64)

#define OPENAT_LIKE(name)                            \
    int name(int dir, const char *path, int flags, ...) \
    {                                                \
        va_list args;                                \
        va_start(args, flags);                       \
        mode_t mode = mode_of(flags, args);          \
        va_end(args);                                \
        REAL(name);                                  \
        FAILS(#name, EMFILE)                         \
        return real(dir, path, flags, mode);         \
    }

OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)

#define FOPEN_LIKE(name)                                   \
    FILE *name(const char *path, const char *mode)         \
    {                                                      \
        REAL(name);                                        \
        if (fails(KIND_SYSTEM, #name, CALLER, true)) {     \
            errno = EMFILE;                                \
            return NULL;                                   \
        }                                                  \
        return real(path, mode);                           \
    }

FOPEN_LIKE(fopen)
FOPEN_LIKE(fopen64)

/* Only what makes a descriptor; nothing here is called with another kind of third argument. */
#define FCNTL_LIKE(name)                                         \
    int name(int fd, int command, ...)                           \
    {                                                            \
        va_list args;                                            \
        va_start(args, command);                                 \
        void *arg = va_arg(args, void *);                        \
        va_end(args);                                            \
        REAL(name);                                              \
        if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {  \
            FAILS("fcntl(F_DUPFD)", EMFILE)                      \
        }                                                        \
        return real(fd, command, arg);                           \
    }

FCNTL_LIKE(fcntl)
FCNTL_LIKE(fcntl64)

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    REAL(pthread_create);
    if (fails(KIND_SYSTEM, "pthread_create", CALLER, true))
        return EAGAIN;
    return real(thread, attr, fn, arg);
}

int close(int fd)
{
    REAL(close);
    int rc = real(fd);
    if (fd >= 0 && rc != 0 && errno == EBADF && control != NULL) /* libcurl closes -1 */
        atomic_fetch_add(&control->not_open, 1);
    return rc;
}

/* --- what is done with them --- */

static void stall(uintptr_t caller)
{
    if (control == NULL || (control->kinds & KIND_STALL) == 0)
        return;
    note("connect", caller);
    atomic_fetch_add(&control->failed, 1);
    while ((control->kinds & KIND_STALL) != 0)
        usleep(10000);
}

int connect(int fd, const struct sockaddr *address, socklen_t n)
{
    REAL(connect);
    stall(CALLER);
    FAILS("connect", ENETUNREACH)
    return real(fd, address, n);
}

int bind(int fd, const struct sockaddr *address, socklen_t n)
{
    REAL(bind);
    FAILS("bind", EADDRINUSE)
    return real(fd, address, n);
}

int listen(int fd, int backlog)
{
    REAL(listen);
    FAILS("listen", EADDRINUSE)
    return real(fd, backlog);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *n)
{
    REAL(getsockname);
    FAILS("getsockname", ENOBUFS)
    return real(fd, address, n);
}

int getpeername(int fd, struct sockaddr *address, socklen_t *n)
{
    REAL(getpeername);
    FAILS("getpeername", ENOBUFS)
    return real(fd, address, n);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
    REAL(setsockopt);
    FAILS("setsockopt", ENOBUFS)
    return real(fd, level, name, value, n);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *n)
{
    REAL(getsockopt);
    FAILS("getsockopt", ENOBUFS)
    return real(fd, level, name, value, n);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    bool trial = event != NULL && event->data.fd == -1;
    if (operation != EPOLL_CTL_DEL && fails(KIND_SYSTEM, "epoll_ctl", CALLER, trial)) {
        errno = ENOSPC;
        return -1;
    }
    return real(epoll, operation, fd, event);
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
    REAL(send);
    FAILS("send", ECONNRESET)
    return real(fd, data, n, flags);
}

/* What gatherd's own send() calls, which libcurl has. */
ssize_t sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *to,
               socklen_t to_len)
{
    REAL(sendto);
    if (to == NULL)
        FAILS("sendto", ECONNRESET)
    return real(fd, data, n, flags, to, to_len);
}

ssize_t recv(int fd, void *data, size_t n, int flags)
{
    REAL(recv);
    FAILS("recv", ECONNRESET)
    return real(fd, data, n, flags);
}

/* --- what one of them alone is for --- */

void *curl_multi_init(void);
void *curl_multi_init(void)
{
    REAL(curl_multi_init);
    return fails(KIND_MULTI, "curl_multi_init", CALLER, false) ? NULL : real();
}

#define SETRLIMIT_LIKE(name, type)                                                \
    int name(__rlimit_resource_t resource, const struct type *limit)              \
    {                                                                             \
        REAL(name);                                                               \
        if (fails(KIND_LIMIT, #name, CALLER, true)) {                             \
            errno = EPERM;                                                        \
            return -1;                                                            \
        }                                                                         \
        return real(resource, limit);                                             \
    }

SETRLIMIT_LIKE(setrlimit, rlimit)
SETRLIMIT_LIKE(setrlimit64, rlimit64)

/* --- main --- */

typedef int main_function(int, char **, char **);
static main_function *real_main;

static int around_main(int argc, char **argv, char **environment)
{
    setup();
    in_main = true;
    int rc = real_main(argc, argv, environment);
    in_main = false;
    return rc;
}

int __libc_start_main(main_function *program, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(main_function *program, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    REAL(__libc_start_main);
    real_main = program;
    return real(around_main, argc, argv, init, fini, rtld_fini, stack_end);
}
