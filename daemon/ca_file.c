/* SPDX-License-Identifier: MIT
 *
 * ca_file - see ca_file.h. Called by access at start, at a reload and for -t, and by transfer
 * before a connection that libcurl may read the file for. Owns nothing.
 *
 * The file is read by the function that libcurl has it read by, so the verdict is the same: one bad
 * certificate, and none is taken.
 */
#include "ca_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static int count_certificates(const STACK_OF(X509_INFO) *items)
{
    int count = 0;
    for (int i = 0; i < sk_X509_INFO_num(items); i++)
        count += sk_X509_INFO_value(items, i)->x509 != NULL;
    return count;
}

static bool read_certificates(FILE *file, const char *path, struct buf *errors)
{
    BIO *bio = BIO_new_fp(file, BIO_NOCLOSE);
    ERR_clear_error();
    STACK_OF(X509_INFO) *items = bio != NULL ? PEM_X509_INFO_read_bio(bio, NULL, NULL, "") : NULL;
    int count = items != NULL ? count_certificates(items) : 0;
    const char *why = ERR_reason_error_string(ERR_peek_error());
    if (items == NULL)
        buf_printf(errors,
                   "fetch.ca_file: %s: a certificate in it cannot be read (%s); take it out or "
                   "write it anew, in PEM\n",
                   path, why != NULL ? why : "out of memory");
    else if (count == 0)
        buf_printf(errors,
                   "fetch.ca_file: %s: holds no certificate; write those of the authorities into "
                   "it, in PEM (-----BEGIN CERTIFICATE-----)\n",
                   path);
    sk_X509_INFO_pop_free(items, X509_INFO_free);
    BIO_free(bio);
    ERR_clear_error();
    return count > 0;
}

static FILE *open_regular(const char *path, struct buf *errors)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        buf_printf(errors,
                   "fetch.ca_file: %s: is no regular file; name a file with the authorities' "
                   "certificates, in PEM\n",
                   path);
        close(fd);
        return NULL;
    }
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (file != NULL)
        return file;
    buf_printf(errors, "fetch.ca_file: %s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return NULL;
}

bool ca_file_check(const char *path, struct buf *errors)
{
    if (path == NULL || path[0] == '\0')
        return true;
    FILE *file = open_regular(path, errors);
    bool good = file != NULL && read_certificates(file, path, errors);
    if (file != NULL)
        fclose(file);
    return good;
}

bool ca_file_opens(const char *path)
{
    struct stat st;
    return path == NULL || path[0] == '\0' || stat(path, &st) != 0 || S_ISREG(st.st_mode);
}
