/* SPDX-License-Identifier: MIT
 *
 * hostname - patterns for the host of a URL. Read by config to check lines and by policy to keep
 * them; asked by policy for every hop of a policy that has some. Owns nothing, any thread.
 *
 * Reading is strict for the same reason as that of addresses: a pattern that matches something else
 * than was meant opens or leaves open what it should not. So the star stands alone or for whole
 * labels in front, and what the URL parser would turn into another spelling (letters beyond ASCII,
 * addresses) is refused with the spelling that would be right.
 */
#include "hostname.h"

#include <string.h>
#include <strings.h>

#include "cidr.h"

#define LABEL_MAX 63

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Labels of 1 to 63 bytes, with dots between them. */
static bool labels_are_good(const char *s)
{
    size_t label = 0;
    for (; *s; s++) {
        if (*s == '.' && label == 0)
            return false;
        if (*s != '.' && (!is_name_byte(*s) || label == LABEL_MAX))
            return false;
        label = *s == '.' ? 0 : label + 1;
    }
    return label > 0;
}

bool hostname_is_number(const char *label, size_t n)
{
    const bool hex = n >= 2 && label[0] == '0' && label[1] == 'x';
    for (size_t i = hex ? 2 : 0; i < n; i++) {
        if ((label[i] < '0' || label[i] > '9') && !(hex && label[i] >= 'a' && label[i] <= 'f'))
            return false;
    }
    return true;
}

static bool ends_in_number(const char *s)
{
    const char *dot = strrchr(s, '.');
    const char *last = dot ? dot + 1 : s;
    return hostname_is_number(last, strlen(last));
}

static bool has_other_bytes(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80)
            return true;
    return false;
}

static bool refuse(struct buf *why, const char *words)
{
    buf_add_str(why, words);
    return false;
}

/* The text in lower case, without its final dot. */
static bool copy_name(const char *text, struct hostname_pattern *out)
{
    size_t n = strlen(text);
    if (n > 1 && text[n - 1] == '.')
        n--;
    if (n > HOSTNAME_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        out->text[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 0x20) : text[i];
    out->text[n] = '\0';
    out->len = n;
    return true;
}

bool hostname_pattern_parse(const char *text, struct hostname_pattern *out, struct buf *why)
{
    struct ip_addr ip;
    struct cidr prefix;
    *out = (struct hostname_pattern){.wildcard = text[0] == '*'};
    if (strstr(text, "://"))
        return refuse(why, "is a URL; a pattern is the name of its host alone");
    if (ip_parse(text, &ip) || strchr(text, '[') || cidr_parse(text, &prefix))
        return refuse(why, "is an address; allow and deny take those");
    if (strchr(text, '/'))
        return refuse(why, "has a slash; a pattern is a name alone, allow and deny take prefixes");
    if (has_other_bytes(text))
        return refuse(why, "has letters beyond ASCII; write the name as DNS has it, xn--...");
    if (strcmp(text, "*") == 0)
        return true;
    if (!copy_name(text + out->wildcard, out))
        return refuse(why, "is longer than 253 bytes");
    if (out->wildcard && out->text[0] != '.')
        return refuse(why,
                      "has a star that stands for a part of a label; *.corp.example, or * alone");
    if (strchr(text, ':'))
        return refuse(why,
                      "has a port; a pattern is a name alone, the keys with addresses take ports");
    if (!labels_are_good(out->text + out->wildcard))
        return refuse(why,
                      "is no host name; api.corp.example, *.corp.example, or * for every host");
    if (ends_in_number(out->text))
        return refuse(why,
                      "ends in a number, so it is read as an address; allow and deny take those");
    return true;
}

bool hostname_pattern_matches(const struct hostname_pattern *p, const char *host)
{
    size_t n = strlen(host);
    if (n > 1 && host[n - 1] == '.')
        n--;
    if (p->wildcard)
        return n > p->len && strncasecmp(host + n - p->len, p->text, p->len) == 0;
    return n == p->len && strncasecmp(host, p->text, n) == 0;
}

int hostname_pattern_compare(const struct hostname_pattern *a, const struct hostname_pattern *b)
{
    if (a->wildcard != b->wildcard)
        return a->wildcard ? 1 : -1;
    return a->len > b->len ? -1 : a->len < b->len;
}

const char *hostname_split_arrow(const char *text, char pattern[HOSTNAME_MAX + 3])
{
    const char *arrow = strstr(text, "->");
    size_t n = arrow ? (size_t)(arrow - text) : 0;
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    if (n == 0 || n >= HOSTNAME_MAX + 3)
        return NULL;
    memcpy(pattern, text, n);
    pattern[n] = '\0';
    return arrow + 2 + strspn(arrow + 2, " \t");
}
