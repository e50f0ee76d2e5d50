/* SPDX-License-Identifier: MIT
 *
 * transfer_stream - see transfer_stream.h. Called by nghttp2 inside of libcurl, on the thread of
 * the transfer's loop.
 *
 * The trick is that of curl_uv_recv: the program's own definition of a function comes first for
 * every shared library in it, so it is here that libcurl says whom nghttp2 is to call for a frame;
 * nghttp2 is given on_frame() in its place. The easy handle of a stream is where libcurl keeps it,
 * the stream's user data. nghttp2 is no dependency of ours: what is needed of it is declared below
 * and belongs to its ABI.
 *
 * Where this does not get between (a static libcurl, or one with nghttp2 inside of it) no frame is
 * seen, and nothing is said of a stream of which not even the head was seen.
 */
#include "transfer_stream.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "transfer_answer.h"

/* The beginning of each nghttp2_frame. */
struct frame {
    size_t length;
    int32_t stream;
    uint8_t type;
    uint8_t flags;
    uint8_t reserved;
};

enum { FRAME_DATA = 0, FRAME_HEADERS = 1, FLAG_END_STREAM = 1 };

struct callbacks;
struct session;

typedef int frame_fn(struct session *s, const struct frame *frame, void *arg);
typedef void set_frame_fn(struct callbacks *c, frame_fn *fn);
typedef void *user_data_fn(struct session *s, int32_t stream);

/* nghttp2's functions, which never change once they were looked up; NULL = there is none. */
static struct {
    pthread_once_t once;
    union {
        void *found;
        set_frame_fn *call;
    } set_frame;
    union {
        void *found;
        user_data_fn *call;
    } user_data;
} nghttp2 = {.once = PTHREAD_ONCE_INIT};

/* libcurl's, the same for all sessions. */
static _Atomic(frame_fn *) libcurls;

static void look_up(void)
{
    nghttp2.set_frame.found =
        dlsym(RTLD_NEXT, "nghttp2_session_callbacks_set_on_frame_recv_callback");
    nghttp2.user_data.found = dlsym(RTLD_NEXT, "nghttp2_session_get_stream_user_data");
}

/* Before libcurl takes the frame, because nghttp2 lets the stream go with its last one. A stream
 * whose transfer has left has no handle any more. */
static void take_note(struct session *s, const struct frame *frame)
{
    CURL *easy = nghttp2.user_data.call(s, frame->stream);
    char *private = NULL;
    if (easy == NULL || curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private) != CURLE_OK ||
        private == NULL)
        return;
    struct transfer *t = (struct transfer *)(void *)private;
    t->stream = (frame->flags & FLAG_END_STREAM) != 0 ? STREAM_ENDED : STREAM_OPEN;
}

static int on_frame(struct session *s, const struct frame *frame, void *arg)
{
    bool ends = frame->type == FRAME_DATA && (frame->flags & FLAG_END_STREAM) != 0;
    if (ends || frame->type == FRAME_HEADERS)
        take_note(s, frame);
    return atomic_load_explicit(&libcurls, memory_order_relaxed)(s, frame, arg);
}

/* Weak: a static nghttp2 has one that is to be taken. */
__attribute__((weak)) set_frame_fn
    transfer_stream_set_frame __asm__("nghttp2_session_callbacks_set_on_frame_recv_callback");

void transfer_stream_set_frame(struct callbacks *c, frame_fn *fn)
{
    frame_fn *none = NULL;
    pthread_once(&nghttp2.once, look_up);
    if (nghttp2.set_frame.call == NULL)
        return;
    bool ours = fn != NULL && nghttp2.user_data.call != NULL &&
                (atomic_compare_exchange_strong(&libcurls, &none, fn) || none == fn);
    nghttp2.set_frame.call(c, ours ? on_frame : fn);
}

void transfer_stream_begin(struct transfer *t)
{
    t->stream = STREAM_UNSEEN;
}

/* Where libcurl knows the length it stops there, before END_STREAM if need be, and sees for itself
 * whether all has come; so it does where there is to be no body. */
bool transfer_is_cut_short(const struct transfer *t)
{
    return t->stream == STREAM_OPEN && t->cut == CUT_NONE && t->reply.length < 0 &&
           !transfer_is_bodyless(t);
}
