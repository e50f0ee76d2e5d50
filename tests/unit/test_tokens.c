/* SPDX-License-Identifier: MIT
 *
 * tokens: which files are taken, which lines are refused and with what words, and who is found.
 */
#include "tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define GOOD "alice:0123456789abcdef\n"

static char directory[80], path[100];

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/test_tokens.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/tokens", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

static void write_file(const char *text, size_t n, mode_t mode)
{
    unlink(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static struct tokens *load(const char *text)
{
    struct buf errors;
    write_file(text, strlen(text), 0600);
    buf_init(&errors, 0);
    struct tokens *t = tokens_load(path, &errors);
    assert_non_null(t);
    assert_int_equal(errors.len, 0);
    buf_fini(&errors);
    return t;
}

/* Loading the file as it is fails, with these words. */
static void check_refused(const char *words)
{
    struct buf errors;
    buf_init(&errors, 0);
    assert_null(tokens_load(path, &errors));
    const char *text = buf_cstr(&errors);
    assert_memory_equal(text, path, strlen(path));
    assert_non_null(strstr(text, words));
    assert_int_equal(errors.data[errors.len - 1], '\n');
    buf_fini(&errors);
}

static void check_text_refused(const char *text, const char *words)
{
    write_file(text, strlen(text), 0600);
    check_refused(words);
}

static const char *find(const struct tokens *t, const char *token)
{
    return tokens_find(t, token, strlen(token));
}

static void test_look_up(void **state)
{
    (void)state;
    struct tokens *t = load("# who may ask\n"
                            "\n"
                            "alice:0123456789abcdef\n"
                            "\r\n"
                            "bob.b_-9:fedcba9876543210!~:#\r\n"
                            "carol:last-line-has-no-end");
    assert_string_equal(find(t, "0123456789abcdef"), "alice");
    assert_string_equal(find(t, "fedcba9876543210!~:#"), "bob.b_-9");
    assert_string_equal(find(t, "last-line-has-no-end"), "carol");
    assert_null(find(t, ""));
    assert_null(find(t, "0123456789abcde"));
    assert_null(find(t, "0123456789abcdef "));
    assert_null(find(t, "0123456789ABCDEF"));
    assert_null(find(t, "0123456789abcdee"));
    assert_null(find(t, "alice"));
    assert_null(find(t, "alice:0123456789abcdef"));
    assert_null(tokens_find(t, "0123456789abcdef", 17)); /* with its NUL */
    assert_string_equal(tokens_find(t, "0123456789abcdefgh", 16), "alice");
    tokens_destroy(t);
}

/* A name may have several tokens, as when one is being replaced. */
static void test_two_tokens_of_one_name(void **state)
{
    (void)state;
    struct tokens *t = load(GOOD "alice:the-next-token-of-alice\n");
    assert_string_equal(find(t, "0123456789abcdef"), "alice");
    assert_string_equal(find(t, "the-next-token-of-alice"), "alice");
    tokens_destroy(t);
}

static void test_many(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    struct buf text;
    buf_init(&text, 0);
    for (int i = 0; i < COUNT; i++)
        buf_printf(&text, "name-%d:token-number-%06d\n", i, i);
    struct tokens *t = load(buf_cstr(&text));
    for (int i = 0; i < COUNT; i++) {
        char name[16], token[24];
        snprintf(name, sizeof name, "name-%d", i);
        snprintf(token, sizeof token, "token-number-%06d", i);
        assert_string_equal(find(t, token), name);
    }
    tokens_destroy(t);
    buf_fini(&text);
}

static void test_lengths(void **state)
{
    (void)state;
    char name[66], token[514], text[600];
    memset(name, 'n', sizeof name);
    memset(token, 't', sizeof token);
    snprintf(text, sizeof text, "%.64s:%.512s\n", name, token);
    struct tokens *t = load(text);
    assert_int_equal(strlen(tokens_find(t, token, 512)), 64);
    assert_null(tokens_find(t, token, 513));
    tokens_destroy(t);
    snprintf(text, sizeof text, "%.65s:%.512s\n", name, token);
    check_text_refused(text, "the name must be 1 to 64");
    snprintf(text, sizeof text, "%.64s:%.513s\n", name, token);
    check_text_refused(text, "the token must be 16 to 512");
    snprintf(text, sizeof text, "a:%.16s\n", token);
    tokens_destroy(load(text));
    snprintf(text, sizeof text, "a:%.15s\n", token);
    check_text_refused(text, "the token must be 16 to 512");
}

static void test_one_token_of_two_names(void **state)
{
    (void)state;
    check_text_refused(GOOD "bob:0123456789abcdef\n", ":2: the token is that of another name, too");
    tokens_destroy(load(GOOD "alice:another-one-0123456789\n" GOOD));
}

static void test_bad_lines(void **state)
{
    (void)state;
    check_text_refused("alice 0123456789abcdef\n", ":1: needs the form name:token");
    check_text_refused(GOOD "\n  # indented\n", ":3: needs the form name:token");
    check_text_refused(":0123456789abcdef\n", ":1: the name must be");
    check_text_refused("al ice:0123456789abcdef\n", ":1: the name must be");
    check_text_refused(" alice:0123456789abcdef\n", ":1: the name must be");
    check_text_refused("al\xC3\xAF" "ce:0123456789abcdef\n", ":1: the name must be");
    check_text_refused("alice:\n", ":1: the token must be");
    check_text_refused("alice:0123456789abcdef \n", ":1: the token must be");
    check_text_refused("alice: 0123456789abcdef\n", ":1: the token must be");
    check_text_refused("alice:0123456789\tabcdef\n", ":1: the token must be");
    check_text_refused("alice:0123456789\x7f" "abcdef\n", ":1: the token must be");
    check_text_refused("alice:0123456789\xC3\xA4" "abcdef\n", ":1: the token must be");
}

/* All bad lines are named at once; what a message says never holds the token. */
static void test_messages(void **state)
{
    (void)state;
    struct buf errors;
    const char *text = "alice:short-secret\n" GOOD "bob:tiny-secret\n"
                       "my-secret-alone\nx y:secret-0123456789\n";
    write_file(text, strlen(text), 0600);
    buf_init(&errors, 0);
    assert_null(tokens_load(path, &errors));
    const char *words = buf_cstr(&errors);
    assert_non_null(strstr(words, ":1:"));
    assert_null(strstr(words, ":2:"));
    assert_non_null(strstr(words, ":3:"));
    assert_non_null(strstr(words, ":4:"));
    assert_non_null(strstr(words, ":5:"));
    assert_null(strstr(words, "secret"));
    buf_fini(&errors);
}

static void test_nothing_in_it(void **state)
{
    (void)state;
    check_text_refused("", "holds no token");
    check_text_refused("# only words\n\n", "holds no token");
}

/* Only the owner may read it. */
static void test_modes(void **state)
{
    (void)state;
    static const mode_t good[] = {0600, 0400, 0700};
    static const mode_t bad[] = {0640, 0604, 0620, 0602, 0610, 0644, 0666};
    struct buf errors;
    buf_init(&errors, 0);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        write_file(GOOD, strlen(GOOD), good[i]);
        struct tokens *t = tokens_load(path, &errors);
        assert_non_null(t);
        tokens_destroy(t);
    }
    buf_fini(&errors);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char mode[16];
        write_file(GOOD, strlen(GOOD), bad[i]);
        snprintf(mode, sizeof mode, "mode %04o", (unsigned)bad[i]);
        check_refused(mode);
    }
}

static void test_no_file(void **state)
{
    (void)state;
    unlink(path);
    check_refused("No such file");
    assert_int_equal(mkdir(path, 0700), 0);
    check_refused("is no regular file");
    assert_int_equal(rmdir(path), 0);
}

/* A NUL ends the line: what stands before it is judged alone. */
static void test_nul(void **state)
{
    (void)state;
    static const char short_one[] = "alice:01234567\0009abcdef0\n";
    static const char in_name[] = "al\0ice:0123456789abcdef\n";
    write_file(short_one, sizeof short_one - 1, 0600);
    check_refused(":1: holds a NUL byte");
    write_file(in_name, sizeof in_name - 1, 0600);
    check_refused(":1: holds a NUL byte");
}

static void test_destroy_nothing(void **state)
{
    (void)state;
    tokens_destroy(NULL);
    struct tokens *t = load(GOOD);
    assert_non_null(find(t, "0123456789abcdef"));
    tokens_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_look_up),
        cmocka_unit_test(test_two_tokens_of_one_name),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_one_token_of_two_names),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_nothing_in_it),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_destroy_nothing),
    };
    return cmocka_run_group_tests_name("tokens", tests, set_up, tear_down);
}
