/* SPDX-License-Identifier: MIT
 *
 * problem: what is set, the titles, and a document that stays JSON whatever the detail says.
 */
#include "problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

/* Prints and parses; the caller decrefs. */
static json_t *document(const struct problem *p)
{
    struct buf out;
    json_error_t error;
    buf_init(&out, 0);
    problem_print(p, &out);
    assert_false(out.failed);
    assert_true(out.len > 0);
    assert_int_equal(out.data[out.len - 1], '\n');
    json_t *doc = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(doc);
    buf_fini(&out);
    return doc;
}

static void check_text(const json_t *doc, const char *key, const char *expected)
{
    const char *text = json_string_value(json_object_get(doc, key));
    assert_non_null(text);
    assert_string_equal(text, expected);
}

static void test_set_clears_the_rest(void **state)
{
    (void)state;
    struct problem p;
    memset(&p, 0x55, sizeof p);
    problem_set(&p, 413, "the body has %d bytes, %s", 5, "too many");
    assert_int_equal(p.status, 413);
    assert_string_equal(p.detail, "the body has 5 bytes, too many");
    assert_string_equal(p.pointer, "");
    assert_int_equal(p.offset, -1);
    assert_int_equal(p.retry_after_s, 0);
    assert_null(p.allow);
}

static void test_titles(void **state)
{
    (void)state;
    static const int statuses[] = {400, 401, 403, 404, 405, 406, 413, 415,
                                   421, 429, 431, 500, 501, 503, 505};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        assert_true(problem_title(statuses[i])[0] != '\0');
    assert_string_equal(problem_title(421), "Misdirected Request");
    assert_string_equal(problem_title(200), "");
    assert_string_equal(problem_title(0), "");
    assert_string_equal(problem_title(-1), "");
}

static void test_print_least(void **state)
{
    (void)state;
    struct problem p;
    problem_set(&p, 404, "no such path");
    json_t *doc = document(&p);
    assert_int_equal(json_object_size(doc), 4);
    check_text(doc, "type", "about:blank");
    check_text(doc, "title", "Not Found");
    check_text(doc, "detail", "no such path");
    assert_int_equal(json_integer_value(json_object_get(doc, "status")), 404);
    json_decref(doc);
}

static void test_print_all(void **state)
{
    (void)state;
    struct problem p;
    problem_set(&p, 400, "unknown field");
    snprintf(p.pointer, sizeof p.pointer, "%s", "/requests/3/a~1\"b");
    p.offset = 0;
    p.retry_after_s = 3;
    p.allow = "POST";
    json_t *doc = document(&p);
    assert_int_equal(json_object_size(doc), 6); /* the last two are header fields */
    check_text(doc, "pointer", "/requests/3/a~1\"b");
    assert_int_equal(json_integer_value(json_object_get(doc, "offset")), 0);
    json_decref(doc);
    p.offset = INT64_MAX;
    doc = document(&p);
    assert_true(json_integer_value(json_object_get(doc, "offset")) == INT64_MAX);
    json_decref(doc);
}

/* Every byte of a client's text may find its way into a detail. */
static void test_hostile_detail(void **state)
{
    (void)state;
    for (int c = 1; c < 256; c++) {
        struct problem p;
        const char text[] = {'a', (char)c, 'b', '\0'};
        problem_set(&p, 400, "bad: %s", text);
        json_t *doc = document(&p);
        const char *detail = json_string_value(json_object_get(doc, "detail"));
        assert_memory_equal(detail, "bad: a", 6);
        assert_int_equal(detail[strlen(detail) - 1], 'b');
        json_decref(doc);
    }
}

/* Too long a text is cut between characters, wherever the end falls in one. */
static void test_cut_between_characters(void **state)
{
    (void)state;
    static const char euro[] = "\xE2\x82\xAC";
    for (size_t lead = 0; lead < 3; lead++) {
        char text[1000] = "xx";
        struct problem p;
        size_t n = lead;
        for (; n + 4 < sizeof text; n += 3)
            memcpy(text + n, euro, 4);
        problem_set(&p, 400, "%s", text);
        size_t kept = strlen(p.detail);
        assert_true(kept > sizeof p.detail - 4 && kept < sizeof p.detail);
        assert_int_equal((kept - lead) % 3, 0);
        assert_memory_equal(p.detail, text, kept);
        json_t *doc = document(&p);
        check_text(doc, "detail", p.detail);
        json_decref(doc);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    struct problem p;
    struct buf out;
    problem_set(&p, 400, "whatever");
    buf_init(&out, 10);
    problem_print(&p, &out);
    assert_true(out.failed);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_clears_the_rest),
        cmocka_unit_test(test_titles),
        cmocka_unit_test(test_print_least),
        cmocka_unit_test(test_print_all),
        cmocka_unit_test(test_hostile_detail),
        cmocka_unit_test(test_cut_between_characters),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("problem", tests, NULL, NULL);
}
