/* SPDX-License-Identifier: MIT
 *
 * heap - for LD_PRELOAD: writes every half a second how many bytes of the heap are in use, as eight
 * bytes of the machine, into the file that GATHERD_HEAP names. RSS does not tell: a block in use
 * keeps its page, and which pages those are changes all the time.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

static void *watch(void *file)
{
    volatile uint64_t *bytes = file;
    for (;;) {
#ifdef __GLIBC__ /* elsewhere it stays 0, and who reads it says so */
        struct mallinfo2 info = mallinfo2(); /* all arenas; hblkhd: mappings of their own */
        *bytes = info.uordblks + info.hblkhd;
#endif
        usleep(500000);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void)
{
    sigset_t all, before;
    pthread_t thread;
    const char *path = getenv("GATHERD_HEAP");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *file = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (file == MAP_FAILED)
        return;
    sigfillset(&all); /* signals are the daemon's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_create(&thread, NULL, watch, file);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
