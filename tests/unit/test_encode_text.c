/* SPDX-License-Identifier: MIT
 *
 * encode_text: golden tables, the edges of each column, and that no byte which a terminal would
 * obey gets there.
 */
#include "encode.h"

#include "encode_fixture.h"
#include "utf8.h"

static void test_text_view(void **state)
{
    (void)state;
    add_three();
    results[1].timings.us[PHASE_QUEUE] = 40000;
    set_times(&results[1], results[1].timings.us);
    assert_string_equal(
        render(&encode_text),
        "batch b-1: 3 requests, 1 ok, 1 failed, 1 denied; 312.4 ms, speedup 1.04\n"
        "\n"
        " #  status      size  total ms  0                     312.4 ms  url\n"
        " 0  200      19.3 kB      83.3  cttwwwww......................  https://a.example\n"
        " 1  failed       0 B     240.9  qqqqccccccccccccccccccccccc...  http://b.example\n"
        " 2  denied         -         -  ..............................  http://10.0.0.7\n"
        "\n"
        "errors:\n"
        "#1  connection_refused in connect: no\\x0a\"luck\"\n"
        "#2  destination_ip_prohibited: the policy does not allow this address"
        " (rule: 10.0.0.0/8)\n"
        "\n"
        "critical path: #1 connect 240.0 ms; without it 229.2 ms less\n"
        "\n"
        "             min    mean     p50     p90     p95     p99     max\n"
        "total ms    83.3    83.3    83.3    83.3    83.3    83.3    83.3\n"
        "ttfb ms     80.2    80.2    80.2    80.2    80.2    80.2    80.2\n"
        "\n"
        "counts: 3 requests, 1 done, 1 failed, 1 denied, 1 retried\n"
        "status: 1 x 200\n"
        "size: sent 86 B, received 301 B of headers, 6.4 kB of bodies (19.3 kB decoded)\n"
        "bar: q queue, d dns, c connect, t tls, s send, w wait, r receive, . not running\n");
}

static void test_text_of_nothing(void **state)
{
    (void)state;
    input.total_us = 0;
    input.complete = false;
    add("nonsense", MEMBER_CANCELLED)->error.type = ERR_CANCELLED;
    assert_string_equal(
        render(&encode_text),
        "batch b-1: 1 request, 0 ok, 1 cancelled; 0.0 ms (cut short)\n"
        "\n"
        " #  status         size  total ms  0                       0.0 ms  url\n"
        " 0  cancelled         -         -  ..............................  nonsense\n"
        "\n"
        "errors:\n"
        "#0  cancelled: the member was cancelled\n"
        "\n"
        "counts: 1 request, 1 cancelled\n"
        "size: sent 0 B, received 0 B of headers, 0 B of bodies (0 B decoded)\n"
        "bar: q queue, d dns, c connect, t tls, s send, w wait, r receive, . not running\n");
}

/* The n-th row of the table, without its line feed. */
static const char *row(size_t index, char text[400])
{
    const char *p = buf_cstr(&out);
    for (size_t line = 0; line < 3 + index; line++) {
        p = strchr(p, '\n');
        assert_non_null(p);
        p++;
    }
    snprintf(text, 400, "%.*s", (int)strcspn(p, "\n"), p);
    return text;
}

static void test_text_sizes(void **state)
{
    (void)state;
    static const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {
        {0, "  0 B  "},           {999, "  999 B  "},
        {1000, "  1.0 kB  "},     {1049, "  1.0 kB  "},
        {1050, "  1.1 kB  "},     {19252, "  19.3 kB  "},
        {999949, "999.9 kB  "},   {999950, "  1.0 MB  "},
        {10485760, " 10.5 MB  "}, {INT64_C(1500000000), "  1.5 GB  "},
        {INT64_MAX, "  9.2 EB  "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        add_done("http://a", 200);
    render(&encode_text);
    for (size_t i = 0; i < spec.count; i++) {
        char text[400];
        results[i].sizes.delivered = cases[i].bytes;
        buf_clear(&out);
        add_item(&encode_text, &out, i);
        snprintf(text, sizeof text, "%s", buf_cstr(&out));
        if (strstr(text, cases[i].text) == NULL)
            fail_msg("%lld bytes: %s", (long long)cases[i].bytes, text);
    }
}

static int columns_of(const char *s)
{
    int columns = 0;
    for (; *s != '\0'; s++)
        columns += ((unsigned char)*s & 0xC0) != 0x80;
    return columns;
}

static void test_text_rows_fit(void **state)
{
    (void)state;
    static char url[3000];
    char text[400];
    memcpy(url, "https://", 8);
    memset(url + 8, 'x', sizeof url - 9);
    for (int i = 0; i < 120; i++)
        add(url, i % 2 ? MEMBER_CANCELLED : MEMBER_FAILED);
    render(&encode_text);
    for (size_t i = 0; i < spec.count; i++) {
        assert_int_equal(columns_of(row(i, text)), 100);
        assert_string_equal(text + strlen(text) - 4, "x\xE2\x80\xA6");
    }
}

/* Exactly what fits stays whole; one more column and the last one turns into an ellipsis. */
static void test_text_cuts_urls(void **state)
{
    (void)state;
    char text[400];
    char fits[64], longer[70], wide[70];
    int columns = 100 - (int)strlen(" 0  status  99999 kB  total ms    ") - 30;
    snprintf(fits, sizeof fits, "http://%.*s", columns - 7,
             "0123456789012345678901234567890123456789");
    snprintf(longer, sizeof longer, "%s!", fits);
    snprintf(wide, sizeof wide, "%.*s\xC3\xBC\x1B", columns - 4, fits);
    add(fits, MEMBER_FAILED);
    add(longer, MEMBER_FAILED);
    add(wide, MEMBER_FAILED); /* the escape of the last byte has four columns */
    render(&encode_text);
    assert_string_equal(strstr(row(0, text), "http"), fits);
    memcpy(longer + columns - 1, "\xE2\x80\xA6", 4);
    assert_string_equal(strstr(row(1, text), "http"), longer);
    memcpy(wide + columns - 4 + 2, "\xE2\x80\xA6", 4);
    assert_string_equal(strstr(row(2, text), "http"), wide);
}

static void test_text_escapes(void **state)
{
    (void)state;
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"http://a/\x1B[2J\x7F\n", "http://a/\\x1b[2J\\x7f\\x0a"},
        {"http://a/\xC2\x9B", "http://a/\\u009b"},
        {"http://a/\xE2\x80\xAE/", "http://a/\\u202e/"},
        {"http://a/\xEF\xBB\xBF", "http://a/\\ufeff"},
        {"http://a/\xF3\xA0\x81\x81", "http://a/\\ue0041"},
        {"http://a/\xC3\xBC\xF0\x9F\x98\x80", "http://a/\xC3\xBC\xF0\x9F\x98\x80"},
        {"http://a/\xC3\xE2\x82x\xFF", "http://a/\xEF\xBF\xBD\xEF\xBF\xBDx\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        add(cases[i].url, MEMBER_DENIED);
    render(&encode_text);
    for (size_t i = 0; i < spec.count; i++) {
        char text[400];
        const char *shown = strstr(row(i, text), "http");
        assert_non_null(shown);
        assert_string_equal(shown, cases[i].shown);
    }
}

static void test_text_bars(void **state)
{
    (void)state;
    char text[400];
    input.total_us = 30000;
    /* One millisecond a column. */
    set_times(add_done("http://a", 200), (int64_t[]){2000, 1000, 3000, 4000, 1000, 15000, 4000});
    set_times(add_done("http://a", 200), (int64_t[]){-1, -1, -1, -1, -1, 1, -1});
    set_times(add_done("http://a", 200), (int64_t[]){29999, -1, -1, -1, -1, 1, -1});
    struct result *late = add_done("http://a", 200);
    set_times(late, (int64_t[]){-1, -1, 400, 500, 100, 1500, 0});
    late->end_us += 10000;
    set_times(add_done("http://a", 200), (int64_t[]){INT64_C(1) << 40, -1, -1, -1, -1, -1, -1});
    add("http://a", MEMBER_CANCELLED)->timings.us[PHASE_QUEUE] = 10000;
    results[5].end_us = STARTED_US + 10000;
    add("http://a", MEMBER_PENDING)->end_us = TIME_NULL;
    /* Phases that do not fit before the end still start within the bar. */
    set_times(add_done("http://a", 200), (int64_t[]){-1, 6000, -1, -1, -1, 4000, -1});
    results[7].end_us = STARTED_US + 5000;
    render(&encode_text);
    /* The status column is three wider where a member was cancelled. */
    char rows[8][31];
    for (size_t i = 0; i < 8; i++) {
        row(i, text);
        snprintf(rows[i], sizeof rows[i], "%.30s", text + 35);
    }
    assert_string_equal(rows[0], "qqdcccttttswwwwwwwwwwwwwwwrrrr");
    assert_string_equal(rows[1], "w.............................");
    assert_string_equal(rows[2], "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqq");
    assert_string_equal(rows[3], "..........tww.................");
    assert_string_equal(rows[4], "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqq");
    assert_string_equal(rows[5], "qqqqqqqqqq....................");
    assert_string_equal(rows[6], "..............................");
    assert_string_equal(rows[7], "ddddddwwww....................");
}

/* A table of 10,000 rows, and a list of errors that ends. */
static void test_text_of_many(void **state)
{
    (void)state;
    for (size_t i = 0; i < MEMBERS_MAX; i++)
        add("http://a.example/", MEMBER_FAILED)->error.type = ERR_DNS_ERROR;
    const char *text = render(&encode_text);
    char line[400];
    size_t lines = 0;
    for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
        lines++;
    assert_int_equal(lines, 3 + 10000 + 2 + 100 + 1 + 1 + 3);
    assert_non_null(strstr(text, "batch b-1: 10000 requests, 0 ok, 10000 failed;"));
    assert_non_null(strstr(text, "\n   #0  dns_error: "));
    assert_non_null(strstr(text, "\n  #99  dns_error: "));
    assert_null(strstr(text, "#100  "));
    assert_non_null(strstr(text, "\nand 9900 more; format=json has them all\n"));
    assert_non_null(strstr(row(0, line), "    0  failed"));
    assert_non_null(strstr(row(9999, line), " 9999  failed"));
}

static void test_credentials_are_not_shown(void **state)
{
    (void)state;
    add("https://user:S3CRET@a.example/", MEMBER_DENIED);
    add("user:S3CRET@a.example", MEMBER_FAILED);
    assert_null(strstr(render(&encode_text), "S3CRET"));
    assert_non_null(strstr(buf_cstr(&out), "  https://a.example/\n"));
    assert_non_null(strstr(buf_cstr(&out), "  a.example\n"));
}

static void check_text(void)
{
    const char *text = render(&encode_text);
    assert_true(utf8_valid(text, out.len));
    for (size_t i = 0; i < out.len; i++)
        assert_true(text[i] == '\n' || ((unsigned char)text[i] >= 0x20 && text[i] != 0x7F));
    for (size_t i = 0; i < spec.count; i++) {
        char line[400];
        assert_in_range(columns_of(row(i, line)), 60, 110);
    }
}

static void test_random_batches(void **state)
{
    (void)state;
    random_state = 0xD1B54A32D192ED03;
    for (int round = 0; round < 2000; round++) {
        make_random_batch();
        check_text();
        free_random_batch();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_text_view),
        TEST(test_text_of_nothing),
        TEST(test_text_sizes),
        TEST(test_text_rows_fit),
        TEST(test_text_cuts_urls),
        TEST(test_text_escapes),
        TEST(test_text_bars),
        TEST(test_text_of_many),
        TEST(test_credentials_are_not_shown),
        TEST(test_random_batches),
    };
    return cmocka_run_group_tests_name("encode_text", tests, NULL, NULL);
}
