/* SPDX-License-Identifier: MIT
 *
 * curl_uv_recv - how long libcurl may read before it has to let go of the loop. Private to curl_uv.
 *
 * libcurl reads on while there is something to be read: 101 times BUFFERSIZE in one
 * curl_multi_socket_action() with 7.88, 11 times with 8.14; 6.6 MB of one-byte chunks are 90 ms. No
 * option bounds that and a write callback sees only what is a body, so the bound is put where the
 * bytes come from.
 */
#ifndef GATHERD_CURL_UV_RECV_H
#define GATHERD_CURL_UV_RECV_H

#include <stdint.h>

/* From now on this thread's recv() gives EAGAIN, after its first call, once the monotonic clock
 * (uv_hrtime()) reaches until_ns. Until the end it is as if the socket were empty; a level-triggered
 * watcher comes back to it. */
void curl_uv_recv_begin(uint64_t until_ns);
void curl_uv_recv_end(void);

#endif
