/* SPDX-License-Identifier: MIT
 *
 * memory - the process's heap: how malloc is told to behave, and when what is free goes back to the
 * kernel. glibc keeps freed memory for the next one who asks, as long as anything younger is still
 * in use above it; after ten thousand clients or a batch of 100,000 that is most of it.
 */
#ifndef GATHERD_MEMORY_H
#define GATHERD_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory { /* how things stood when memory was last given back; zeroed at first */
    int64_t resident_bytes;
    size_t clients;
};

/* Once, at the start, while there is one thread. */
void memory_setup(void);

/* What the process has in memory (RSS), bytes; 0 when the kernel does not say. */
int64_t memory_resident(void);

/* Whether it is worth while: memory has grown by a quarter and 16 MiB, or half of the clients (and
 * at least 256) have left, since it was last given back. Keeps m up to date where memory shrank by
 * itself. */
bool memory_is_slack(struct memory *m, int64_t resident_bytes, size_t clients);

/* Asks all that and gives back what is free, if it is worth while, or in any case at rest: when the
 * engines have freed what they kept, which shows in no figure before. For a moment when nobody
 * waits: it takes some 0.1 ms for 10 MiB, and 50 ms and more when 10,000 clients have pieces of 400
 * MiB. */
void memory_give_back(struct memory *m, size_t clients, bool rest);

#endif
