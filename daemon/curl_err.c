/* SPDX-License-Identifier: MIT
 *
 * curl_err - see curl_err.h. Called by transfer when a hop ends. Pure, any thread.
 *
 * One row a code. A code listed twice is refused by -Woverride-init, and the static assertion below
 * compares the number of rows with the number of codes, so that none can be missing. Codes newer
 * than the table (a libcurl newer than CODES_KNOWN) become proxy_internal_error at run time.
 */
#include "curl_err.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* 100 CURLE_TOO_LARGE came with 8.6.0, 101 CURLE_ECH_REQUIRED with 8.8.0: by number, so that an
 * older header compiles and a newer library is understood. 34, 41 and others were renamed OBSOLETE
 * later. */
#define CODE_TABLE(X) \
    X(CURLE_OK, ERR_NONE) \
    X(CURLE_UNSUPPORTED_PROTOCOL, ERR_HTTP_PROTOCOL_ERROR) /* also HTTP/0.9 */ \
    X(CURLE_FAILED_INIT, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_URL_MALFORMAT, ERR_URL_INVALID) \
    X(CURLE_NOT_BUILT_IN, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_COULDNT_RESOLVE_PROXY, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_COULDNT_RESOLVE_HOST, ERR_DNS_ERROR) \
    X(CURLE_COULDNT_CONNECT, ERR_CONNECTION_REFUSED) \
    X(CURLE_WEIRD_SERVER_REPLY, ERR_HTTP_PROTOCOL_ERROR) \
    X(CURLE_REMOTE_ACCESS_DENIED, ERR_HTTP_PROTOCOL_ERROR) \
    X(10 /* FTP_ACCEPT_FAILED */, ERR_PROXY_INTERNAL_ERROR) \
    X(11 /* FTP_WEIRD_PASS_REPLY */, ERR_PROXY_INTERNAL_ERROR) \
    X(12 /* FTP_ACCEPT_TIMEOUT */, ERR_PROXY_INTERNAL_ERROR) \
    X(13 /* FTP_WEIRD_PASV_REPLY */, ERR_PROXY_INTERNAL_ERROR) \
    X(14 /* FTP_WEIRD_227_FORMAT */, ERR_PROXY_INTERNAL_ERROR) \
    X(15 /* FTP_CANT_GET_HOST */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_HTTP2, ERR_HTTP_PROTOCOL_ERROR) \
    X(17 /* FTP_COULDNT_SET_TYPE */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_PARTIAL_FILE, ERR_HTTP_RESPONSE_INCOMPLETE) \
    X(19 /* FTP_COULDNT_RETR_FILE */, ERR_PROXY_INTERNAL_ERROR) \
    X(20 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(21 /* QUOTE_ERROR */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_HTTP_RETURNED_ERROR, ERR_HTTP_PROTOCOL_ERROR) \
    X(CURLE_WRITE_ERROR, ERR_HTTP_RESPONSE_CONTENT_CODING) \
    X(24 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_UPLOAD_FAILED, ERR_CONNECTION_TERMINATED) \
    X(CURLE_READ_ERROR, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_OUT_OF_MEMORY, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_OPERATION_TIMEDOUT, ERR_HTTP_RESPONSE_TIMEOUT) \
    X(29 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(30 /* FTP_PORT_FAILED */, ERR_PROXY_INTERNAL_ERROR) \
    X(31 /* FTP_COULDNT_USE_REST */, ERR_PROXY_INTERNAL_ERROR) \
    X(32 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_RANGE_ERROR, ERR_HTTP_PROTOCOL_ERROR) \
    X(34 /* HTTP_POST_ERROR */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_CONNECT_ERROR, ERR_TLS_PROTOCOL_ERROR) \
    X(36 /* BAD_DOWNLOAD_RESUME */, ERR_PROXY_INTERNAL_ERROR) \
    X(37 /* FILE_COULDNT_READ_FILE */, ERR_PROXY_INTERNAL_ERROR) \
    X(38 /* LDAP_CANNOT_BIND */, ERR_PROXY_INTERNAL_ERROR) \
    X(39 /* LDAP_SEARCH_FAILED */, ERR_PROXY_INTERNAL_ERROR) \
    X(40 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(41 /* FUNCTION_NOT_FOUND */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_ABORTED_BY_CALLBACK, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_BAD_FUNCTION_ARGUMENT, ERR_PROXY_INTERNAL_ERROR) \
    X(44 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_INTERFACE_FAILED, ERR_PROXY_INTERNAL_ERROR) \
    X(46 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_TOO_MANY_REDIRECTS, ERR_TOO_MANY_REDIRECTS) \
    X(CURLE_UNKNOWN_OPTION, ERR_PROXY_INTERNAL_ERROR) \
    X(49 /* SETOPT_OPTION_SYNTAX */, ERR_PROXY_INTERNAL_ERROR) \
    X(50 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(51 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_GOT_NOTHING, ERR_CONNECTION_TERMINATED) \
    X(CURLE_SSL_ENGINE_NOTFOUND, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_ENGINE_SETFAILED, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SEND_ERROR, ERR_CONNECTION_TERMINATED) \
    X(CURLE_RECV_ERROR, ERR_CONNECTION_TERMINATED) \
    X(57 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_CERTPROBLEM, ERR_TLS_CERTIFICATE_ERROR) \
    X(CURLE_SSL_CIPHER, ERR_TLS_PROTOCOL_ERROR) \
    X(CURLE_PEER_FAILED_VERIFICATION, ERR_TLS_CERTIFICATE_ERROR) \
    X(CURLE_BAD_CONTENT_ENCODING, ERR_HTTP_RESPONSE_CONTENT_CODING) \
    X(62 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_FILESIZE_EXCEEDED, ERR_HTTP_PROTOCOL_ERROR) /* a length past 2^63 */ \
    X(64 /* USE_SSL_FAILED */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SEND_FAIL_REWIND, ERR_CONNECTION_TERMINATED) \
    X(CURLE_SSL_ENGINE_INITFAILED, ERR_PROXY_INTERNAL_ERROR) \
    X(67 /* LOGIN_DENIED */, ERR_PROXY_INTERNAL_ERROR) \
    X(68 /* TFTP_NOTFOUND */, ERR_PROXY_INTERNAL_ERROR) \
    X(69 /* TFTP_PERM */, ERR_PROXY_INTERNAL_ERROR) \
    X(70 /* REMOTE_DISK_FULL */, ERR_PROXY_INTERNAL_ERROR) \
    X(71 /* TFTP_ILLEGAL */, ERR_PROXY_INTERNAL_ERROR) \
    X(72 /* TFTP_UNKNOWNID */, ERR_PROXY_INTERNAL_ERROR) \
    X(73 /* REMOTE_FILE_EXISTS */, ERR_PROXY_INTERNAL_ERROR) \
    X(74 /* TFTP_NOSUCHUSER */, ERR_PROXY_INTERNAL_ERROR) \
    X(75 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(76 /* obsolete */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_CACERT_BADFILE, ERR_PROXY_INTERNAL_ERROR) \
    X(78 /* REMOTE_FILE_NOT_FOUND */, ERR_PROXY_INTERNAL_ERROR) \
    X(79 /* SSH */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_SHUTDOWN_FAILED, ERR_TLS_PROTOCOL_ERROR) \
    X(CURLE_AGAIN, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_CRL_BADFILE, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_ISSUER_ERROR, ERR_TLS_CERTIFICATE_ERROR) \
    X(84 /* FTP_PRET_FAILED */, ERR_PROXY_INTERNAL_ERROR) \
    X(85 /* RTSP_CSEQ_ERROR */, ERR_PROXY_INTERNAL_ERROR) \
    X(86 /* RTSP_SESSION_ERROR */, ERR_PROXY_INTERNAL_ERROR) \
    X(87 /* FTP_BAD_FILE_LIST */, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_CHUNK_FAILED, ERR_HTTP_PROTOCOL_ERROR) \
    X(CURLE_NO_CONNECTION_AVAILABLE, ERR_DESTINATION_UNAVAILABLE) \
    X(CURLE_SSL_PINNEDPUBKEYNOTMATCH, ERR_TLS_CERTIFICATE_ERROR) \
    X(CURLE_SSL_INVALIDCERTSTATUS, ERR_TLS_CERTIFICATE_ERROR) \
    X(CURLE_HTTP2_STREAM, ERR_HTTP_PROTOCOL_ERROR) \
    X(CURLE_RECURSIVE_API_CALL, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_AUTH_ERROR, ERR_HTTP_PROTOCOL_ERROR) \
    X(CURLE_HTTP3, ERR_HTTP_PROTOCOL_ERROR) \
    X(CURLE_QUIC_CONNECT_ERROR, ERR_DESTINATION_UNAVAILABLE) \
    X(CURLE_PROXY, ERR_PROXY_INTERNAL_ERROR) \
    X(CURLE_SSL_CLIENTCERT, ERR_TLS_CERTIFICATE_ERROR) \
    X(CURLE_UNRECOVERABLE_POLL, ERR_PROXY_INTERNAL_ERROR) \
    X(100 /* TOO_LARGE */, ERR_HTTP_RESPONSE_HEADER_SECTION_SIZE) \
    X(101 /* ECH_REQUIRED */, ERR_TLS_PROTOCOL_ERROR)

#define CODES_KNOWN 102

static const uint8_t code_types[CODES_KNOWN] = {
#define X(code, type) [code] = type,
    CODE_TABLE(X)
#undef X
};

#define X(code, type) +1
_Static_assert(0 CODE_TABLE(X) == CODES_KNOWN, "every CURLcode has exactly one row");
#undef X
#if LIBCURL_VERSION_NUM < 0x080f00
_Static_assert(CURL_LAST <= CODES_KNOWN, "this libcurl has codes that the table lacks");
#endif

static enum err_type connect_error(int os_errno)
{
    switch (os_errno) {
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EACCES:
    case EPERM:
        return ERR_DESTINATION_IP_UNROUTABLE;
    case ETIMEDOUT:
        return ERR_CONNECTION_TIMEOUT;
    case ECONNRESET:
        return ERR_CONNECTION_TERMINATED;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return ERR_PROXY_INTERNAL_ERROR;
    default:
        return ERR_CONNECTION_REFUSED;
    }
}

static bool says(const struct curl_err_facts *facts, const char *words)
{
    return strstr(facts->message, words) != NULL;
}

/* The upstream ended it without a fault of its own making in what came before. */
static enum err_type given_up(const struct curl_err_facts *facts)
{
    return facts->phase == PHASE_RECEIVE ? ERR_HTTP_RESPONSE_INCOMPLETE : ERR_CONNECTION_TERMINATED;
}

/* Reading failed. Where no system call did, what was read was no good; but of a refused HTTP/2
 * stream libcurl says nothing, or how often it tried. */
static enum err_type read_error(const struct curl_err_facts *facts)
{
    if (facts->lost)
        return facts->os_errno == 0 ? given_up(facts) : ERR_CONNECTION_TERMINATED;
    if (says(facts, "SSL"))
        return ERR_TLS_PROTOCOL_ERROR;
    if (says(facts, "Connection died") || (facts->http2 && facts->message[0] == '\0'))
        return given_up(facts);
    return ERR_HTTP_PROTOCOL_ERROR;
}

/* The codes of RST_STREAM by which an upstream gives up: NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM,
 * CANCEL, ENHANCE_YOUR_CALM. The others say that somebody broke the protocol. libcurl 7.88 says
 * nothing where it goes on sending a body and the stream has ended, answered and without an error:
 * that answer is lost. */
static enum err_type stream_error(const struct curl_err_facts *facts)
{
    if (facts->message[0] == '\0' && !facts->mute)
        return given_up(facts);
    static const char *const words[] = {"closed cleanly, but", "(err 0)", "(err 2)",
                                        "(err 7)",             "(err 8)", "(err 11)"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (says(facts, words[i]))
            return given_up(facts);
    return ERR_HTTP_PROTOCOL_ERROR;
}

/* Once a request is on its way some codes mean more than one thing. */
static enum err_type answer_error(CURLcode code, const struct curl_err_facts *facts)
{
    switch (code) {
    case CURLE_OUT_OF_MEMORY:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        return facts->phase > PHASE_SEND ? ERR_HTTP_PROTOCOL_ERROR : ERR_PROXY_INTERNAL_ERROR;
    case CURLE_RECV_ERROR:
        return read_error(facts);
    case CURLE_HTTP2_STREAM:
        return stream_error(facts);
    case CURLE_HTTP2: /* with words: bad frames; without: the connection ended, also by GOAWAY */
        return facts->message[0] == '\0' ? given_up(facts) : ERR_HTTP_PROTOCOL_ERROR;
    case CURLE_PARTIAL_FILE:
        return given_up(facts);
    default:
        return (enum err_type)code_types[code];
    }
}

/* The handshake failed: by what was said in it, or because the other side left. What a write that
 * failed says stands in the message alone, unless it was reset before it could be asked for its
 * address: only the first message is written. */
static enum err_type handshake_error(const struct curl_err_facts *facts)
{
    static const char unsent[] = "Send failure:", unnamed[] = "getpeername() failed";
    bool lost = facts->lost || strncmp(facts->message, unsent, sizeof unsent - 1) == 0 ||
                strncmp(facts->message, unnamed, sizeof unnamed - 1) == 0;
    return lost ? ERR_CONNECTION_TERMINATED : ERR_TLS_PROTOCOL_ERROR;
}

enum err_type curl_err_type(CURLcode code, const struct curl_err_facts *facts)
{
    const enum phase phase = facts->phase;
    if ((unsigned)code >= CODES_KNOWN)
        return ERR_PROXY_INTERNAL_ERROR;
    if (code == CURLE_COULDNT_CONNECT)
        return connect_error(facts->os_errno);
    if (code == CURLE_OPERATION_TIMEDOUT && phase <= PHASE_TLS)
        return phase == PHASE_DNS ? ERR_DNS_TIMEOUT : ERR_CONNECTION_TIMEOUT;
    if (code == CURLE_SSL_CONNECT_ERROR)
        return handshake_error(facts);
    if (phase >= PHASE_SEND)
        return answer_error(code, facts);
    return (enum err_type)code_types[code];
}
