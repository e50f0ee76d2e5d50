/* SPDX-License-Identifier: MIT
 *
 * transfer_answer - the answer of a hop as it comes in: head, trailers and body, with their caps.
 * Private to transfer.
 */
#ifndef GATHERD_TRANSFER_ANSWER_H
#define GATHERD_TRANSFER_ANSWER_H

#include "transfer.h"

/* Nothing has come yet; the hop's result is set, and loses the header fields of an earlier hop. */
void transfer_answer_begin(struct transfer *t);

/* Sets the callbacks after curl_easy_reset(). */
void transfer_set_answer_callbacks(struct transfer *t);

/* Whether its answer has no body, whatever the head says of one. Its head has come. */
bool transfer_is_bodyless(const struct transfer *t);

/* Frees what it made of the answer and keeps outside of the result. */
void transfer_answer_free(struct transfer *t);

#endif
