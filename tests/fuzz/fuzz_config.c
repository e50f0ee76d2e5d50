/* SPDX-License-Identifier: MIT
 *
 * fuzz_config - a configuration as `gatherd -t` reads it: the file, then overrides as of -o, then
 * policies and the files that it names.
 *
 * The input is the file; a line that is "-o" ends it, and each line behind that is one override.
 * The file lies in memory (memfd), so that nothing is written; a conf.d beside it does not exist
 * there.
 *
 * Promised: a refusal has its reasons, one a line, of printable text, and the file's name or "-o"
 * in front; what is taken is within its ranges, and its dump can be loaded and dumps the same; of
 * a configuration and itself nothing needs a restart.
 */
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "access.h"
#include "config.h"
#include "gatherd.h"

#define OVERRIDES_MAX 16

struct input {
    int fd;
    char path[32];
    char *overrides[OVERRIDES_MAX];
    size_t count;
};

static void put_file(struct input *in, const void *data, size_t n)
{
    in->fd = memfd_create("gatherd.conf", MFD_CLOEXEC);
    FUZZ_ASSERT(in->fd >= 0 && write(in->fd, data, n) == (ssize_t)n);
    snprintf(in->path, sizeof in->path, "/proc/self/fd/%d", in->fd);
}

/* Where the line "-o" begins; n when there is none. */
static size_t file_end(const char *s, size_t n)
{
    for (size_t i = 0; i + 3 <= n; i++) {
        if ((i == 0 || s[i - 1] == '\n') && memcmp(s + i, "-o\n", 3) == 0)
            return i;
    }
    return n;
}

static void take_input(struct input *in, const uint8_t *data, size_t size)
{
    size_t file = file_end((const char *)data, size), rest = file + (file < size ? 3 : 0);
    put_file(in, data, file);
    data += rest;
    size -= rest;
    while (size > 0 && in->count < OVERRIDES_MAX) {
        const char *line;
        size_t n = fuzz_take_until(&data, &size, '\n', &line);
        in->overrides[in->count++] = fuzz_text(line, n);
    }
}

static void drop_input(struct input *in)
{
    close(in->fd);
    for (size_t i = 0; i < in->count; i++)
        free(in->overrides[i]);
}

/* Nothing in it can drive a terminal, and no line is empty. */
static void check_words(const struct buf *errors)
{
    for (size_t i = 0; i < errors->len; i++) {
        unsigned char c = (unsigned char)errors->data[i];
        FUZZ_ASSERT(c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f));
        FUZZ_ASSERT(c != '\n' || (i > 0 && errors->data[i - 1] != '\n'));
    }
    FUZZ_ASSERT(errors->len == 0 || errors->data[errors->len - 1] == '\n');
}

static void check_ranges(const struct config *c)
{
    const struct config_limits *l = &c->limits;
    FUZZ_ASSERT(c->listener_count >= 1 && c->listener_count <= CONFIG_NAMED_MAX);
    FUZZ_ASSERT(c->policy_count >= 1 && c->policy_count <= CONFIG_NAMED_MAX);
    FUZZ_ASSERT(l->requests >= 1 && l->requests <= l->queued && l->per_host >= 1);
    FUZZ_ASSERT(l->per_host <= l->in_flight && l->clients >= 1 && l->body_bytes > 0);
    FUZZ_ASSERT(l->head_bytes > 0 && l->upstream_head_bytes > 0 && l->response_bytes >= 0);
    FUZZ_ASSERT(c->fetch.timeout_us > 0 && c->fetch.deadline_us > 0 && c->fetch.max_redirects >= 0);
    for (size_t i = 0; i < c->policy_count; i++) {
        FUZZ_ASSERT(c->policies[i].insecure == 0 || c->policies[i].insecure == 1);
        FUZZ_ASSERT(c->policies[i].userinfo == 0 || c->policies[i].userinfo == 1);
    }
    size_t addresses = 0;
    for (size_t i = 0; i < c->listener_count; i++) {
        const struct config_listener *k = &c->listeners[i];
        struct config_bind bind;
        FUZZ_ASSERT(config_find_policy(c, k->policy) != NULL);
        FUZZ_ASSERT(k->mode >= 0 && k->mode <= 0777 && k->head_timeout_us > 0);
        addresses += k->bind.count;
        for (size_t b = 0; b < k->bind.count; b++)
            FUZZ_ASSERT(config_parse_bind(k->bind.items[b], &bind));
    }
    FUZZ_ASSERT(addresses > 0);
}

static void check_dump(const struct config *c)
{
    struct buf dump, again, errors;
    struct input file = {.count = 0};
    buf_init(&dump, 0);
    buf_init(&again, 0);
    buf_init(&errors, 0);
    config_dump(c, &dump);
    FUZZ_ASSERT(!dump.failed);
    put_file(&file, dump.data, dump.len);
    struct config *other = config_load(file.path, NULL, 0, &errors);
    FUZZ_ASSERT(other != NULL);
    config_dump(other, &again);
    FUZZ_ASSERT(dump.len == again.len && memcmp(dump.data, again.data, dump.len) == 0);
    buf_clear(&again);
    config_needs_restart(c, other, &again);
    FUZZ_ASSERT(again.len == 0);
    config_destroy(other);
    drop_input(&file);
    buf_fini(&dump);
    buf_fini(&again);
    buf_fini(&errors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.count = 0};
    struct buf errors;
    take_input(&in, data, size);
    buf_init(&errors, 0);
    struct config *c =
        config_load(in.path, (const char *const *)in.overrides, in.count, &errors);
    FUZZ_ASSERT((c == NULL) == (errors.len > 0));
    if (c != NULL) {
        check_ranges(c);
        check_dump(c);
        FUZZ_ASSERT(gatherd_check(c, &errors) == (errors.len == 0));
    }
    check_words(&errors);
    config_destroy(c);
    buf_fini(&errors);
    drop_input(&in);
    return 0;
}
