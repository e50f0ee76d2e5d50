/* SPDX-License-Identifier: MIT
 *
 * ca_file: which files are taken, and with what words the others are refused; none holds it up.
 */
#include "ca_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>

#include "tls_fixture.h"

static char directory[80], path[100];

static int set_up(void **state)
{
    const char *tmp = getenv("TMPDIR");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *pem = BIO_new(BIO_s_mem());
    X509 *x = make_certificate("ca", key, "ca", key);
    PEM_write_bio_X509(pem, x);
    BIO_write(pem, "", 1);
    X509_free(x);
    EVP_PKEY_free(key);
    *state = pem;
    snprintf(directory, sizeof directory, "%s/test_ca_file.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/ca.pem", directory);
    return 0;
}

static int tear_down(void **state)
{
    BIO_free(*state);
    unlink(path);
    return rmdir(directory);
}

static const char *certificate(void **state)
{
    char *text;
    BIO_get_mem_data((BIO *)*state, &text);
    return text;
}

static void write_file(const char *a, const char *b, const char *c)
{
    unlink(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "%s%s%s", a, b, c) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* words: of the fault; NULL = there is none. */
static void check(const char *file, const char *words)
{
    struct buf errors;
    buf_init(&errors, 0);
    alarm(60); /* a call that waits is ended */
    assert_int_equal(ca_file_check(file, &errors), words == NULL);
    alarm(0);
    if (words == NULL)
        assert_int_equal(errors.len, 0);
    else
        assert_non_null(strstr(buf_cstr(&errors), words));
    buf_fini(&errors);
}

static void test_good(void **state)
{
    const char *pem = certificate(state);
    check(NULL, NULL);
    check("", NULL);
    write_file(pem, "", "");
    check(path, NULL);
    write_file("# two of them\n", pem, pem);
    check(path, NULL);
    assert_true(ca_file_opens(path));
}

static void test_bad(void **state)
{
    const char *pem = certificate(state);
    static const char none[] = "ca.pem: holds no certificate; ";
    static const char bad[] = "ca.pem: a certificate in it cannot be read (";
    write_file("", "", "");
    check(path, none);
    write_file("root:x:0:0:root:/root:/bin/bash\n", "", "");
    check(path, none);
    write_file(pem, "-----BEGIN CERTIFICATE-----\nAAAA\n", "-----END CERTIFICATE-----\n");
    check(path, bad);
    write_file(pem, "-----BEGIN CERTIFICATE-----\n!\n", "-----END CERTIFICATE-----\n");
    check(path, bad);
    write_file(pem, "-----BEGIN CERTIFICATE-----\nAAAA\n", "");
    check(path, bad);
}

static void test_no_file(void **state)
{
    (void)state;
    unlink(path);
    check(path, "ca.pem: No such file or directory");
    assert_true(ca_file_opens(path)); /* says so, and does not wait */
    check("/", "/: is no regular file; ");
    assert_false(ca_file_opens("/"));
    check("/dev/null", "/dev/null: is no regular file; ");
    assert_int_equal(mkfifo(path, 0600), 0);
    check(path, "ca.pem: is no regular file; ");
    assert_false(ca_file_opens(path));
    assert_true(ca_file_opens(""));
    assert_true(ca_file_opens(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_file, set_up, tear_down),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
