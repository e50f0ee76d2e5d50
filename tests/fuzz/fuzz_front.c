/* SPDX-License-Identifier: MIT
 *
 * fuzz_front - one connection to the real front, libmicrohttpd and all, with a handler that does
 * no more than note what it is asked and answer. The front lives for the whole run; the connection
 * is a socketpair, of which the front is given one end.
 *
 * The input: three bytes, and then what the client sends. The first chooses the listener (TCP,
 * Unix, TCP with a token: "Bearer fuzz-token-0123456789") and when and how the handler answers (at
 * the head, at the request, a turn later, when the connection has long been suspended, as a stream
 * with pauses, with more than the socket takes); the second the size of the pieces in which the
 * bytes are sent; the third how the client ends: it stays silent, says it is done, leaves, or
 * leaves with bytes unread.
 *
 * Time is this file's: a deadline is a step of the clock, and nothing waits.
 *
 * Promised: what the handler is given is, request by request, what a strict reading of the bytes
 * says (fuzz_front_oracle.h), body included; every answer is well-formed and, to a client that
 * stays, complete; nothing follows an answer that said `Connection: close`; each request that the
 * handler was told of is finished once; and when the deadlines have passed, connection and memory
 * are gone.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "fuzz_front_oracle.h"
#include "http_internal.h"
#include "log.h"

#define LISTENERS 3
#define PIECES_MAX 200
#define TURNS_MAX 400
#define BODY_BYTES_MAX 2048
#define HEAD_BYTES_MAX 1024
#define LARGE_BYTES 40000
#define SILENCE_US (100 * US_PER_S) /* longer than any deadline here */
#define REQUESTS_MAX 32

enum when { AT_HEAD, AT_REQUEST, NEXT_TURN, SUSPENDED, STREAMED, LARGE, WHEN_COUNT };
enum how { SILENT, HALF_CLOSED, GONE, GONE_UNREAD, HOW_COUNT };

/* What the handler was given. */
struct asked {
    char *text; /* method, blank, target; owned */
    char *body;
    size_t body_len;
};

static struct {
    uv_loop_t loop;
    struct front *front;
    struct metrics metrics;
    struct config_limits limits;
    struct config_listener conf[LISTENERS];
    struct tokens *tokens;
    bool woken;

    /* of one input */
    enum when when;
    int client; /* our end; -1 = closed */
    struct exchange *pending;
    bool streaming, head;
    int stream_steps;
    int told, finished, asked_count;
    struct asked asked[REQUESTS_MAX];
    char *sent, *got;
    size_t sent_len, got_len;
    bool ended; /* the front closed the connection */
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

/* --- the handler --- */

static void answer(struct exchange *ex, size_t bytes, bool close)
{
    struct answer a = {.status = close ? 400 : 200, .content_type = "text/plain", .close = close};
    buf_init(&a.body, 0);
    for (size_t i = 0; i < bytes; i++)
        buf_add_char(&a.body, (char)('a' + i % 26));
    f.pending = NULL;
    front_answer(ex, &a);
}

static enum fill fill(void *arg, struct buf *out)
{
    (void)arg;
    f.stream_steps++;
    if (f.stream_steps % 2 == 1)
        return FILL_WAIT;
    buf_add_str(out, "a piece of it\n");
    return f.stream_steps >= 6 ? FILL_END : FILL_MORE;
}

static void answer_stream(struct exchange *ex)
{
    struct answer a = {.status = 200, .content_type = "text/plain", .fill = fill};
    buf_init(&a.body, 0);
    f.streaming = true;
    f.stream_steps = 0;
    front_answer(ex, &a);
}

static void on_head(void *arg, struct exchange *ex)
{
    (void)arg;
    const struct http_head *head = exchange_head(ex);
    FUZZ_ASSERT(exchange_path(ex)[0] == '/' && head->count <= HTTP_FIELDS_MAX);
    FUZZ_ASSERT(exchange_identity(ex)[0] != '\0');
    f.told++;
    exchange_set_data(ex, &f);
    if (f.when == AT_HEAD)
        answer(ex, 10, true);
}

static void note_asked(struct exchange *ex)
{
    struct asked *a = &f.asked[f.asked_count++];
    const char *query = exchange_query(ex);
    const char *body = exchange_body(ex, &a->body_len);
    FUZZ_ASSERT(a->body_len <= BODY_BYTES_MAX);
    FUZZ_ASSERT(asprintf(&a->text, "%s %s%s%s", exchange_head(ex)->method, exchange_path(ex),
                         query > exchange_path(ex) && query[-1] == '\0' ? "?" : "", query) > 0);
    a->body = fuzz_copy(body, a->body_len);
}

static void on_request(void *arg, struct exchange *ex)
{
    (void)arg;
    FUZZ_ASSERT(exchange_data(ex) == &f && f.pending == NULL && f.when != AT_HEAD);
    if (f.asked_count < REQUESTS_MAX)
        note_asked(ex);
    if (f.when == AT_REQUEST)
        answer(ex, 20, false);
    else if (f.when == LARGE)
        answer(ex, LARGE_BYTES, false);
    else
        f.pending = ex;
    f.head = strcmp(exchange_head(ex)->method, "HEAD") == 0;
}

static void on_gone(void *arg, struct exchange *ex)
{
    (void)arg;
    FUZZ_ASSERT(exchange_data(ex) == &f);
    if (f.pending == ex)
        f.pending = NULL;
}

static void on_finished(void *arg, struct exchange *ex)
{
    (void)arg;
    FUZZ_ASSERT(exchange_data(ex) == &f);
    exchange_set_data(ex, NULL); /* a second call would be seen */
    f.finished++;
    f.pending = NULL;
    f.streaming = false;
}

/* --- the front --- */

static void on_wake(void *arg)
{
    (void)arg;
    f.woken = true;
}

static struct tokens *make_tokens(void)
{
    static const char line[] = "fuzz:fuzz-token-0123456789\n";
    char path[32];
    struct buf errors;
    int fd = memfd_create("tokens", MFD_CLOEXEC);
    FUZZ_ASSERT(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, line, sizeof line - 1) > 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    buf_init(&errors, 0);
    struct tokens *t = tokens_load(path, &errors);
    FUZZ_ASSERT(t != NULL);
    buf_fini(&errors);
    close(fd);
    return t;
}

/* Their addresses are never dialled. */
static void open_listener(int i, char *name)
{
    static char bind[] = "127.0.0.1:0", *binds[] = {bind};
    f.conf[i] = (struct config_listener){
        .name = name,
        .bind = {binds, 1},
        .head_timeout_us = 10 * US_PER_S,
        .body_timeout_us = 30 * US_PER_S,
        .send_timeout_us = 30 * US_PER_S,
        .keep_alive_us = 20 * US_PER_S,
    };
    const struct front_access access = {.tokens = i == 2 ? f.tokens : NULL};
    FUZZ_ASSERT(front_listen(f.front, &f.conf[i], &access) == 0);
}

static void open_front(void)
{
    static char tcp[] = "tcp", local[] = "unix", token[] = "token";
    const struct front_params params = {
        .loop = &f.loop,
        .limits = &f.limits,
        .metrics = &f.metrics,
        .handler = {NULL, on_head, on_request, on_gone, on_finished},
        .wake = on_wake,
    };
    if (f.front != NULL)
        return;
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    f.limits = (struct config_limits){
        .clients = 16, .body_bytes = BODY_BYTES_MAX, .head_bytes = HEAD_BYTES_MAX};
    f.tokens = make_tokens();
    FUZZ_ASSERT(uv_loop_init(&f.loop) == 0);
    f.front = front_create(&params);
    FUZZ_ASSERT(f.front != NULL);
    open_listener(0, tcp);
    open_listener(1, local);
    open_listener(2, token);
    f.front->servers[1].socket.family = AF_UNIX; /* all that the front looks at */
}

/* --- the client --- */

static void make_connection(unsigned listener)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    socklen_t n = sizeof(sa_family_t);
    const int small = 4096;
    int ends[2];
    if (listener != 1) {
        memcpy(&address, &from, sizeof from);
        n = sizeof from;
    }
    FUZZ_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    f.client = ends[0];
    FUZZ_ASSERT(MHD_add_connection(f.front->servers[listener].daemon, ends[1],
                                   (struct sockaddr *)&address, n) == MHD_YES);
    f.front->dirty = true;
}

/* What has come; false when nothing had. */
static bool receive(void)
{
    char piece[8192];
    bool any = false;
    ssize_t n = 0;
    while (f.client >= 0 && (n = recv(f.client, piece, sizeof piece, 0)) > 0) {
        f.got = realloc(f.got, f.got_len + (size_t)n);
        FUZZ_ASSERT(f.got != NULL);
        memcpy(f.got + f.got_len, piece, (size_t)n);
        f.got_len += (size_t)n;
        any = true;
    }
    if (f.client >= 0 && (n == 0 || (n < 0 && errno != EAGAIN)))
        f.ended = true;
    return any;
}

/* Turns until nothing moves any more. Not reached in TURNS_MAX of them: the front spins. */
static void settle(bool reading)
{
    int quiet = 0, turns = 0;
    while (quiet < 3) {
        FUZZ_ASSERT(turns++ < TURNS_MAX);
        f.woken = false;
        bool again = front_turn(f.front);
        uv_run(&f.loop, UV_RUN_NOWAIT);
        bool moved = reading && receive();
        quiet = again || f.woken || moved ? 0 : quiet + 1;
    }
}

/* On a machine that is slow enough it is watched for its hang-up by now. */
static struct exchange *find_suspended(void)
{
    struct list *lists[] = {&f.front->suspended, &f.front->watched};
    for (size_t i = 0; i < 2; i++)
        if (!list_empty(lists[i]))
            return LIST_CONTAINER(lists[i]->next, struct exchange, node);
    return NULL;
}

/* Whatever the handler still owes, it does now. */
static void serve(bool reading)
{
    for (int i = 0; i < 20 && (f.pending != NULL || f.streaming); i++) {
        if (f.pending != NULL && f.when == SUSPENDED) {
            now_us += 5 * US_PER_MS; /* it lingers for one */
            front_wake_loop(f.front);
            settle(reading);
        }
        struct exchange *ex = f.pending;
        if (ex != NULL && f.when == STREAMED && !f.head) { /* see struct answer */
            f.pending = NULL;
            answer_stream(ex);
        } else if (ex != NULL) {
            answer(ex, 30, false);
        } else if (f.streaming && (ex = find_suspended()) != NULL) {
            front_wake(ex);
        }
        settle(reading);
    }
}

static size_t piece_size(unsigned choice, uint32_t *random, size_t left)
{
    size_t n = choice == 0 ? left : choice < 128 ? choice : 1 + (*random >> 16) % (choice - 127);
    *random = *random * 1664525 + 1013904223;
    return n < left ? n : left;
}

static void send_all(const uint8_t *data, size_t size, unsigned choice)
{
    uint32_t random = choice;
    for (int i = 0; size > 0 && !f.ended && i < PIECES_MAX; i++) {
        size_t n = piece_size(choice, &random, i == PIECES_MAX - 1 ? SIZE_MAX : size);
        n = n < size ? n : size;
        ssize_t done = send(f.client, data, n, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN)
            break;
        done = done < 0 ? 0 : done;
        memcpy(f.sent + f.sent_len, data, (size_t)done);
        f.sent_len += (size_t)done;
        data += done;
        size -= (size_t)done;
        settle(true);
        serve(true);
    }
}

static void leave(void)
{
    if (f.client >= 0)
        close(f.client);
    f.client = -1;
}

static void end(enum how how)
{
    if (how == HALF_CLOSED)
        shutdown(f.client, SHUT_WR);
    if (how == GONE || how == GONE_UNREAD)
        leave();
    settle(how != GONE_UNREAD);
    serve(true);
    settle(true);
    /* A deadline may begin another, and each step of an answer that is taken begins it again. */
    for (int i = 0; i < 3 * REQUESTS_MAX && front_clients(f.front) > 0; i++) {
        now_us += SILENCE_US;
        settle(true);
        serve(true);
    }
    receive();
    FUZZ_ASSERT(front_clients(f.front) == 0 && front_exchanges(f.front) == 0);
    FUZZ_ASSERT(how == GONE || how == GONE_UNREAD || f.ended);
    FUZZ_ASSERT(f.told == f.finished && f.pending == NULL);
    leave();
}

/* --- what came of it --- */

static void check_request(const struct asked *a, const struct oracle_request *r)
{
    size_t n = r->method.n;
    FUZZ_ASSERT(strlen(a->text) == n + 1 + r->target.n);
    FUZZ_ASSERT(memcmp(a->text, r->method.at, n) == 0);
    FUZZ_ASSERT(memcmp(a->text + n + 1, r->target.at, r->target.n) == 0);
    FUZZ_ASSERT(a->body_len == r->body_len && memcmp(a->body, r->body, r->body_len) == 0);
}

/* The front may refuse what the oracle takes, but sees nothing that is not there. */
static void check_requests(void)
{
    static struct oracle_request r;
    struct span in = {f.sent, f.sent_len};
    for (int i = 0; i < f.asked_count; i++) {
        enum reading got = oracle_read(&in, &r);
        if (got == READ_VAGUE)
            return;
        FUZZ_ASSERT(got == READ_WHOLE);
        check_request(&f.asked[i], &r);
    }
}

/* What libmicrohttpd passes over before a request: empty lines, and what begins with a NUL. */
static void skip_empty_lines(struct span *in)
{
    while (in->n > 0) {
        const char *end = in->at;
        if (in->at[0] == '\0')
            end = memchr(in->at, '\n', in->n);
        else if (in->n > 1 && memcmp(in->at, "\r\n", 2) == 0)
            end++;
        else if (in->at[0] != '\n')
            return;
        size_t n = end != NULL ? (size_t)(end - in->at) + 1 : in->n;
        in->at += n;
        in->n -= n;
    }
}

/* What the next answer in the stream is to: a request by HEAD, by another method, or one that is none,
 * of which nobody can say how libmicrohttpd, which refuses it by itself, has read its method. LOST: the
 * oracle does not know any more where requests begin. */
enum method { IS_OTHER, IS_HEAD, MAY_BE_HEAD, LOST };

static enum method next_method(struct span *in)
{
    static struct oracle_request r;
    skip_empty_lines(in);
    bool head = in->n >= 5 && memcmp(in->at, "HEAD ", 5) == 0;
    enum reading got = oracle_read(in, &r);
    if (got == READ_WHOLE)
        return head ? IS_HEAD : IS_OTHER;
    in->n = 0;
    return got == READ_VAGUE ? LOST : head ? MAY_BE_HEAD : IS_OTHER;
}

/* libmicrohttpd 0.9.75 refuses a Content-Length that is no number, and some cookies, by itself,
 * before anybody is asked, and its head goes out twice: it builds the answer, forgets that it did,
 * and builds it again. It says `Connection: close`, and does. */
static void skip_repeated_head(struct span *in)
{
    const char *end = memmem(in->at, in->n, "\r\n\r\n", 4);
    size_t n = end != NULL ? (size_t)(end - in->at) + 4 : 0;
    bool refusal = n > 0 && memmem(in->at, n, "Connection: close", 17) != NULL &&
                   (memcmp(in->at + 8, " 400", 4) == 0 || memcmp(in->at + 8, " 413", 4) == 0 ||
                    memcmp(in->at + 8, " 431", 4) == 0);
    if (refusal && in->n >= 2 * n && memcmp(in->at, in->at + n, n) == 0) {
        in->at += n;
        in->n -= n;
    }
}

/* One answer; one that ends the connection is all that is left. */
static enum reading read_answer(struct span *in, enum method method, int *status, bool *close)
{
    struct span bare = *in;
    enum reading got = READ_BAD;
    if (method != IS_OTHER)
        got = oracle_answer(&bare, true, status, close);
    if (method == IS_HEAD || (method == MAY_BE_HEAD && bare.n == 0)) {
        *in = bare;
        return got;
    }
    return oracle_answer(in, false, status, close);
}

static void check_answers(enum how how)
{
    struct span in = {f.got, f.got_len}, requests = {f.sent, f.sent_len};
    bool close = false;
    int finals = 0, status;
    enum method method = next_method(&requests);
    while (in.n > 0) {
        FUZZ_ASSERT(!close);
        if (method == LOST)
            return;
        skip_repeated_head(&in);
        enum reading got = read_answer(&in, method, &status, &close);
        if (got == READ_PART && (how == GONE || how == GONE_UNREAD))
            return;
        FUZZ_ASSERT(got == READ_WHOLE);
        if (status >= 200) {
            finals++;
            method = next_method(&requests);
        }
    }
    /* A request that ends within its body has no answer. */
    FUZZ_ASSERT(how == GONE || how == GONE_UNREAD || finals >= f.asked_count);
}

/* What happened, for whoever looks at a finding with FUZZ_SHOW set. */
static void show(void)
{
    fprintf(stderr, "--- sent\n%.*s\n", (int)f.sent_len, f.sent);
    fprintf(stderr, "--- got\n%.*s\n", (int)f.got_len, f.got);
    for (int i = 0; i < f.asked_count; i++)
        fprintf(stderr, "--- asked\n%s\n%.*s\n", f.asked[i].text, (int)f.asked[i].body_len,
                f.asked[i].body);
}

static void forget(void)
{
    for (int i = 0; i < f.asked_count; i++) {
        free(f.asked[i].text);
        free(f.asked[i].body);
    }
    free(f.sent);
    free(f.got);
    f.sent = f.got = NULL;
    f.sent_len = f.got_len = 0;
    f.told = f.finished = f.asked_count = 0;
    f.pending = NULL;
    f.ended = f.streaming = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned first = fuzz_take_byte(&data, &size), pieces = fuzz_take_byte(&data, &size);
    enum how how = (enum how)(fuzz_take_byte(&data, &size) % HOW_COUNT);
    f.when = (enum when)(first / LISTENERS % WHEN_COUNT);
    f.sent = fuzz_copy(data, size);
    open_front();
    make_connection(first % LISTENERS);
    settle(true);
    send_all(data, size, pieces);
    end(how);
    if (getenv("FUZZ_SHOW") != NULL)
        show();
    check_requests();
    check_answers(how);
    forget();
    return 0;
}
