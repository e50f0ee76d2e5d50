/* SPDX-License-Identifier: MIT
 *
 * config: defaults, each message, the rank of the sources, conf.d, the round trip of the dump, and
 * that no bytes at all break more than the configuration. Files are written to a directory of the
 * test's own; its name is cut out of the messages before they are compared.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "build.h"
#include "config_table.h"
#include "log.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MAIN_FILE "gatherd.conf"
#define TEXT_MAX 65536

/* --- a directory with files ------------------------------------------------------------------ */

static char directory[PATH_MAX];
static char messages[TEXT_MAX]; /* of the last load */

static const char *path_of(const char *name)
{
    static char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, const void *data, size_t n)
{
    /* A new file, not the old one cut short: some file systems write that to the disk at once. */
    unlink(path_of(name));
    FILE *file = fopen(path_of(name), "we");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

static void remove_file(const char *name)
{
    assert_int_equal(unlink(path_of(name)), 0);
}

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/test_config.XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(directory) && mkdir(path_of("conf.d"), 0700) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path_of(MAIN_FILE));
    return rmdir(path_of("conf.d")) == 0 && rmdir(directory) == 0 ? 0 : -1;
}

/* --- loading --------------------------------------------------------------------------------- */

/* Into messages, without "directory/". */
static void keep_messages(struct buf *errors)
{
    const char *text = buf_cstr(errors);
    size_t n = strlen(directory), used = 0;
    assert_false(errors->failed);
    while (*text) {
        if (strncmp(text, directory, n) == 0 && text[n] == '/') {
            text += n + 1;
            continue;
        }
        assert_true(used < sizeof messages - 1);
        messages[used++] = *text++;
    }
    messages[used] = '\0';
}

static struct config *load(const char *path, const char *const *overrides, size_t count)
{
    struct buf errors;
    buf_init(&errors, 0);
    struct config *c = config_load(path, overrides, count, &errors);
    keep_messages(&errors);
    buf_fini(&errors);
    assert_true((c == NULL) == (messages[0] != '\0'));
    return c;
}

static struct config *load_good(const char *path, const char *const *overrides, size_t count)
{
    struct config *c = load(path, overrides, count);
    assert_string_equal(messages, "");
    assert_non_null(c);
    return c;
}

static struct config *load_text(const char *text)
{
    write_text(MAIN_FILE, text);
    return load_good(path_of(MAIN_FILE), NULL, 0);
}

static struct config *load_override(const char *override)
{
    return load_good(NULL, &override, 1);
}

/* The file's text is refused with exactly these messages. */
static void expect_refused(const char *text, size_t n, const char *expected)
{
    write_file(MAIN_FILE, text, n);
    assert_null(load(path_of(MAIN_FILE), NULL, 0));
    assert_string_equal(messages, expected);
}

static char *dump_of(const struct config *c)
{
    struct buf out;
    size_t n;
    buf_init(&out, 0);
    config_dump(c, &out);
    buf_add_char(&out, '\0');
    assert_false(out.failed);
    return buf_take(&out, &n);
}

/* What c says, c can read: and then says the same. */
static void assert_round_trip(const struct config *c)
{
    char *first = dump_of(c);
    struct config *again = load_text(first);
    char *second = dump_of(again);
    assert_string_equal(first, second);
    free(first);
    free(second);
    config_destroy(again);
}

static void assert_list(const struct str_list *list, const char *expected)
{
    char joined[1024] = "";
    size_t used = 0;
    for (size_t i = 0; i < list->count; i++) {
        int n = snprintf(joined + used, sizeof joined - used, "%s%s", i > 0 ? " " : "",
                         list->items[i]);
        assert_true(n > 0 && (size_t)n < sizeof joined - used);
        used += (size_t)n;
    }
    assert_string_equal(joined, expected);
}

/* --- defaults -------------------------------------------------------------------------------- */

static void assert_default_listener(const struct config_listener *l)
{
    assert_string_equal(l->name, "default");
    assert_list(&l->bind, "127.0.0.1:4284 [::1]:4284");
    assert_true(l->bind_is_default);
    assert_list(&l->hosts, "");
    assert_null(l->token_file);
    assert_string_equal(l->policy, "default");
    assert_int_equal(l->mode, 0660);
    assert_int_equal(l->head_timeout_us, 10000000);
    assert_int_equal(l->body_timeout_us, 30000000);
    assert_int_equal(l->send_timeout_us, 30000000);
    assert_int_equal(l->keep_alive_us, 30000000);
}

static void assert_default_limits(const struct config_limits *l)
{
    assert_int_equal(l->clients, 4096);
    assert_int_equal(l->body_bytes, 4 << 20);
    assert_int_equal(l->request_bytes, 256 << 20);
    assert_int_equal(l->requests, 10000);
    assert_int_equal(l->in_flight, 256);
    assert_int_equal(l->queued, 100000);
    assert_int_equal(l->per_host, 100);
    assert_int_equal(l->head_bytes, 16 << 10);
    assert_int_equal(l->upstream_head_bytes, 64 << 10);
    assert_int_equal(l->response_bytes, 10 << 20);
    assert_int_equal(l->answer_bytes, 256 << 20);
    assert_int_equal(l->lookups, 1000);
}

static void assert_default_fetch(const struct config_fetch *f)
{
    assert_int_equal(f->timeout_us, 30000000);
    assert_int_equal(f->connect_timeout_us, 5000000);
    assert_int_equal(f->deadline_us, 60000000);
    assert_int_equal(f->max_redirects, 10);
    assert_string_equal(f->user_agent, "gatherd/" PACKAGE_VERSION);
    assert_int_equal(f->http_version, HTTP_VERSION_AUTO);
    assert_null(f->ca_file);
    assert_int_equal(f->idle_connections, 512);
    assert_int_equal(f->idle_time_us, 60000000);
    assert_list(&f->dns_servers, "");
}

static void test_defaults(void **state)
{
    (void)state;
    struct config *c = load_good(NULL, NULL, 0);
    assert_int_equal(c->daemon.loops, CONFIG_AUTO);
    assert_int_equal(c->daemon.log_level, LOG_LEVEL_INFO);
    assert_int_equal(c->daemon.log_format, LOG_FORMAT_TEXT);
    assert_int_equal(c->daemon.drain_timeout_us, 30000000);
    assert_default_limits(&c->limits);
    assert_default_fetch(&c->fetch);
    assert_int_equal(c->listener_count, 1);
    assert_default_listener(&c->listeners[0]);
    assert_int_equal(c->policy_count, 1);
    assert_string_equal(c->policies[0].name, "default");
    assert_int_equal(c->policies[0].base, POLICY_BASE_PUBLIC);
    assert_list(&c->policies[0].allow, "");
    assert_list(&c->policies[0].deny, "");
    config_destroy(c);
    config_destroy(NULL);
}

static void test_empty_files(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "\n", "# only a comment", "   \n\t\n", "\xEF\xBB\xBF", "\xEF\xBB\xBF# a BOM\n",
        "[daemon]", "[limits]\r\n\r\n", "[listener default]\n[policy default]\n",
    };
    struct config *c = load_good(NULL, NULL, 0);
    char *expected = dump_of(c);
    config_destroy(c);
    for (size_t i = 0; i < COUNT(texts); i++) {
        c = load_text(texts[i]);
        char *dump = dump_of(c);
        assert_string_equal(dump, expected);
        assert_true(c->listeners[0].bind_is_default);
        free(dump);
        config_destroy(c);
    }
    free(expected);
}

/* --- values ---------------------------------------------------------------------------------- */

static void test_every_option(void **state)
{
    (void)state;
    struct config *c = load_text(
        "[daemon]\nloops = 3\nlog_level = debug\nlog_format = json\ndrain_timeout = 1d\n"
        "[limits]\nclients = 1\nbody_bytes = 1G\nrequests = 2\nin_flight = 65536\n"
        "queued = 10000000\nper_host = 65536\nhead_bytes = 1M\nupstream_head_bytes = 16M\n"
        "response_bytes = 0\nanswer_bytes = 1024G\nlookups = 10000\n"
        "[fetch]\ntimeout = 1ms\nconnect_timeout=1.5s\ndeadline =2m\nmax_redirects = 0\n"
        "user_agent = Mozilla/5.0 (X11; a \"b\" = c)\nhttp_version = 1.1\nca_file = /a b/ca.pem\n"
        "idle_connections = 0\nidle_time = 90\n"
        "dns_servers = 192.0.2.1 ::1 192.0.2.1:53 [::1]:5353\n"
        "[listener default]\nbind = unix:/run/g.sock\nhosts = a.example localhost_2\n"
        "token_file = /t\npolicy = inner-1\nmode = 600\nhead_timeout = 1h\nbody_timeout = 1500us\n"
        "send_timeout = 2000us\nkeep_alive = 24h\n"
        "[policy inner-1]\nbase = private\nallow = 10.0.0.1 [fc00::/7]:1-65535\ndeny = ::/0\n");
    assert_int_equal(c->daemon.loops, 3);
    assert_int_equal(c->daemon.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(c->daemon.log_format, LOG_FORMAT_JSON);
    assert_int_equal(c->daemon.drain_timeout_us, INT64_C(86400000000));
    assert_int_equal(c->limits.clients, 1);
    assert_int_equal(c->limits.body_bytes, 1 << 30);
    assert_int_equal(c->limits.requests, 2);
    assert_int_equal(c->limits.in_flight, 65536);
    assert_int_equal(c->limits.queued, 10000000);
    assert_int_equal(c->limits.per_host, 65536);
    assert_int_equal(c->limits.head_bytes, 1 << 20);
    assert_int_equal(c->limits.upstream_head_bytes, 16 << 20);
    assert_int_equal(c->limits.response_bytes, 0);
    assert_int_equal(c->limits.answer_bytes, INT64_C(1) << 40);
    assert_int_equal(c->limits.lookups, 10000);
    assert_int_equal(c->fetch.timeout_us, 1000);
    assert_int_equal(c->fetch.connect_timeout_us, 1500000);
    assert_int_equal(c->fetch.deadline_us, 120000000);
    assert_int_equal(c->fetch.max_redirects, 0);
    assert_string_equal(c->fetch.user_agent, "Mozilla/5.0 (X11; a \"b\" = c)");
    assert_int_equal(c->fetch.http_version, HTTP_VERSION_1_1);
    assert_string_equal(c->fetch.ca_file, "/a b/ca.pem");
    assert_int_equal(c->fetch.idle_connections, 0);
    assert_int_equal(c->fetch.idle_time_us, 90000000);
    assert_list(&c->fetch.dns_servers, "192.0.2.1 ::1 192.0.2.1:53 [::1]:5353");
    const struct config_listener *l = &c->listeners[0];
    assert_list(&l->bind, "unix:/run/g.sock");
    assert_false(l->bind_is_default);
    assert_list(&l->hosts, "a.example localhost_2");
    assert_string_equal(l->token_file, "/t");
    assert_string_equal(l->policy, "inner-1");
    assert_int_equal(l->mode, 0600);
    assert_int_equal(l->head_timeout_us, INT64_C(3600000000));
    assert_int_equal(l->body_timeout_us, 1500);
    assert_int_equal(l->send_timeout_us, 2000);
    assert_int_equal(l->keep_alive_us, INT64_C(86400000000));
    const struct config_policy *p = config_find_policy(c, "inner-1");
    assert_ptr_equal(p, &c->policies[1]);
    assert_int_equal(p->base, POLICY_BASE_PRIVATE);
    assert_list(&p->allow, "10.0.0.1 [fc00::/7]:1-65535");
    assert_list(&p->deny, "::/0");
    assert_null(config_find_policy(c, "inner"));
    assert_round_trip(c);
    config_destroy(c);
}

struct range {
    const char *key; /* section.key of -o */
    const char *least, *most, *below, *above;
    const char *also; /* keeps the cross checks content */
};

/* One value is taken and printed as it stands. */
static void assert_taken(const struct range *r, const char *value)
{
    char override[128], line[128];
    const char *key = strrchr(r->key, '.') + 1;
    snprintf(override, sizeof override, "%s=%s", r->key, value);
    snprintf(line, sizeof line, "\n%s = %s\n", key, value);
    const char *const overrides[] = {override, r->also};
    struct config *c = load_good(NULL, overrides, r->also ? 2 : 1);
    char *dump = dump_of(c);
    if (!strstr(dump, line))
        fail_msg("%s is not in the dump", override);
    free(dump);
    config_destroy(c);
}

static void assert_out_of_range(const struct range *r, const char *value)
{
    char override[128], wrong[128], right[128];
    const char *key = strrchr(r->key, '.') + 1;
    snprintf(override, sizeof override, "%s=%s", r->key, value);
    snprintf(wrong, sizeof wrong, "] %s: \"%s\" is out of range; ", key, value);
    snprintf(right, sizeof right, ", from %s to %s\n", r->least, r->most);
    const char *const overrides[] = {override};
    assert_null(load(NULL, overrides, 1));
    if (!strstr(messages, wrong) || !strstr(messages, right))
        fail_msg("%s: %s", override, messages);
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct range ranges[] = {
        {"daemon.loops", "0", "64", "-1", "65", NULL},
        {"limits.clients", "1", "1000000", "0", "1000001", NULL},
        {"limits.body_bytes", "1K", "1G", "1023", "1073741825", NULL},
        {"limits.request_bytes", "1K", "1024G", "1023", "1025G", NULL},
        {"limits.requests", "1", "1000000", "0", "1000001", "limits.queued=10000000"},
        {"limits.in_flight", "1", "65536", "0", "65537", "limits.per_host=1"},
        {"limits.queued", "1", "10000000", "0", "10000001", "limits.requests=1"},
        {"limits.per_host", "1", "65536", "0", "65537", "limits.in_flight=65536"},
        {"limits.head_bytes", "1K", "1M", "1023", "1048577", NULL},
        {"limits.upstream_head_bytes", "1K", "16M", "1023", "16777217", NULL},
        {"limits.answer_bytes", "1M", "1024G", "1048575", "1099511627777", NULL},
        {"limits.response_bytes", "0", "1024G", NULL, "1025G", NULL},
        {"limits.lookups", "1", "10000", "0", "10001", NULL},
        {"fetch.max_redirects", "0", "100", "-1", "101", NULL},
        {"fetch.idle_connections", "0", "65536", "-1", "9223372036854775808", NULL},
        {"daemon.drain_timeout", "1ms", "24h", "999us", "86401s", NULL},
        {"fetch.timeout", "1ms", "24h", "0", "2d", NULL},
        {"fetch.connect_timeout", "1ms", "24h", "0s", "86400.000001", NULL},
        {"fetch.deadline", "1ms", "24h", "0", "99999999999999999999", NULL},
        {"fetch.idle_time", "1ms", "24h", "0", "25h", NULL},
        {"listener.default.head_timeout", "1ms", "24h", "0", "25h", NULL},
        {"listener.default.body_timeout", "1ms", "24h", "0", "25h", NULL},
        {"listener.default.send_timeout", "1ms", "24h", "0", "25h", NULL},
        {"listener.default.keep_alive", "1ms", "24h", "0", "25h", NULL},
        {"listener.default.mode", "0000", "0777", NULL, "01000", "listener.default.bind=unix:/a"},
    };
    for (size_t i = 0; i < COUNT(ranges); i++) {
        assert_taken(&ranges[i], ranges[i].least);
        assert_taken(&ranges[i], ranges[i].most);
        if (ranges[i].below)
            assert_out_of_range(&ranges[i], ranges[i].below);
        assert_out_of_range(&ranges[i], ranges[i].above);
    }
}

/* How numbers are printed: the largest unit that loses nothing, but 60s and not 1m. */
static void test_units(void **state)
{
    (void)state;
    static const struct {
        const char *override, *line;
    } cases[] = {
        {"fetch.timeout=60", "\ntimeout = 60s\n"},
        {"fetch.timeout=2m", "\ntimeout = 2m\n"},
        {"fetch.timeout=150s", "\ntimeout = 150s\n"},
        {"fetch.timeout=1h", "\ntimeout = 60m\n"},
        {"fetch.timeout=0.0015", "\ntimeout = 1500us\n"},
        {"fetch.timeout=1000ms", "\ntimeout = 1s\n"},
        {"fetch.timeout=1500ms", "\ntimeout = 1500ms\n"},
        {"limits.body_bytes=1536", "\nbody_bytes = 1536\n"},
        {"limits.body_bytes=2048KiB", "\nbody_bytes = 2M\n"},
        {"listener.default.mode=7", "\nmode = 0007\n"},
        {"listener.default.mode=000640", "\nmode = 0640\n"},
        {"fetch.max_redirects=007", "\nmax_redirects = 7\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *const two[] = {"listener.default.bind=unix:/a", cases[i].override};
        struct config *c = load_good(NULL, two, COUNT(two));
        char *dump = dump_of(c);
        if (!strstr(dump, cases[i].line))
            fail_msg("%s is not printed as%s", cases[i].override, cases[i].line);
        free(dump);
        config_destroy(c);
    }
}

static void test_parse_bind(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", ":4284", "4284", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:000080",
        "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1:1x", "127.0.0.1:1:2", "127.1:80", "010.0.0.1:80",
        "localhost:80", "*:80", "::1:80", "[::1]", "[::1]:", "[::1]80", "[::1:80", "[127.0.0.1]:80",
        "[fe80::1%lo]:80", "[]:80", "::1", "unix:", "unix:/", "unix:run/g", "unix:@g", "UNIX:/g",
        "0.0.0.0/0:80",
    };
    struct config_bind bind;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (config_parse_bind(bad[i], &bind))
            fail_msg("%s was taken", bad[i]);
    }
    assert_true(config_parse_bind("127.0.0.1:0", &bind));
    assert_true(!bind.path && bind.ip.family == 4 && bind.ip.bytes[3] == 1 && bind.port == 0);
    assert_true(config_parse_bind("[::]:65535", &bind));
    assert_true(!bind.path && bind.ip.family == 6 && bind.port == 65535);
    const char *text = "unix:/run/g.sock";
    assert_true(config_parse_bind(text, &bind));
    assert_ptr_equal(bind.path, text + 5);
}

static void test_socket_path_length(void **state)
{
    (void)state;
    char text[5 + 109] = "unix:/";
    struct config_bind bind;
    memset(text + 6, 'a', 107);
    text[5 + 107] = '\0';
    assert_true(config_parse_bind(text, &bind));
    text[5 + 107] = 'a';
    text[5 + 108] = '\0';
    assert_false(config_parse_bind(text, &bind));
}

/* --- messages -------------------------------------------------------------------------------- */

struct refusal {
    const char *text, *messages;
};

static void expect_refusals(const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_refused(cases[i].text, strlen(cases[i].text), cases[i].messages);
}

static void test_refused_lines(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"log_level = info\n",
         "gatherd.conf:1: a key before any section; write [daemon] or another above\n"},
        {"\n[daemon]\nlog_level\n",
         "gatherd.conf:3: neither a section nor a key; write key = value\n"},
        {"[daemon]\nlog_level: info\n",
         "gatherd.conf:2: neither a section nor a key; write key = value\n"},
        {"[listener default]\nbind = 127.0.0.1:1\n  127.0.0.1:2\n",
         "gatherd.conf:3: an indented line; start in the first column, repeat the key for a long "
         "list\n"},
        {"[daemon]\n\tlog_level = info\n",
         "gatherd.conf:2: an indented line; start in the first column, repeat the key for a long "
         "list\n"},
        {" [daemon]\n",
         "gatherd.conf:1: an indented line; start in the first column, repeat the key for a long "
         "list\n"},
        {"[daemon]\nlog_level = info ; quiet\n",
         "gatherd.conf:2: a comment after a value; put it on a line of its own\n"},
        {"[daemon]\nlog_level = info # quiet\n",
         "gatherd.conf:2: a comment after a value; put it on a line of its own\n"},
        {"[listener default]\ntoken_file =#x\n",
         "gatherd.conf:2: a comment after a value; put it on a line of its own\n"},
        {"[daemon]\nlog ;level = info\n",
         "gatherd.conf:2: a comment after a value; put it on a line of its own\n"},
        {"[fetch]\nuser_agent = a\x01" "b\n",
         "gatherd.conf:2: control byte 0x01; printable text only\n"},
        {"[fetch]\nuser_agent = a\rb\n",
         "gatherd.conf:2: control byte 0x0D; printable text only\n"},
        {"[fetch]\nuser_agent = a\x7F\n",
         "gatherd.conf:2: control byte 0x7F; printable text only\n"},
        {"[daemon\nlog_level = info\n",
         "gatherd.conf:1: a section without its ]; write [daemon], for instance\n"},
        {"[daemon] # x\n", "gatherd.conf:1: text after ]; put it on a line of its own\n"},
        {"[daemon] log_level = info\n",
         "gatherd.conf:1: text after ]; put it on a line of its own\n"},
        {"[daemon]]\n", "gatherd.conf:1: text after ]; put it on a line of its own\n"},
        {"[]\n",
         "gatherd.conf:1: a section is [daemon], [limits], [fetch], [listener NAME] or "
         "[policy NAME]\n"},
        {"[policy a b]\n",
         "gatherd.conf:1: a section is [daemon], [limits], [fetch], [listener NAME] or "
         "[policy NAME]\n"},
    };
    expect_refusals(cases, COUNT(cases));
}

static void test_refused_sections(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"[limit]\nin_flight = x\n",
         "gatherd.conf:1: unknown section \"limit\"; did you mean limits?\n"},
        {"[Policy x]\n", "gatherd.conf:1: unknown section \"Policy\"; did you mean policy?\n"},
        {"[network]\n",
         "gatherd.conf:1: unknown section \"network\"; daemon, limits, fetch, listener NAME or "
         "policy NAME\n"},
        {"[\x80]\n",
         "gatherd.conf:1: unknown section \"\\x80\"; daemon, limits, fetch, listener NAME or "
         "policy NAME\n"},
        {"[listener]\nbind =\n",
         "gatherd.conf:1: listener needs a name; write listener default for the built-in one\n"},
        {"[policy]\n",
         "gatherd.conf:1: policy needs a name; write policy default for the built-in one\n"},
        {"[fetch fast]\n",
         "gatherd.conf:1: fetch takes no name; write fetch alone, without \"fast\"\n"},
        {"[policy a.b]\n",
         "gatherd.conf:1: \"a.b\" is no name for a policy; 1 to 32 of A-Z a-z 0-9 _ -\n"},
        {"[listener a23456789012345678901234567890123]\n",
         "gatherd.conf:1: \"a23456789012345678901234567890123\" is no name for a listener; 1 to 32 "
         "of A-Z a-z 0-9 _ -\n"},
    };
    expect_refusals(cases, COUNT(cases));
    config_destroy(load_text("[ policy\ta2345678901234567890123456789012 ]\t \n"));
}

static void test_refused_keys(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"[limits]\nin_fligth = 5\n",
         "gatherd.conf:2: [limits] \"in_fligth\": unknown key; did you mean in_flight?\n"},
        {"[listener default]\nkeepalive = 5\n",
         "gatherd.conf:2: [listener default] \"keepalive\": unknown key; did you mean "
         "keep_alive?\n"},
        {"[limits]\nper_origin_rate = 5\n",
         "gatherd.conf:2: [limits] \"per_origin_rate\": unknown key; gatherd.conf(5) lists those "
         "of this section\n"},
        {"[limits]\n= 5\n",
         "gatherd.conf:2: [limits] \"\": unknown key; gatherd.conf(5) lists those of this "
         "section\n"},
        {"[limits]\nIN_FLIGHT = 5\n",
         "gatherd.conf:2: [limits] \"IN_FLIGHT\": unknown key; gatherd.conf(5) lists those of this "
         "section\n"},
        {"[limits]\ndeadline = 5\n",
         "gatherd.conf:2: [limits] \"deadline\": is no key of this section; it belongs to "
         "[fetch]\n"},
        {"[limits]\ndeny = 5\n",
         "gatherd.conf:2: [limits] \"deny\": is no key of this section; it belongs to "
         "[policy NAME]\n"},
        {"[fetch]\ntimeout = 1s\n[daemon]\n[fetch]\ntimeout = 2s\n",
         "gatherd.conf:5: [fetch] timeout: is set twice, first in line 2; remove one\n"},
        {"[policy default]\nbase = public\nbase = public\n",
         "gatherd.conf:3: [policy default] base: is set twice, first in line 2; remove one\n"},
    };
    expect_refusals(cases, COUNT(cases));
}

static void test_refused_values(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"[daemon]\nlog_level = verbose\n",
         "gatherd.conf:2: [daemon] log_level: \"verbose\" is unknown; one of error, warn, info, "
         "debug\n"},
        {"[daemon]\nlog_format =\n",
         "gatherd.conf:2: [daemon] log_format: \"\" is unknown; one of text, json\n"},
        {"[daemon]\nloops = all\n",
         "gatherd.conf:2: [daemon] loops: \"all\" is not of the right form; auto or a whole "
         "number, from 0 to 64\n"},
        {"[daemon]\nloops = -1\n", /* what stands for auto inside */
         "gatherd.conf:2: [daemon] loops: \"-1\" is out of range; auto or a whole number, from 0 "
         "to 64\n"},
        {"[fetch]\nhttp_version = 3\n",
         "gatherd.conf:2: [fetch] http_version: \"3\" is unknown; one of auto, 1.1, 2\n"},
        {"[policy default]\nbase = any\n",
         "gatherd.conf:2: [policy default] base: \"any\" is unknown; one of public, private, "
         "unsafe-any\n"},
        {"[policy default]\ninsecure = true\n",
         "gatherd.conf:2: [policy default] insecure: \"true\" is unknown; one of no, yes\n"},
        {"[policy default]\nuserinfo = 1\n",
         "gatherd.conf:2: [policy default] userinfo: \"1\" is unknown; one of no, yes\n"},
        {"[policy default]\nredirects = all\n",
         "gatherd.conf:2: [policy default] redirects: \"all\" is unknown; one of same-class, none, "
         "any\n"},
        {"[policy default]\nmode = log\n",
         "gatherd.conf:2: [policy default] mode: \"log\" is unknown; one of enforce, report\n"},
        {"[policy default]\nports = 80 0\n",
         "gatherd.conf:2: [policy default] ports: \"0\" is no port; a number from 1 to 65535, or "
         "LOW-HIGH\n"},
        {"[policy default]\nports = 90-80\n",
         "gatherd.conf:2: [policy default] ports: \"90-80\" is no port; a number from 1 to 65535, "
         "or LOW-HIGH\n"},
        {"[policy default]\nallow_host = *.corp.example\n",
         "gatherd.conf:2: [policy default] allow_host: \"*.corp.example\" does not say where the "
         "name may lead; *.corp.example -> 10.0.0.0/8\n"},
        {"[policy default]\nallow_host = *.corp.example ->\n",
         "gatherd.conf:2: [policy default] allow_host: \"*.corp.example ->\" does not say where the "
         "name may lead; *.corp.example -> 10.0.0.0/8\n"},
        {"[policy default]\nallow_host = -> 10.0.0.0/8\n",
         "gatherd.conf:2: [policy default] allow_host: \"-> 10.0.0.0/8\" does not say where the "
         "name may lead; *.corp.example -> 10.0.0.0/8\n"},
        {"[policy default]\nallow_host = a.example -> 10.0.0.1/8\n",
         "gatherd.conf:2: [policy default] allow_host: \"10.0.0.1/8\" is no prefix; as 10.0.0.0/8 "
         "(no bits set behind the 8), 10.0.0.0/8:443 or [fc00::/7]:8000-8999\n"},
        {"[policy default]\nallow_host = 10.0.0.1 -> 10.0.0.1\n",
         "gatherd.conf:2: [policy default] allow_host: \"10.0.0.1\" is an address; allow and deny "
         "take those\n"},
        {"[policy default]\nallow_host = a.example -> 10.0.0.1, 10.0.0.2\n",
         "gatherd.conf:2: [policy default] allow_host: \"10.0.0.1,\" has a comma; items of a list "
         "stand between blanks\n"},
        {"[policy default]\nports = 80,443\n",
         "gatherd.conf:2: [policy default] ports: \"80,443\" has a comma; items of a list stand "
         "between blanks\n"},
        {"[policy default]\ndeny_host = a.example, b.example\n",
         "gatherd.conf:2: [policy default] deny_host: \"a.example,\" has a comma; items of a list "
         "stand between blanks\n"},
        {"[policy default]\ndeny_host = http://a.example\n",
         "gatherd.conf:2: [policy default] deny_host: \"http://a.example\" is a URL; a pattern is "
         "the name of its host alone\n"},
        {"[policy default]\ndeny_host = a.example/b\n",
         "gatherd.conf:2: [policy default] deny_host: \"a.example/b\" has a slash; a pattern is a "
         "name alone, allow and deny take prefixes\n"},
        {"[policy default]\ndeny_host = 10.0.0.0/8\n",
         "gatherd.conf:2: [policy default] deny_host: \"10.0.0.0/8\" is an address; allow and deny "
         "take those\n"},
        {"[policy default]\ndeny_host = evil*.example\n",
         "gatherd.conf:2: [policy default] deny_host: \"evil*.example\" is no host name; "
         "api.corp.example, *.corp.example, or * for every host\n"},
        {"[policy default]\ndeny_host = *evil.example\n",
         "gatherd.conf:2: [policy default] deny_host: \"*evil.example\" has a star that stands for "
         "a part of a label; *.corp.example, or * alone\n"},
        {"[policy default]\ndeny_host = evil.example:80\n",
         "gatherd.conf:2: [policy default] deny_host: \"evil.example:80\" has a port; a pattern is "
         "a name alone, the keys with addresses take ports\n"},
        {"[policy default]\ndeny_host = b\xC3\xBC"
         "cher.example\n",
         "gatherd.conf:2: [policy default] deny_host: \"b\\xC3\\xBCcher.example\" has letters beyond "
         "ASCII; write the name as DNS has it, xn--...\n"},
        {"[policy default]\ndeny_host = 0x7f.1\n",
         "gatherd.conf:2: [policy default] deny_host: \"0x7f.1\" ends in a number, so it is read as "
         "an address; allow and deny take those\n"},
        {"[limits]\nper_client_rate = 5/h\n",
         "gatherd.conf:2: [limits] per_client_rate: \"5/h\" is no rate; 0 (none), or N/s or N/m "
         "with N up to 1000000\n"},
        {"[limits]\nper_client_rate = 1000001\n",
         "gatherd.conf:2: [limits] per_client_rate: \"1000001\" is no rate; 0 (none), or N/s or "
         "N/m with N up to 1000000\n"},
        {"[listener default]\npeers = root \"a\"\n",
         "gatherd.conf:2: [listener default] peers: \"\"a\"\" is no account; its name, or its "
         "number\n"},
        {"[limits]\nclients = many\n",
         "gatherd.conf:2: [limits] clients: \"many\" is not of the right form; a whole number, "
         "from 1 to 1000000\n"},
        {"[limits]\nclients =\n",
         "gatherd.conf:2: [limits] clients: \"\" is not of the right form; a whole number, from 1 "
         "to 1000000\n"},
        {"[limits]\nbody_bytes = 4T\n",
         "gatherd.conf:2: [limits] body_bytes: \"4T\" is not of the right form; bytes, or a whole "
         "number with K, M or G, from 1K to 1G\n"},
        {"[fetch]\ntimeout = 5 s\n",
         "gatherd.conf:2: [fetch] timeout: \"5 s\" is not of the right form; a number with us, ms, "
         "s, m, h or d, from 1ms to 24h\n"},
        {"[listener default]\nmode = 0680\n",
         "gatherd.conf:2: [listener default] mode: \"0680\" is not of the right form; an octal "
         "number, from 0000 to 0777\n"},
        {"[listener default]\nmode = 1777\n",
         "gatherd.conf:2: [listener default] mode: \"1777\" is out of range; an octal number, from "
         "0000 to 0777\n"},
        {"[fetch]\nuser_agent =\n",
         "gatherd.conf:2: [fetch] user_agent: \"\" is no value of a header field; one or more "
         "printable characters\n"},
        {"[listener default]\npolicy =\n",
         "gatherd.conf:2: [listener default] policy: is empty; the NAME of a [policy NAME] "
         "section\n"},
        {"[listener default]\nhosts = ok a:80 http://x .y\n",
         "gatherd.conf:2: [listener default] hosts: \"a:80\" is no host name; a name as clients "
         "write it, without scheme and port\n"
         "gatherd.conf:2: [listener default] hosts: \"http://x\" is no host name; a name as "
         "clients write it, without scheme and port\n"
         "gatherd.conf:2: [listener default] hosts: \".y\" is no host name; a name as clients "
         "write it, without scheme and port\n"},
    };
    expect_refusals(cases, COUNT(cases));
}

/* The part of the message behind the value, for each form that people may try. */
static void test_bind_advice(void **state)
{
    (void)state;
    static const char which[] =
        "does not say which address; 127.0.0.1:PORT and [::1]:PORT are this machine only, "
        "0.0.0.0:PORT and [::]:PORT are the whole network";
    static const char literal[] = "is nothing to listen on; a literal ADDRESS:PORT, [IPv6]:PORT "
                                  "(port 0 to 65535) or unix:/PATH";
    static const char brackets[] =
        "lacks brackets or port; an IPv6 address is written as [::1]:PORT";
    static const char path[] = "is no socket; unix: and an absolute path of at most 107 bytes";
    static const struct {
        const char *value, *advice;
    } cases[] = {
        {":4284", which},
        {"4284", which},
        {"*:4284", "is no address; for all of them write 0.0.0.0:PORT and [::]:PORT"},
        {"::1:4284", brackets},
        {"::1", brackets},
        {"127.0.0.1", "has no port; ADDRESS:PORT, [IPv6]:PORT or unix:/PATH"},
        {"localhost:4284", literal},
        {"127.0.0.1:70000", literal},
        {"[::1]", literal},
        {"unix:run/g.sock", path},
        {"unix:@abstract", path},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char text[128], expected[512];
        snprintf(text, sizeof text, "[listener default]\nbind = %s\n", cases[i].value);
        snprintf(expected, sizeof expected, "gatherd.conf:2: [listener default] bind: \"%s\" %s\n",
                 cases[i].value, cases[i].advice);
        expect_refused(text, strlen(text), expected);
    }
}

struct items {
    const char *key;
    const char *const *good, *const *bad; /* end with NULL */
    const char *advice;
};

static void assert_items(const struct items *items)
{
    char override[256], expected[512];
    for (size_t i = 0; items->good[i]; i++) {
        snprintf(override, sizeof override, "%s=%s", items->key, items->good[i]);
        struct config *c = load_override(override);
        assert_round_trip(c);
        config_destroy(c);
    }
    for (size_t i = 0; items->bad[i]; i++) {
        const char *const overrides[] = {override};
        snprintf(override, sizeof override, "%s=%s", items->key, items->bad[i]);
        snprintf(expected, sizeof expected, "\"%s\" %s\n", items->bad[i], items->advice);
        assert_null(load(NULL, overrides, 1));
        if (!strstr(messages, expected))
            fail_msg("%s: %s", override, messages);
    }
}

static void test_addresses(void **state)
{
    (void)state;
    static const char *const rules[] = {
        "10.1.2.3", "10.0.0.0/8", "0.0.0.0/0", "10.1.2.3:443", "10.0.0.0/8:80", "10.1.2.3:80-90",
        "10.1.2.3:1-65535", "10.1.2.3:80-80", "::1", "fc00::/7", "[::1]:80", "[fc00::/7]:8000-8999",
        "::ffff:10.0.0.1", "255.255.255.255/32", NULL,
    };
    static const char *const no_addresses[] = {
        "10.1.2.3:", "10.1.2.3:0", "10.1.2.3:90-80", "10.1.2.3:80-", "10.1.2.3:80-90-",
        "10.1.2.3:65536", "[::1]", "[::1]:", "[10.0.0.1]:80", "10.1.2",
        "010.1.2.3", NULL,
    };
    static const char *const no_prefixes[] = {
        "10.1.2.3/8", "10.0.0.0/33", "10.0.0.0/", "fc00::1/7", "[fc00::]/7:80", "fc00::/7:80", NULL,
    };
    static const char *const names[] = {
        "example.org", "localhost", "*", "0x0a000001", "http://10.0.0.1", NULL,
    };
    static const char *const commas[] = {"10.1.2.3,", "10.1.2.3,::1", "10.1.2.3:80,90", NULL};
    static const char *const zones[] = {"fe80::1%eth0", "fe80::1%2", "[fe80::%eth0]:80", NULL};
    static const char *const servers[] = {"192.0.2.1", "::1", "192.0.2.1:5353", "[::1]:53", NULL};
    static const char *const no_servers[] = {
        "dns.example", "192.0.2.1:0", "192.0.2.1:", "[::1]", "::1:53:x", "192.0.2.0/24",
        "192.0.2.1:65536", "tcp://192.0.2.1", NULL,
    };
    static const char address[] = "is no address; as 10.1.2.3, 10.1.2.3:443 or [fd00::1]:8000-8999";
    static const char prefix[] = "is no prefix; as 10.0.0.0/8 (no bits set behind the 8), "
                                 "10.0.0.0/8:443 or [fc00::/7]:8000-8999";
    static const char name[] = "is no address; a name cannot stand here, its addresses can";
    static const char comma[] = "has a comma; items of a list stand between blanks";
    static const char zone[] = "names an interface; write the address alone, without the % and "
                               "what follows";
    static const struct items lists[] = {
        {"policy.default.allow", rules, commas, comma},
        {"fetch.dns_servers", servers, commas, comma},
        {"policy.default.allow", rules, zones, zone},
        {"policy.default.allow", rules, no_addresses, address},
        {"policy.default.deny", rules, no_addresses, address},
        {"policy.default.allow", rules, no_prefixes, prefix},
        {"policy.default.deny", rules, names, name},
        {"fetch.dns_servers", servers, no_servers,
         "is no address of a name server; ADDRESS, ADDRESS:PORT or [IPv6]:PORT"},
    };
    for (size_t i = 0; i < COUNT(lists); i++)
        assert_items(&lists[i]);
}

static void test_contradictions(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"[limits]\nqueued = 100\n\nrequests = 101\n",
         "gatherd.conf:4: [limits] requests: 101 is more than queued = 100; at most that, or raise "
         "queued\n"},
        {"[limits]\nqueued = 9999\n",
         "gatherd.conf:2: [limits] requests: 10000 is more than queued = 9999; at most that, or "
         "raise queued\n"},
        {"[limits]\nin_flight = 99\n",
         "gatherd.conf:2: [limits] per_host: 100 is more than in_flight = 99; at most that, or "
         "raise in_flight\n"},
        {"[limits]\nper_host = 257\n",
         "gatherd.conf:2: [limits] per_host: 257 is more than in_flight = 256; at most that, or "
         "raise in_flight\n"},
        {"[listener default]\npolicy = inernal\n[policy internal]\n",
         "gatherd.conf:2: [listener default] policy: there is no policy \"inernal\"; did you mean "
         "internal?\n"},
        {"[listener default]\npolicy = strict\n",
         "gatherd.conf:2: [listener default] policy: there is no policy \"strict\"; the NAME of a "
         "[policy NAME] section\n"},
        {"[listener default]\nbind = 127.0.0.1:1\nbind = 0.0.0.0:1 [::]:1\n",
         "gatherd.conf:3: [listener default] bind: 0.0.0.0:1 is open to other machines; set "
         "token_file, or bind a loopback address\n"
         "gatherd.conf:3: [listener default] bind: [::]:1 is open to other machines; set "
         "token_file, or bind a loopback address\n"},
        {"[listener default]\nbind = 128.0.0.1:1 [::ffff:127.0.0.1]:1\n",
         "gatherd.conf:2: [listener default] bind: 128.0.0.1:1 is open to other machines; set "
         "token_file, or bind a loopback address\n"
         "gatherd.conf:2: [listener default] bind: [::ffff:127.0.0.1]:1 is open to other machines; "
         "set token_file, or bind a loopback address\n"},
        {"[policy default]\nbase = unsafe-any\n",
         "gatherd.conf:2: [policy default] base: unsafe-any on 127.0.0.1:4284 of "
         "[listener default] needs a token; set token_file, or bind unix:/PATH\n"},
        {"[policy any]\nbase = unsafe-any\n"
         "[listener default]\nbind = unix:/g [::1]:1\npolicy = any\n",
         "gatherd.conf:5: [policy any] base: unsafe-any on [::1]:1 of [listener default] needs a "
         "token; set token_file, or bind unix:/PATH\n"},
        {"[listener default]\nbind =\n[listener inner]\nbind =\n",
         "gatherd.conf:2: [listener default] bind: is empty, and no other listener has an address; "
         "name one\n"},
        {"[listener inner]\nmode = 0600\n",
         "gatherd.conf:1: [listener inner] bind: is not set; only the listener default has one "
         "built in\n"},
        {"[listener inner]\nbind = unix:/g unix:/g\n",
         "gatherd.conf:2: [listener inner] bind: unix:/g is taken by [listener inner]; each "
         "address once\n"},
        {"[listener inner]\nbind = [::1]:80 127.0.0.1:80 [0:0::0:1]:080 127.0.0.1:0080\n",
         "gatherd.conf:2: [listener inner] bind: [0:0::0:1]:080 is taken by [listener inner]; each "
         "address once\n"
         "gatherd.conf:2: [listener inner] bind: 127.0.0.1:0080 is taken by [listener inner]; each "
         "address once\n"},
        {"[listener a]\nbind = unix:/run/a unix:/r/un/a unix:/run/.a unix:/run/a. [::1]:8 [::2]:8\n"
         "token_file = /t\n[listener b]\nbind = unix://run/.//./a [::1]:9\n",
         "gatherd.conf:5: [listener b] bind: unix://run/.//./a is taken by [listener a]; each "
         "address once\n"},
        {"[listener inner]\nbind = 127.0.0.1:4284\n",
         "gatherd.conf:2: [listener inner] bind: 127.0.0.1:4284 is taken by [listener default]; "
         "each address once\n"},
    };
    expect_refusals(cases, COUNT(cases));
}

#define ANY_8 "[::1]:0 [::1]:0 [::1]:0 [::1]:0 [::1]:0 [::1]:0 [::1]:0 [::1]:0 "
#define BIND_32 "bind = " ANY_8 ANY_8 "\nbind = " ANY_8 ANY_8 "\n"

/* What a start would not open is refused before it. */
static void test_count_of_addresses(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"[listener default]\n" BIND_32 BIND_32 "bind = unix:/g\n",
         "gatherd.conf:6: [listener default] bind: makes 65 addresses; there may be 64 in all "
         "listeners\n"},
        {"[listener a]\n" BIND_32 "[listener b]\n" BIND_32,
         "gatherd.conf:6: [listener b] bind: makes 66 addresses; there may be 64 in all "
         "listeners\n"},
    };
    expect_refusals(cases, COUNT(cases));
    struct config *c = load_text("[listener default]\n" BIND_32 BIND_32);
    assert_int_equal(c->listeners[0].bind.count, CONFIG_ADDRESSES_MAX);
    config_destroy(c);
}

static void test_no_contradictions(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[limits]\nrequests = 100\nqueued = 100\n",
        "[limits]\nper_host = 16\nin_flight = 16\n",
        "[listener default]\nbind = 0.0.0.0:1 [::]:1\ntoken_file = /t\n",
        "[listener default]\nbind = 127.255.0.1:1 [::1]:1 unix:/g\n",
        "[listener default]\nbind = 127.0.0.1:0 127.0.0.1:0\n",
        "[listener default]\nbind =\n[listener inner]\nbind = unix:/g\n",
        "[listener inner]\nbind =\n",
        "[listener default]\npolicy = later\n[policy later]\n",
        "[policy any]\nbase = unsafe-any\n",
        "[policy default]\nbase = unsafe-any\n[listener default]\nbind = unix:/g\n",
        ("[policy default]\nbase = unsafe-any\n[listener default]\nbind =\n"
         "[listener inner]\nbind = unix:/g\n"),
        "[policy default]\nbase = unsafe-any\n[listener default]\ntoken_file = /t\n",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct config *c = load_text(texts[i]);
        assert_round_trip(c);
        config_destroy(c);
    }
}

/* A value that was refused says nothing about what it would contradict. */
static void test_no_second_message(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"[limits]\nqueued = x\nrequests = 1000000\n",
         "gatherd.conf:2: [limits] queued: \"x\" is not of the right form; a whole number, from 1 "
         "to 10000000\n"},
        {"[listener inner]\nbind = 4284\nbind = 127.0.0.1:4284\n",
         "gatherd.conf:2: [listener inner] bind: \"4284\" does not say which address; "
         "127.0.0.1:PORT and [::1]:PORT are this machine only, 0.0.0.0:PORT and [::]:PORT are the "
         "whole network\n"},
        {"[lmits]\nnothing = known\nhere\n",
         "gatherd.conf:1: unknown section \"lmits\"; did you mean limits?\n"
         "gatherd.conf:3: neither a section nor a key; write key = value\n"},
    };
    expect_refusals(cases, COUNT(cases));
}

static void test_refused_overrides(void **state)
{
    (void)state;
#define FORM " is not of the right form; section.key=value, listener.NAME.key=value or " \
             "policy.NAME.key=value\n"
    static const struct refusal cases[] = {
        {"", "-o: \"\"" FORM},
        {"limits.in_flight", "-o: \"limits.in_flight\"" FORM},
        {"in_flight=5", "-o: \"in_flight=5\"" FORM},
        {"=5", "-o: \"=5\"" FORM},
        {".=5", "-o: \".=5\"" FORM},
        {"limits.=5", "-o: \"limits.=5\"" FORM},
        {"listener..bind=unix:/g", "-o: \"listener..bind=unix:/g\"" FORM},
        {"a.b.c.d=5", "-o: \"a.b.c.d=5\"" FORM},
        {"limits.in_flight=0",
         "-o: [limits] in_flight: \"0\" is out of range; a whole number, from 1 to 65536\n"},
        {"limts.in_flight=5", "-o: unknown section \"limts\"; did you mean limits?\n"},
        {"limits.default.in_flight=5",
         "-o: limits takes no name; write limits alone, without \"default\"\n"},
        {"listener.bind=unix:/g",
         "-o: listener needs a name; write listener.default for the built-in one\n"},
        {"policy.allow=::1",
         "-o: policy needs a name; write policy.default for the built-in one\n"},
        {"policy.defualt.allow=::1",
         "-o: [policy defualt] no listener uses this policy; did you mean default\n"},
        {"policy.inner.allow=::1",
         "-o: [policy inner] no listener uses this policy; set listener.NAME.policy to it\n"},
        {"listener.default.mode=0600",
         "-o: [listener default] mode: is for Unix sockets, and means nothing on 127.0.0.1:4284; "
         "bind unix:/PATH, or take it out\n"},
        {"listener.default.peers=root",
         "-o: [listener default] peers: is for Unix sockets, and means nothing on 127.0.0.1:4284; "
         "bind unix:/PATH, or set token_file instead\n"},
        {"listener.defualt.mode=0600",
         "-o: [listener defualt] bind: is not set; only the listener default has one built in\n"},
        {"fetch.user_agent=a\nb", "-o: control byte 0x0A; printable text only\n"},
        {"listener.default.token_file=#x",
         "-o: a comment after a value; put it on a line of its own\n"},
        {"limits.requests=100001",
         "-o: [limits] requests: 100001 is more than queued = 100000; at most that, or raise "
         "queued\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_null(load(NULL, &cases[i].text, 1));
        assert_string_equal(messages, cases[i].messages);
    }
}

/* A value that no line of a file could hold is refused, else the dump could not be read again. */
static void test_long_values(void **state)
{
    (void)state;
    char override[300] = "fetch.ca_file=/";
    const char *const overrides[] = {override};
    size_t prefix = strlen("fetch.ca_file="), most = 198 - strlen("ca_file = ");
    memset(override + prefix + 1, 'a', most);
    override[prefix + most] = '\0';
    struct config *c = load_good(NULL, overrides, 1);
    assert_round_trip(c);
    config_destroy(c);
    override[prefix + most] = 'a';
    assert_null(load(NULL, overrides, 1));
    assert_non_null(strstr(messages, "[fetch] ca_file: \"/aaaa"));
    assert_non_null(strstr(messages, "aaa...\" is too long; at most 188 bytes\n"));
}

static void test_all_errors_up_to_20(void **state)
{
    (void)state;
    char text[2048] = "[limits]\n", expected[4096] = "";
    for (int lines = 1; lines <= 23; lines++) {
        size_t n = strlen(text), used = strlen(expected);
        snprintf(text + n, sizeof text - n, "key%d = 1\n", lines);
        if (lines <= 20)
            snprintf(expected + used, sizeof expected - used,
                     "gatherd.conf:%d: [limits] \"key%d\": unknown key; gatherd.conf(5) lists "
                     "those of this section\n", lines + 1, lines);
        if (lines == 20)
            expect_refused(text, strlen(text), expected);
    }
    strncat(expected, "and 3 more\n", sizeof expected - strlen(expected) - 1);
    expect_refused(text, strlen(text), expected);
}

/* --- files ----------------------------------------------------------------------------------- */

static void test_line_length(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n", "\r\n", ""};
    char text[512];
    for (size_t i = 0; i < COUNT(ends); i++) {
        int n = snprintf(text, sizeof text, "[fetch]\nca_file = /%0187d%s", 0, ends[i]);
        write_file(MAIN_FILE, text, (size_t)n);
        struct config *c = load_good(path_of(MAIN_FILE), NULL, 0);
        assert_int_equal(strlen(c->fetch.ca_file), 188);
        config_destroy(c);
        n = snprintf(text, sizeof text, "[fetch]\nca_file = /%0188d%s", 0, ends[i]);
        expect_refused(text, (size_t)n, "gatherd.conf:2: a line of 199 bytes; at most 198, repeat "
                                        "the key for a long list\n");
    }
    /* What does not fit into the buffer is no line of its own. */
    int n = snprintf(text, sizeof text, "#%0199d[daemon]\n[x]\n", 0);
    expect_refused(text, (size_t)n,
                   "gatherd.conf:1: a line of 208 bytes; at most 198, repeat the key for a long "
                   "list\n"
                   "gatherd.conf:2: unknown section \"x\"; daemon, limits, fetch, listener NAME or "
                   "policy NAME\n");
}

static void test_bytes_of_files(void **state)
{
    (void)state;
    static const char bom[] = "\xEF\xBB\xBF[daemon]\r\nlog_level = warn\r\n\r\n# x\r\n[limits]";
    static const char nul[] = "[daemon]\nlog_level = warn\0\n\0\n";
    static const char utf16[] = "\xFF\xFE[\0d\0]\0";
    struct config *c = load_text(bom);
    assert_int_equal(c->daemon.log_level, LOG_LEVEL_WARN);
    config_destroy(c);
    expect_refused(nul, sizeof nul - 1,
                   "gatherd.conf:2: a NUL byte; the file is plain text, UTF-8 or ASCII\n"
                   "gatherd.conf:3: a NUL byte; the file is plain text, UTF-8 or ASCII\n");
    expect_refused(utf16, sizeof utf16 - 1,
                   "gatherd.conf:1: a NUL byte; the file is plain text, UTF-8 or ASCII\n");
    expect_refused("[daemon]\n\xEF\xBB\xBF[limits]\n", 21,
                   "gatherd.conf:2: neither a section nor a key; write key = value\n");
}

static void test_unreadable_files(void **state)
{
    (void)state;
    assert_null(load(path_of("missing.conf"), NULL, 0));
    assert_string_equal(messages, "missing.conf: cannot be read: No such file or directory\n");
    assert_null(load(directory, NULL, 0));
    assert_non_null(strstr(messages, ": cannot be read: Is a directory\n"));
    assert_null(load("/dev/zero", NULL, 0));
    assert_string_equal(messages,
                        "/dev/zero:1: a NUL byte; the file is plain text, UTF-8 or ASCII\n"
                        "/dev/zero: is too large; at most 4194303 bytes\n");
}

static void test_without_a_slash(void **state)
{
    (void)state;
    char before[PATH_MAX];
    write_text(MAIN_FILE, "[daemon]\nlog_level = warn\n");
    write_text("conf.d/a.conf", "[daemon]\nlog_format = json\n");
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(directory), 0);
    struct config *c = load_good(MAIN_FILE, NULL, 0);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(c->daemon.log_level, LOG_LEVEL_WARN);
    assert_int_equal(c->daemon.log_format, LOG_FORMAT_JSON);
    config_destroy(c);
    remove_file("conf.d/a.conf");
}

static void test_directory(void **state)
{
    (void)state;
    write_text(MAIN_FILE, "[listener default]\nbind = unix:/0\nmode = 0600\n"
                          "[limits]\nclients = 7\n");
    write_text("conf.d/20.conf", "[listener default]\nbind = unix:/20\nmode = 0620\n");
    write_text("conf.d/100.conf", "[listener default]\nbind = unix:/100\nmode = 0610\n");
    write_text("conf.d/Z.conf", "[policy z]\nbase = private\n");
    write_text("conf.d/.hidden.conf", "[limits]\nclients = 8\n");
    write_text("conf.d/.conf", "[limits]\nclients = 9\n");
    write_text("conf.d/30.conf~", "[limits]\nclients = 10\n");
    write_text("conf.d/30.CONF", "[limits]\nclients = 11\n");
    struct config *c = load_good(path_of(MAIN_FILE), NULL, 0);
    assert_list(&c->listeners[0].bind, "unix:/0 unix:/100 unix:/20");
    assert_int_equal(c->listeners[0].mode, 0620);
    assert_int_equal(c->limits.clients, 7);
    assert_non_null(config_find_policy(c, "z"));
    config_destroy(c);
    for (size_t i = 0; i < 4; i++)
        remove_file((const char *[]){"conf.d/.hidden.conf", "conf.d/.conf", "conf.d/30.conf~",
                                     "conf.d/30.CONF"}[i]);
    remove_file("conf.d/20.conf");
    remove_file("conf.d/100.conf");
    remove_file("conf.d/Z.conf");
}

/* Messages name the fragment; a contradiction is the fault of what was read last. */
static void test_errors_in_the_directory(void **state)
{
    (void)state;
    write_text("conf.d/a.conf", "log_level = info\n[limits]\nqueued = 5\n");
    write_text("conf.d/b.conf", "[daemon]\nlog_level = x\n[limits]\nrequests = 6\n");
    assert_int_equal(mkdir(path_of("conf.d/c.conf"), 0700), 0);
    expect_refused("[limits]\nrequests = 4\n", 22,
                   "conf.d/a.conf:1: a key before any section; write [daemon] or another above\n"
                   "conf.d/b.conf:2: [daemon] log_level: \"x\" is unknown; one of error, warn, "
                   "info, debug\n"
                   "conf.d/c.conf: cannot be read: Is a directory\n"
                   "conf.d/b.conf:4: [limits] requests: 6 is more than queued = 5; at most that, "
                   "or raise queued\n");
    remove_file("conf.d/a.conf");
    remove_file("conf.d/b.conf");
    assert_int_equal(rmdir(path_of("conf.d/c.conf")), 0);
}

/* --- the rank of the sources ----------------------------------------------------------------- */

static void test_precedence(void **state)
{
    (void)state;
    static const char *const overrides[] = {
        "listener.default.hosts=o1", "fetch.timeout=3s", " listener.default.hosts = o2\to3 ",
        "fetch.timeout=4s", "listener.default.token_file=", "policy.default.deny=",
        "policy.default.allow=::1",
    };
    write_text(MAIN_FILE,
               "[listener default]\nbind = 127.0.0.1:1\nhosts = f1 f2\nhosts = f3\n"
               "token_file = /t\n"
               "[fetch]\ntimeout = 1s\ndeadline = 1s\nuser_agent = a\n[policy default]\n"
               "deny = 10.0.0.0/8\nallow = 10.0.0.1\n");
    write_text("conf.d/a.conf", "[fetch]\ntimeout = 2s\nuser_agent = b\n[listener default]\n"
                                "hosts = d\nbind = 127.0.0.1:2\n[policy default]\nallow =\n");
    struct config *c = load_good(path_of(MAIN_FILE), NULL, 0);
    assert_int_equal(c->fetch.timeout_us, 2000000);
    assert_int_equal(c->fetch.deadline_us, 1000000);
    assert_int_equal(c->fetch.connect_timeout_us, 5000000);
    assert_string_equal(c->fetch.user_agent, "b");
    assert_list(&c->listeners[0].hosts, "f1 f2 f3 d");
    assert_list(&c->listeners[0].bind, "127.0.0.1:1 127.0.0.1:2");
    assert_list(&c->policies[0].deny, "10.0.0.0/8");
    assert_list(&c->policies[0].allow, "");
    config_destroy(c);
    c = load_good(path_of(MAIN_FILE), overrides, COUNT(overrides));
    assert_int_equal(c->fetch.timeout_us, 4000000);
    assert_int_equal(c->fetch.deadline_us, 1000000);
    assert_list(&c->listeners[0].hosts, "o1 o2 o3");
    assert_null(c->listeners[0].token_file);
    assert_list(&c->listeners[0].bind, "127.0.0.1:1 127.0.0.1:2");
    assert_false(c->listeners[0].bind_is_default);
    assert_list(&c->policies[0].deny, "");
    assert_list(&c->policies[0].allow, "::1");
    remove_file("conf.d/a.conf");
    assert_round_trip(c);
    config_destroy(c);
}

static void test_override_replaces_default(void **state)
{
    (void)state;
    struct config *c = load_override("listener.default.bind=127.0.0.1:0");
    assert_list(&c->listeners[0].bind, "127.0.0.1:0");
    assert_false(c->listeners[0].bind_is_default);
    config_destroy(c);
    c = load_override("listener.default.hosts=a");
    assert_true(c->listeners[0].bind_is_default);
    config_destroy(c);
}

/* A section that only -o names is made, with the defaults of its kind. */
static void test_override_makes_sections(void **state)
{
    (void)state;
    static const char *const overrides[] = {
        "listener.inner.bind=unix:/g", "policy.wide.base=private", "listener.inner.policy=wide",
    };
    struct config *c = load_good(NULL, overrides, COUNT(overrides));
    assert_int_equal(c->listener_count, 2);
    assert_string_equal(c->listeners[1].name, "inner");
    assert_string_equal(c->listeners[1].policy, "wide");
    assert_int_equal(c->listeners[1].mode, 0660);
    assert_int_equal(config_find_policy(c, "wide")->base, POLICY_BASE_PRIVATE);
    assert_round_trip(c);
    config_destroy(c);
}

static void test_most_sections(void **state)
{
    (void)state;
    char text[2048] = "";
    for (int i = 1; i <= CONFIG_NAMED_MAX; i++) {
        size_t n = strlen(text);
        if (i == CONFIG_NAMED_MAX) {
            struct config *c = load_text(text);
            assert_int_equal(c->listener_count, CONFIG_NAMED_MAX);
            assert_int_equal(c->policy_count, CONFIG_NAMED_MAX);
            assert_string_equal(c->policies[CONFIG_NAMED_MAX - 1].name, "p15");
            assert_null(config_find_policy(c, "p16"));
            assert_round_trip(c);
            config_destroy(c);
        }
        snprintf(text + n, sizeof text - n, "[policy p%d]\n[listener l%d]\nbind = unix:/%d\n", i, i,
                 i);
    }
    expect_refused(text, strlen(text),
                   "gatherd.conf:46: [policy p16] is one section too many; at most 16 of a kind\n"
                   "gatherd.conf:47: [listener l16] is one section too many; at most 16 of a "
                   "kind\n");
}

/* --- what else is asked of a configuration --------------------------------------------------- */

static void test_long_lists(void **state)
{
    (void)state;
    char text[TEXT_MAX] = "[policy default]\n";
    size_t used = strlen(text);
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(text + used, sizeof text - used,
                         "allow = 10.%d.%d.0/24:443 2001:db8::%x\n", i / 256, i % 256, i);
        used += (size_t)n;
    }
    struct config *c = load_text(text);
    assert_int_equal(c->policies[0].allow.count, 2000);
    assert_string_equal(c->policies[0].allow.items[1999], "2001:db8::3e7");
    char *dump = dump_of(c);
    for (const char *line = dump; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 100);
    free(dump);
    assert_round_trip(c);
    config_destroy(c);
}

/* It is in the dump, behind its section. */
static void look_up(const char *dump, const struct config_option *o)
{
    const char *section = config_section_name(o->section);
    char head[64], line[64];
    snprintf(head, sizeof head, "[%s", section);
    snprintf(line, sizeof line, "\n%s =", o->key);
    const char *start = strstr(dump, head);
    assert_non_null(start);
    const char *end = strstr(start, "\n\n");
    const char *found = strstr(start, line);
    if (!found || (end && found > end))
        fail_msg("[%s] %s is not in the dump", section, o->key);
}

static void test_each_option(void **state)
{
    (void)state;
    struct config *c = load_good(NULL, NULL, 0);
    char *dump = dump_of(c);
    size_t lines = 0;
    for (size_t i = 0; i < config_table_count; i++)
        look_up(dump, &config_table[i]);
    for (const char *p = dump; (p = strstr(p, " =")); p++)
        lines++;
    assert_int_equal(config_table_count, lines);
    assert_int_equal(lines, 50);
    free(dump);
    config_destroy(c);
}

/* The keys of a policy and of who may ask: one entry a line for allow_host, all read again from
 * -T. */
static void test_policy_keys(void **state)
{
    (void)state;
    struct config *c =
        load_text("[listener default]\nbind = unix:/a\ngroup = adm\npeers = root 1000\n"
                  "peers = www-data\n"
                  "[policy default]\nports = 80 443\nports = 8000-8999\n"
                  "allow_host = *.corp.example -> 10.0.0.0/8 [fd00::/8]:443\n"
                  "allow_host = api.corp.example. -> 10.1.1.1\n"
                  "deny_host = *.Evil.example *\nredirects = none\nmode = report\n"
                  "insecure = yes\nuserinfo = yes\n"
                  "[limits]\nper_client_batches = 3\nper_client_members = 70\n"
                  "per_client_rate = 90/m\n");
    const struct config_policy *p = &c->policies[0];
    assert_string_equal(c->listeners[0].group, "adm");
    assert_list(&c->listeners[0].peers, "root 1000 www-data");
    assert_list(&p->ports, "80 443 8000-8999");
    assert_int_equal(p->allow_host.count, 2);
    assert_string_equal(p->allow_host.items[0], "*.corp.example -> 10.0.0.0/8 [fd00::/8]:443");
    assert_string_equal(p->allow_host.items[1], "api.corp.example. -> 10.1.1.1");
    assert_list(&p->deny_host, "*.Evil.example *");
    assert_int_equal(p->redirects, REDIRECTS_NONE);
    assert_int_equal(p->mode, POLICY_MODE_REPORT);
    assert_true(p->insecure == true && p->userinfo == true);
    assert_int_equal(c->limits.per_client_batches, 3);
    assert_int_equal(c->limits.per_client_members, 70);
    assert_int_equal(c->limits.per_client_rate, -90);
    assert_round_trip(c);
    static const char *const rates[][2] = {
        {"7", "7/s"}, {"7/s", "7/s"}, {"7/m", "7/m"}, {"0/m", "0"}};
    for (size_t i = 0; i < COUNT(rates); i++) {
        char line[64], expected[64];
        snprintf(line, sizeof line, "limits.per_client_rate=%s", rates[i][0]);
        snprintf(expected, sizeof expected, "\nper_client_rate = %s\n", rates[i][1]);
        struct config *one = load_override(line);
        char *dump = dump_of(one);
        assert_non_null(strstr(dump, expected));
        free(dump);
        config_destroy(one);
    }
    config_destroy(c);
}

/* -o adds line by line and replaces the file's; an empty value clears. */
static void test_lines_of_overrides(void **state)
{
    (void)state;
    static const char *const two[] = {"policy.default.allow_host=a.example -> 10.0.0.0/8",
                                      "policy.default.allow_host=b.example -> 10.1.0.0/16"};
    static const char *const none[] = {"policy.default.allow_host="};
    write_text(MAIN_FILE, "[policy default]\nallow_host = c.example -> 10.2.0.0/16\n");
    struct config *file = load_good(path_of(MAIN_FILE), NULL, 0);
    struct config *c = load_good(path_of(MAIN_FILE), two, COUNT(two));
    struct config *empty = load_good(path_of(MAIN_FILE), none, COUNT(none));
    assert_int_equal(c->policies[0].allow_host.count, 2);
    assert_string_equal(c->policies[0].allow_host.items[1], "b.example -> 10.1.0.0/16");
    assert_int_equal(empty->policies[0].allow_host.count, 0);
    assert_true(config_policy_equal(&file->policies[0], &file->policies[0]));
    assert_false(config_policy_equal(&file->policies[0], &c->policies[0]));
    assert_false(config_policy_equal(&empty->policies[0], &file->policies[0]));
    config_destroy(file);
    config_destroy(c);
    config_destroy(empty);
}

static void assert_needs_restart(const char *const *before, size_t before_count,
                                 const char *const *after, size_t after_count, const char *expected)
{
    struct buf out;
    buf_init(&out, 0);
    struct config *now = load_good(NULL, before, before_count);
    struct config *next = load_good(NULL, after, after_count);
    config_needs_restart(now, next, &out);
    assert_string_equal(buf_cstr(&out), expected);
    buf_fini(&out);
    config_destroy(now);
    config_destroy(next);
}

static void test_needs_restart(void **state)
{
    (void)state;
    static const char *const reload[] = {
        "limits.in_flight=300",         "fetch.user_agent=x",
        "policy.default.allow=::1",     "fetch.timeout=1s",
        "listener.default.hosts=a",     "listener.default.token_file=/t",
        "daemon.log_level=debug",       "policy.default.ports=80",
        "policy.default.redirects=any", "limits.per_client_batches=1",
        "policy.default.insecure=yes",  "policy.default.userinfo=yes",
        "limits.per_client_rate=1/m",
    };
    static const char *const peers[] = {"listener.default.bind=unix:/a", "listener.default.peers=0"};
    static const char *const restart[] = {
        "daemon.loops=3",
        "limits.clients=5",
        "limits.head_bytes=1M",
        "limits.lookups=3",
        "fetch.dns_servers=::1",
        "listener.default.bind=unix:/a",
        "listener.default.mode=0600",
        "listener.default.group=0",
    };
    static const char *const inner[] = {"listener.inner.bind=unix:/g", "limits.in_flight=300"};
    static const char *const two[] = {"listener.b.bind=unix:/b", "listener.inner.bind=unix:/g"};
    static const char *const lower[] = {"limits.head_bytes=1K"};
    static const char all_but_head[] = "daemon.loops limits.clients limits.lookups "
                                       "fetch.dns_servers listener.default.bind "
                                       "listener.default.mode listener.default.group";
    static const char all[] = "daemon.loops limits.clients limits.head_bytes limits.lookups "
                              "fetch.dns_servers listener.default.bind listener.default.mode "
                              "listener.default.group";
    assert_needs_restart(NULL, 0, NULL, 0, "");
    assert_needs_restart(NULL, 0, reload, COUNT(reload), "");
    assert_needs_restart(reload, COUNT(reload), NULL, 0, "");
    assert_needs_restart(peers, 1, peers, 2, "");
    assert_needs_restart(NULL, 0, restart, COUNT(restart), all);
    assert_needs_restart(restart, COUNT(restart), lower, COUNT(lower), all_but_head);
    assert_needs_restart(NULL, 0, lower, COUNT(lower), ""); /* it is in effect */
    assert_needs_restart(lower, COUNT(lower), NULL, 0, "limits.head_bytes");
    assert_needs_restart(NULL, 0, inner, COUNT(inner), "listener.inner");
    assert_needs_restart(inner, COUNT(inner), NULL, 0, "listener.inner");
    /* Listeners are compared by name, wherever they stand. */
    assert_needs_restart(inner, COUNT(inner), two, COUNT(two), "listener.b");
}

/* The example says nothing but the defaults, and says all of them: with the # of each line that
 * starts as a key does taken away, it loads as the built-in configuration. */
static void test_example(void **state)
{
    (void)state;
    char path[PATH_MAX], line[512], text[TEXT_MAX] = "";
    const char *root = getenv("top_srcdir");
    size_t used = 0, options = 0;
    snprintf(path, sizeof path, "%s/conf/gatherd.conf", root ? root : ".");
    struct config *c = load_good(path, NULL, 0);
    char *expected = dump_of(c);
    config_destroy(c);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        bool is_option = line[0] == '#' && line[1] >= 'a' && line[1] <= 'z' && strchr(line, '=');
        bool is_agent = strcmp(line, "#user_agent = gatherd/VERSION\n") == 0;
        options += is_option;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s",
                                 is_agent ? "user_agent = gatherd/" PACKAGE_VERSION "\n"
                                          : line + is_option);
    }
    fclose(file);
    assert_int_equal(options, 50);
    c = load_text(text);
    char *dump = dump_of(c);
    assert_string_equal(dump, expected);
    free(dump);
    config_destroy(c);
    c = load_good(NULL, NULL, 0);
    dump = dump_of(c);
    assert_string_equal(dump, expected);
    free(dump);
    free(expected);
    config_destroy(c);
}

/* --- any bytes ------------------------------------------------------------------------------- */

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

/* A few bytes, words of the language among them, of a good file are replaced or put in. */
static size_t mutate(char *text, size_t n, size_t size, uint64_t *seed)
{
    static const char *const words[] = {
        "[", "]", "\n", "=", " ", "[policy x]", "[listener x]\n", "bind =", "unix:/x", "\r", ";",
        "#", "\xEF\xBB\xBF", "allow = ", "::", "[::1]:80", "0", "9999999999", "us", "default",
        "\t", ":",
    };
    for (uint32_t changes = next_random(seed) % 5; changes > 0; changes--) {
        char byte = (char)next_random(seed);
        bool is_word = next_random(seed) % 2;
        const char *piece = is_word ? words[next_random(seed) % COUNT(words)] : &byte;
        size_t length = is_word ? strlen(piece) : 1, at = next_random(seed) % (n + 1);
        if (n + length > size)
            break;
        if (next_random(seed) % 2) {
            memmove(text + at + length, text + at, n - at);
            n += length;
        } else if (at + length > n) {
            n = at + length;
        }
        memcpy(text + at, piece, length);
    }
    return n;
}

/* Either messages or a configuration that survives its round trip; load() checks the former. */
static bool survives(const char *text, size_t n)
{
    write_file(MAIN_FILE, text, n);
    struct config *c = load(path_of(MAIN_FILE), NULL, 0);
    if (c)
        assert_round_trip(c);
    config_destroy(c);
    return c != NULL;
}

static void test_mutated_files(void **state)
{
    (void)state;
    static const char good[] =
        "[daemon]\nlog_level = warn\n[limits]\nin_flight = 200\nper_host = 20\nbody_bytes = 1M\n"
        "[fetch]\ntimeout = 1.5s\nuser_agent = a b\ndns_servers = 192.0.2.1 [::1]:53\n"
        "[listener default]\nbind = 127.0.0.1:80 [::1]:80\nbind = unix:/g\nhosts = a b\n"
        "mode = 600\npolicy = inner\n[policy inner]\nbase = private\n"
        "allow = 10.0.0.0/8:80-90\ndeny = ::/0\n";
    uint64_t seed = 4284;
    char text[sizeof good + 64];
    size_t taken = 0;
    for (int i = 0; i < 4000; i++) {
        memcpy(text, good, sizeof good);
        taken += survives(text, mutate(text, sizeof good - 1, sizeof text, &seed));
    }
    /* Else the mutations are too few or too many to say anything. */
    assert_in_range(taken, 400, 3600);
}

static void test_random_files(void **state)
{
    (void)state;
    uint64_t seed = 1;
    char text[600];
    for (int i = 0; i < 1000; i++) {
        size_t n = next_random(&seed) % sizeof text;
        for (size_t k = 0; k < n; k++)
            text[k] = i % 2 ? (char)next_random(&seed) : "[]=\n a#;"[next_random(&seed) % 8];
        survives(text, n);
    }
}

static void test_random_overrides(void **state)
{
    (void)state;
    static const char *const good[] = {
        "listener.default.bind=127.0.0.1:80", "policy.default.allow=10.0.0.0/8:80-90",
        "limits.in_flight=200", "fetch.user_agent=a b", "fetch.dns_servers=[::1]:53",
    };
    uint64_t seed = 7;
    size_t taken = 0;
    for (int i = 0; i < 4000; i++) {
        char text[128];
        const char *override = text;
        snprintf(text, sizeof text, "%s", good[(size_t)i % COUNT(good)]);
        text[mutate(text, strlen(text), sizeof text - 1, &seed)] = '\0';
        struct config *c = load(NULL, &override, 1);
        if (c)
            assert_round_trip(c);
        taken += c != NULL;
        config_destroy(c);
    }
    assert_in_range(taken, 400, 3600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_empty_files),
        cmocka_unit_test(test_every_option),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_parse_bind),
        cmocka_unit_test(test_socket_path_length),
        cmocka_unit_test(test_refused_lines),
        cmocka_unit_test(test_refused_sections),
        cmocka_unit_test(test_refused_keys),
        cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_bind_advice),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_contradictions),
        cmocka_unit_test(test_count_of_addresses),
        cmocka_unit_test(test_no_contradictions),
        cmocka_unit_test(test_no_second_message),
        cmocka_unit_test(test_refused_overrides),
        cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_all_errors_up_to_20),
        cmocka_unit_test(test_line_length),
        cmocka_unit_test(test_bytes_of_files),
        cmocka_unit_test(test_unreadable_files),
        cmocka_unit_test(test_without_a_slash),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_errors_in_the_directory),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_override_replaces_default),
        cmocka_unit_test(test_override_makes_sections),
        cmocka_unit_test(test_most_sections),
        cmocka_unit_test(test_long_lists),
        cmocka_unit_test(test_each_option),
        cmocka_unit_test(test_policy_keys),
        cmocka_unit_test(test_lines_of_overrides),
        cmocka_unit_test(test_needs_restart),
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_mutated_files),
        cmocka_unit_test(test_random_files),
        cmocka_unit_test(test_random_overrides),
    };
    return cmocka_run_group_tests_name("config", tests, set_up, tear_down);
}
