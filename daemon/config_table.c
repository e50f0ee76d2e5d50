/* SPDX-License-Identifier: MIT
 *
 * config_table - see config_table.h. Called by config.c only, on the thread that reads the
 * configuration; owns nothing but the table, which is constant.
 *
 * A row is written by a macro of its type, which finds the field by the key's name: a duration
 * `idle_time` is the field `idle_time_us` of struct config_fetch, because its section is `fetch`.
 * A default is text and goes through the same reading as a line of the file, so that it cannot be
 * outside its own range. Numbers are written with the largest unit that loses nothing.
 */
#include "config_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "build.h"
#include "cidr.h"
#include "clock.h"
#include "hostname.h"
#include "log.h"
#include "parse.h"

#define DIGITS "0123456789"
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define RATE_MAX 1000000
#define DAY_US (86400 * US_PER_S)
#define HOST_BYTES_MAX 253

/* --- text of addresses ----------------------------------------------------------------------- */

#define HOST_TEXT_MAX (IP_TEXT_MAX + 4) /* an address, "/128" */

/* 1 to 5 digits up to *end (where the number stops), from min to 65535. */
static bool take_port(const char *s, const char **end, int64_t min, uint16_t *out)
{
    size_t n = strspn(s, DIGITS);
    char text[6];
    int64_t v;
    if (n >= sizeof text)
        return false;
    memcpy(text, s, n);
    text[n] = '\0';
    if (!parse_int(text, min, UINT16_MAX, &v))
        return false;
    *end = s + n;
    *out = (uint16_t)v;
    return true;
}

/* Splits HOST:PORT and [HOST]:PORT; *port is what follows the colon. */
static bool split_port(const char *text, char host[HOST_TEXT_MAX], const char **port)
{
    bool bracket = *text == '[';
    const char *start = text + bracket;
    const char *end = strchr(start, bracket ? ']' : ':');
    const char *colon = end ? end + bracket : NULL;
    if (!colon || *colon != ':' || end - start >= HOST_TEXT_MAX)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    *port = colon + 1;
    return bracket == (strchr(host, ':') != NULL);
}

/* ADDRESS:PORT or [v6]:PORT, all of the text. */
static bool parse_endpoint(const char *text, int64_t min_port, struct ip_addr *ip, uint16_t *port)
{
    char host[HOST_TEXT_MAX];
    const char *rest;
    return split_port(text, host, &rest) && ip_parse(host, ip) &&
           take_port(rest, &rest, min_port, port) && !*rest;
}

bool config_parse_bind(const char *text, struct config_bind *out)
{
    *out = (struct config_bind){0};
    if (strncmp(text, "unix:", 5) != 0)
        return parse_endpoint(text, 0, &out->ip, &out->port);
    out->path = text + 5;
    return out->path[0] == '/' && out->path[1] != '\0' &&
           strlen(out->path) < sizeof((struct sockaddr_un *)NULL)->sun_path;
}

/* --- checks of texts and items --------------------------------------------------------------- */

static void say_quoted(struct buf *why, const char *text, const char *words)
{
    char quoted[CONFIG_QUOTE_MAX];
    buf_printf(why, "%s %s", config_quote(text, quoted), words);
}

static size_t count_char(const char *text, char c)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == c;
    return n;
}

/* What a person who wrote this probably has to know. */
static const char *bind_advice(const char *text)
{
    if (strncmp(text, "unix:", 5) == 0)
        return "is no socket; unix: and an absolute path of at most 107 bytes";
    if ((*text == ':' && text[1] != ':') || text[strspn(text, DIGITS)] == '\0')
        return "does not say which address; 127.0.0.1:PORT and [::1]:PORT are this machine only, "
               "0.0.0.0:PORT and [::]:PORT are the whole network";
    if (*text == '*')
        return "is no address; for all of them write 0.0.0.0:PORT and [::]:PORT";
    if (*text != '[' && count_char(text, ':') > 1)
        return "lacks brackets or port; an IPv6 address is written as [::1]:PORT";
    if (!strchr(text, ':'))
        return "has no port; ADDRESS:PORT, [IPv6]:PORT or unix:/PATH";
    return "is nothing to listen on; a literal ADDRESS:PORT, [IPv6]:PORT (port 0 to 65535) or "
           "unix:/PATH";
}

static bool check_bind(const char *text, struct buf *why)
{
    struct config_bind bind;
    if (config_parse_bind(text, &bind))
        return true;
    say_quoted(why, text, bind_advice(text));
    return false;
}

static bool check_host(const char *text, struct buf *why)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "-._";
    size_t n = strspn(text, allowed);
    if (!text[n] && n <= HOST_BYTES_MAX && *text != '.')
        return true;
    say_quoted(why, text, "is no host name; a name as clients write it, without scheme and port");
    return false;
}

/* PORT or LOW-HIGH. */
static bool is_port_range(const char *text)
{
    uint16_t low, high;
    if (!take_port(text, &text, 1, &low))
        return false;
    high = low;
    return (*text != '-' || take_port(text + 1, &text, 1, &high)) && !*text && low <= high;
}

/* ADDRESS, PREFIX, ADDRESS:PORT, [v6 PREFIX]:LOW-HIGH ... as policy reads them. */
static bool is_rule(const char *text)
{
    char host[HOST_TEXT_MAX];
    const char *ports;
    struct cidr cidr;
    return cidr_parse(text, &cidr) ||
           (split_port(text, host, &ports) && cidr_parse(host, &cidr) && is_port_range(ports));
}

static const char *rule_advice(const char *text)
{
    if (strpbrk(text, "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ*"))
        return "is no address; a name cannot stand here, its addresses can";
    if (strchr(text, '/'))
        return "is no prefix; as 10.0.0.0/8 (no bits set behind the 8), 10.0.0.0/8:443 or "
               "[fc00::/7]:8000-8999";
    return "is no address; as 10.1.2.3, 10.1.2.3:443 or [fd00::1]:8000-8999";
}

static bool check_rule(const char *text, struct buf *why)
{
    if (is_rule(text))
        return true;
    say_quoted(why, text, rule_advice(text));
    return false;
}

static bool check_ports(const char *text, struct buf *why)
{
    if (is_port_range(text))
        return true;
    say_quoted(why, text, "is no port; a number from 1 to 65535, or LOW-HIGH");
    return false;
}

static bool check_pattern(const char *text, struct buf *why)
{
    struct hostname_pattern pattern;
    struct buf words;
    buf_init(&words, 0);
    bool ok = hostname_pattern_parse(text, &pattern, &words);
    if (!ok)
        say_quoted(why, text, buf_cstr(&words));
    buf_fini(&words);
    return ok;
}

/* PATTERN -> ADDRESS-OR-PREFIX[:PORT] ... */
static bool check_allow_host(const char *text, struct buf *why)
{
    char pattern[HOSTNAME_MAX + 3], rules[CONFIG_LINE_MAX + 1];
    const char *rest = hostname_split_arrow(text, pattern);
    char *p = rules, *word;
    if (!rest || !*rest || strlen(rest) >= sizeof rules) {
        say_quoted(why, text, "does not say where the name may lead; *.corp.example -> 10.0.0.0/8");
        return false;
    }
    memcpy(rules, rest, strlen(rest) + 1);
    bool ok = check_pattern(pattern, why);
    while (ok && (word = parse_word(&p)))
        ok = check_rule(word, why);
    return ok;
}

/* What getpwnam() and getgrnam() are asked for, or a number. */
static bool check_account(const char *text, struct buf *why)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "-._@\\$";
    if (!*text || (!text[strspn(text, allowed)] && *text != '-'))
        return true;
    say_quoted(why, text, "is no account; its name, or its number");
    return false;
}

static bool check_server(const char *text, struct buf *why)
{
    struct ip_addr ip;
    uint16_t port;
    if (ip_parse(text, &ip) || parse_endpoint(text, 1, &ip, &port))
        return true;
    say_quoted(why, text, "is no address of a name server; ADDRESS, ADDRESS:PORT or [IPv6]:PORT");
    return false;
}

static bool check_policy_name(const char *text, struct buf *why)
{
    if (*text)
        return true;
    buf_add_str(why, "is empty; the NAME of a [policy NAME] section");
    return false;
}

static bool check_user_agent(const char *text, struct buf *why)
{
    if (*text && parse_is_field_value(text, strlen(text)))
        return true;
    say_quoted(why, text, "is no value of a header field; one or more printable characters");
    return false;
}

/* --- the table ------------------------------------------------------------------------------- */
/* clang-format off */

static const char *const level_words[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn", [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug", NULL,
};
static const char *const format_words[] = {
    [LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json", NULL,
};
/* Of a number that may be left to gatherd. */
static const char *const auto_words[] = {"auto", NULL};
static const char *const base_words[] = {
    [POLICY_BASE_PUBLIC] = "public", [POLICY_BASE_PRIVATE] = "private",
    [POLICY_BASE_UNSAFE_ANY] = "unsafe-any", NULL,
};
static const char *const redirects_words[] = {
    [REDIRECTS_SAME_CLASS] = "same-class", [REDIRECTS_NONE] = "none", [REDIRECTS_ANY] = "any", NULL,
};
static const char *const mode_words[] = {
    [POLICY_MODE_ENFORCE] = "enforce", [POLICY_MODE_REPORT] = "report", NULL,
};
static const char *const http_words[] = {
    [HTTP_VERSION_AUTO] = "auto", [HTTP_VERSION_1_1] = "1.1", [HTTP_VERSION_2] = "2", NULL,
};

#define SECTION_daemon CONFIG_DAEMON
#define SECTION_limits CONFIG_LIMITS
#define SECTION_fetch CONFIG_FETCH
#define SECTION_listener CONFIG_LISTENER
#define SECTION_policy CONFIG_POLICY

#define ROW(section_, type_, name, field, text, ...) \
    {.section = SECTION_##section_, .type = type_, .key = #name, .initial = text, \
     .offset = offsetof(struct config_##section_, field), __VA_ARGS__},
#define COUNT(section, name, text, low, high, restart) \
    ROW(section, CONFIG_COUNT, name, name, text, .min = low, .max = high, .needs_restart = restart)
#define AUTO(section, name, text, low, high) \
    ROW(section, CONFIG_COUNT, name, name, text, .min = low, .max = high, .words = auto_words, \
        .needs_restart = RESTART)
#define SIZE(section, name, text, low, high, restart) \
    ROW(section, CONFIG_SIZE, name, name, text, .min = low, .max = high, .needs_restart = restart)
#define DURATION(section, name, text) \
    ROW(section, CONFIG_DURATION, name, name##_us, text, .min = US_PER_MS, .max = DAY_US)
#define WORD(section, name, text, list) \
    ROW(section, CONFIG_WORD, name, name, text, .words = list)
#define TEXT(section, name, text, test) \
    ROW(section, CONFIG_TEXT, name, name, text, .check = test)
#define LIST(section, name, text, test, restart) \
    ROW(section, CONFIG_LIST, name, name, text, .check = test, .needs_restart = restart)
#define LINES(section, name, test) \
    ROW(section, CONFIG_LINES, name, name, "", .check = test)
#define ACCOUNT(section, name) \
    ROW(section, CONFIG_TEXT, name, name, "", .check = check_account, .needs_restart = RESTART)
#define RATE(section, name, text) ROW(section, CONFIG_RATE, name, name, text)
#define MODE(section, name, text, restart) \
    ROW(section, CONFIG_MODE, name, name, text, .max = 0777, .needs_restart = restart)

#define RELOAD false
#define RESTART true

const struct config_option config_table[] = {
    AUTO(daemon, loops, "auto", 0, 64)
    WORD(daemon, log_level, "info", level_words)
    WORD(daemon, log_format, "text", format_words)
    DURATION(daemon, drain_timeout, "30s")

    COUNT(limits, clients, "4096", 1, 1000000, RESTART)
    SIZE(limits, body_bytes, "4M", KIB, GIB, RELOAD)
    SIZE(limits, request_bytes, "256M", KIB, 1024 * GIB, RELOAD)
    COUNT(limits, requests, "10000", 1, 1000000, RELOAD)
    COUNT(limits, in_flight, "256", 1, 65536, RELOAD)
    COUNT(limits, queued, "100000", 1, 10000000, RELOAD)
    COUNT(limits, per_host, "100", 1, 65536, RELOAD)
    COUNT(limits, per_client_batches, "0", 0, 1000000, RELOAD)
    COUNT(limits, per_client_members, "0", 0, 10000000, RELOAD)
    RATE(limits, per_client_rate, "0")
    SIZE(limits, head_bytes, "16K", KIB, MIB, RESTART)
    SIZE(limits, upstream_head_bytes, "64K", KIB, 16 * MIB, RELOAD)
    SIZE(limits, response_bytes, "10M", 0, 1024 * GIB, RELOAD)
    SIZE(limits, answer_bytes, "256M", MIB, 1024 * GIB, RELOAD)
    COUNT(limits, lookups, "1000", 1, 10000, RESTART)

    DURATION(fetch, timeout, "30s")
    DURATION(fetch, connect_timeout, "5s")
    DURATION(fetch, deadline, "60s")
    COUNT(fetch, max_redirects, "10", 0, 100, RELOAD)
    TEXT(fetch, user_agent, "gatherd/" PACKAGE_VERSION, check_user_agent)
    WORD(fetch, http_version, "auto", http_words)
    TEXT(fetch, ca_file, "", NULL)
    COUNT(fetch, idle_connections, "512", 0, 65536, RELOAD)
    DURATION(fetch, idle_time, "60s")
    LIST(fetch, dns_servers, "", check_server, RESTART)

    LIST(listener, bind, "127.0.0.1:4284 [::1]:4284", check_bind, RESTART)
    LIST(listener, hosts, "", check_host, RELOAD)
    TEXT(listener, token_file, "", NULL)
    TEXT(listener, policy, "default", check_policy_name)
    MODE(listener, mode, "0660", RESTART)
    ACCOUNT(listener, group)
    LIST(listener, peers, "", check_account, RELOAD)
    DURATION(listener, head_timeout, "10s")
    DURATION(listener, body_timeout, "30s")
    DURATION(listener, send_timeout, "30s")
    DURATION(listener, keep_alive, "30s")

    WORD(policy, base, "public", base_words)
    LIST(policy, allow, "", check_rule, RELOAD)
    LIST(policy, deny, "", check_rule, RELOAD)
    LIST(policy, ports, "", check_ports, RELOAD)
    LINES(policy, allow_host, check_allow_host)
    LIST(policy, deny_host, "", check_pattern, RELOAD)
    WORD(policy, redirects, "same-class", redirects_words)
    WORD(policy, mode, "enforce", mode_words)
};
/* clang-format on */

const size_t config_table_count = sizeof config_table / sizeof *config_table;

const char *config_section_name(enum config_section section)
{
    static const char *const names[] = {
        [CONFIG_DAEMON] = "daemon",     [CONFIG_LIMITS] = "limits", [CONFIG_FETCH] = "fetch",
        [CONFIG_LISTENER] = "listener", [CONFIG_POLICY] = "policy",
    };
    return section < CONFIG_SECTION_COUNT ? names[section] : NULL;
}

const struct config_option *config_table_find(enum config_section section, const char *key)
{
    for (size_t i = 0; i < config_table_count; i++) {
        if (config_table[i].section == section && strcmp(config_table[i].key, key) == 0)
            return &config_table[i];
    }
    return NULL;
}

const char *config_quote(const char *text, char out[CONFIG_QUOTE_MAX])
{
    const char *end = text + strnlen(text, CONFIG_QUOTE_BYTES);
    char *p = out;
    *p++ = '"';
    for (; text < end; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c < 0x7F) {
            *p++ = *text;
            continue;
        }
        *p++ = '\\';
        *p++ = 'x';
        *p++ = "0123456789ABCDEF"[c >> 4];
        *p++ = "0123456789ABCDEF"[c & 15];
    }
    for (int dots = *end ? 3 : 0; dots > 0; dots--)
        *p++ = '.';
    *p++ = '"';
    *p = '\0';
    return out;
}

/* --- writing --------------------------------------------------------------------------------- */

struct unit {
    const char *name;
    int64_t factor;
};

static void write_with_unit(int64_t v, const struct unit *units, struct buf *out)
{
    while (units->factor > 1 && (v % units->factor != 0 || v / units->factor == 0))
        units++;
    buf_add_int(out, v / units->factor);
    buf_add_str(out, units->name);
}

/* Two minutes are 2m, one is 60s: that is how people write it, and what the manual says. */
static void write_duration(int64_t v, struct buf *out)
{
    static const struct unit units[] = {
        {"d", DAY_US},   {"h", 3600 * US_PER_S}, {"m", 60 * US_PER_S},
        {"s", US_PER_S}, {"ms", US_PER_MS},      {"us", 1},
    };
    size_t first = 0;
    while (first < 3 && v < 2 * units[first].factor)
        first++;
    write_with_unit(v, units + first, out);
}

static void write_size(int64_t v, struct buf *out)
{
    static const struct unit units[] = {{"G", GIB}, {"M", MIB}, {"K", KIB}, {"", 1}};
    write_with_unit(v, units, out);
}

static void write_number(const struct config_option *o, int64_t v, struct buf *out)
{
    if (o->type == CONFIG_DURATION)
        write_duration(v, out);
    else if (o->type == CONFIG_SIZE)
        write_size(v, out);
    else if (o->type == CONFIG_MODE)
        buf_printf(out, "%04o", (unsigned)v);
    else if (o->type == CONFIG_WORD)
        buf_add_str(out, o->words[v]);
    else if (o->type == CONFIG_RATE && v != 0)
        buf_printf(out, v > 0 ? "%lld/s" : "%lld/m", (long long)(v > 0 ? v : -v));
    else if (o->words != NULL && v == CONFIG_AUTO)
        buf_add_str(out, o->words[0]);
    else
        buf_add_int(out, v);
}

static const void *field_of(const struct config_option *o, const void *section)
{
    return (const char *)section + o->offset;
}

#define LIST_LINE_MAX 100 /* for the eye; a single long item may need more */

static void write_lines(const struct config_option *o, const struct str_list *list, struct buf *out)
{
    for (size_t i = 0; i < list->count; i++)
        buf_printf(out, "%s%s = %s", i > 0 ? "\n" : "", o->key, list->items[i]);
    if (list->count == 0)
        buf_printf(out, "%s =", o->key);
}

static void write_list(const struct config_option *o, const struct str_list *list, struct buf *out)
{
    size_t line = 0;
    for (size_t i = 0; i < list->count || i == 0; i++) {
        size_t n = list->count > 0 ? strlen(list->items[i]) : 0;
        if (i == 0 || line + 1 + n > LIST_LINE_MAX) {
            buf_printf(out, "%s%s =", i == 0 ? "" : "\n", o->key);
            line = strlen(o->key) + 2;
        }
        if (n > 0)
            buf_printf(out, " %s", list->items[i]);
        line += 1 + n;
    }
}

void config_table_write(const struct config_option *o, const void *section, struct buf *out)
{
    const void *field = field_of(o, section);
    if (o->type == CONFIG_LIST) {
        write_list(o, field, out);
    } else if (o->type == CONFIG_LINES) {
        write_lines(o, field, out);
    } else if (o->type == CONFIG_TEXT) {
        const char *text = *(char *const *)field;
        buf_printf(out, "%s =%s%s", o->key, text ? " " : "", text ? text : "");
    } else {
        buf_printf(out, "%s = ", o->key);
        write_number(o, *(const int64_t *)field, out);
    }
    buf_add_char(out, '\n');
}

static bool is_list(const struct config_option *o)
{
    return o->type == CONFIG_LIST || o->type == CONFIG_LINES;
}

static bool list_equal(const struct str_list *a, const struct str_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    }
    return true;
}

bool config_table_equal(const struct config_option *o, const void *a, const void *b)
{
    const void *x = field_of(o, a), *y = field_of(o, b);
    if (is_list(o))
        return list_equal(x, y);
    if (o->type != CONFIG_TEXT)
        return *(const int64_t *)x == *(const int64_t *)y;
    const char *s = *(char *const *)x, *t = *(char *const *)y;
    return s && t ? strcmp(s, t) == 0 : s == t;
}

/* --- reading --------------------------------------------------------------------------------- */

static bool parse_mode(const char *text, int64_t *out)
{
    size_t n = strspn(text, "01234567");
    if (n == 0 || n > 6 || text[n])
        return false;
    *out = 0;
    for (; *text; text++)
        *out = *out * 8 + (*text - '0');
    return true;
}

/* N/s, N/m, or N alone, which is a second's. */
static bool parse_rate(const char *text, int64_t *out)
{
    char digits[20];
    size_t n = strspn(text, DIGITS);
    bool minute = strcmp(text + n, "/m") == 0;
    if (n == 0 || n >= sizeof digits || (text[n] && !minute && strcmp(text + n, "/s") != 0))
        return false;
    memcpy(digits, text, n);
    digits[n] = '\0';
    if (!parse_int(digits, 0, RATE_MAX, out))
        return false;
    *out = minute ? -*out : *out;
    return true;
}

/* A number too large for 64 bits is a number all the same: the message is that of its range. */
static bool parse_number(enum config_type type, const char *text, int64_t *out)
{
    *out = -1;
    if (type != CONFIG_MODE && text[strspn(text, DIGITS)] == '\0' && strlen(text) > 18)
        return true;
    if (type == CONFIG_DURATION)
        return parse_duration_us(text, out);
    if (type == CONFIG_SIZE)
        return parse_size(text, out);
    return type == CONFIG_MODE ? parse_mode(text, out) : parse_int(text, INT64_MIN, INT64_MAX, out);
}

static bool read_number(const struct config_option *o, const char *text, int64_t *out,
                        struct buf *why)
{
    static const char *const forms[] = {
        [CONFIG_COUNT] = "a whole number",
        [CONFIG_SIZE] = "bytes, or a whole number with K, M or G",
        [CONFIG_DURATION] = "a number with us, ms, s, m, h or d",
        [CONFIG_MODE] = "an octal number",
    };
    int64_t v;
    if (o->words != NULL && strcmp(text, o->words[0]) == 0) {
        *out = CONFIG_AUTO;
        return true;
    }
    bool is_number = parse_number(o->type, text, &v);
    if (is_number && v >= o->min && v <= o->max) {
        *out = v;
        return true;
    }
    say_quoted(why, text, is_number ? "is out of range; " : "is not of the right form; ");
    buf_printf(why, "%s%s%s, from ", o->words != NULL ? o->words[0] : "", o->words != NULL ? " or " : "",
               forms[o->type]);
    write_number(o, o->min, why);
    buf_add_str(why, " to ");
    write_number(o, o->max, why);
    return false;
}

static bool read_rate(const char *text, int64_t *out, struct buf *why)
{
    int64_t v;
    if (parse_rate(text, &v)) {
        *out = v;
        return true;
    }
    say_quoted(why, text, "is no rate; 0 (none), or N/s or N/m with N up to 1000000");
    return false;
}

static bool read_word(const struct config_option *o, const char *text, int64_t *out,
                      struct buf *why)
{
    for (int i = 0; o->words[i]; i++) {
        if (strcmp(o->words[i], text) == 0) {
            *out = i;
            return true;
        }
    }
    say_quoted(why, text, "is unknown; one of");
    for (int i = 0; o->words[i]; i++)
        buf_printf(why, "%s%s", i > 0 ? ", " : " ", o->words[i]);
    return false;
}

/* What was taken must fit into a line again. */
static bool check_text(const struct config_option *o, const char *text, struct buf *why)
{
    size_t most = CONFIG_LINE_MAX - strlen(o->key) - strlen(" = ");
    if (strlen(text) > most) {
        say_quoted(why, text, "is too long");
        buf_printf(why, "; at most %zu bytes", most);
        return false;
    }
    return !o->check || o->check(text, why);
}

static bool list_add(struct str_list *list, const char *text)
{
    char *copy = strdup(text);
    char **items = copy ? realloc(list->items, (list->count + 1) * sizeof *items) : NULL;
    if (!items) {
        free(copy);
        return false;
    }
    list->items = items;
    list->items[list->count++] = copy;
    return true;
}

static bool replace_text(char **field, const char *text)
{
    char *copy = *text ? strdup(text) : NULL;
    if (*text && !copy)
        return false;
    free(*field);
    *field = copy;
    return true;
}

bool config_table_set(const struct config_option *o, void *section, const char *text,
                      struct buf *why)
{
    void *field = (char *)section + o->offset;
    if (o->type == CONFIG_WORD)
        return read_word(o, text, field, why);
    if (o->type == CONFIG_RATE)
        return read_rate(text, field, why);
    if (o->type != CONFIG_TEXT && !is_list(o))
        return read_number(o, text, field, why);
    if (!check_text(o, text, why))
        return false;
    bool done = is_list(o) ? list_add(field, text) : replace_text(field, text);
    why->failed |= !done;
    return done;
}

void config_table_clear(const struct config_option *o, void *section)
{
    void *field = (char *)section + o->offset;
    if (o->type == CONFIG_TEXT) {
        free(*(char **)field);
        *(char **)field = NULL;
    } else if (is_list(o)) {
        struct str_list *list = field;
        while (list->count > 0)
            free(list->items[--list->count]);
        free(list->items);
        *list = (struct str_list){0};
    }
}
