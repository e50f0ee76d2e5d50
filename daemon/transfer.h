/* SPDX-License-Identifier: MIT
 *
 * transfer - one hop as a libcurl easy handle: options, callbacks, caps, marks. The engine (fetch)
 * keeps a pool of them; libcurl's handle and its buffers are reused, and so are its options where
 * the next hop is of the same shape (see struct transfer_shape); else all are set anew.
 *
 * Everything that bounds an upstream is counted in the callbacks here: bytes of head and trailers,
 * decoded body bytes, the number of times the request was sent. libcurl's own limits are not relied
 * on.
 */
#ifndef GATHERD_TRANSFER_H
#define GATHERD_TRANSFER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <curl/curl.h>

#include "curl_uv.h"
#include "curl_uv_recv.h"
#include "hop.h"
#include "policy.h"
#include "reply.h"
#include "resolve.h"
#include "result.h"
#include "sched.h"
#include "spec.h"
#include "target.h"
#include "tls_sessions.h"
#include "upstream.h"

/* Each has connections of its own. A request that may speak HTTP/2 would else be put on a kept
 * HTTP/1.1 connection to the same origin, and one for http:// (libcurl 8.14) on a kept TLS
 * connection to the same port: what it gets would depend on who asked before. What went without a
 * check of certificates, connections and TLS sessions, is apart from what was checked by the same
 * means, not only because libcurl compares. */
enum transfer_kind {
    KIND_PLAIN,
    KIND_HTTP1,
    KIND_HTTP2,
    KIND_HTTP1_UNVERIFIED,
    KIND_HTTP2_UNVERIFIED,
    TRANSFER_KINDS
};

/* What all transfers of one pool share; borrowed, outlives them. */
struct transfer_env {
    struct curl_uv *multis[TRANSFER_KINDS]; /* NULL: unverified ones, where the policy has none */
    struct tls_sessions *sessions;
    bool *trust_spoilt; /* see tls_trust.h */
    bool libcurl_8_1; /* the libcurl found at run time is 8.1 or newer, */
    bool zstd;        /* and has it */
    const struct policy *policy;
    struct local *local;
    const struct config_fetch *fetch;
    const struct config_limits *limits;
    unsigned generation; /* changes with policy, fetch and limits: what they led to is void */
    int64_t starved_until_us; /* descriptors ran out: until then idle connections give theirs up */
    atomic_llong *answer_held; /* bytes of bodies and headers held for answers, all members */
};

enum transfer_cut { /* why we, not libcurl or the upstream, ended it */
    CUT_NONE,
    CUT_HEAD,     /* head and trailers over limits.upstream_head_bytes */
    CUT_BODY,     /* decoded body over max_response_bytes: no error, truncated */
    CUT_REDIRECT, /* the body of a redirect that is followed is too long to be worth reading */
    CUT_WHOLE,    /* an answer to HEAD that libcurl would wait for the body of: no error */
    CUT_POLICY,   /* the address dialled or reused is denied; see verdict */
    CUT_RESENT,   /* libcurl wanted to send a non-idempotent request twice */
    CUT_BROKEN_OFF, /* libcurl wanted to send it again, but some of an answer had come */
    CUT_LOST,     /* the connection was gone before its address could be judged again */
    CUT_SHARED,   /* libcurl gave it the connection of another, see transfer_connect.c */
    CUT_ANEW,     /* its kept connection died, and the new one has several addresses */
    CUT_FORGOTTEN, /* libcurl has no address of the host any more, see transfer_connect.c */
    CUT_VERSION,  /* a status line of another version than the connection can be of */
    CUT_STATUS,   /* a status that is not from 100 to 999 */
    CUT_FOLDED,   /* a head that begins with a folded line; see transfer_answer.c */
    CUT_NUL,      /* a line of the head begins with one; see transfer_connect.c */
    CUT_FRAMING,  /* a field that says how the body is to be read goes on in a folded line */
    CUT_LENGTH,   /* a Content-Length that is no number below 2^63, or two that differ */
    CUT_FIELDS,   /* more fields than REPLY_FIELDS_MAX */
    CUT_LOCATION, /* a Location longer than REPLY_LOCATION_MAX that would be followed */
    CUT_SHARED_CODINGS, /* brotli or layers over HTTP/2, see transfer_answer.c */
    CUT_CODINGS,  /* layers of content codings; see reply_take_codings() */
    CUT_UPGRADE,  /* a 101, which we never ask for */
    CUT_CA_FILE,  /* libcurl must not open it; see ca_file.h */
    CUT_MEMORY,
    CUT_CLOSED    /* its result is final already: nothing more is taken */
};

/* What was seen of the HTTP/2 stream of the request that was sent last; see transfer_stream.h. */
enum transfer_stream {
    STREAM_UNSEEN, /* nothing, or it is none */
    STREAM_OPEN,   /* a head */
    STREAM_ENDED,  /* END_STREAM: what comes of the answer is all of it */
};

/* What the field that came last says to us; a folded line goes on with it. */
enum transfer_field {
    FIELD_NONE, /* none has come in this head */
    FIELD_OTHER,
    FIELD_FRAMING, /* how the body is to be read */
    FIELD_LOCATION,
    FIELD_RETRY_AFTER,
    FIELD_TYPE,
};

#define TRANSFER_RETRY_AFTER_MAX 64 /* with its NUL; a longer one is none */

/* All that a plain hop's options depend on beside its URL and addresses. Plain: a GET that brings
 * no field and no body of its own, the common case. */
struct transfer_shape {
    const struct curl_uv *multi;
    unsigned generation;
    bool plain, starved, fresh;
};

/* Only lifts libcurl's own 300 s: our time-outs run first. */
#define TRANSFER_CONNECT_BACKSTOP_MS (2L * 86400 * 1000)

struct fetch_group;

struct transfer {
    struct list node;   /* the pool's idle list; the engine's `named` or `closing` while owned */
    void *owner;        /* the engine's job; NULL while pooled, and when abandoned */
    void *engine;       /* whose job it is */
    struct sched_entry slots;  /* while abandoned: those of the job that was cut */
    struct fetch_group *group; /* while abandoned: whose slots these are */
    struct upstream *upstream; /* from the launch to the end of the hop */
    const struct transfer_env *env;
    CURL *easy;
    enum transfer_kind kind; /* of the hop */
    struct curl_uv *multi; /* of env, its kind's at the hop's launch; a reload may retire it */
    bool added;         /* is in the multi */
    struct transfer_shape shape; /* what the handle's options were set for */

    /* the request; slists owned, the rest the owner's */
    struct target target;
    const struct member_opts *opts;
    unsigned include;
    bool first_hop_origin; /* caller's credentials may be sent: still the origin they are for */
    bool send_body;        /* false after a redirect turned POST into GET */
    const char *method;
    const char *traceparent; /* NULL = none */
    enum policy_from from;   /* what the hops before were sent to */
    int64_t body_cap;
    bool may_follow;    /* a redirect status will be followed: its body is not kept */
    bool multiplex;     /* asked to wait for a shared HTTP/2 connection */
    bool fresh;         /* no open connection is taken */
    bool once;          /* its connection is closed after it */
    bool spoilt;        /* so it is, whatever else it was for */
    bool forbids;       /* CURLOPT_FORBID_REUSE is set */
    struct curl_uv_reminder reminder; /* while it connects to one of them */
    bool choices;       /* several addresses: CURLOPT_CONNECTTIMEOUT_MS is this hop's, */
    int64_t connect_until_us; /* until then */
    bool renews;        /* CURLOPT_FRESH_CONNECT is set in case that it is sent again */
    struct curl_slist *headers, *resolve;
    struct resolve_query query;

    /* what happened */
    struct hop_marks marks;
    int64_t opened_us;  /* first socket opened by this hop; TIME_NULL = reused a connection */
    curl_socket_t opened[RESOLVE_ADDRESSES_MAX]; /* with TLS: they begin with a handshake */
    unsigned opened_count;
    bool opening;       /* of those none has come about yet */
    int connects;       /* connections that came about */
    int64_t tls_us;     /* TCP connected, TLS handshake begins */
    int64_t ready_us;   /* connection usable, request about to be sent */
    int64_t body_sent_us; /* last byte of the request body read by libcurl */
    enum transfer_stream stream;
    int sends;          /* times the request was about to be sent */
    bool was_stream;    /* one of them was over HTTP/2, */
    bool is_stream;     /* the last one is; */
    bool broken_off;    /* its connection was, see transfer_connect.c */
    int stream_fd;      /* its socket, maybe another one's by now; CURL_SOCKET_BAD: unknown */
    int64_t uploaded, uploaded_before; /* bytes of its body: this sending's, and those before */
    struct ip_addr peer; /* whom it was about to be sent to */
    uint16_t peer_port;
    int os_errno;       /* why no socket could be opened */
    bool lost;          /* the connection was, when it was last read from */
    int lost_errno;     /* how; 0 = the upstream closed it */
    struct curl_uv_recv_sum read; /* from its connection, since the request was sent */
    enum transfer_cut cut;
    struct verdict verdict;
    char would_deny[POLICY_RULE_MAX]; /* the rule of a policy that only reports; "" = none */
    size_t body_read;
    int64_t head_bytes;
    struct reply_count reply; /* what was counted of head and trailers */
    int64_t delivered;
    bool nul_read;      /* with a line of the head, in its line or behind it */
    int64_t arrived;    /* bytes of the body with its framing, when it was cut; on HTTP/1.1 */
    uint64_t recv_call; /* in which `unpacked` body bytes came, see curl_uv_recv.h */
    size_t unpacked;
    int status;         /* of the last status line seen */
    bool in_head;       /* until the blank line of the final answer's head */
    bool head_begun;    /* its status line, or that of a 1xx one, was seen: what comes are fields */
    bool typed;         /* the head that came last has a Content-Type */
    bool first_typed;   /* the first line of the one that came last is not empty */
    bool field_seen;    /* libcurl has stored a header field of this hop */
    enum transfer_field last;
    bool last_kept;     /* it is the last of the result's headers */
    bool body_started;
    char *location;     /* owned */
    char *type;         /* owned: the Content-Type, where libcurl has its first line only */
    char retry_after[TRANSFER_RETRY_AFTER_MAX];
    int64_t retry_after_us;
    struct result *result; /* borrowed: where headers and body go */
    struct evp_md_ctx_st *sha256;
    struct text_length *text;
    char message[CURL_ERROR_SIZE]; /* libcurl's, of the last sending */
    bool mute;          /* it wrote one for a sending before: it writes no more */
};

/* NULL when memory runs out. destroy: must not be in the multi. */
struct transfer *transfer_create(const struct transfer_env *env);
void transfer_destroy(struct transfer *t);

/* What one hop is to do; all of it stays the owner's, who keeps it until the end. */
struct transfer_hop {
    struct target target;
    const struct member_opts *opts;
    const char *method;
    const char *traceparent;
    bool send_body, first_hop_origin, may_follow;
    bool fresh; /* on no connection that is open already */
    enum policy_from from; /* what the hops before were sent to */
    unsigned include;
    int64_t body_cap;
    struct result *result;
    int64_t dispatched_us;
    int64_t connect_until_us; /* when the owner gives up, if it is not connected */
};

/* Readies an idle transfer for a hop. */
void transfer_begin(struct transfer *t, const struct transfer_hop *hop);

/* Sets all options and hands it to libcurl. addresses: of the host, policy already applied; none
 * for a literal. upstream: taken. once: nobody else wants the origin, and its connection is worth
 * no other's place. False when memory runs out, or there is no multi. */
bool transfer_launch(struct transfer *t, const struct ip_addr *addresses, size_t count,
                     struct upstream *upstream, bool once) __attribute__((warn_unused_result));

/* Where it would be launched now; valid until the next reload. NULL: nowhere, see transfer_env. */
const struct curl_uv *transfer_multi(const struct transfer *t);

/* Whether it has a usable connection, or had one that died, so that it connects again (the connect
 * timeout no longer applies). */
bool transfer_connected(const struct transfer *t);

/* Whether it has opened a connection, whatever became of it; one that was refused is none. */
bool transfer_opened(const struct transfer *t);

/* So much of the body has been sent, libcurl says, which counts anew for each sending. */
void transfer_note_upload(struct transfer *t, int64_t bytes);

/* Sets the marks that only libcurl knows and the end, and adds phases and sizes to the result.
 * Before it is taken out of the multi. Returns the phase in which it ended. */
enum phase transfer_account(struct transfer *t, int64_t end_us);

/* Whether its answer is a redirect that is to be followed. */
bool transfer_redirects(const struct transfer *t);

/* libcurl says that all is well: whether that is not so, because the answer's HTTP/2 stream broke
 * off and nothing but its end says where the body ends. */
bool transfer_is_cut_short(const struct transfer *t);

/* Finishes digest, text length, headers and body of the final hop into the result. Returns the
 * content type, valid until transfer_end(); NULL = none. */
const char *transfer_finish_content(struct transfer *t);

/* The owner leaves: nothing of its memory is touched any more, and what still comes in is dropped.
 * To be ended later, because taking it out of libcurl costs time. */
void transfer_abandon(struct transfer *t);

/* Takes it out of the multi if need be, frees what the hop owned; idle afterwards. */
void transfer_end(struct transfer *t);

#endif
