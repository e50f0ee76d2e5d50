/* SPDX-License-Identifier: MIT
 *
 * id_map: whole maps, maps with holes, and none at all.
 */
#include "id_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/gatherd-id-map-XXXXXX";

static void write_map(const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void test_whole(void **state)
{
    (void)state;
    write_map("         0          0 4294967295\n");
    assert_true(id_map_is_whole(path));
    assert_true(id_map_has(path, 0) && id_map_has(path, 65534) && id_map_has(path, 4294967294));
    assert_false(id_map_has(path, 4294967295));
}

static void test_holes(void **state)
{
    (void)state;
    write_map("         0       1000          1\n        10     100000      65536\n");
    assert_false(id_map_is_whole(path));
    assert_true(id_map_has(path, 0) && id_map_has(path, 10) && id_map_has(path, 65545));
    assert_false(id_map_has(path, 1) || id_map_has(path, 9) || id_map_has(path, 65546));
    assert_false(id_map_has(path, 65534)); /* it is in there, and stands for the others, too */
}

static void test_none(void **state)
{
    (void)state;
    write_map("");
    assert_false(id_map_has(path, 0) || id_map_is_whole(path));
    assert_true(id_map_has("/nowhere/uid_map", 4242) && id_map_is_whole("/nowhere/uid_map"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_none),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = cmocka_run_group_tests_name("id_map", tests, NULL, NULL);
    unlink(path);
    return failed;
}
