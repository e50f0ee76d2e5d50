/* SPDX-License-Identifier: MIT
 *
 * main - options and one call; the rest is libgatherd.a.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <ares.h>
#include <curl/curl.h>
#include <jansson.h>
#include <microhttpd.h>
#include <uv.h>

#include "build.h"
#include "config.h"
#include "gatherd.h"
#include "log.h"
#include "memory.h"

enum { OVERRIDES_MAX = 256 };

static const char default_path[] = SYSCONFDIR "/gatherd/gatherd.conf";

static void print_help(FILE *to)
{
    fprintf(to,
            "Usage: gatherd [-c FILE] [-o SECTION.KEY=VALUE]... [-t | -T | -V | -h]\n"
            "Fetches lists of URLs for local programs: POST them to /v1/batch.\n\n"
            "  -c, --config FILE     read FILE instead of %s\n"
            "  -o, --option K=V      set one option, over the file; may be repeated\n"
            "  -t, --test            check the configuration and exit (0 or 78)\n"
            "  -T, --dump            print the effective configuration and exit\n"
            "  -V, --version         print versions and exit\n"
            "  -h, --help            print this and exit\n\n"
            "Options are explained in gatherd.conf(5), the HTTP API in gatherd-api(7).\n",
            default_path);
}

static void print_version(void)
{
    const curl_version_info_data *curl = curl_version_info(CURLVERSION_NOW);
    printf("gatherd %s\n", PACKAGE_VERSION);
    printf("libcurl %s (%s, zlib %s%s%s%s%s)\n", curl->version,
           curl->ssl_version ? curl->ssl_version : "no TLS",
           curl->libz_version ? curl->libz_version : "none",
           curl->features & CURL_VERSION_BROTLI ? ", brotli" : "",
           curl->features & CURL_VERSION_ZSTD ? ", zstd" : "",
           curl->features & CURL_VERSION_HTTP2 ? ", HTTP/2" : "",
           curl->features & CURL_VERSION_IDN ? ", IDN" : "");
    printf("libmicrohttpd %s\n", MHD_get_version());
    printf("libuv %s\n", uv_version_string());
    printf("jansson %s\n", JANSSON_VERSION);
    printf("c-ares %s\n", ares_version(NULL));
}

/* All of what was printed, also what went out before; else a word about it. */
static int close_print(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EX_OK;
    fprintf(stderr, "gatherd: standard output: %s\n", strerror(errno));
    return EX_IOERR;
}

struct options {
    const char *path;
    const char *overrides[OVERRIDES_MAX];
    size_t override_count;
    bool test, dump;
};

/* Returns -1 to go on, else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'}, {"option", required_argument, NULL, 'o'},
        {"test", no_argument, NULL, 't'},         {"dump", no_argument, NULL, 'T'},
        {"version", no_argument, NULL, 'V'},      {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "c:o:tTVh", longs, NULL)) != -1) {
        if (c == 'c') {
            o->path = optarg;
        } else if (c == 'o' && o->override_count < OVERRIDES_MAX) {
            o->overrides[o->override_count++] = optarg;
        } else if (c == 't') {
            o->test = true;
        } else if (c == 'T') {
            o->dump = true;
        } else if (c == 'V') {
            print_version();
            return close_print();
        } else if (c == 'h') {
            print_help(stdout);
            return close_print();
        } else {
            if (c == 'o')
                fprintf(stderr, "gatherd: more than %d options -o; use a file\n", OVERRIDES_MAX);
            fprintf(stderr, "Try `gatherd --help'.\n");
            return EX_USAGE;
        }
    }
    if (optind == argc)
        return -1;
    fprintf(stderr, "gatherd: unexpected argument `%s'; try `gatherd --help'\n", argv[optind]);
    return EX_USAGE;
}

static int print_config(const struct config *config)
{
    struct buf out;
    buf_init(&out, 0);
    config_dump(config, &out);
    fwrite(buf_cstr(&out), 1, out.len, stdout);
    bool failed = out.failed;
    buf_fini(&out);
    if (!failed)
        return close_print();
    fputs("gatherd: out of memory\n", stderr);
    return EX_OSERR;
}

static int test_config(const struct config *config)
{
    struct buf errors;
    buf_init(&errors, 0);
    bool ok = gatherd_check(config, &errors);
    fputs(buf_cstr(&errors), stderr);
    buf_fini(&errors);
    if (ok)
        fprintf(stderr, "gatherd: the configuration is fine\n");
    return ok ? EX_OK : EX_CONFIG;
}

/* Of who was started without them: else the first files opened would be standard descriptors, and a
 * pipe of libuv's standard error. What is written to one of these fails, as on a closed one. */
static void open_standard(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDONLY);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* A reload that is asked for while the configuration is read waits for the loop, which unblocks it
 * (gatherd.c): the signal would end us, and a manager may send it as soon as we are there. */
static void hold_reload(void)
{
    sigset_t reload;
    sigemptyset(&reload);
    sigaddset(&reload, SIGHUP);
    sigprocmask(SIG_BLOCK, &reload, NULL);
}

int main(int argc, char **argv)
{
    struct options options = {.path = NULL};
    struct buf errors;
    hold_reload();
    open_standard();
    int rc = parse_options(argc, argv, &options);
    memory_setup();
    if (rc >= 0)
        return rc;
    const struct config_source source = {
        .path = options.path != NULL ? options.path : default_path,
        .absent = options.path == NULL && !config_exists(default_path),
        .overrides = options.overrides,
        .override_count = options.override_count,
    };
    buf_init(&errors, 0);
    struct config *config = config_load(source.absent ? NULL : source.path, source.overrides,
                                        source.override_count, &errors);
    bool no_memory = config == NULL && errors.failed;
    fputs(no_memory ? "gatherd: out of memory\n" : buf_cstr(&errors), stderr);
    buf_fini(&errors);
    if (config == NULL)
        return no_memory ? EX_OSERR : EX_CONFIG;
    log_setup((enum log_level)config->daemon.log_level, (enum log_format)config->daemon.log_format);
    if (options.test)
        rc = test_config(config);
    else if (options.dump)
        rc = print_config(config);
    else
        return gatherd_run(config, &source);
    config_destroy(config);
    return rc;
}
