/* SPDX-License-Identifier: MIT
 *
 * ca_file - whether the file of the authorities that TLS servers are checked against can be used.
 *
 * libcurl reads it itself, with the first connection of each kind, and says only then that it could
 * not; or it waits in that, and the loop with it, until somebody writes into a FIFO. Any thread.
 */
#ifndef GATHERD_CA_FILE_H
#define GATHERD_CA_FILE_H

#include <stdbool.h>

#include "buf.h"

/* True when it is a regular file with one certificate or more that can all be read; NULL and "",
 * the system's, are not looked at. Else false with a line in *errors. 0.2 ms a certificate. */
bool ca_file_check(const char *path, struct buf *errors);

/* False when it is there and no regular file: opening it could hold the caller up. One stat(2). */
bool ca_file_opens(const char *path);

#endif
