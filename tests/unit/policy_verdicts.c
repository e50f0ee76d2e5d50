/* SPDX-License-Identifier: MIT
 *
 * policy_verdicts - not a test but a tool of one (tests/e2e/test_oracle.py): what a policy says of
 * each address that stands on a line of standard input, A or D (denied), one letter a line.
 *
 *     policy_verdicts public|private|unsafe-any [ALLOW...] < addresses
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

static enum config_base base_of(const char *word)
{
    return strcmp(word, "private") == 0      ? POLICY_BASE_PRIVATE
           : strcmp(word, "unsafe-any") == 0 ? POLICY_BASE_UNSAFE_ANY
                                             : POLICY_BASE_PUBLIC;
}

/* '?' = the two ways to ask disagree, '!' = no address. */
static char judge(const struct policy *p, const char *text)
{
    const struct policy_hop hop = {.port = 80};
    struct verdict v, explained;
    struct ip_addr ip;
    if (!ip_parse(text, &ip))
        return '!';
    bool allowed = policy_check_address(p, &hop, &ip, &v);
    if (policy_explain_address(p, &hop, &ip, &explained) != allowed ||
        allowed != (v.type == ERR_NONE) || allowed != (v.message[0] == '\0'))
        return '?';
    return allowed ? 'A' : 'D';
}

int main(int argc, char **argv)
{
    char name[] = "default", line[128];
    struct config_policy conf = {.name = name};
    struct buf errors;
    if (argc < 2)
        return EXIT_FAILURE;
    conf.base = base_of(argv[1]);
    conf.allow = (struct str_list){argv + 2, (size_t)argc - 2};
    buf_init(&errors, 0);
    struct policy *p = policy_create(&conf, &errors);
    if (p == NULL) {
        fputs(buf_cstr(&errors), stderr);
        return EXIT_FAILURE;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        putchar(judge(p, line));
        putchar('\n');
    }
    policy_destroy(p);
    buf_fini(&errors);
    return EXIT_SUCCESS;
}
