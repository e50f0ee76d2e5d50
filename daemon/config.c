/* SPDX-License-Identifier: MIT
 *
 * config - see config.h. Called at start, by -t and -T, and at each reload, on the main thread; it
 * may block on files. Owns what it reads until it returns it.
 *
 * config_read.c finds sections, keys and values in files and in -o; here is what they mean. All
 * that sets an option, be it a default, a line of a file or a -o, ends in set_key(), which
 * remembers for each option where its value came from (struct config_origin). From that follow the
 * rank of the sources, the adding up of lists, and the line that a contradiction is blamed on.
 */
#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_check.h"
#include "config_read.h"
#include "config_table.h"
#include "config_write.h"
#include "parse.h"

#define ERRORS_MAX 20
#define ERROR_ROOM 256
#define DEFAULT_NAME "default"
#define MODE_DEFAULT 0660 /* as config_table.c has it */

/* --- sections -------------------------------------------------------------------------------- */

static enum config_section section_of(int slot)
{
    if (slot >= CONFIG_SLOT_POLICY)
        return CONFIG_POLICY;
    return slot >= CONFIG_SLOT_LISTENER ? CONFIG_LISTENER : (enum config_section)slot;
}

/* The struct of a slot; NULL for a name that was not given out. */
static void *slot_data(const struct config *c, int slot)
{
    if (slot >= CONFIG_SLOT_POLICY) {
        size_t i = (size_t)(slot - CONFIG_SLOT_POLICY);
        return i < c->policy_count ? &c->policies[i] : NULL;
    }
    if (slot >= CONFIG_SLOT_LISTENER) {
        size_t i = (size_t)(slot - CONFIG_SLOT_LISTENER);
        return i < c->listener_count ? &c->listeners[i] : NULL;
    }
    const void *const single[] = {&c->daemon, &c->limits, &c->fetch};
    return (void *)(uintptr_t)single[slot];
}

static const char *slot_name(const struct config *c, int slot)
{
    if (slot >= CONFIG_SLOT_POLICY)
        return c->policies[slot - CONFIG_SLOT_POLICY].name;
    return slot >= CONFIG_SLOT_LISTENER ? c->listeners[slot - CONFIG_SLOT_LISTENER].name : NULL;
}

/* The slot of [section name]; for a name that there is none of, the next free one. */
static int slot_find(const struct config *c, enum config_section section, const char *name)
{
    int slot = section == CONFIG_POLICY ? CONFIG_SLOT_POLICY : CONFIG_SLOT_LISTENER;
    int end = slot + CONFIG_NAMED_MAX;
    while (slot < end && slot_data(c, slot) && strcmp(slot_name(c, slot), name) != 0)
        slot++;
    return slot;
}

static struct config_origin *origin_of(const struct config_loader *l, int slot,
                                       const struct config_option *o)
{
    return &l->origins[(size_t)slot * config_table_count + (size_t)(o - config_table)];
}

static const struct config_origin *origin_of_key(const struct config_loader *l, int slot,
                                                 const char *key)
{
    return origin_of(l, slot, config_table_find(section_of(slot), key));
}

/* --- messages -------------------------------------------------------------------------------- */

void config_report(struct config_loader *l, const struct config_origin *at, int slot,
                   const char *key, const char *fmt, ...)
{
    char words[1024];
    va_list ap;
    if (l->error_count++ >= ERRORS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    if (at->line > 0)
        buf_printf(l->errors, "%s:%d: ", at->file, at->line);
    else
        buf_printf(l->errors, "%s: ", at->file);
    if (slot >= 0) {
        const char *name = slot_name(l->config, slot);
        buf_printf(l->errors, "[%s%s%s] ", config_section_name(section_of(slot)), name ? " " : "",
                   name ? name : "");
    }
    buf_printf(l->errors, "%s%s%s\n", key ? key : "", key ? ": " : "", words);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

#define GUESS_MAX 32

/* Insertions, deletions, replacements and swaps of neighbours that lead from a to b. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t d[GUESS_MAX + 1][GUESS_MAX + 1];
    size_t m = strlen(a), n = strlen(b);
    if (m > GUESS_MAX || n > GUESS_MAX)
        return SIZE_MAX;
    for (size_t i = 0; i <= m; i++) {
        for (size_t j = 0; j <= n; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = least(d[i][j], least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[m][n];
}

struct guess {
    const char *word; /* what was written */
    const char *best; /* the nearest that was considered; NULL = none is near */
    size_t distance;
};

static void guess_consider(struct guess *g, const char *candidate)
{
    size_t most = strlen(g->word) > 8 ? 3 : 2;
    size_t distance = edit_distance(g->word, candidate);
    if (distance > most || distance >= strlen(candidate) || (g->best && distance >= g->distance))
        return;
    g->best = candidate;
    g->distance = distance;
}

static void report_unknown_key(struct config_loader *l, int slot, const char *key)
{
    char quoted[CONFIG_QUOTE_MAX];
    struct guess guess = {.word = key};
    enum config_section home = CONFIG_SECTION_COUNT;
    for (size_t i = 0; i < config_table_count; i++) {
        const struct config_option *o = &config_table[i];
        if (o->section == section_of(slot))
            guess_consider(&guess, o->key);
        else if (strcmp(o->key, key) == 0)
            home = o->section;
    }
    config_quote(key, quoted);
    if (home != CONFIG_SECTION_COUNT)
        config_report(l, &l->here, slot, quoted, "is no key of this section; it belongs to [%s%s]",
                      config_section_name(home), home >= CONFIG_LISTENER ? " NAME" : "");
    else if (guess.best)
        config_report(l, &l->here, slot, quoted, "unknown key; did you mean %s?", guess.best);
    else
        config_report(l, &l->here, slot, quoted,
                      "unknown key; gatherd.conf(5) lists those of this section");
}

/* --- values ---------------------------------------------------------------------------------- */

static void set_one(struct config_loader *l, int slot, const struct config_option *o,
                    const char *text)
{
    struct buf why;
    buf_init(&why, 0);
    if (!config_table_set(o, slot_data(l->config, slot), text, &why)) {
        l->no_memory |= why.failed;
        origin_of(l, slot, o)->refused = true;
        config_report(l, &l->here, slot, o->key, "%s", buf_cstr(&why));
    }
    buf_fini(&why);
}

/* As config_set_key(), but cuts value up. */
static void set_key(struct config_loader *l, int slot, const char *key, char *value)
{
    const struct config_option *o = config_table_find(section_of(slot), key);
    if (!o) {
        report_unknown_key(l, slot, key);
        return;
    }
    struct config_origin *at = origin_of(l, slot, o);
    bool is_list = o->type == CONFIG_LIST || o->type == CONFIG_LINES;
    if (!is_list && at->source == CONFIG_FROM_FILE && at->file == l->here.file) {
        config_report(l, &l->here, slot, key, "is set twice, first in line %d; remove one",
                      at->line);
        return;
    }
    bool adds = is_list && at->source == l->here.source && *value;
    bool refused = adds && at->refused;
    *at = l->here;
    at->refused = refused;
    at->order = ++l->here.order;
    if (is_list && !adds)
        config_table_clear(o, slot_data(l->config, slot));
    if (o->type == CONFIG_LINES ? *value != '\0' : !is_list)
        set_one(l, slot, o, value);
    if (o->type != CONFIG_LIST)
        return;
    for (char *word; (word = parse_word(&value));)
        set_one(l, slot, o, word);
}

void config_set_key(struct config_loader *l, int slot, const char *key, const char *value)
{
    char *copy = strdup(value);
    if (copy)
        set_key(l, slot, key, copy);
    else
        l->no_memory = true;
    free(copy);
}

static void set_defaults(struct config_loader *l, int slot)
{
    struct config_origin here = l->here;
    l->here = (struct config_origin){.source = CONFIG_FROM_DEFAULT, .file = "built-in"};
    l->here.order = here.order;
    for (size_t i = 0; i < config_table_count; i++) {
        if (config_table[i].section == section_of(slot))
            config_set_key(l, slot, config_table[i].key, config_table[i].initial);
    }
    here.order = l->here.order;
    l->here = here;
}

/* --- section lines --------------------------------------------------------------------------- */

static bool name_is_good(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = strspn(name, allowed);
    return n > 0 && n <= CONFIG_NAME_MAX && !name[n];
}

/* The slot of [section name], made with its defaults when there is none yet. */
static int named_slot(struct config_loader *l, enum config_section section, const char *name)
{
    struct config *c = l->config;
    int slot = slot_find(c, section, name);
    if (slot == CONFIG_SLOT_COUNT || (section == CONFIG_LISTENER && slot == CONFIG_SLOT_POLICY)) {
        CONFIG_REPORT_HERE(l, "[%s %s] is one section too many; at most %d of a kind",
                           config_section_name(section), name, CONFIG_NAMED_MAX);
        return CONFIG_SLOT_REFUSED;
    }
    if (slot_data(c, slot))
        return slot;
    char *copy = strdup(name);
    if (!copy) {
        l->no_memory = true;
        return CONFIG_SLOT_REFUSED;
    }
    if (section == CONFIG_LISTENER)
        c->listeners[c->listener_count++].name = copy;
    else
        c->policies[c->policy_count++].name = copy;
    l->made[slot] = l->here;
    set_defaults(l, slot);
    return slot;
}

static void report_unknown_section(struct config_loader *l, const char *kind)
{
    char quoted[CONFIG_QUOTE_MAX];
    struct guess guess = {.word = kind};
    const char *name;
    for (int i = 0; (name = config_section_name((enum config_section)i)); i++)
        guess_consider(&guess, name);
    config_quote(kind, quoted);
    if (guess.best)
        CONFIG_REPORT_HERE(l, "unknown section %s; did you mean %s?", quoted, guess.best);
    else
        CONFIG_REPORT_HERE(
            l, "unknown section %s; daemon, limits, fetch, listener NAME or policy NAME", quoted);
}

int config_section_slot(struct config_loader *l, const char *kind, const char *name, char between)
{
    char quoted[CONFIG_QUOTE_MAX];
    int section = 0;
    while (config_section_name((enum config_section)section) &&
           strcmp(config_section_name((enum config_section)section), kind) != 0)
        section++;
    if (section == CONFIG_SECTION_COUNT) {
        report_unknown_section(l, kind);
    } else if (section < CONFIG_LISTENER) {
        if (!name)
            return section;
        CONFIG_REPORT_HERE(l, "%s takes no name; write %s alone, without %s", kind, kind,
                           config_quote(name, quoted));
    } else if (!name) {
        CONFIG_REPORT_HERE(l, "%s needs a name; write %s%c" DEFAULT_NAME " for the built-in one",
                           kind, kind, between);
    } else if (!name_is_good(name)) {
        CONFIG_REPORT_HERE(l, "%s is no name for a %s; 1 to %d of A-Z a-z 0-9 _ -",
                           config_quote(name, quoted), kind, CONFIG_NAME_MAX);
    } else {
        return named_slot(l, (enum config_section)section, name);
    }
    return CONFIG_SLOT_REFUSED;
}

/* --- what must fit together ------------------------------------------------------------------ */

/* The later of two origins: the line that made the contradiction. */
static const struct config_origin *later(const struct config_origin *a,
                                         const struct config_origin *b)
{
    if (a->source != b->source)
        return a->source > b->source ? a : b;
    return a->order > b->order ? a : b;
}

static void check_at_most(struct config_loader *l, const char *small, int64_t v, const char *large,
                          int64_t most)
{
    const struct config_origin *a = origin_of_key(l, CONFIG_LIMITS, small);
    const struct config_origin *b = origin_of_key(l, CONFIG_LIMITS, large);
    if (v > most && !a->refused && !b->refused)
        config_report(l, later(a, b), CONFIG_LIMITS, small,
                      "%lld is more than %s = %lld; at most that, or raise %s", (long long)v, large,
                      (long long)most, large);
}

static void check_policy_of(struct config_loader *l, int slot,
                            const struct config_listener *listener)
{
    struct guess guess = {.word = listener->policy};
    const struct config_origin *at = origin_of_key(l, slot, "policy");
    if (at->refused || config_find_policy(l->config, listener->policy))
        return;
    char quoted[CONFIG_QUOTE_MAX];
    for (size_t i = 0; i < l->config->policy_count; i++)
        guess_consider(&guess, l->config->policies[i].name);
    config_quote(listener->policy, quoted);
    if (guess.best)
        config_report(l, at, slot, "policy", "there is no policy %s; did you mean %s?", quoted,
                      guess.best);
    else
        config_report(l, at, slot, "policy",
                      "there is no policy %s; the NAME of a [policy NAME] section", quoted);
}

static bool listens_on(const struct config_listener *listener, size_t count, const char *address)
{
    for (size_t i = 0; i < count; i++) {
        if (config_bind_equal(listener->bind.items[i], address))
            return true;
    }
    return false;
}

/* Whether an address stands before item `index` of this listener, or in an earlier listener. */
static const char *listened_before(const struct config *c, const struct config_listener *listener,
                                   size_t index)
{
    const char *address = listener->bind.items[index];
    for (const struct config_listener *other = c->listeners; other < listener; other++) {
        if (listens_on(other, other->bind.count, address))
            return other->name;
    }
    return listens_on(listener, index, address) ? listener->name : NULL;
}

/* One address of a listener. */
static void check_address(struct config_loader *l, int slot, const struct config_listener *listener,
                          size_t index)
{
    const struct config_origin *at = origin_of_key(l, slot, "bind");
    const char *text = listener->bind.items[index];
    struct config_bind bind;
    bool is_tcp = config_parse_bind(text, &bind) && !bind.path;
    bool is_any_port = is_tcp && bind.port == 0;
    const char *other = is_any_port ? NULL : listened_before(l->config, listener, index);
    if (other)
        config_report(l, at, slot, "bind", "%s is taken by [listener %s]; each address once", text,
                      other);
    if (is_tcp && !ip_is_loopback(&bind.ip) && !listener->token_file)
        config_report(l, at, slot, "bind",
                      "%s is open to other machines; set token_file, or bind a loopback address",
                      text);
}

/* Whoever reaches a TCP port of this machine would reach everything that it can reach. */
static void check_unsafe(struct config_loader *l, int slot, const struct config_listener *listener)
{
    const struct config_policy *policy = config_find_policy(l->config, listener->policy);
    if (!policy || policy->base != POLICY_BASE_UNSAFE_ANY || listener->token_file)
        return;
    for (size_t i = 0; i < listener->bind.count; i++) {
        if (strncmp(listener->bind.items[i], "unix:", 5) == 0)
            continue;
        int other = slot_find(l->config, CONFIG_POLICY, policy->name);
        const struct config_origin *at = origin_of_key(l, other, "base");
        config_report(
            l, later(at, origin_of_key(l, slot, "policy")), other, "base",
            "unsafe-any on %s of [listener %s] needs a token; set token_file, or bind unix:/PATH",
            listener->bind.items[i], listener->name);
        return;
    }
}

static void report_unix_only(struct config_loader *l, int slot, const char *key, const char *tcp,
                             const char *advice)
{
    const struct config_origin *at = origin_of_key(l, slot, key);
    if (!at->refused)
        config_report(l, at, slot, key, "is for Unix sockets, and means nothing on %s; %s", tcp,
                      advice);
}

/* Who writes a rule of a Unix socket down means it to hold: for a mode or a group there must be
 * one, and no way around peers. -T writes the default mode for each listener. */
static void check_unix_only(struct config_loader *l, int slot,
                            const struct config_listener *listener)
{
    const char *tcp = NULL;
    bool has_unix = false;
    for (size_t i = 0; i < listener->bind.count; i++) {
        bool is_unix = strncmp(listener->bind.items[i], "unix:", 5) == 0;
        has_unix |= is_unix;
        if (!is_unix && tcp == NULL)
            tcp = listener->bind.items[i];
    }
    if (tcp == NULL)
        return;
    if (listener->peers.count > 0)
        report_unix_only(l, slot, "peers", tcp,
                         has_unix ? "give that address a [listener NAME] of its own"
                                  : "bind unix:/PATH, or set token_file instead");
    if (listener->mode != MODE_DEFAULT && !has_unix)
        report_unix_only(l, slot, "mode", tcp, "bind unix:/PATH, or take it out");
    if (listener->group != NULL && !has_unix)
        report_unix_only(l, slot, "group", tcp, "bind unix:/PATH, or take it out");
}

static void check_listener(struct config_loader *l, int slot)
{
    struct config_listener *listener = slot_data(l->config, slot);
    const struct config_origin *bind = origin_of_key(l, slot, "bind");
    listener->bind_is_default = bind->source == CONFIG_FROM_DEFAULT;
    check_policy_of(l, slot, listener);
    if (!origin_of_key(l, slot, "token_file")->refused)
        check_unsafe(l, slot, listener);
    if (listener->bind_is_default && strcmp(listener->name, DEFAULT_NAME) != 0) {
        config_report(l, &l->made[slot], slot, "bind",
                      "is not set; only the listener " DEFAULT_NAME " has one built in");
        return;
    }
    if (bind->refused)
        return;
    check_unix_only(l, slot, listener);
    for (size_t i = 0; i < listener->bind.count; i++)
        check_address(l, slot, listener, i);
}

/* A policy that only -o names and that nobody uses is a misspelt name: its rules would not hold. */
static void check_policy(struct config_loader *l, int slot)
{
    const struct config *c = l->config;
    const struct config_policy *policy = slot_data(c, slot);
    struct guess guess = {.word = policy->name};
    if (l->made[slot].source != CONFIG_FROM_OVERRIDE)
        return;
    for (size_t i = 0; i < c->listener_count; i++) {
        if (strcmp(c->listeners[i].policy, policy->name) == 0)
            return;
    }
    for (size_t i = 0; i < c->policy_count; i++) {
        if (&c->policies[i] != policy)
            guess_consider(&guess, c->policies[i].name);
    }
    config_report(l, &l->made[slot], slot, NULL, "no listener uses this policy; %s%s",
                  guess.best ? "did you mean " : "set listener.NAME.policy to it",
                  guess.best ? guess.best : "");
}

/* One listener may be switched off, but not all. */
static void check_reachable(struct config_loader *l)
{
    const struct config_origin *at = origin_of_key(l, CONFIG_SLOT_LISTENER, "bind");
    for (size_t i = 0; i < l->config->listener_count; i++) {
        if (l->config->listeners[i].bind.count > 0)
            return;
    }
    if (!at->refused)
        config_report(l, at, CONFIG_SLOT_LISTENER, "bind",
                      "is empty, and no other listener has an address; name one");
}

/* Said once, of the listener with which there are too many. */
static void check_address_count(struct config_loader *l)
{
    size_t count = 0;
    for (size_t i = 0; i < l->config->listener_count; i++) {
        int slot = CONFIG_SLOT_LISTENER + (int)i;
        count += l->config->listeners[i].bind.count;
        if (count <= CONFIG_ADDRESSES_MAX)
            continue;
        config_report(l, origin_of_key(l, slot, "bind"), slot, "bind",
                      "makes %zu addresses; there may be %d in all listeners", count,
                      CONFIG_ADDRESSES_MAX);
        return;
    }
}

static void check_whole(struct config_loader *l)
{
    const struct config_limits *limits = &l->config->limits;
    check_at_most(l, "requests", limits->requests, "queued", limits->queued);
    check_at_most(l, "per_host", limits->per_host, "in_flight", limits->in_flight);
    for (size_t i = 0; i < l->config->listener_count; i++)
        check_listener(l, CONFIG_SLOT_LISTENER + (int)i);
    check_reachable(l);
    check_address_count(l);
    for (size_t i = 0; i < l->config->policy_count; i++)
        check_policy(l, CONFIG_SLOT_POLICY + (int)i);
}

/* --- the whole ------------------------------------------------------------------------------- */

static bool loader_init(struct config_loader *l, struct buf *errors)
{
    *l = (struct config_loader){.errors = errors};
    if (!buf_reserve(errors, ERROR_ROOM)) /* without it, who runs out of memory could not say so */
        return false;
    l->config = calloc(1, sizeof *l->config);
    l->origins = calloc(CONFIG_SLOT_COUNT * config_table_count, sizeof *l->origins);
    if (!l->config || !l->origins)
        return false;
    l->config->listeners = calloc(CONFIG_NAMED_MAX, sizeof *l->config->listeners);
    l->config->policies = calloc(CONFIG_NAMED_MAX, sizeof *l->config->policies);
    if (!l->config->listeners || !l->config->policies)
        return false;
    for (int slot = 0; slot < CONFIG_SLOT_LISTENER; slot++)
        set_defaults(l, slot);
    named_slot(l, CONFIG_LISTENER, DEFAULT_NAME);
    named_slot(l, CONFIG_POLICY, DEFAULT_NAME);
    return !l->no_memory;
}

/* Frees all but the configuration, which is returned when nothing went wrong. */
static struct config *loader_finish(struct config_loader *l)
{
    struct config *c = l->config;
    if (l->error_count > ERRORS_MAX)
        buf_printf(l->errors, "and %zu more\n", l->error_count - ERRORS_MAX);
    if (l->no_memory)
        BUF_ADD_LITERAL(l->errors, "out of memory while reading the configuration\n");
    if (l->no_memory || l->error_count > 0) {
        config_destroy(c);
        c = NULL;
    }
    for (size_t i = 0; i < l->file_count; i++)
        free(l->files[i]);
    free(l->files);
    free(l->origins);
    return c;
}

struct config *config_load(const char *path, const char *const *overrides, size_t count,
                           struct buf *errors)
{
    struct config_loader l;
    l.no_memory = !loader_init(&l, errors);
    if (!l.no_memory && path) {
        config_read_file(&l, path);
        config_read_directory(&l, path);
    }
    if (!l.no_memory)
        config_read_overrides(&l, overrides, count);
    if (!l.no_memory)
        check_whole(&l);
    return loader_finish(&l);
}

void config_destroy(struct config *c)
{
    if (!c)
        return;
    for (int slot = 0; slot < CONFIG_SLOT_COUNT; slot++) {
        void *section = slot_data(c, slot);
        for (size_t i = 0; i < config_table_count && section; i++) {
            if (config_table[i].section == section_of(slot))
                config_table_clear(&config_table[i], section);
        }
    }
    for (size_t i = 0; i < c->listener_count; i++)
        free(c->listeners[i].name);
    for (size_t i = 0; i < c->policy_count; i++)
        free(c->policies[i].name);
    free(c->listeners);
    free(c->policies);
    free(c);
}

void config_dump(const struct config *c, struct buf *out)
{
    for (int slot = 0; slot < CONFIG_SLOT_COUNT; slot++) {
        const void *section = slot_data(c, slot);
        if (!section)
            continue;
        const char *name = slot_name(c, slot);
        buf_printf(out, "%s[%s%s%s]\n", slot > 0 ? "\n" : "", config_section_name(section_of(slot)),
                   name ? " " : "", name ? name : "");
        for (size_t i = 0; i < config_table_count; i++) {
            if (config_table[i].section == section_of(slot))
                config_write_option(&config_table[i], section, out);
        }
    }
}

const struct config_policy *config_find_policy(const struct config *c, const char *name)
{
    return slot_data(c, slot_find(c, CONFIG_POLICY, name));
}

bool config_policy_equal(const struct config_policy *a, const struct config_policy *b)
{
    bool equal = strcmp(a->name, b->name) == 0;
    for (size_t i = 0; i < config_table_count && equal; i++)
        equal =
            config_table[i].section != CONFIG_POLICY || config_table_equal(&config_table[i], a, b);
    return equal;
}

/* Appends "section.NAME.key"; key NULL: the section itself. */
static void add_path(const struct config *c, int slot, const char *key, struct buf *out)
{
    const char *name = slot_name(c, slot);
    buf_printf(out, "%s%s", out->len > 0 ? " " : "", config_section_name(section_of(slot)));
    if (name)
        buf_printf(out, ".%s", name);
    if (key)
        buf_printf(out, ".%s", key);
}

/* The section in c that slot is in other; NULL = c has none of that name. */
static const void *same_section(const struct config *c, const struct config *other, int slot)
{
    if (slot < CONFIG_SLOT_LISTENER)
        return slot_data(c, slot);
    int found = slot_find(c, section_of(slot), slot_name(other, slot));
    return found < CONFIG_SLOT_POLICY ? slot_data(c, found) : NULL;
}

/* What a reload from section a to section b leaves as it is. */
static bool is_left(const struct config_option *o, const void *a, const void *b)
{
    int64_t before, after;
    if (!o->needs_restart || config_table_equal(o, a, b))
        return false;
    if (!o->lower_at_once)
        return true;
    memcpy(&before, (const char *)a + o->offset, sizeof before);
    memcpy(&after, (const char *)b + o->offset, sizeof after);
    return after > before;
}

void config_needs_restart(const struct config *now, const struct config *next, struct buf *out)
{
    for (int slot = 0; slot < CONFIG_SLOT_POLICY; slot++) {
        const void *a = slot_data(now, slot);
        const void *b = a ? same_section(next, now, slot) : NULL;
        if (a && !b)
            add_path(now, slot, NULL, out);
        for (size_t i = 0; i < config_table_count && b; i++) {
            const struct config_option *o = &config_table[i];
            if (o->section == section_of(slot) && is_left(o, a, b))
                add_path(now, slot, o->key, out);
        }
    }
    for (int slot = CONFIG_SLOT_LISTENER; slot < CONFIG_SLOT_POLICY; slot++) {
        if (slot_data(next, slot) && !same_section(now, next, slot))
            add_path(next, slot, NULL, out);
    }
}
