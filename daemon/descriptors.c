/* SPDX-License-Identifier: MIT
 *
 * descriptors - see descriptors.h. Called by gatherd at the start and at each reload, on the
 * front's thread. Pure but for the number of processors, and for descriptors_provide().
 *
 * The process itself has some for its loops, for libcurl's multis (each wakes itself by two) and
 * for the listeners. Of the rest a client takes two (the second one watches for its hang-up), a
 * transfer one, and each multi keeps at least one idle connection, because libcurl knows no smaller
 * bound. A transfer that tries two addresses has two for a moment: for that, and for files that a
 * reload reads, a few are left over. While the name of one is asked for over TCP, it has none yet.
 */
#include "descriptors.h"

#include <sys/resource.h>

#include <uv.h>

#include "log.h"

enum {
    PROCESS = 12,      /* standard streams, the front's loop and bells, signals, service manager */
    FILES = 8,         /* of a reload, of a second address */
    SPARE = 64,        /* where there are enough */
    LOOP = 7,          /* of a fetch loop: epoll, wake-up, signals, two name servers, routes */
    MULTIS = 3,        /* a policy has them in each loop, */
    UNVERIFIED = 2,    /* and these where it has `insecure = yes` */
    MULTI = 2,         /* each to wake it */
    LISTENING = 2,     /* a listening socket and its epoll */
    CLIENT = 2,
    LOOPS_SHARE = 3,   /* loops = auto may take one in three */
};

static int64_t loops_of(const struct config *c)
{
    int64_t n = c->daemon.loops == CONFIG_AUTO ? uv_available_parallelism() : c->daemon.loops;
    return n > 0 ? n : 1;
}

/* Those that are open; before the start those that will be. */
static int64_t addresses_of(const struct config *c, int64_t open)
{
    int64_t n = open;
    for (size_t i = 0; open == 0 && i < c->listener_count; i++)
        n += (int64_t)c->listeners[i].bind.count;
    return n > 0 ? n : 1;
}

static int64_t multis_of(const struct config *c)
{
    int64_t n = 0;
    for (size_t i = 0; i < c->policy_count; i++)
        n += MULTIS + (c->policies[i].insecure ? UNVERIFIED : 0);
    return loops_of(c) * n;
}

static int64_t of_loops(const struct config *c)
{
    return loops_of(c) * LOOP + multis_of(c) * MULTI;
}

static int64_t of_process(const struct config *c, int64_t open)
{
    return PROCESS + FILES + addresses_of(c, open) * LISTENING + of_loops(c);
}

static int64_t of_clients(const struct config *c, int64_t open)
{
    return addresses_of(c, open) * c->limits.clients * CLIENT;
}

/* What each multi may keep of idle connections: each loop gives all of its multis its share. */
static int64_t idle_share(const struct config *c)
{
    return (c->fetch.idle_connections + loops_of(c) - 1) / loops_of(c);
}

int64_t descriptors_wanted(const struct config *c, int64_t open)
{
    return of_process(c, open) + SPARE + of_clients(c, open) + c->limits.in_flight +
           multis_of(c) * idle_share(c);
}

int64_t descriptors_least(const struct config *c, int64_t open)
{
    return of_process(c, open) + addresses_of(c, open) * CLIENT + 1;
}

static int64_t between(int64_t n, int64_t most)
{
    if (n > most)
        return most;
    return n < 1 ? 1 : n;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void fit_loops(struct config *c, int64_t available)
{
    while (c->daemon.loops == CONFIG_AUTO && loops_of(c) > 1 &&
           of_loops(c) > available / LOOPS_SHARE)
        c->daemon.loops = loops_of(c) - 1;
}

/* Idle connections and transfers may have a quarter each; what they do not want is for clients. */
static void fit_clients(struct config *c, int64_t left)
{
    int64_t multis = multis_of(c);
    left -= between(left / 4 / multis, idle_share(c)) * multis;
    left -= between(left / 3, c->limits.in_flight);
    c->limits.clients = between(left / CLIENT / addresses_of(c, 0), c->limits.clients);
}

/* What the clients leave, halved unless one of the two wants less: by this alone, at the start and
 * at a reload, so that one of the same file changes nothing. */
static void fit_connections(struct config *c, int64_t left)
{
    int64_t multis = multis_of(c);
    int64_t idle = larger(left / 2, left - c->limits.in_flight);
    idle = between(idle / multis, idle_share(c)); /* a multi */
    c->fetch.idle_connections = idle * loops_of(c);
    c->limits.in_flight = between(left - idle * multis, c->limits.in_flight);
}

bool descriptors_fit(struct config *c, int64_t available, int64_t open)
{
    if (descriptors_wanted(c, open) <= available)
        return false;
    if (open == 0) {
        fit_loops(c, available);
        fit_clients(c, available - of_process(c, 0));
    }
    c->fetch.few_descriptors = true;
    fit_connections(c, available - of_process(c, open) - of_clients(c, open));
    return true;
}

int64_t descriptors_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max > INT64_MAX)
        return INT64_MAX;
    return (int64_t)files.rlim_max;
}

/* RLIMIT_NOFILE, raised to what is wanted as far as that may be; less than 0: not known. */
static int64_t raise_limit(int64_t wanted)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return -1;
    if (files.rlim_cur < (rlim_t)wanted) {
        rlim_t most = files.rlim_max;
        files.rlim_cur = most == RLIM_INFINITY || (rlim_t)wanted < most ? (rlim_t)wanted : most;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0 && getrlimit(RLIMIT_NOFILE, &files) != 0)
            return -1;
    }
    return files.rlim_cur < INT64_MAX ? (int64_t)files.rlim_cur : INT64_MAX;
}

bool descriptors_provide(struct config *c, int64_t open)
{
    int64_t wanted = descriptors_wanted(c, open), available = raise_limit(wanted);
    if (available < 0)
        return false;
    if (descriptors_fit(c, available, open))
        LOG_WARN("gatherd",
                 "descriptors=%lld wanted=%lld clients=%lld in_flight=%lld idle_connections=%lld "
                 "hint=\"LimitNOFILE= or fewer clients\"",
                 (long long)available, (long long)wanted, (long long)c->limits.clients,
                 (long long)c->limits.in_flight, (long long)c->fetch.idle_connections);
    return true;
}
