/* SPDX-License-Identifier: MIT
 *
 * config_check - see config_check.h. Called by config_table.c while a configuration is read, and
 * config_parse_bind() by whoever listens; owns nothing.
 *
 * What is checked here is read again, by the same functions, where it is used (policy, names,
 * listeners): a check has only to say whether that will do, and what a person who wrote something
 * else probably has to know.
 */
#include "config_check.h"

#include <string.h>
#include <sys/un.h>

#include "cidr.h"
#include "config.h"
#include "config_table.h"
#include "hostname.h"
#include "parse.h"

#define DIGITS "0123456789"
#define HOST_BYTES_MAX 253

/* --- quoting --------------------------------------------------------------------------------- */

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

void config_say_quoted(struct buf *why, const char *text, const char *words)
{
    char quoted[CONFIG_QUOTE_MAX];
    buf_printf(why, "%s %s", config_quote(text, quoted), words);
}

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

/* Past slashes of a path that say nothing: // and /./ */
static const char *skip_slashes(const char *s)
{
    while (s[0] == '/' && (s[1] == '/' || (s[1] == '.' && s[2] == '/')))
        s += s[1] == '/' ? 1 : 2;
    return s;
}

bool config_path_equal(const char *a, const char *b)
{
    for (;; a++, b++) {
        a = skip_slashes(a);
        b = skip_slashes(b);
        if (*a != *b || *a == '\0')
            return *a == *b;
    }
}

bool config_bind_equal(const char *a, const char *b)
{
    struct config_bind one, other;
    if (!config_parse_bind(a, &one) || !config_parse_bind(b, &other))
        return false;
    if (one.path || other.path)
        return one.path && other.path && config_path_equal(one.path, other.path);
    return one.port == other.port && ip_equal(&one.ip, &other.ip);
}

/* --- texts and items ------------------------------------------------------------------------- */

static size_t count_char(const char *text, char c)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == c;
    return n;
}

/* Of an item of a list that is not taken: lists have blanks where other programs have commas. */
static void say_item(struct buf *why, const char *text, const char *words)
{
    if (strchr(text, ','))
        words = "has a comma; items of a list stand between blanks";
    config_say_quoted(why, text, words);
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

bool config_check_bind(const char *text, struct buf *why)
{
    struct config_bind bind;
    if (config_parse_bind(text, &bind))
        return true;
    say_item(why, text, bind_advice(text));
    return false;
}

bool config_check_host(const char *text, struct buf *why)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "-._";
    size_t n = strspn(text, allowed);
    if (!text[n] && n <= HOST_BYTES_MAX && *text != '.')
        return true;
    say_item(why, text, "is no host name; a name as clients write it, without scheme and port");
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
    if (strchr(text, '%'))
        return "names an interface; write the address alone, without the % and what follows";
    if (strpbrk(text, "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ*"))
        return "is no address; a name cannot stand here, its addresses can";
    if (strchr(text, '/'))
        return "is no prefix; as 10.0.0.0/8 (no bits set behind the 8), 10.0.0.0/8:443 or "
               "[fc00::/7]:8000-8999";
    return "is no address; as 10.1.2.3, 10.1.2.3:443 or [fd00::1]:8000-8999";
}

bool config_check_rule(const char *text, struct buf *why)
{
    if (is_rule(text))
        return true;
    say_item(why, text, rule_advice(text));
    return false;
}

bool config_check_ports(const char *text, struct buf *why)
{
    if (is_port_range(text))
        return true;
    say_item(why, text, "is no port; a number from 1 to 65535, or LOW-HIGH");
    return false;
}

bool config_check_pattern(const char *text, struct buf *why)
{
    struct hostname_pattern pattern;
    struct buf words;
    buf_init(&words, 0);
    bool ok = hostname_pattern_parse(text, &pattern, &words);
    if (!ok)
        say_item(why, text, buf_cstr(&words));
    buf_fini(&words);
    return ok;
}

/* PATTERN -> ADDRESS-OR-PREFIX[:PORT] ... */
bool config_check_allow_host(const char *text, struct buf *why)
{
    char pattern[HOSTNAME_MAX + 3], rules[CONFIG_LINE_MAX + 1];
    const char *rest = hostname_split_arrow(text, pattern);
    char *p = rules, *word;
    if (!rest || !*rest || strlen(rest) >= sizeof rules) {
        config_say_quoted(why, text,
                          "does not say where the name may lead; *.corp.example -> 10.0.0.0/8");
        return false;
    }
    memcpy(rules, rest, strlen(rest) + 1);
    bool ok = config_check_pattern(pattern, why);
    while (ok && (word = parse_word(&p)))
        ok = config_check_rule(word, why);
    return ok;
}

/* What getpwnam() and getgrnam() are asked for, or a number. */
bool config_check_account(const char *text, struct buf *why)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "-._@\\$";
    if (!*text || (!text[strspn(text, allowed)] && *text != '-'))
        return true;
    config_say_quoted(why, text, "is no account; its name, or its number");
    return false;
}

bool config_check_server(const char *text, struct buf *why)
{
    struct ip_addr ip;
    uint16_t port;
    if (ip_parse(text, &ip) || parse_endpoint(text, 1, &ip, &port))
        return true;
    say_item(why, text, "is no address of a name server; ADDRESS, ADDRESS:PORT or [IPv6]:PORT");
    return false;
}

bool config_check_policy_name(const char *text, struct buf *why)
{
    if (*text)
        return true;
    buf_add_str(why, "is empty; the NAME of a [policy NAME] section");
    return false;
}

bool config_check_user_agent(const char *text, struct buf *why)
{
    if (*text && parse_is_field_value(text, strlen(text)))
        return true;
    config_say_quoted(why, text, "is no value of a header field; one or more printable characters");
    return false;
}
