/* SPDX-License-Identifier: MIT
 *
 * problem - see problem.h. Called by http_check, http_exchange, http_exchange_head and all of
 * http_routes. Pure, any thread.
 */
#include "problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

void problem_set(struct problem *p, int status, const char *fmt, ...)
{
    char text[2 * sizeof p->detail]; /* longer, so that the cut is ours */
    va_list args;
    *p = (struct problem){.status = status, .offset = -1};
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    size_t n = utf8_prefix(text, strlen(text), sizeof p->detail - 1);
    memcpy(p->detail, text, n);
    p->detail[n] = '\0';
}

const char *problem_title(int status)
{
    static const struct {
        int status;
        const char *title;
    } titles[] = {
        {400, "Bad Request"},          {401, "Unauthorized"},
        {403, "Forbidden"},            {404, "Not Found"},
        {405, "Method Not Allowed"},   {406, "Not Acceptable"},
        {413, "Content Too Large"},    {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},  {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"}, {501, "Not Implemented"},
        {503, "Service Unavailable"},  {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
        if (titles[i].status == status)
            return titles[i].title;
    return "";
}

void problem_print(const struct problem *p, struct buf *out)
{
    BUF_ADD_LITERAL(out, "{\"type\":\"about:blank\",\"title\":");
    buf_add_json_str(out, problem_title(p->status));
    BUF_ADD_LITERAL(out, ",\"status\":");
    buf_add_int(out, p->status);
    BUF_ADD_LITERAL(out, ",\"detail\":");
    buf_add_json_str(out, p->detail);
    if (p->pointer[0] != '\0') {
        BUF_ADD_LITERAL(out, ",\"pointer\":");
        buf_add_json_str(out, p->pointer);
    }
    if (p->offset >= 0) {
        BUF_ADD_LITERAL(out, ",\"offset\":");
        buf_add_int(out, p->offset);
    }
    BUF_ADD_LITERAL(out, "}\n");
}
