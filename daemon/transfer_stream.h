/* SPDX-License-Identifier: MIT
 *
 * transfer_stream - whether the HTTP/2 stream of a hop came to its end.
 *
 * Over HTTP/2 an answer without Content-Length is complete when a frame says END_STREAM, and not
 * before. libcurl 7.88 takes less for it: a session that nghttp2 gave up because of one bad frame
 * is the end of the file to it, for every stream that was open there, and so is RST_STREAM with
 * NO_ERROR, also to 8.14. Half a body would be an answer, of a neighbour who did nothing, too. No
 * option and nothing that libcurl tells afterwards makes the difference, so frames are looked at
 * where nghttp2 hands them to libcurl.
 */
#ifndef GATHERD_TRANSFER_STREAM_H
#define GATHERD_TRANSFER_STREAM_H

#include "transfer.h"

/* A request is about to be sent, for the first time or again: on a stream of its own, if it is
 * HTTP/2. */
void transfer_stream_begin(struct transfer *t);

#endif
