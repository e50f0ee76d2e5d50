/* SPDX-License-Identifier: MIT
 *
 * curl_options - the options that every transfer of gatherd has, whatever it fetches. In one place,
 * so that the benchmark's limit (tests/bench/limit.c) measures the same libcurl that users run.
 * Pure.
 */
#ifndef GATHERD_CURL_OPTIONS_H
#define GATHERD_CURL_OPTIONS_H

#include <curl/curl.h>

struct curl_options {
    const char *ca_file;    /* NULL = libcurl's built-in bundle */
    const char *user_agent; /* NULL = none is sent */
    long max_age_s;         /* a kept connection older than this is not used again */
    long connect_timeout_ms; /* only lifts libcurl's own 300 s: the engine's runs first */
};

/* For a handle that is new or was reset. Strings are copied by libcurl. */
void curl_options_set(CURL *easy, const struct curl_options *o);

#endif
