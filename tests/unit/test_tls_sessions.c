/* SPDX-License-Identifier: MIT
 *
 * tls_sessions: who resumes what, TLS 1.2 and 1.3, against a server within the process: both ends
 * are OpenSSL and talk through memory.
 */
#include <string.h>

#include "tls_sessions.h"

#include "tls_fixture.h"

struct server {
    SSL_CTX *ctx;
    int version;
};

static struct server make_server(int version)
{
    struct server server = {SSL_CTX_new(TLS_server_method()), version};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_certificate("server", key, "server", key);
    assert_int_equal(SSL_CTX_use_certificate(server.ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server.ctx, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
    return server;
}

static struct origin origin(const char *key)
{
    return (struct origin){.key = key, .key_len = (uint16_t)strlen(key), .https = true};
}

/* A connection: both ends, after their handshake. */
struct link {
    SSL_CTX *ctx;
    SSL *client, *server;
    bool resumed;
};

static void step(SSL *ssl)
{
    char byte;
    if (SSL_is_init_finished(ssl))
        SSL_read(ssl, &byte, 1); /* takes the tickets */
    else
        SSL_do_handshake(ssl);
}

/* As libcurl does it: the cache is attached to the SSL_CTX, then the SSL is made. */
static struct link begin(struct tls_sessions *s, struct server *server, const char *key)
{
    const struct origin to = origin(key);
    struct link l = {.ctx = SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_min_proto_version(l.ctx, server->version);
    SSL_CTX_set_max_proto_version(l.ctx, server->version);
    tls_sessions_attach(s, l.ctx, &to);
    l.client = SSL_new(l.ctx);
    l.server = SSL_new(server->ctx);
    SSL_set_connect_state(l.client);
    SSL_set_accept_state(l.server);
    tls_join(l.client, l.server);
    return l;
}

static void shake_hands(struct link *l)
{
    for (int i = 0; i < 6; i++) {
        step(l->client);
        step(l->server);
    }
    assert_true(SSL_is_init_finished(l->client) && SSL_is_init_finished(l->server));
    l->resumed = SSL_session_reused(l->client) == 1;
}

static void end(struct link *l)
{
    SSL_shutdown(l->client);
    SSL_free(l->client);
    SSL_free(l->server);
    SSL_CTX_free(l->ctx);
}

/* One connection from its beginning to its end; whether it resumed. */
static bool connect_once(struct tls_sessions *s, struct server *server, const char *key)
{
    struct link l = begin(s, server, key);
    shake_hands(&l);
    end(&l);
    return l.resumed;
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

#define FOR_EACH_VERSION(server)                                                              \
    for (size_t v_ = 0; v_ < 2; v_++)                                                         \
        for (struct server server = make_server(versions[v_]); server.ctx != NULL;            \
             SSL_CTX_free(server.ctx), server.ctx = NULL)

static void test_resumes(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        assert_false(connect_once(s, &server, "https://a:443"));
        assert_int_equal(tls_sessions_count(s), 1);
        for (int i = 0; i < 5; i++)
            assert_true(connect_once(s, &server, "https://a:443"));
        assert_int_equal(tls_sessions_count(s), 1);
        tls_sessions_destroy(s);
    }
}

static void test_several_at_once(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        struct link l[5];
        connect_once(s, &server, "https://a:443");
        for (int i = 0; i < 5; i++)
            l[i] = begin(s, &server, "https://a:443");
        for (int i = 0; i < 5; i++)
            shake_hands(&l[i]);
        for (int i = 0; i < 5; i++) {
            assert_true(l[i].resumed);
            end(&l[i]);
        }
        assert_int_equal(tls_sessions_count(s), 1);
        tls_sessions_destroy(s);
    }
}

/* One has shaken hands and read nothing yet, so that no new ticket is there. */
static void test_between_use_and_new_ticket(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        connect_once(s, &server, "https://a:443");
        struct link first = begin(s, &server, "https://a:443");
        while (!SSL_is_init_finished(first.client)) {
            SSL_do_handshake(first.client);
            SSL_do_handshake(first.server);
        }
        assert_true(connect_once(s, &server, "https://a:443"));
        end(&first);
        tls_sessions_destroy(s);
    }
}

/* The server would take it: only the key tells them apart. */
static void test_not_another_origin_s(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        connect_once(s, &server, "https://a:443");
        assert_false(connect_once(s, &server, "https://a:444"));
        assert_false(connect_once(s, &server, "https://b:443"));
        assert_false(connect_once(s, &server, "https://a:44"));
        assert_int_equal(tls_sessions_count(s), 4);
        tls_sessions_destroy(s);
    }
}

static void test_those_used_last_are_kept(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(2);
        connect_once(s, &server, "https://a:443");
        connect_once(s, &server, "https://b:443");
        assert_true(connect_once(s, &server, "https://a:443"));
        connect_once(s, &server, "https://c:443"); /* in b's place */
        assert_int_equal(tls_sessions_count(s), 2);
        assert_true(connect_once(s, &server, "https://a:443"));
        assert_true(connect_once(s, &server, "https://c:443"));
        assert_false(connect_once(s, &server, "https://b:443"));
        assert_int_equal(tls_sessions_count(s), 2);
        tls_sessions_destroy(s);
    }
}

static void test_forget(void **state)
{
    (void)state;
    const struct origin a = origin("https://a:443"), b = origin("https://b:443");
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        connect_once(s, &server, a.key);
        tls_sessions_forget(s, &b);
        assert_true(connect_once(s, &server, a.key));
        tls_sessions_forget(s, &a);
        tls_sessions_forget(s, &a);
        assert_int_equal(tls_sessions_count(s), 0);
        assert_false(connect_once(s, &server, a.key));
        assert_true(connect_once(s, &server, a.key));
        tls_sessions_destroy(s);
    }
}

/* What was verified before does not come back with a connection that still stands. */
static void test_clear_while_connected(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        struct link with = begin(s, &server, "https://a:443");
        struct link without = begin(s, &server, "https://b:443");
        shake_hands(&with);
        tls_sessions_clear(s);
        shake_hands(&without);
        assert_int_equal(tls_sessions_count(s), 0);
        assert_false(connect_once(s, &server, "https://b:443"));
        assert_false(connect_once(s, &server, "https://a:443"));
        end(&with);
        end(&without);
        assert_int_equal(tls_sessions_count(s), 2);
        tls_sessions_destroy(s);
    }
}

static void test_connections_outlive_the_cache(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        connect_once(s, &server, "https://a:443");
        struct link resumes = begin(s, &server, "https://a:443");
        struct link stands = begin(s, &server, "https://b:443");
        shake_hands(&stands);
        tls_sessions_destroy(s);
        shake_hands(&resumes);
        assert_false(resumes.resumed);
        end(&resumes);
        end(&stands);
    }
    tls_sessions_destroy(NULL);
}

static int chain_length(struct tls_sessions *s, struct server *server)
{
    struct link l = begin(s, server, "https://a:443");
    shake_hands(&l);
    assert_true(l.resumed);
    int n = sk_X509_num(SSL_get_peer_cert_chain(l.client)); /* of the session: none was sent */
    end(&l);
    return n;
}

static void send_more(struct server *server)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_certificate("more", key, "more", key);
    assert_int_equal(SSL_CTX_add_extra_chain_cert(server->ctx, x), 1);
    EVP_PKEY_free(key);
}

/* What is signed by nobody is not kept, however short; the session is. */
static void test_certificates_for_nothing(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        connect_once(s, &server, "https://a:443");
        assert_int_equal(chain_length(s, &server), 1);
        tls_sessions_clear(s);
        send_more(&server);
        connect_once(s, &server, "https://a:443");
        for (int i = 0; i < 3; i++)
            assert_int_equal(chain_length(s, &server), -1);
        tls_sessions_destroy(s);
    }
}

/* Its own certificate, of so many bytes and more. */
static void serve_long(struct server *server, int bytes)
{
    static const unsigned char serial[8192] = {1};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_certificate("server", key, "server", key);
    assert_int_equal(ASN1_STRING_set(X509_get_serialNumber(x), serial, bytes), 1);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(server->ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server->ctx, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
}

/* Long ones are kept without, those that are too long without that are not. */
static void test_long_certificates(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        serve_long(&server, 4096);
        connect_once(s, &server, "https://a:443");
        assert_int_equal(chain_length(s, &server), -1);
        tls_sessions_clear(s);
        serve_long(&server, 8192);
        connect_once(s, &server, "https://a:443");
        assert_int_equal(tls_sessions_count(s), 0);
        assert_false(connect_once(s, &server, "https://a:443"));
        tls_sessions_destroy(s);
    }
}

/* How many sessions there are after one more ticket on a connection, the others being forgotten. */
static size_t after_a_ticket(struct tls_sessions *s, struct server *server)
{
    const struct origin a = origin("https://a:443");
    struct link l = begin(s, server, a.key);
    shake_hands(&l);
    assert_int_equal(tls_sessions_count(s), 1);
    tls_sessions_forget(s, &a);
    assert_int_equal(SSL_new_session_ticket(l.server), 1);
    assert_int_equal(SSL_do_handshake(l.server), 1);
    step(l.client);
    size_t count = tls_sessions_count(s);
    end(&l);
    return count;
}

/* The chain is taken out once, however many tickets come. */
static void test_many_tickets(void **state)
{
    (void)state;
    struct server server = make_server(TLS1_3_VERSION);
    struct tls_sessions *s = tls_sessions_create(4);
    assert_int_equal(after_a_ticket(s, &server), 1);
    tls_sessions_clear(s);
    send_more(&server);
    assert_int_equal(after_a_ticket(s, &server), 0);
    connect_once(s, &server, "https://a:443");
    assert_int_equal(after_a_ticket(s, &server), 1); /* resumed: there is none to take out */
    tls_sessions_destroy(s);
    SSL_CTX_free(server.ctx);
}

static int on_ticket(SSL *ssl, void *arg)
{
    static const unsigned char data[8192];
    (void)arg;
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), data, sizeof data);
}

static SSL_TICKET_RETURN on_ticket_back(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                        size_t length, SSL_TICKET_STATUS status, void *arg)
{
    (void)ssl;
    (void)session;
    (void)name;
    (void)length;
    (void)arg;
    bool good = status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW;
    return good ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
}

/* Also when it comes with a connection that was resumed: what was kept stays. */
static void test_long_tickets(void **state)
{
    (void)state;
    FOR_EACH_VERSION(server) {
        struct tls_sessions *s = tls_sessions_create(4);
        connect_once(s, &server, "https://a:443");
        SSL_CTX_set_session_ticket_cb(server.ctx, on_ticket, on_ticket_back, NULL);
        for (int i = 0; i < 2; i++)
            assert_true(connect_once(s, &server, "https://a:443"));
        assert_false(connect_once(s, &server, "https://b:443"));
        assert_int_equal(tls_sessions_count(s), 1);
        tls_sessions_destroy(s);
    }
}

/* OpenSSL keeps an index of extra data for ever, and each SSL_CTX has room for all of them. */
static void test_one_index(void **state)
{
    (void)state;
    tls_sessions_destroy(tls_sessions_create(4));
    int before = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    for (int i = 0; i < 10; i++)
        tls_sessions_destroy(tls_sessions_create(4));
    assert_int_equal(SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_several_at_once),
        cmocka_unit_test(test_between_use_and_new_ticket),
        cmocka_unit_test(test_not_another_origin_s),
        cmocka_unit_test(test_those_used_last_are_kept),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_clear_while_connected),
        cmocka_unit_test(test_connections_outlive_the_cache),
        cmocka_unit_test(test_certificates_for_nothing),
        cmocka_unit_test(test_long_certificates),
        cmocka_unit_test(test_many_tickets),
        cmocka_unit_test(test_long_tickets),
        cmocka_unit_test(test_one_index),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
