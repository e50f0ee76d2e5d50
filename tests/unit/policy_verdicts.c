/* SPDX-License-Identifier: MIT
 *
 * policy_verdicts - not a test but a tool of one (tests/e2e/test_oracle.py): what a policy says of
 * each address that stands on a line of standard input, A or D (denied), one letter a line. A line
 * may have a port behind a blank.
 *
 *     policy_verdicts public|private|unsafe-any [ALLOW...] [-DENY...] < addresses
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

enum { LINES_MAX = 64 };

static enum config_base base_of(const char *word)
{
    return strcmp(word, "private") == 0      ? POLICY_BASE_PRIVATE
           : strcmp(word, "unsafe-any") == 0 ? POLICY_BASE_UNSAFE_ANY
                                             : POLICY_BASE_PUBLIC;
}

/* '?' = the two ways to ask disagree, '!' = no address. */
static char judge(const struct policy *p, char *text)
{
    struct policy_hop hop = {.port = 80};
    struct verdict v, explained;
    struct ip_addr ip;
    char *blank = strchr(text, ' ');
    if (blank != NULL) {
        *blank = '\0';
        hop.port = (uint16_t)strtoul(blank + 1, NULL, 10);
    }
    if (!ip_parse(text, &ip))
        return '!';
    bool allowed = policy_check_address(p, &hop, &ip, &v);
    if (policy_explain_address(p, &hop, &ip, &explained) != allowed ||
        allowed != (v.type == ERR_NONE) || allowed != (v.message[0] == '\0'))
        return '?';
    return allowed ? 'A' : 'D';
}

/* Those that begin with a minus are deny lines. */
static void sort_lines(char **items, size_t count, struct config_policy *conf)
{
    static char *allow[LINES_MAX], *deny[LINES_MAX];
    conf->allow.items = allow;
    conf->deny.items = deny;
    for (size_t i = 0; i < count && i < LINES_MAX; i++) {
        if (items[i][0] == '-')
            deny[conf->deny.count++] = items[i] + 1;
        else
            allow[conf->allow.count++] = items[i];
    }
}

int main(int argc, char **argv)
{
    char name[] = "default", line[128];
    struct config_policy conf = {.name = name};
    struct buf errors;
    if (argc < 2)
        return EXIT_FAILURE;
    conf.base = base_of(argv[1]);
    sort_lines(argv + 2, (size_t)argc - 2, &conf);
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
