/* SPDX-License-Identifier: MIT
 *
 * config - every option of gatherd in one table, from which parsing, defaults, ranges, the `-T`
 * dump, `-t` messages and the documentation check come.
 *
 * A struct config is read whole into fresh memory, checked whole, and then never changes; a reload
 * makes another one. Sources, lowest first: built-in default, the file and its conf.d/ directory
 * (every *.conf beside the file, in strcmp order), then -o. A list key that is repeated in one
 * source adds to the list; a higher source replaces a lower one's value.
 *
 * The file is INI, parsed by inih through our own line reader: one key a line, `#` and `;` start
 * comment lines, sections [daemon] [limits] [fetch] [listener NAME] [policy NAME]. An unknown
 * section or key, a bad value, a line over 198 bytes, text after `]`, or an indented line is an
 * error that names file and line.
 */
#ifndef GATHERD_CONFIG_H
#define GATHERD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "cidr.h"

#define CONFIG_NAMED_MAX 16     /* most [listener NAME] or [policy NAME] sections of a kind */
#define CONFIG_NAME_MAX 32      /* bytes of a NAME */
#define CONFIG_ADDRESSES_MAX 64 /* most addresses of all listeners */

struct str_list {
    char **items; /* NUL-terminated, owned */
    size_t count;
};

enum config_base { POLICY_BASE_PUBLIC, POLICY_BASE_PRIVATE, POLICY_BASE_UNSAFE_ANY };
enum config_redirects { REDIRECTS_SAME_CLASS, REDIRECTS_NONE, REDIRECTS_ANY };
enum config_policy_mode { POLICY_MODE_ENFORCE, POLICY_MODE_REPORT };
enum config_http_version { HTTP_VERSION_AUTO, HTTP_VERSION_1_1, HTTP_VERSION_2 };

#define CONFIG_AUTO (-1) /* a number that is left to gatherd */

struct config_daemon {
    int64_t loops;            /* fetch threads; 0 = all on one. Default auto: one a processor */
    int64_t log_level;        /* enum log_level: error warn info debug. Default info */
    int64_t log_format;       /* enum log_format: text json. Default text */
    int64_t drain_timeout_us; /* 30s: how long SIGTERM waits for running batches */
};

struct config_listener {
    char *name;             /* "default" for the built-in one */
    struct str_list bind;   /* ADDRESS:PORT or unix:PATH. Default 127.0.0.1:4284 [::1]:4284 */
    bool bind_is_default;   /* nobody set bind: an address the machine lacks is only a warning */
    struct str_list hosts;  /* further names that Host may carry */
    char *token_file;       /* NULL = no token asked; a file of `name:token` lines */
    char *policy;           /* name of a [policy] section. Default "default" */
    int64_t mode;           /* permission bits of a Unix socket, octal in the file. Default 0660 */
    char *group;            /* of a Unix socket, name or number; NULL = the process's own */
    struct str_list peers; /* users, names or numbers, that may ask on a Unix socket; empty = all */
    int64_t head_timeout_us; /* 10s: whole head, from accept; a later one from its first line */
    int64_t body_timeout_us; /* 30s: whole request body */
    int64_t send_timeout_us; /* 30s: for each 32 KiB of the answer that the client takes */
    int64_t keep_alive_us;   /* 30s: idle, from an answer's end to the next request line */
};

struct config_policy {
    char *name;
    int64_t base;           /* enum config_base: public private unsafe-any. Default public */
    struct str_list allow;  /* ADDRESS or PREFIX, maybe :PORT or :PORT-PORT, v6 bracketed then */
    struct str_list deny;
    struct str_list ports;      /* PORT or LOW-HIGH that may be asked for; empty = all */
    struct str_list allow_host; /* "PATTERN -> ADDRESS-OR-PREFIX ...", one a line */
    struct str_list deny_host;  /* patterns, see hostname.h */
    int64_t redirects;          /* enum config_redirects: same-class none any. Default same-class */
    int64_t mode;               /* enum config_policy_mode: enforce report. Default enforce */
    int64_t userinfo;           /* 1: URLs may carry user:password@. Default no */
    int64_t insecure;           /* 1: members may go without a check of certificates. Default no */
};

struct config_limits { /* defaults in the table; ranges too */
    int64_t clients;             /* 4096 open client connections */
    int64_t body_bytes;          /* 4M request body */
    int64_t request_bytes;       /* 256M request bodies held for all clients; at least body_bytes */
    int64_t requests;            /* 10000 members a batch */
    int64_t in_flight;           /* 256 transfers at once, all batches */
    int64_t queued;              /* 100000 members waiting, all batches */
    int64_t per_host;            /* 100 transfers at once to one scheme://host:port */
    int64_t per_client_batches;  /* 0 = no limit; batches of one identity, head to answer's end */
    int64_t per_client_members;  /* 0 = no limit; members of one identity, until answers are read */
    int64_t per_client_rate;     /* members of one identity: n > 0 a second, -n a minute; 0 = any */
    int64_t head_bytes;          /* 16K head of a client's request */
    int64_t upstream_head_bytes; /* 64K 1xx, head and trailers of one hop */
    int64_t response_bytes;      /* 10M decoded body of one member, largest max_response_bytes */
    int64_t answer_bytes;        /* 256M bodies and headers held for all answers */
    int64_t lookups;             /* 1000 DNS look-ups at once */
};

struct config_fetch {
    int64_t timeout_us;         /* 30s */
    int64_t connect_timeout_us; /* 5s */
    int64_t deadline_us;        /* 60s */
    int64_t max_redirects;      /* 10 */
    char *user_agent;           /* "gatherd/VERSION" */
    int64_t http_version;       /* enum config_http_version: auto 1.1 2. Default auto */
    char *ca_file;              /* NULL = libcurl's built-in bundle */
    int64_t idle_connections;   /* 512 kept-alive upstream connections */
    int64_t idle_time_us;       /* 60s: an unused one is closed after that */
    struct str_list dns_servers; /* ADDRESS[:PORT]; empty = /etc/resolv.conf */
    bool few_descriptors;        /* no option: descriptors_fit() had to lower something */
};

struct config {
    struct config_daemon daemon;
    struct config_limits limits;
    struct config_fetch fetch;
    struct config_listener *listeners; /* at least "default" */
    size_t listener_count;
    struct config_policy *policies; /* at least "default" */
    size_t policy_count;
};

/* Whether something is at the path, be it unreadable or a link to nothing: both are config_load()'s
 * to report. Only what is certainly not there may be left out. */
bool config_exists(const char *path);

/* Reads defaults, then `path` (NULL: none) with its conf.d, then overrides[0..count) of the form
 * "section.key=value" or "section.NAME.key=value". Returns the configuration (the caller destroys
 * it), or NULL with one or more messages `file:line: what is wrong and what would be right\n` in
 * *errors. Contradicting limits (requests > queued, per_host > in_flight, unknown policy name ...)
 * are errors too. Reads files; no other side effect. */
struct config *config_load(const char *path, const char *const *overrides, size_t count,
                           struct buf *errors);
void config_destroy(struct config *c);

/* The effective configuration in the file's own syntax, loadable again (-T). */
void config_dump(const struct config *c, struct buf *out);

const struct config_policy *config_find_policy(const struct config *c, const char *name);

/* Whether both say the same, name and all. */
bool config_policy_equal(const struct config_policy *a, const struct config_policy *b);

/* For a reload: appends the options that differ between the two and that only a restart takes, as
 * "limits.clients listener.default.bind", separated by blanks; a listener that only one of them has
 * is "listener.NAME". One of which a reload takes lower values (lower_at_once in config_table.h) is
 * among them only if `next` has more of it; so now has what is in force. Nothing when a reload
 * takes all. */
void config_needs_restart(const struct config *now, const struct config *next, struct buf *out);

struct config_bind { /* one item of config_listener.bind */
    const char *path;  /* into the text: a Unix socket's path; NULL = TCP */
    struct ip_addr ip; /* TCP only, as port */
    uint16_t port;     /* 0 = any */
};

/* Reads ADDRESS:PORT, [v6]:PORT or unix:/PATH; false when it is none of them. Every item of a
 * loaded configuration is one. */
bool config_parse_bind(const char *text, struct config_bind *out);

/* Whether two such items are one address, however they are spelt. */
bool config_bind_equal(const char *a, const char *b);

/* Whether two paths of Unix sockets are one but for // and /./ */
bool config_path_equal(const char *a, const char *b);

#endif
