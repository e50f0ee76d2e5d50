/* SPDX-License-Identifier: MIT
 *
 * request_internal - what the files of the request module share, and nobody else includes.
 *
 *     request.c         the batch: input types, query string, batch fields, order of precedence
 *     request_member.c  one member: its field table, headers, bodies, ids
 *     request_field.c   reads any field table from an object or from the query string
 *     request_json.c    bytes to a jansson tree: scan, budget, syntax errors
 *     request_plain.c   members that need no tree
 *     request_userinfo.c  members whose URL has a user name or password
 *     request_error.c   the words and the JSON pointer of a fault
 *
 * A function that can find a fault returns false and has then filled r->error. Memory that runs
 * out does not return: it jumps to request_parse(), see request_json.c. So nothing between may own
 * anything; what is made lies in the spec's arena, in the budget's or in the reader.
 */
#ifndef GATHERD_REQUEST_INTERNAL_H
#define GATHERD_REQUEST_INTERNAL_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "buf.h"
#include "request.h"
#include "spec.h"
#include "target.h"

struct json_t;

/* Where in the document a value stands: a chain on the stack, made into a pointer when a fault is
 * found. NULL is the whole document. */
struct place {
    const struct place *up;
    const char *key; /* NULL: an array's element, `index` counts */
    size_t index;
    bool query; /* key is the name of a query parameter */
};

/* Options of a member while they are read. opts.method is NULL until it is known whether there is
 * a body; header and body memory is the spec's. */
struct draft {
    struct member_opts opts;
    struct member *member;  /* NULL: these are defaults, which have neither url nor id */
    const char *body_field; /* which of body, body_base64, json stood in this object */
};

struct budget {
    struct arena arena; /* the jansson trees; released whole */
    size_t used, limit; /* bytes */
    bool exhausted;     /* the limit was met; else malloc failed */
    jmp_buf out;
};

struct reader {
    const struct request_input *in;
    const struct config_limits *limits;
    struct request_error *error;
    struct batch_spec *spec;
    struct budget budget;
    size_t containers, commas; /* counted by the scan, over all lines of NDJSON */
    struct draft base;         /* configuration, then query, then `defaults` */
    const struct member_opts *shared; /* base, finished: of members that add nothing to it */
    struct json_t *requests, *defaults; /* of the batch object; NULL = not there */
    struct table ids;                   /* of struct id; {0} = no id yet */
    struct buf text;                    /* one `json` value written anew; a body without members */
    bool plain;                         /* the members are in the list: the tree has none */
    struct member *list;                /* of request_plain.c, in the spec */
    size_t list_count, list_room;
    struct arena held;                  /* the spec's, while it is tried whether all is plain */
    struct origins origins;             /* of the members' URLs */
    const struct member_opts *login;    /* with credentials, of the last member that had some */
    const struct member_opts *login_base; /* what they were made of */
};

/* --- request_field.c -------------------------------------------------------------------------- */

enum field_kind {
    FIELD_BOOL,       /* bool at offset */
    FIELD_INT,        /* int at offset */
    FIELD_INT64,      /* int64_t at offset */
    FIELD_MS,         /* a number of milliseconds; int64_t microseconds at offset */
    FIELD_MS_OR_NULL, /* the same; null is -1 */
    FIELD_WORD,       /* one of words[]; its index, an int, at offset */
    FIELD_TEXT,       /* set() gets a string, */
    FIELD_ARRAY,      /* an array, */
    FIELD_OBJECT,     /* an object, */
    FIELD_ANY,        /* or anything */
    FIELD_LATER,      /* named by the API; refused by this version */
};

struct field {
    const char *name;
    enum field_kind kind;
    bool query;    /* may be a query parameter */
    size_t offset; /* in the target */
    int64_t min, max;
    const char *limit;          /* the [limits] key that bounds it further, or NULL */
    size_t limit_offset;        /* in struct config_limits */
    const char *const *words;   /* NULL-terminated */
    bool (*set)(struct reader *r, const struct place *at, struct json_t *value, void *target);
};

struct field_table {
    const char *of;         /* "member" or "batch" */
    const char *field_noun; /* "member field" */
    const char *where;      /* where such a field belongs, for one that stands elsewhere */
    const struct field *fields;
    size_t count;
};

extern const struct field_table request_member_table; /* target: struct draft */
extern const struct field_table request_batch_table;  /* target: struct batch_spec */

/* The field of that name, or NULL. */
const struct field *request_find_field(const struct field_table *table, const char *name);

/* Checks the value's type and range and stores it. */
bool request_set_field(struct reader *r, const struct field *f, const struct place *at,
                       struct json_t *value, void *target);

/* All keys of an object, in their order. */
bool request_read_object(struct reader *r, const struct field_table *table, const struct place *at,
                         struct json_t *object, void *target);

/* The text of a query parameter as the JSON value that the field would have in a body; one that
 * cannot be stays a string, so that request_set_field() refuses it in the same words. NULL: the
 * text is not UTF-8. */
struct json_t *request_param_value(const struct field *f, const char *text);

/* --- request_member.c ------------------------------------------------------------------------- */

#define REQUEST_ID_BYTES_MAX 256

/* One element of the array or one line: a URL string or an object. */
bool request_read_member(struct reader *r, const struct place *at, struct json_t *value,
                         struct member *m);

/* The member's URL, n bytes of the spec's memory followed by a NUL. What it says is no fault of the
 * request: a URL that is refused fails its member alone. */
void request_set_url(struct reader *r, struct member *m, const char *url, size_t n);

/* Its target, from a text like that; the URL as posted stays. */
void request_set_target(struct reader *r, struct member *m, const char *text, size_t n);

/* Notes an id, which lies in the spec; false when the batch has it already. */
bool request_take_id(struct reader *r, const char *id);

/* A copy of the options in the spec, with the method filled in. */
const struct member_opts *request_finish_opts(struct reader *r, const struct draft *d);

/* --- request_json.c --------------------------------------------------------------------------- */

/* Between these two calls jansson allocates from r->budget; end releases every tree. */
void request_memory_begin(struct reader *r);
void request_memory_end(struct reader *r);

/* Does not return: request_parse() answers that memory ran out. */
_Noreturn void request_out_of_memory(struct reader *r);

/* Memory of the spec; never NULL. copy adds a NUL. */
void *request_alloc(struct reader *r, size_t count, size_t size);
const char *request_copy(struct reader *r, const char *s, size_t n);

/* Scans and parses one JSON text of any type; NULL when it is refused. base: the offset of the
 * text in the body. */
struct json_t *request_load(struct reader *r, const struct place *at, const char *text, size_t len,
                            size_t base);

/* --- request_plain.c -------------------------------------------------------------------------- */

/* Reads the members of a JSON text into r->list, those of an array or of an object's "requests",
 * which stands from *begin to *end. Without options, which may come later. False: something of it
 * is not plain or not even right; then the list and the ids are worth nothing. */
bool request_read_plain(struct reader *r, const char *text, size_t len, size_t *begin, size_t *end);

/* Reads one line, which is one member. False: it is not plain. */
bool request_read_plain_line(struct reader *r, const char *text, size_t len, struct member *m);

/* Whether the bytes are printable ASCII (or DEL) without a backslash. */
bool request_is_simple(const char *s, size_t n);

/* --- request_userinfo.c ----------------------------------------------------------------------- */

/* Whether the member's URL was refused for a user name or password, which may be there. */
bool request_has_userinfo(const struct reader *r, const struct member *m);

/* Of such a member makes one whose options have the credentials; leaves any other as it is. Its URL
 * and options are set. at: of the URL. False: it has an Authorization of its own. */
bool request_take_userinfo(struct reader *r, const struct place *at, struct member *m);

/* --- request_error.c -------------------------------------------------------------------------- */

/* Fills r->error: status 400, no offset. Always false. */
bool request_fail(struct reader *r, const struct place *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define REQUEST_QUOTE_MAX 80

/* The text in quotes for a message: valid UTF-8, no controls, no credentials of a URL, cut where it
 * is long. Returns out. */
const char *request_quote(char out[REQUEST_QUOTE_MAX], const char *text, size_t text_len);

/* A value in words: `null`, `17`, `the string "abc"`, `an array`. The words are what it returns, a
 * literal or in out, which has nothing in it then. */
const char *request_describe(char out[REQUEST_QUOTE_MAX + 16], const struct json_t *value)
    __attribute__((warn_unused_result));

/* A key that is in no table, or in the wrong one. at: of the key itself. */
bool request_fail_unknown(struct reader *r, const struct field_table *table,
                          const struct place *at);

/* The word of the NULL-terminated list that is nearest, or NULL. */
const char *request_nearest(const char *const *words, const char *to);

#endif
