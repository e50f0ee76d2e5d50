/* SPDX-License-Identifier: MIT
 *
 * application/x-ndjson: one line a member, as it ends, and one last line with the summary. The only
 * view that streams: the front end calls item() while the batch still runs and the summary is not
 * known. The objects are those of the JSON view with a "type" before them. A reader that sees no
 * summary line knows that the stream was cut.
 */
#include "encode.h"

static void ndjson_begin(struct buf *out, const struct batch_view *v)
{
    (void)out;
    (void)v;
}

static bool ndjson_item(struct buf *out, const struct batch_view *v, struct encode_at *at)
{
    if (!encode_member_object(out, v, at, "result"))
        return false;
    buf_add_char(out, '\n');
    return true;
}

static void ndjson_end(struct buf *out, const struct batch_view *v)
{
    BUF_ADD_LITERAL(out, "{\"type\":\"summary\",");
    encode_summary_fields(out, v);
    BUF_ADD_LITERAL(out, ",\"retry\":null}\n");
}

const struct encoder encode_ndjson = {
    .name = "ndjson",
    .media_type = "application/x-ndjson",
    .streams = true,
    .begin = ndjson_begin,
    .item = ndjson_item,
    .end = ndjson_end,
};
