/* SPDX-License-Identifier: MIT
 *
 * fuzz_upstream - what an upstream may answer, through the real engine with libcurl and sockets,
 * to the JSON that a client gets. The engine lives for the whole run; the upstream is a listening
 * socket of this file, served between the turns of the engine's loop, so that nothing ever waits
 * for anything.
 *
 * The input: four bytes, and then replies, separated by FE FE. The n-th request of a run gets the
 * n-th reply, all later ones the last (a redirect asks again). The first byte chooses the method
 * and how many members are fetched one after the other, the second what is included and the caps,
 * the third the size of the pieces in which a reply is sent, the fourth what follows it: nothing,
 * the end of the connection, or a reset.
 *
 * Time is this file's: when nothing moves any more, the clock is put forward beyond every
 * time-out. The policy allows the upstream's address and port and no other, so that a Location
 * leads nowhere.
 *
 * Promised: each member has exactly one result; its phases add up to its time; its error is one of
 * the table and, where limits.answer_bytes has room, never proxy_internal_error, which is gatherd's
 * own fault; the caps hold; nothing is held for it afterwards; and every view of it is valid: JSON
 * that jansson loads, lines of NDJSON, text in UTF-8.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <errno.h>
#include <locale.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ares.h>
#include <curl/curl.h>
#include <jansson.h>
#include <uv.h>

#include "clock.h"
#include "encode.h"
#include "fetch.h"
#include "log.h"
#include "policy.h"
#include "summary.h"
#include "target.h"
#include "utf8.h"

#define MEMBERS_MAX 2
#define REPLIES_MAX 8
#define CLIENTS_MAX 16
#define TURNS_MAX 20000
#define QUIET_TURNS 12 /* then nothing moves any more */
#define TIMEOUT_US (30 * US_PER_S)
#define HEAD_BYTES 4096
#define ANSWER_BYTES (1 << 16)
#define REDIRECT_BODY_BYTES 65536 /* as in transfer.c */
#define INCLUDE_ALL \
    (INCLUDE_HEADERS | INCLUDE_BODY | INCLUDE_BODY_SHA256 | INCLUDE_TEXT_LENGTH | \
     INCLUDE_REDIRECTS | INCLUDE_CURL)

enum ending { STAYS_OPEN, CLOSES, RESETS, ENDING_COUNT };

struct reply {
    const uint8_t *data;
    size_t size;
};

struct client { /* of the upstream */
    int fd;
    int ending; /* bytes of the blank line that ends a head, so far */
    const struct reply *reply; /* being sent; NULL = a request is awaited */
    size_t sent;
};

struct job {
    struct fetch_job job;
    int dones;
};

static struct {
    uv_loop_t loop;
    struct fetch *fetch;
    struct config_fetch config;
    struct config_limits limits;
    struct metrics metrics;
    struct slots *slots;
    struct resolve_cache *names;
    struct policy *policy;
    atomic_llong held;
    struct arena arena;
    struct origins origins;
    struct target target;
    bool woken, again;

    int listener;
    uint16_t port;
    struct client clients[CLIENTS_MAX];

    /* of one input */
    struct reply replies[REPLIES_MAX];
    size_t reply_count;
    size_t asked;
    unsigned piece;
    enum ending ending;
    struct job jobs[MEMBERS_MAX];
    struct member members[MEMBERS_MAX];
    struct member_opts opts;
    struct fetch_group *group;
} f;

static int64_t now_us = 1000 * US_PER_S;

int64_t clock_us(void)
{
    return ++now_us;
}

int64_t clock_wall_us(void)
{
    return INT64_C(1793534400000000) + now_us;
}

/* --- the engine --- */

static void on_wake(void *arg)
{
    (void)arg;
    f.woken = true;
}

static void on_done(void *arg, struct fetch_job *job)
{
    (void)arg;
    ((struct job *)(void *)job)->dones++;
}

static bool on_moves(void *arg, struct fetch_job *job, const struct origin *origin)
{
    (void)arg;
    (void)job;
    (void)origin;
    return false;
}

static void on_rested(void *arg)
{
    (void)arg;
}

static void on_wake_others(void *arg, uint64_t engines)
{
    (void)arg;
    FUZZ_ASSERT(engines <= 1);
}

static struct policy *make_policy(void)
{
    static char name[] = "p", v4[] = "0.0.0.0/0", v6[] = "::/0", own[40];
    static char *denied[] = {v4, v6}, *allowed[] = {own};
    const struct config_policy conf = {.name = name, .allow = {allowed, 1}, .deny = {denied, 2}};
    struct buf errors;
    snprintf(own, sizeof own, "127.0.0.1:%u", f.port);
    buf_init(&errors, 0);
    struct policy *p = policy_create(&conf, &errors);
    FUZZ_ASSERT(p != NULL && policy_set_own(p, NULL, 0));
    buf_fini(&errors);
    return p;
}

static void configure(void)
{
    static char agent[] = "fuzz", dns[] = "127.0.0.1:1", *servers[] = {dns};
    f.config = (struct config_fetch){
        .user_agent = agent,
        .idle_connections = 4,
        .idle_time_us = 60 * US_PER_S,
        .dns_servers = {servers, 1},
    };
    f.limits = (struct config_limits){
        .in_flight = 4,
        .per_host = 4,
        .upstream_head_bytes = HEAD_BYTES,
        .answer_bytes = ANSWER_BYTES,
        .lookups = 10,
    };
}

static void open_engine(void)
{
    const struct fetch_params params = {
        .loop = &f.loop,
        .engines = 1,
        .config = &f.config,
        .limits = &f.limits,
        .metrics = &f.metrics,
        .slots = f.slots = slots_create(4, 1),
        .names = f.names = resolve_cache_create(),
        .answer_held = &f.held,
        .wake = on_wake,
        .done = on_done,
        .moves = on_moves,
        .rested = on_rested,
        .wake_others = on_wake_others,
    };
    const char *why = NULL;
    FUZZ_ASSERT(uv_loop_init(&f.loop) == 0 && f.slots != NULL && f.names != NULL);
    f.policy = make_policy();
    f.fetch = fetch_create(&params, &why);
    FUZZ_ASSERT(f.fetch != NULL && fetch_pool_open(f.fetch, 0, f.policy));
}

static void open_upstream(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof sa;
    f.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    FUZZ_ASSERT(f.listener >= 0 && bind(f.listener, (struct sockaddr *)&sa, n) == 0);
    FUZZ_ASSERT(listen(f.listener, CLIENTS_MAX) == 0);
    FUZZ_ASSERT(getsockname(f.listener, (struct sockaddr *)&sa, &n) == 0);
    f.port = ntohs(sa.sin_port);
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        f.clients[i].fd = -1;
}

static void open_all(void)
{
    static char url[64];
    const char *why;
    if (f.fetch != NULL)
        return;
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    signal(SIGPIPE, SIG_IGN);
    setlocale(LC_CTYPE, "C.UTF-8");
    FUZZ_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    FUZZ_ASSERT(ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS);
    open_upstream();
    configure();
    open_engine();
    arena_init(&f.arena);
    origins_init(&f.origins, &f.arena);
    int n = snprintf(url, sizeof url, "http://127.0.0.1:%u/start?q", f.port);
    FUZZ_ASSERT(target_parse(&f.origins, url, (size_t)n, &f.target, &why));
}

/* --- the upstream --- */

static void drop(struct client *c, bool reset)
{
    const struct linger now = {1, 0};
    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(c->fd);
    c->fd = -1;
}

static bool accept_one(void)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (f.clients[i].fd >= 0)
            continue;
        f.clients[i] = (struct client){.fd = accept4(f.listener, NULL, NULL, SOCK_NONBLOCK)};
        return f.clients[i].fd >= 0;
    }
    return false;
}

/* The end of a head is there (bodies are short and come with it): the next reply is due. */
static void hear_bytes(struct client *c, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        c->ending = s[i] == "\r\n\r\n"[c->ending] ? c->ending + 1 : s[i] == '\r';
        if (c->ending < 4)
            continue;
        c->ending = 0;
        c->reply = &f.replies[f.asked < f.reply_count ? f.asked : f.reply_count - 1];
        c->sent = 0;
        f.asked++;
        return;
    }
}

static bool hear(struct client *c)
{
    char piece[4096];
    ssize_t n = recv(c->fd, piece, sizeof piece, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        drop(c, false);
        return true;
    }
    if (n > 0)
        hear_bytes(c, piece, (size_t)n);
    return n > 0;
}

static bool speak(struct client *c)
{
    const struct reply *r = c->reply;
    size_t left = r->size - c->sent;
    size_t n = f.piece == 0 || f.piece > left ? left : f.piece;
    ssize_t done = n > 0 ? send(c->fd, r->data + c->sent, n, MSG_NOSIGNAL) : 0;
    if (done < 0 && errno == EAGAIN)
        return false;
    c->sent += done > 0 ? (size_t)done : 0;
    if (done >= 0 && c->sent < r->size)
        return true;
    c->reply = NULL;
    if (done < 0 || f.ending != STAYS_OPEN)
        drop(c, f.ending == RESETS);
    return true;
}

/* Whether anything moved. */
static bool serve(void)
{
    bool moved = accept_one();
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &f.clients[i];
        if (c->fd < 0)
            continue;
        moved |= c->reply != NULL ? speak(c) : hear(c);
    }
    return moved;
}

/* --- a run --- */

static bool turn(void)
{
    bool moved = serve();
    uv_run(&f.loop, UV_RUN_NOWAIT);
    bool woken = f.woken || f.again;
    f.woken = false;
    f.again = fetch_turn(f.fetch);
    return moved || woken || f.again;
}

static void run_job(struct job *j)
{
    int quiet = 0;
    fetch_submit(f.fetch, &j->job);
    for (int i = 0; j->dones == 0; i++) {
        FUZZ_ASSERT(i < TURNS_MAX);
        quiet = turn() ? 0 : quiet + 1;
        if (quiet == QUIET_TURNS) {
            now_us += TIMEOUT_US + US_PER_S;
            quiet = 0;
        }
    }
}

/* No connection is left for the next input, and the engine knows. */
static void hang_up(void)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (f.clients[i].fd >= 0)
            drop(&f.clients[i], true);
    }
    for (int quiet = 0, i = 0; quiet < 2; i++) {
        FUZZ_ASSERT(i < TURNS_MAX);
        quiet = turn() ? 0 : quiet + 1;
    }
}

static void make_job(struct job *j, struct member *m)
{
    *m = (struct member){
        .url = f.target.text,
        .url_len = f.target.len,
        .text = f.target.text,
        .text_len = f.target.len,
        .origin = f.target.origin,
        .opts = &f.opts,
    };
    *j = (struct job){.job = {.member = m, .group = f.group}};
}

static void make_group(unsigned first, unsigned second)
{
    static const char *const methods[] = {"GET", "GET", "HEAD", "POST"};
    static const int64_t caps[] = {1 << 20, 100, 0, 5000};
    f.opts = (struct member_opts){
        .method = methods[first % 4],
        .body = first % 4 == 3 ? "data" : NULL,
        .body_len = first % 4 == 3 ? 4 : 0,
        .http_version = first & 8 ? HTTP_VERSION_AUTO : HTTP_VERSION_1_1,
        .max_redirects = 3,
        .timeout_us = TIMEOUT_US,
        .connect_timeout_us = 5 * US_PER_S,
        .queue_timeout_us = -1,
        .max_response_bytes = caps[second / 64],
    };
    f.group = fetch_group_create(1, 10);
    FUZZ_ASSERT(f.group != NULL);
    f.group->identity = "x";
    f.group->limit_per_host = 10;
    f.group->include = second % 64 == 63 ? INCLUDE_ALL : second & INCLUDE_ALL;
    f.group->queued_us = clock_us();
}

/* --- what came of it --- */

/* A Location that leads to ever longer URLs, in so little memory for answers. */
static bool is_full(const struct result_error *e)
{
    return e->message != NULL && strstr(e->message, "limits.answer_bytes") != NULL;
}

static void check_error(const struct result *r)
{
    const struct result_error *e = &r->error;
    FUZZ_ASSERT(r->state == MEMBER_DONE || r->state == MEMBER_FAILED || r->state == MEMBER_DENIED);
    FUZZ_ASSERT((r->state == MEMBER_DONE) == (e->type == ERR_NONE) && e->type < ERR_COUNT);
    FUZZ_ASSERT(e->type != ERR_PROXY_INTERNAL_ERROR || is_full(e));
    FUZZ_ASSERT(e->phase < PHASE_COUNT);
    FUZZ_ASSERT(r->state != MEMBER_DENIED || e->type == ERR_DESTINATION_IP_PROHIBITED ||
                e->type == ERR_HTTP_REQUEST_DENIED);
    FUZZ_ASSERT(r->state != MEMBER_DONE || (r->status >= 100 && r->status <= 999));
    FUZZ_ASSERT(!r->ok || (r->state == MEMBER_DONE && r->status < 400));
}

static void check_times(const struct result *r, int64_t queued_us)
{
    FUZZ_ASSERT(timings_total(&r->timings) == r->end_us - queued_us);
    for (int p = 0; p < PHASE_COUNT; p++)
        FUZZ_ASSERT(r->timings.us[p] >= TIME_NULL);
    FUZZ_ASSERT(r->ttfb_us <= result_work_us(r));
    FUZZ_ASSERT(r->retry_after_us >= TIME_NULL);
}

static void check_sizes(const struct result *r)
{
    const struct result_extra *e = r->extra;
    int64_t followed = (r->num_redirects + 1) * REDIRECT_BODY_BYTES; /* have a cap of their own */
    FUZZ_ASSERT(r->sizes.delivered <= f.opts.max_response_bytes + followed);
    FUZZ_ASSERT(r->sizes.header >= 0 && r->sizes.download >= 0 && r->sizes.delivered >= 0);
    FUZZ_ASSERT(r->sizes.header <= (r->num_redirects + 1) * (HEAD_BYTES + 102400));
    FUZZ_ASSERT(r->num_redirects >= 0 && r->num_redirects <= f.opts.max_redirects);
    if (e == NULL)
        return;
    FUZZ_ASSERT(e->body.len <= (size_t)f.opts.max_response_bytes && e->body.len <= ANSWER_BYTES);
    FUZZ_ASSERT(e->headers.len <= HEAD_BYTES);
    FUZZ_ASSERT((f.group->include & INCLUDE_BODY) != 0 || e->body.len == 0);
    FUZZ_ASSERT(e->hop_count <= (size_t)f.opts.max_redirects + 1);
}

static void encode_all(const struct encoder *encoder, const struct batch_view *v, struct buf *out)
{
    buf_clear(out);
    encoder->begin(out, v);
    for (size_t i = 0; i < v->spec->count; i++) {
        struct encode_at at = {.index = i};
        while (!encoder->item(out, v, &at))
            ;
    }
    encoder->end(out, v);
    FUZZ_ASSERT(!out->failed && utf8_valid(out->data, out->len));
}

static void check_json(const char *text, size_t n, const char *key, size_t members)
{
    json_error_t e;
    json_t *doc = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    FUZZ_ASSERT(doc != NULL && json_is_object(doc));
    if (members > 0)
        FUZZ_ASSERT(json_array_size(json_object_get(doc, key)) == members);
    else
        FUZZ_ASSERT(json_object_get(doc, key) != NULL);
    json_decref(doc);
}

static void check_lines(const struct buf *out)
{
    const uint8_t *at = (const uint8_t *)out->data;
    size_t left = out->len;
    while (left > 0) {
        const char *line;
        size_t n = fuzz_take_until(&at, &left, '\n', &line);
        check_json(line, n, "type", 0);
    }
}

static void check_views(size_t members)
{
    struct batch_spec spec = {.members = f.members, .count = members, .include = f.group->include};
    struct batch_view v = {
        .id = "b",
        .started_us = f.group->queued_us,
        .started_wall_us = clock_wall_us(),
        .spec = &spec,
        .results = &f.jobs[0].job.result,
        .stride = sizeof f.jobs[0],
    };
    struct summary_input in = {.total_us = now_us - v.started_us, .complete = true};
    static struct view_summary summary;
    struct buf out;
    FUZZ_ASSERT(summary_compute(&summary, &v, &in));
    v.summary = &summary;
    buf_init(&out, 0);
    encode_all(&encode_json, &v, &out);
    check_json(out.data, out.len, "results", members);
    if (getenv("FUZZ_SHOW") != NULL)
        fprintf(stderr, "%.*s\n", (int)out.len, out.data);
    encode_all(&encode_ndjson, &v, &out);
    check_lines(&out);
    encode_all(&encode_text, &v, &out);
    buf_fini(&out);
}

static void check_all(size_t members)
{
    for (size_t i = 0; i < members; i++) {
        const struct result *r = &f.jobs[i].job.result;
        if (getenv("FUZZ_SHOW") != NULL)
            fprintf(stderr, "state=%s status=%d error=%s exitcode=%d message=%s delivered=%lld\n",
                    member_state_name(r->state), r->status, err_name(r->error.type),
                    r->error.exitcode, r->error.message != NULL ? r->error.message : "",
                    (long long)r->sizes.delivered);
        FUZZ_ASSERT(f.jobs[i].dones == 1 && f.jobs[i].job.state == FETCH_IDLE);
        check_error(r);
        check_times(r, f.group->queued_us);
        check_sizes(r);
    }
    check_views(members);
}

static void split_replies(const uint8_t *data, size_t size)
{
    static const char mark[] = "\xfe\xfe";
    f.reply_count = 0;
    while (f.reply_count < REPLIES_MAX) {
        const uint8_t *end = size > 0 ? memmem(data, size, mark, 2) : NULL;
        size_t n = end != NULL ? (size_t)(end - data) : size;
        f.replies[f.reply_count++] = (struct reply){data, n};
        if (end == NULL)
            break;
        data = end + 2;
        size -= n + 2;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned first = fuzz_take_byte(&data, &size), second = fuzz_take_byte(&data, &size);
    size_t members = first & 4 ? 2 : 1;
    open_all();
    f.piece = fuzz_take_byte(&data, &size);
    if (size / 200 > f.piece && f.piece > 0)
        f.piece = (unsigned)(size / 200); /* a turn each: not thousands of them */
    f.ending = (enum ending)(fuzz_take_byte(&data, &size) % ENDING_COUNT);
    f.asked = 0;
    split_replies(data, size);
    make_group(first, second);
    for (size_t i = 0; i < members; i++) {
        make_job(&f.jobs[i], &f.members[i]);
        run_job(&f.jobs[i]);
    }
    check_all(members);
    for (size_t i = 0; i < members; i++)
        fetch_content_free(&f.jobs[i].job.result, &f.held);
    hang_up();
    FUZZ_ASSERT(slots_used(f.slots) == 0 && atomic_load(&f.group->refs) == 1);
    fetch_group_unref(f.group);
    FUZZ_ASSERT(atomic_load(&f.held) == 0);
    return 0;
}
