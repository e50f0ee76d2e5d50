/* SPDX-License-Identifier: MIT
 *
 * http_check: the matrices of what is refused before a body is read. A head is written here as its
 * fields; what a server before us could read in another way must not pass.
 */
#include "http_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define FIELDS 8
#define LENGTH_OF(array) (sizeof(array) / sizeof(array)[0])

/* Two texts a field; "" "" ends the list. */
struct head_text {
    const char *method, *target, *version;
    const char *fields[FIELDS][2];
};

struct head {
    struct http_head head;
    struct http_field fields[FIELDS];
};

static void add(struct head *h, const char *name, size_t name_len, const char *value,
                size_t value_len)
{
    assert_true(h->head.count < FIELDS);
    h->fields[h->head.count++] = (struct http_field){name, value, name_len, value_len};
}

static void add_field(struct head *h, const char *name, const char *value)
{
    add(h, name, strlen(name), value, strlen(value));
}

static struct head *init(struct head *h, const char *method, const char *target,
                         const char *version)
{
    *h = (struct head){.head = {.method = method, .target = target, .version = version}};
    h->head.fields = h->fields;
    return h;
}

static struct head *get(struct head *h)
{
    return init(h, "GET", "/v1/batch", "HTTP/1.1");
}

static int judge(const struct http_head *head)
{
    struct problem p;
    if (http_check_shape(head, &p))
        return 0;
    assert_true(p.detail[0] != '\0' && problem_title(p.status)[0] != '\0');
    return p.status;
}

static int judge_text(const struct head_text *text)
{
    struct head h;
    init(&h, text->method, text->target, text->version);
    for (size_t i = 0; i < FIELDS && text->fields[i][0] != NULL; i++)
        add_field(&h, text->fields[i][0], text->fields[i][1]);
    return judge(&h.head);
}

static void test_find(void **state)
{
    (void)state;
    struct head h;
    get(&h);
    assert_null(http_find(&h.head, "Host"));
    add_field(&h, "hOsT", "a");
    add_field(&h, "Host", "b");
    add_field(&h, "Hosts", "c");
    assert_ptr_equal(http_find(&h.head, "Host"), &h.fields[0]);
    assert_ptr_equal(http_find(&h.head, "HOSTS"), &h.fields[2]);
    assert_null(http_find(&h.head, "Hos"));
    assert_null(http_find(&h.head, ""));
}

#define LINE_11 "POST", "/v1/batch", "HTTP/1.1"
#define LINE_10 "POST", "/v1/batch", "HTTP/1.0"
#define HOST {"Host", "localhost"}
#define LENGTH(value) {"Content-Length", value}
#define CODING(value) {"Transfer-Encoding", value}

static void test_shape_matrix(void **state)
{
    (void)state;
    static const struct {
        struct head_text head;
        int status;
    } rows[] = {
        /* the request line */
        {{LINE_11, {HOST}}, 0},
        {{LINE_10, {HOST}}, 0},
        {{LINE_10, {{NULL}}}, 0},
        {{"M-SEARCH!", "/", "HTTP/1.1", {HOST}}, 0},
        {{"GET", "/?q=*", "HTTP/1.1", {HOST}}, 0},
        {{"GET", "//x", "HTTP/1.1", {HOST}}, 0},
        {{"", "/", "HTTP/1.1", {HOST}}, 400},
        {{"GE T", "/", "HTTP/1.1", {HOST}}, 400},
        {{"GET\t", "/", "HTTP/1.1", {HOST}}, 400},
        {{"G\x01T", "/", "HTTP/1.1", {HOST}}, 400},
        {{"G\xC3\xA9T", "/", "HTTP/1.1", {HOST}}, 400},
        {{"GET:", "/", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "*", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "x", "HTTP/1.1", {HOST}}, 400},
        {{"GET", " /", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "/a b", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "/ HTTP/1.1\rGET /", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "/?a\t", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "/\x01", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "/\x7f", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "/\xC3\xA9~!", "HTTP/1.1", {HOST}}, 0},
        {{"GET", "http://localhost/", "HTTP/1.1", {HOST}}, 400},
        {{"CONNECT", "localhost:443", "HTTP/1.1", {HOST}}, 400},
        {{"GET", "/", "HTTP/2.0", {HOST}}, 505},
        {{"GET", "/", "HTTP/1.2", {HOST}}, 505},
        {{"GET", "/", "HTTP/0.9", {HOST}}, 505},
        {{"GET", "/", "HTTP/1.10", {HOST}}, 505},
        {{"GET", "/", "HTTP/1.1 ", {HOST}}, 505},
        {{"GET", "/", "http/1.1", {HOST}}, 505},
        {{"GET", "/", "", {HOST}}, 505},
        /* Host */
        {{LINE_11, {{NULL}}}, 400},
        {{LINE_11, {HOST, HOST}}, 400},
        {{LINE_11, {HOST, {"hOST", "evil.test"}}}, 400},
        {{LINE_10, {HOST, {"HOST", "localhost"}}}, 400},
        {{LINE_11, {{"X-Host", "localhost"}}}, 400},
        {{LINE_11, {{"Host", ""}}}, 0}, /* its value is http_check_host()'s affair */
        /* Content-Length */
        {{LINE_11, {HOST, LENGTH("0")}}, 0},
        {{LINE_11, {HOST, LENGTH("5")}}, 0},
        {{LINE_11, {HOST, LENGTH("999999999999999999")}}, 0},
        {{LINE_10, {LENGTH("5")}}, 0},
        {{LINE_11, {HOST, LENGTH("")}}, 400},
        {{LINE_11, {HOST, LENGTH("+5")}}, 400},
        {{LINE_11, {HOST, LENGTH("-5")}}, 400},
        {{LINE_11, {HOST, LENGTH("0x5")}}, 400},
        {{LINE_11, {HOST, LENGTH("5 ")}}, 400},
        {{LINE_11, {HOST, LENGTH(" 5")}}, 400},
        {{LINE_11, {HOST, LENGTH("5\t")}}, 400},
        {{LINE_11, {HOST, LENGTH("5 5")}}, 400},
        {{LINE_11, {HOST, LENGTH("5, 5")}}, 400},
        {{LINE_11, {HOST, LENGTH("5,6")}}, 400},
        {{LINE_11, {HOST, LENGTH("5;6")}}, 400},
        {{LINE_11, {HOST, LENGTH("5.0")}}, 400},
        {{LINE_11, {HOST, LENGTH("1e3")}}, 400},
        {{LINE_11, {HOST, LENGTH("five")}}, 400},
        {{LINE_11, {HOST, LENGTH("\xEF\xBC\x95")}}, 400}, /* a fullwidth 5 */
        {{LINE_11, {HOST, LENGTH("9223372036854775808")}}, 400},
        {{LINE_11, {HOST, LENGTH("18446744073709551621")}}, 400}, /* 2^64 + 5 */
        {{LINE_11, {HOST, LENGTH("5"), LENGTH("5")}}, 400},
        {{LINE_11, {HOST, LENGTH("5"), LENGTH("6")}}, 400},
        {{LINE_11, {HOST, LENGTH("5"), {"content-LENGTH", "5"}}}, 400},
        {{LINE_11, {HOST, {"Content_Length", "x"}, LENGTH("5")}}, 0},
        /* Transfer-Encoding */
        {{LINE_11, {HOST, CODING("chunked")}}, 0},
        {{LINE_11, {HOST, CODING("CHUNKED")}}, 0},
        {{LINE_10, {HOST, CODING("chunked")}}, 400},
        {{LINE_11, {HOST, CODING("")}}, 501},
        {{LINE_11, {HOST, CODING("identity")}}, 501},
        {{LINE_11, {HOST, CODING("gzip")}}, 501},
        {{LINE_11, {HOST, CODING("gzip, chunked")}}, 501},
        {{LINE_11, {HOST, CODING("chunked, gzip")}}, 501},
        {{LINE_11, {HOST, CODING("chunked, chunked")}}, 501},
        {{LINE_11, {HOST, CODING("chunked,")}}, 501},
        {{LINE_11, {HOST, CODING(" chunked")}}, 501},
        {{LINE_11, {HOST, CODING("chunked ")}}, 501},
        {{LINE_11, {HOST, CODING("chunked;q=1")}}, 501},
        {{LINE_11, {HOST, CODING("\"chunked\"")}}, 501},
        {{LINE_11, {HOST, CODING("xchunked")}}, 501},
        {{LINE_11, {HOST, CODING("\x0b" "chunked")}}, 400},
        {{LINE_11, {HOST, CODING("chunked"), CODING("chunked")}}, 400},
        {{LINE_11, {HOST, CODING("chunked"), CODING("identity")}}, 400},
        {{LINE_11, {HOST, CODING("identity"), {"transfer-encoding", "chunked"}}}, 400},
        /* both */
        {{LINE_11, {HOST, LENGTH("5"), CODING("chunked")}}, 400},
        {{LINE_11, {HOST, CODING("chunked"), LENGTH("5")}}, 400},
        {{LINE_11, {HOST, CODING("identity"), LENGTH("5")}}, 400},
        {{LINE_11, {HOST, CODING("chunked"), LENGTH("0")}}, 400},
        {{LINE_10, {HOST, CODING("chunked"), LENGTH("5")}}, 400},
        /* Expect */
        {{LINE_11, {HOST, {"Expect", "100-Continue"}}}, 0},
        {{LINE_11, {HOST, {"Expect", ""}}}, 417},
        {{LINE_11, {HOST, {"Expect", "100-continue, x"}}}, 417},
        {{LINE_11, {HOST, {"Expect", "200-ok"}}}, 417},
        {{LINE_11, {HOST, {"expect", "100-continue"}, {"Expect", "100-continue"}}}, 417},
        /* names and values */
        {{LINE_11, {HOST, {"X", ""}}}, 0},
        {{LINE_11, {HOST, {"X", "a\tb \xC3\xA9\xFF"}}}, 0},
        {{LINE_11, {HOST, {"", "x"}}}, 400},
        {{LINE_11, {HOST, {"X ", "x"}}}, 400},
        {{LINE_11, {HOST, {" X", "x"}}}, 400},
        {{LINE_11, {HOST, {"X\t", "x"}}}, 400},
        {{LINE_11, {HOST, {"X Y", "x"}}}, 400},
        {{LINE_11, {HOST, {"X:", "x"}}}, 400},
        {{LINE_11, {HOST, {"X\xC3\xA9", "x"}}}, 400},
        {{LINE_11, {HOST, {"Content-Length ", "5"}}}, 400},
        {{LINE_11, {HOST, {"Transfer-Encoding\x0b", "chunked"}}}, 400},
        {{LINE_11, {HOST, {"X", "a\r\nContent-Length: 5"}}}, 400},
        {{LINE_11, {HOST, {"X", "a\n b"}}}, 400},
        {{LINE_11, {HOST, {"X", "a\rb"}}}, 400},
        {{LINE_11, {HOST, {"X", "\x1b[31m"}}}, 400},
        {{LINE_11, {HOST, {"X", "\x7f"}}}, 400},
    };
    for (size_t i = 0; i < LENGTH_OF(rows); i++) {
        int status = judge_text(&rows[i].head);
        if (status != rows[i].status)
            print_message("# row %zu\n", i);
        assert_int_equal(status, rows[i].status);
    }
}

/* Each byte at each end of a name and of a value, NUL too. */
static void test_every_byte(void **state)
{
    (void)state;
    static const char tchar[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (int c = 0; c < 256; c++) {
        for (size_t place = 0; place < 3; place++) {
            struct head h;
            char text[3] = "mm";
            text[place < 2 ? place : 1] = (char)c;
            bool is_token = c != 0 && strchr(tchar, c) != NULL;
            bool is_text = (c >= 0x20 || c == '\t') && c != 0x7f;
            get(&h);
            add_field(&h, "Host", "localhost");
            add(&h, text, 2, "x", 1);
            assert_int_equal(judge(&h.head), is_token ? 0 : 400);
            h.head.count--;
            add(&h, "x", 1, text, 2);
            assert_int_equal(judge(&h.head), is_text ? 0 : 400);
        }
    }
}

static void test_too_many_fields(void **state)
{
    (void)state;
    struct http_field fields[HTTP_FIELDS_MAX + 1];
    struct http_head head = {.method = "GET", .target = "/", .version = "HTTP/1.1"};
    head.fields = fields;
    head.count = HTTP_FIELDS_MAX;
    fields[0] = (struct http_field){"Host", "localhost", 4, 9};
    for (size_t i = 1; i <= HTTP_FIELDS_MAX; i++)
        fields[i] = (struct http_field){"X", "y", 1, 1};
    assert_int_equal(judge(&head), 0);
    head.count++;
    assert_int_equal(judge(&head), 431);
}

/* A head as libmicrohttpd 0.9 reads it, in place: a line ends with LF, CR before it is dropped,
 * texts end at a NUL, a folded line is joined to its field in other memory. */
struct in_place {
    struct head head;
    char wire[512], elsewhere[64];
};

static char *cut_line(char **at, char *end)
{
    char *line = *at, *lf = memchr(line, '\n', (size_t)(end - line));
    assert_non_null(lf);
    *at = lf + 1;
    *lf = '\0';
    if (lf > line && lf[-1] == '\r')
        lf[-1] = '\0';
    return line;
}

/* The word behind the next blank, which becomes a NUL. */
static char *cut_word(char *from, const char *end)
{
    char *blank = memchr(from, ' ', (size_t)(end - from));
    assert_non_null(blank);
    *blank = '\0';
    return blank + 1;
}

static void cut_field(struct in_place *h, char *line)
{
    if (line[0] == ' ') {
        struct http_field *last = &h->head.fields[h->head.head.count - 1];
        snprintf(h->elsewhere, sizeof h->elsewhere, "%s%s", last->value, line);
        last->value = h->elsewhere;
        last->value_len = strlen(h->elsewhere);
        return;
    }
    char *colon = strchr(line, ':');
    assert_non_null(colon);
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    add_field(&h->head, line, value);
}

static int judge_wire(const char *wire, size_t n)
{
    static struct in_place h;
    char *at = h.wire, *end = h.wire + n, *line;
    assert_true(n < sizeof h.wire);
    memset(h.wire, 0, sizeof h.wire);
    memcpy(h.wire, wire, n);
    line = cut_line(&at, end);
    char *target = cut_word(line, at);
    target += strspn(target, " ");
    char *version = cut_word(target, at);
    init(&h.head, line, target, version);
    while ((line = cut_line(&at, end))[0] != '\0')
        cut_field(&h, line);
    assert_ptr_equal(at, end);
    h.head.head.head_bytes = n;
    h.head.head.in_place = true;
    int status = judge(&h.head.head);
    h.head.head.in_place = false; /* where the texts lie elsewhere nothing can be said */
    assert_int_equal(judge(&h.head.head), 0);
    return status;
}

#define WIRE(text) judge_wire(text, sizeof text - 1)

/* What the parser does not tell shows in what stood between its texts. */
static void test_bytes_between(void **state)
{
    (void)state;
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\r\n\r\n"), 0);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost:box\r\nA:\r\nB: \r\nC: \t c\r\n\r\n"), 0);
    assert_int_equal(WIRE("GET / HTTP/1.0\r\n\r\n"), 0);
    /* bare LF, at each line */
    assert_int_equal(WIRE("GET / HTTP/1.1\nHost: box\r\nA: b\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\nA: b\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\r\nA: b\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\r\nA: b\r\n\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\nHost: box\nA: b\n\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.0\r\n\n"), 400);
    /* two blanks, also where a bare LF makes up for them */
    assert_int_equal(WIRE("GET  / HTTP/1.1\r\nHost: box\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET  / HTTP/1.1\r\nHost: box\r\n\n"), 400);
    assert_int_equal(WIRE("GET   / HTTP/1.1\r\nHost: box\n\n"), 400);
    /* NUL: what is behind it is hidden */
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\0\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\0.evil.test\r\nA:b\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\r\nA:b\r\nC: d\0e\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\0\r\nHost: box\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET /\0x HTTP/1.1\r\nHost: box\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET\0X / HTTP/1.1\r\nHost: box\r\n\r\n"), 400);
    /* also where bare LFs make up for what is hidden */
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\0x\n\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\0x\nA: b\n\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.0\0x\n\n"), 400);
    /* folded lines, also where blanks that were saved elsewhere make up for their bytes */
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\r\n folded\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost: box\r\nA: b\r\n c\r\nD:e\r\n\r\n"), 400);
    assert_int_equal(WIRE("GET / HTTP/1.1\r\nHost:box\r\nA:b\r\n c\r\nD:e\r\nE:f\r\n\r\n"), 400);
}

/* The sum must be that of the wire, to the byte. */
static void test_head_bytes(void **state)
{
    (void)state;
    static char wire[] = "GET\0/\0HTTP/1.1\0\0Host\0 box\0\0\0";
    struct head h;
    init(&h, wire, wire + 4, wire + 6);
    add_field(&h, wire + 16, wire + 22);
    assert_string_equal(h.fields[0].name, "Host");
    assert_string_equal(h.fields[0].value, "box");
    h.head.in_place = true;
    for (size_t bytes = 0; bytes < 100; bytes++) {
        h.head.head_bytes = bytes;
        bool exact = bytes == strlen("GET / HTTP/1.1\r\nHost: box\r\n\r\n");
        assert_int_equal(judge(&h.head), exact ? 0 : 400);
    }
}

static void test_content_length(void **state)
{
    (void)state;
    struct head h;
    get(&h);
    assert_int_equal(http_content_length(&h.head), -1);
    add_field(&h, "transfer-encoding", "chunked");
    assert_int_equal(http_content_length(&h.head), -1);
    get(&h);
    add_field(&h, "content-length", "0");
    assert_int_equal(http_content_length(&h.head), 0);
    h.fields[0].value = "00042";
    h.fields[0].value_len = 5;
    assert_int_equal(http_content_length(&h.head), 42);
    h.fields[0].value = "999999999999999999";
    h.fields[0].value_len = 18;
    assert_true(http_content_length(&h.head) == INT64_C(999999999999999999));
}

/* Host */

static bool host_passes(const char *value, size_t n)
{
    static char one[] = "gather.corp.test", two[] = "box";
    char *names[] = {one, two};
    const struct str_list hosts = {names, 2};
    struct head h;
    struct problem p = {.status = 0};
    get(&h);
    add_field(&h, "X", "y");
    add(&h, "host", 4, value, n);
    bool good = http_check_host(&h.head, &hosts, &p);
    assert_int_equal(p.status, good ? 0 : 421);
    return good;
}

static void test_host_accepted(void **state)
{
    (void)state;
    static const char *const values[] = {
        "localhost", "LOCALHOST", "LocalHost:4284", "localhost:1", "localhost:65535",
        "127.0.0.1", "127.0.0.1:4284", "127.255.255.254", "0.0.0.0:80", "10.1.2.3", "8.8.8.8:53",
        "255.255.255.255", "[::1]", "[::1]:4284", "[::]:1", "[2001:db8::1]", "[2001:DB8::A]:80",
        "[fe80::1]", "[::ffff:127.0.0.1]:80", "[0:0:0:0:0:0:0:1]", "gather.corp.test",
        "GATHER.Corp.Test", "gather.corp.test:8080", "box", "box:80", "BOX",
    };
    for (size_t i = 0; i < LENGTH_OF(values); i++) {
        if (!host_passes(values[i], strlen(values[i])))
            print_message("# %s\n", values[i]);
        assert_true(host_passes(values[i], strlen(values[i])));
    }
}

static void test_host_refused(void **state)
{
    (void)state;
    static const char *const values[] = {
        "", " ", ":", ":80", ".", "*", "evil.test", "evil.test:4284", "localhost.evil.test",
        "evil.localhost", "xlocalhost", "localhostx", "localhos", "localhost.", "localhost..",
        " localhost", "localhost ", "local host", "localhost\t", "localhost/", "localhost/x",
        "localhost#", "localhost?", "localhost\\", "localhost;", "localhost,evil.test",
        "evil.test,localhost", "localhost@evil.test", "evil.test@localhost", "u:p@localhost",
        "http://localhost", "//localhost", "localhost:80:80", "localhost:8a", "localhost:-1",
        "localhost:+1", "localhost: 80", "localhost:80 ", "localhost:0x50", "localhost:123456",
        "localhost:80/", "localhost:80@evil.test", "%6cocalhost", "localhost%00",
        "localh\xC3\xB6st",
        ("l\xD0\xBE" "calhost"), "127.0.0.1.", "127.0.0.1.evil.test", "evil.127.0.0.1", "127.1",
        "127.0.1", "127.0.0.01", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433",
        "256.0.0.1", "1.2.3.4.5", "127.0.0.1:80:80", "127.0.0.1x", "127.0.0.1 ",
        "\xEF\xBC\x91\xEF\xBC\x92\xEF\xBC\x97.0.0.1", "::1", "::1:80", "[::1", "::1]", "[::1]x",
        "[::1]80", "[::1]:x", "[::1]]", "[[::1]]", "[]", "[]:80", "[:]", "[127.0.0.1]",
        "[localhost]", "[box]", "[::1%lo]", "[fe80::1%25lo]", "[:::1]", "[::g]", "[::1 ]",
        "[v1.x]", "[1:2:3:4:5:6:7:8:9]", "gather.corp.test.", "gather.corp.testx", "gather.corp",
        "xgather.corp.test", "x.gather.corp.test", "corp.test", "gather-corp.test", "boxx", "bo",
        "box.", "b\xC3\xB6x",
        "1111111111111111111111111111111111111111111111111111111111111111111111111111.1",
    };
    _Static_assert(LENGTH_OF(values) >= 64, "the matrix");
    for (size_t i = 0; i < LENGTH_OF(values); i++) {
        if (host_passes(values[i], strlen(values[i])))
            print_message("# %s\n", values[i]);
        assert_false(host_passes(values[i], strlen(values[i])));
    }
    assert_false(host_passes("localhost\0", 10));
    assert_false(host_passes("localhost\0.evil.test", 20));
    assert_false(host_passes("box\0x", 5));
}

/* HTTP/1.0 without Host: no browser sends it, so there is nothing to rebind. */
static void test_no_host(void **state)
{
    (void)state;
    const struct str_list none = {NULL, 0};
    struct head h;
    struct problem p;
    get(&h);
    assert_true(http_check_host(&h.head, &none, &p));
    add_field(&h, "Host", "box");
    assert_false(http_check_host(&h.head, &none, &p));
}

/* Where it came from */

static bool site_passes(const char *host, const char *site, const char *origin)
{
    struct head h;
    struct problem p = {.status = 0};
    get(&h);
    if (host)
        add_field(&h, "Host", host);
    if (site)
        add_field(&h, "sec-fetch-site", site);
    if (origin)
        add_field(&h, "ORIGIN", origin);
    bool good = http_check_site(&h.head, &p);
    assert_int_equal(p.status, good ? 0 : 403);
    return good;
}

struct vector {
    const char *text;
    bool good;
};

static const struct vector sites[] = {
    {NULL, true},         {"same-origin", true},  {"none", true},
    {"Same-Origin", true}, {"cross-site", false}, {"same-site", false},
    {"", false},          {"null", false},        {"same-origin ", false},
    {"same-origin, cross-site", false},           {"cross-site, none", false},
    {"same-originx", false},                      {"?1", false},
};

static const struct vector origins[] = {
    {NULL, true},
    {"http://localhost:4284", true},
    {"HTTP://LOCALHOST:4284", true},
    {"", false},
    {"null", false},
    {"*", false},
    {"localhost:4284", false},
    {"//localhost:4284", false},
    {"https://localhost:4284", false},
    {"ws://localhost:4284", false},
    {"file://", false},
    {"chrome-extension://localhost:4284", false},
    {"http://localhost", false},
    {"http://localhost:80", false},
    {"http://localhost:42840", false},
    {"http://localhost:428", false},
    {"http://localhost:4284/", false},
    {"http://localhost:4284 ", false},
    {" http://localhost:4284", false},
    {"http://localhost:4284, http://evil.test", false},
    {"http://localhost:4284.evil.test", false},
    {"http://localhost.evil.test:4284", false},
    {"http://x@localhost:4284", false},
    {"http://evil.test", false},
    {"http://evil.test:4284", false},
    {"http://127.0.0.1:4284", false},
    {"http://[::1]:4284", false},
    {"http://", false},
};

static void test_site_matrix(void **state)
{
    (void)state;
    size_t vectors = 0;
    for (size_t i = 0; i < LENGTH_OF(sites); i++)
        for (size_t k = 0; k < LENGTH_OF(origins); k++, vectors++)
            assert_int_equal(site_passes("localhost:4284", sites[i].text, origins[k].text),
                             sites[i].good && origins[k].good);
    assert_true(vectors >= 300);
}

static void test_origin_of_other_hosts(void **state)
{
    (void)state;
    assert_true(site_passes("[::1]:4284", NULL, "http://[::1]:4284"));
    assert_true(site_passes("127.0.0.1", "same-origin", "http://127.0.0.1"));
    assert_false(site_passes("[::1]:4284", NULL, "http://localhost:4284"));
    assert_false(site_passes("", NULL, "http://evil.test"));
    assert_false(site_passes(NULL, NULL, "http://localhost"));
    assert_false(site_passes(NULL, NULL, "http://"));
    assert_true(site_passes(NULL, "none", NULL));
}

/* Each of several counts: a good one does not excuse a bad one. */
static void test_site_twice(void **state)
{
    (void)state;
    struct head h;
    struct problem p;
    get(&h);
    add_field(&h, "Host", "localhost");
    add_field(&h, "Origin", "http://localhost");
    add_field(&h, "Sec-Fetch-Site", "same-origin");
    assert_true(http_check_site(&h.head, &p));
    add_field(&h, "Origin", "http://evil.test");
    assert_false(http_check_site(&h.head, &p));
    h.head.count--;
    add_field(&h, "Sec-Fetch-Site", "cross-site");
    assert_false(http_check_site(&h.head, &p));
    assert_non_null(strstr(p.detail, "Sec-Fetch-Site"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_shape_matrix),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_too_many_fields),
        cmocka_unit_test(test_bytes_between),
        cmocka_unit_test(test_head_bytes),
        cmocka_unit_test(test_content_length),
        cmocka_unit_test(test_host_accepted),
        cmocka_unit_test(test_host_refused),
        cmocka_unit_test(test_no_host),
        cmocka_unit_test(test_site_matrix),
        cmocka_unit_test(test_origin_of_other_hosts),
        cmocka_unit_test(test_site_twice),
    };
    return cmocka_run_group_tests_name("http_check", tests, NULL, NULL);
}
