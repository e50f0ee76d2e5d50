/* SPDX-License-Identifier: MIT
 *
 * config_table - see config_table.h. Called by config.c only, on the thread that reads the
 * configuration; owns nothing but the table, which is constant.
 *
 * A row is written by a macro of its type, which finds the field by the key's name: a duration
 * `idle_time` is the field `idle_time_us` of struct config_fetch, because its section is `fetch`.
 * A default is text and goes through the same reading as a line of the file, so that it cannot be
 * outside its own range. What texts may say is in config_check.c, how values are written in
 * config_write.c.
 */
#include "config_table.h"

#include <stdlib.h>
#include <string.h>

#include "build.h"
#include "clock.h"
#include "config_check.h"
#include "config_write.h"
#include "log.h"
#include "parse.h"

#define DIGITS "0123456789"
#define RATE_MAX 1000000
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define DAY_US (86400 * US_PER_S)

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
static const char *const yes_words[] = {[false] = "no", [true] = "yes", NULL};
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
    ROW(section, CONFIG_TEXT, name, name, "", .check = config_check_account, \
        .needs_restart = RESTART)
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
    ROW(limits, CONFIG_SIZE, head_bytes, head_bytes, "16K", .min = KIB, .max = MIB,
        .needs_restart = RESTART, .lower_at_once = true)
    SIZE(limits, upstream_head_bytes, "64K", KIB, 16 * MIB, RELOAD)
    SIZE(limits, response_bytes, "10M", 0, 1024 * GIB, RELOAD)
    SIZE(limits, answer_bytes, "256M", MIB, 1024 * GIB, RELOAD)
    COUNT(limits, lookups, "1000", 1, 10000, RESTART)

    DURATION(fetch, timeout, "30s")
    DURATION(fetch, connect_timeout, "5s")
    DURATION(fetch, deadline, "60s")
    COUNT(fetch, max_redirects, "10", 0, 100, RELOAD)
    TEXT(fetch, user_agent, "gatherd/" PACKAGE_VERSION, config_check_user_agent)
    WORD(fetch, http_version, "auto", http_words)
    TEXT(fetch, ca_file, "", NULL)
    COUNT(fetch, idle_connections, "512", 0, 65536, RELOAD)
    DURATION(fetch, idle_time, "60s")
    LIST(fetch, dns_servers, "", config_check_server, RESTART)

    LIST(listener, bind, "127.0.0.1:4284 [::1]:4284", config_check_bind, RESTART)
    LIST(listener, hosts, "", config_check_host, RELOAD)
    TEXT(listener, token_file, "", NULL)
    TEXT(listener, policy, "default", config_check_policy_name)
    MODE(listener, mode, "0660", RESTART)
    ACCOUNT(listener, group)
    LIST(listener, peers, "", config_check_account, RELOAD)
    DURATION(listener, head_timeout, "10s")
    DURATION(listener, body_timeout, "30s")
    DURATION(listener, send_timeout, "30s")
    DURATION(listener, keep_alive, "30s")

    WORD(policy, base, "public", base_words)
    LIST(policy, allow, "", config_check_rule, RELOAD)
    LIST(policy, deny, "", config_check_rule, RELOAD)
    LIST(policy, ports, "", config_check_ports, RELOAD)
    LINES(policy, allow_host, config_check_allow_host)
    LIST(policy, deny_host, "", config_check_pattern, RELOAD)
    WORD(policy, redirects, "same-class", redirects_words)
    WORD(policy, mode, "enforce", mode_words)
    WORD(policy, insecure, "no", yes_words)
    WORD(policy, userinfo, "no", yes_words)
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

/* --- comparing ------------------------------------------------------------------------------- */

static const void *field_of(const struct config_option *o, const void *section)
{
    return (const char *)section + o->offset;
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
    config_say_quoted(why, text, is_number ? "is out of range; " : "is not of the right form; ");
    buf_printf(why, "%s%s%s, from ", o->words != NULL ? o->words[0] : "",
               o->words != NULL ? " or " : "", forms[o->type]);
    config_write_number(o, o->min, why);
    buf_add_str(why, " to ");
    config_write_number(o, o->max, why);
    return false;
}

static bool read_rate(const char *text, int64_t *out, struct buf *why)
{
    int64_t v;
    if (parse_rate(text, &v)) {
        *out = v;
        return true;
    }
    config_say_quoted(why, text, "is no rate; 0 (none), or N/s or N/m with N up to 1000000");
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
    config_say_quoted(why, text, "is unknown; one of");
    for (int i = 0; o->words[i]; i++)
        buf_printf(why, "%s%s", i > 0 ? ", " : " ", o->words[i]);
    return false;
}

/* What was taken must fit into a line again. */
static bool check_text(const struct config_option *o, const char *text, struct buf *why)
{
    size_t most = CONFIG_LINE_MAX - strlen(o->key) - strlen(" = ");
    if (strlen(text) > most) {
        config_say_quoted(why, text, "is too long");
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
