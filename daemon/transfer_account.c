/* SPDX-License-Identifier: MIT
 *
 * transfer_account - what a hop's marks, callbacks and libcurl's own figures amount to: phases,
 * sizes, the connection. Called by fetch when a hop ends or is looked at by a deadline, on the
 * loop's thread.
 */
#include "transfer.h"

#include "clock.h"

static int64_t info_us(const struct transfer *t, CURLINFO info)
{
    curl_off_t v = 0;
    curl_easy_getinfo(t->easy, info, &v);
    return (int64_t)v;
}

bool transfer_opened(const struct transfer *t)
{
    return t->connects > 0;
}

bool transfer_connected(const struct transfer *t)
{
    return t->ready_us != TIME_NULL || t->sends > 0;
}

/* The phase a running hop is in. */
static enum phase phase_of(const struct transfer *t)
{
    if (!t->added)
        return PHASE_DNS;
    if (t->marks.first_byte != TIME_NULL)
        return PHASE_RECEIVE;
    if (t->ready_us == TIME_NULL)
        return t->tls_us != TIME_NULL ? PHASE_TLS : PHASE_CONNECT;
    if (t->send_body && t->opts->body_len > 0 && t->body_sent_us == TIME_NULL)
        return PHASE_SEND;
    return PHASE_WAIT;
}

static void mark_connection(struct transfer *t)
{
    if (t->opened_us == TIME_NULL) {
        /* parked until another hop's connection could be shared: that was the connecting */
        const struct hop_marks *m = &t->marks;
        const int64_t named = m->dns_end != TIME_NULL ? m->dns_end : m->dispatched;
        if (t->multiplex && t->ready_us - named > US_PER_MS)
            t->marks.connect_end = t->ready_us;
    } else if (t->tls_us != TIME_NULL) {
        t->marks.connect_end = t->tls_us;
        t->marks.tls_end = t->ready_us;
    } else {
        t->marks.connect_end = t->ready_us;
    }
}

static int64_t max3(int64_t a, int64_t b, int64_t c)
{
    int64_t ab = a > b ? a : b;
    return ab > c ? ab : c;
}

static void mark_sending(struct transfer *t)
{
    if (t->ready_us == TIME_NULL)
        return;
    if (t->send_body && t->opts->body_len > 0) {
        t->marks.send_end = t->body_sent_us;
    } else {
        int64_t ready = max3(info_us(t, CURLINFO_NAMELOOKUP_TIME_T),
                             info_us(t, CURLINFO_CONNECT_TIME_T),
                             info_us(t, CURLINFO_APPCONNECT_TIME_T));
        int64_t sent = info_us(t, CURLINFO_PRETRANSFER_TIME_T);
        t->marks.send_end = t->ready_us + (sent > ready ? sent - ready : 0);
    }
    bool heard_first = t->marks.first_byte != TIME_NULL &&
                       (t->marks.send_end == TIME_NULL || t->marks.send_end > t->marks.first_byte);
    if (heard_first)
        t->marks.send_end = t->marks.first_byte;
}

void transfer_note_upload(struct transfer *t, int64_t bytes)
{
    if (t->uploaded < bytes) /* it forgets the last sending's before the next one begins */
        t->uploaded = bytes;
}

static void add_sizes(struct transfer *t, struct result_sizes *sizes)
{
    long request = 0, header = 0;
    curl_easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &request);
    curl_easy_getinfo(t->easy, CURLINFO_HEADER_SIZE, &header);
    int64_t download = info_us(t, CURLINFO_SIZE_DOWNLOAD_T);
    /* libcurl forgets what it read last when that ends the transfer: of chunks, which it counts
     * when they were taken, and in later versions of any body */
    if ((t->reply.chunked || download == 0) && download < t->arrived)
        download = t->arrived;
    if (t->reply.codings == 0 && download < t->delivered)
        download = t->delivered;
    sizes->request += request;
    sizes->header += header > t->head_bytes ? header : t->head_bytes;
    if (t->send_body) {
        transfer_note_upload(t, info_us(t, CURLINFO_SIZE_UPLOAD_T));
        sizes->upload += t->uploaded_before + t->uploaded;
    }
    sizes->download += download;
    sizes->delivered += t->delivered;
}

static uint8_t http_version_of(const struct transfer *t)
{
    long version = 0;
    if (t->cut == CUT_VERSION)
        return 0;
    curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
    switch (version) {
    case CURL_HTTP_VERSION_1_0:
        return 10;
    case CURL_HTTP_VERSION_1_1:
        return 11;
    case CURL_HTTP_VERSION_2_0:
        return 20;
    case CURL_HTTP_VERSION_3:
        return 30;
    default:
        return 0;
    }
}

static void note_curl_marks(struct transfer *t, struct result_extra *x)
{
    struct result_curl *c = &x->curl;
    char *local = NULL;
    long port = 0, connects = 0;
    x->has_curl = true;
    c->namelookup = info_us(t, CURLINFO_NAMELOOKUP_TIME_T);
    c->connect = info_us(t, CURLINFO_CONNECT_TIME_T);
    c->appconnect = info_us(t, CURLINFO_APPCONNECT_TIME_T);
    c->pretransfer = info_us(t, CURLINFO_PRETRANSFER_TIME_T);
    c->starttransfer = info_us(t, CURLINFO_STARTTRANSFER_TIME_T);
    c->total = info_us(t, CURLINFO_TOTAL_TIME_T);
    curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_getinfo(t->easy, CURLINFO_LOCAL_IP, &local);
    curl_easy_getinfo(t->easy, CURLINFO_LOCAL_PORT, &port);
    c->num_connects = connects;
    c->local_port = (uint16_t)port;
    if (local == NULL || !ip_parse(local, &c->local_ip))
        c->local_ip = (struct ip_addr){0};
}

/* No request was sent: libcurl may know whom it tried to reach. */
static void note_primary(const struct transfer *t)
{
    struct result *r = t->result;
    char *ip = NULL;
    long port = 0;
    curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_IP, &ip);
    curl_easy_getinfo(t->easy, CURLINFO_PRIMARY_PORT, &port);
    if (ip != NULL && ip_parse(ip, &r->remote_ip))
        r->remote_port = (uint16_t)port;
}

/* The connection's far end, and whether it was there before us. */
static void note_connection(struct transfer *t)
{
    struct result *r = t->result;
    if (t->sends > 0) {
        r->remote_ip = t->peer;
        r->remote_port = t->peer_port;
    } else {
        note_primary(t);
    }
    r->num_connects += t->connects;
    if (!transfer_opened(t) && t->sends > 0)
        r->reused = true;
    if (t->sends > 1)
        r->num_retries += t->sends - 1;
}

enum phase transfer_account(struct transfer *t, int64_t end_us)
{
    enum phase last = phase_of(t);
    t->marks.end = end_us;
    if (!t->added) {
        hop_timings(&t->marks, last, &t->result->timings);
        return last;
    }
    mark_connection(t);
    mark_sending(t);
    note_connection(t);
    add_sizes(t, &t->result->sizes);
    if (t->include & INCLUDE_CURL)
        note_curl_marks(t, t->result->extra);
    if (t->marks.first_byte != TIME_NULL) {
        t->result->http_version = http_version_of(t);
        t->result->status = t->status;
    }
    hop_timings(&t->marks, last, &t->result->timings);
    return last;
}
