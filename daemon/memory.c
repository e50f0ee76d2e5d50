/* SPDX-License-Identifier: MIT
 *
 * memory - see memory.h. main() sets it up; http_front asks for it when it is idle, because giving
 * memory back is one long call and cannot be sliced.
 *
 * A block from MAP_BYTES up is a mapping of its own and goes back when it is freed: long bodies,
 * the members of a large batch, a stream's backlog. Saying so stops glibc from raising that bound
 * each time such a block is freed, up to 32 MiB, after which they would lie between small ones.
 * What is free at the heap's end goes back by itself from TOP_BYTES on, which is far enough for the
 * batches of everyday life not to move that end each time.
 */
#include "memory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "clock.h"
#include "log.h"
#include "parse.h"

enum {
    MAP_BYTES = 256 << 10,
    TOP_BYTES = 2 << 20,
    GROWTH_LEAST = 16 << 20,
    CLIENTS_LEAST = 256,
};

void memory_setup(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, MAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, TOP_BYTES);
#endif
}

/* The second number of /proc/self/statm, in pages. */
int64_t memory_resident(void)
{
    char text[128], *rest = text;
    int64_t pages;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    parse_word(&rest);
    const char *word = parse_word(&rest);
    if (word == NULL || !parse_int(word, 0, INT64_MAX, &pages))
        return 0;
    return pages * sysconf(_SC_PAGESIZE);
}

bool memory_is_slack(struct memory *m, int64_t resident_bytes, size_t clients)
{
    if (resident_bytes < m->resident_bytes)
        m->resident_bytes = resident_bytes;
    if (clients > m->clients)
        m->clients = clients;
    int64_t growth = m->resident_bytes / 4;
    return resident_bytes - m->resident_bytes >= (growth > GROWTH_LEAST ? growth : GROWTH_LEAST) ||
           (m->clients - clients >= CLIENTS_LEAST && clients <= m->clients / 2);
}

void memory_give_back(struct memory *m, size_t clients, bool rest)
{
    int64_t before = memory_resident();
    if (!memory_is_slack(m, before, clients) && !rest)
        return;
    int64_t begin = clock_us();
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    *m = (struct memory){memory_resident(), clients};
    LOG_DEBUG("memory", "gave_back=%lld resident=%lld took_us=%lld",
              (long long)(before - m->resident_bytes), (long long)m->resident_bytes,
              (long long)(clock_us() - begin));
}
