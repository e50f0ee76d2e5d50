/* SPDX-License-Identifier: MIT
 *
 * curl_options - see curl_options.h. Called by transfer when a handle is readied, on the loop's
 * thread.
 *
 * Two of them are worth more than all the rest: without CAPATH = NULL libcurl parses the CA bundle
 * anew for each TLS connection (19 ms), and without QUICK_EXIT it may wait for a look-up when it is
 * freed.
 */
#include "curl_options.h"

/* libcurl's own 16 KB cost 1.25 times the CPU of the curl tool for 100 MB (it uses 100 KB), this
 * 0.9 times, and 1.5 times the throughput. Memory is touched as far as a read fills it: 5,000 slow
 * transfers take 15 KB each with either; 7.88 allocates it for each running transfer, 8.14 has one
 * for all. */
#define BUFFER_BYTES 65536L

void curl_options_set(CURL *easy, const struct curl_options *o)
{
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* not from the environment either */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    if (o->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, o->ca_file);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, o->user_agent);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, o->max_age_s);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, o->connect_timeout_ms);
}
