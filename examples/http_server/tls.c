/* SPDX-License-Identifier: MIT */
/*
 * TLS between two memory BIOs: what the socket brings is written to one and read from OpenSSL, what
 * OpenSSL writes to the other goes to the socket. The filter never waits and keeps no more than one
 * received piece and the record that is not whole yet.
 *
 * Sending moves into the kernel once a TLS 1.3 connection with AES-GCM has nothing waiting: the
 * records sent until then are counted, as the kernel has to go on with the next number. It is a
 * saving, so whatever speaks against it (no module, another cipher) just leaves things as they are.
 *
 * Thread rule: a context is any thread's, a connection its loop's.
 */
#include "tls.h"

#include "tls_kernel.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES 16384
#define RECORD_HEADER 5u
/* Received and not read: a piece of a paused connection; more is nobody we know. */
#define INPUT_MAX (1 << 20)

struct tls_context {
    SSL_CTX *ssl;
    atomic_bool kernel_absent; /* it was refused once: not asked again */
    struct tls_counters counters;
};

struct tls_conn {
    struct tls_context *context;
    SSL *ssl;
    BIO *in, *out; /* of `ssl` */
    void (*on_end)(numaperf_conn_t *conn);
    bool open;      /* the handshake is over */
    bool peer_done; /* close_notify was received */
    bool failed;
    bool in_kernel;  /* sending is */
    bool replacing;  /* the filter is, by its successor */
    bool has_secret; /* `sending` counts */
    bool counts;     /* what goes out now goes out under that secret */
    struct tls_sending sending;
};

static void count(atomic_ullong *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- context ---- */

/* NOLINTNEXTLINE(readability-function-size): OpenSSL calls it so */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *offered, unsigned offered_length, void *data)
{
    (void)ssl;
    (void)data;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_length, ours, sizeof(ours) - 1, offered,
                              offered_length) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void on_key_log(const SSL *ssl, const char *line)
{
    struct tls_conn *tls = SSL_get_app_data(ssl);
    if (tls != NULL && tls_kernel_read_secret(line, &tls->sending))
        tls->has_secret = true;
}

static bool context_load(SSL_CTX *ssl, const char *certificate, const char *key)
{
    return SSL_CTX_use_certificate_chain_file(ssl, certificate) == 1 &&
           SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) == 1 &&
           SSL_CTX_check_private_key(ssl) == 1;
}

static bool context_configure(SSL_CTX *ssl)
{
    static const unsigned char name[] = "numaperf";
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    /* Tickets alone: a cache would be one lock for all workers. */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
    SSL_CTX_set_keylog_callback(ssl, on_key_log);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_session_id_context(ssl, name, sizeof(name) - 1) == 1;
}

int tls_context_create(const char *certificate, const char *key, char *why, size_t size,
                       struct tls_context **out)
{
    struct tls_context *context = calloc(1, sizeof(*context));
    if (context == NULL) {
        (void)snprintf(why, size, "no memory");
        return -ENOMEM;
    }
    ERR_clear_error();
    context->ssl = SSL_CTX_new(TLS_server_method());
    if (context->ssl == NULL || !context_load(context->ssl, certificate, key) ||
        !context_configure(context->ssl)) {
        char text[200] = "no reason given";
        ERR_error_string_n(ERR_peek_last_error(), text, sizeof(text));
        (void)snprintf(why, size, "%s, %s: %s", certificate, key, text);
        ERR_clear_error();
        tls_context_destroy(context);
        return -EINVAL;
    }
    *out = context;
    return 0;
}

void tls_context_destroy(struct tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

const struct tls_counters *tls_counters(const struct tls_context *context)
{
    return &context->counters;
}

/* ---- to the socket ---- */

static uint64_t records_count(const char *bytes, size_t length)
{
    uint64_t n = 0;
    for (size_t at = 0; at + RECORD_HEADER <= length; n++) {
        size_t record = (size_t)((unsigned char)bytes[at + 3] << 8 | (unsigned char)bytes[at + 4]);
        at += RECORD_HEADER + record;
    }
    return n;
}

/* What OpenSSL has to send; as numaperf_conn_send_raw(). */
static int tls_flush(struct tls_conn *tls, numaperf_conn_t *conn)
{
    char *bytes = NULL;
    long length = BIO_get_mem_data(tls->out, &bytes);
    if (length <= 0)
        return 0;
    /* The kernel has the keys: what OpenSSL says now nobody could read. */
    if (tls->in_kernel)
        return -EPROTO;
    if (tls->counts)
        tls->sending.records += records_count(bytes, (size_t)length);
    else if (tls->has_secret)
        tls->counts = true; /* the secret came with the last words under the one before */
    int rc = numaperf_conn_send_raw(conn, bytes, (size_t)length);
    (void)BIO_reset(tls->out); /* of a memory BIO: cannot fail */
    return rc;
}

/* It cannot go on: say why, if OpenSSL has words for it, and end. */
static void tls_fail(struct tls_conn *tls, numaperf_conn_t *conn)
{
    count(&tls->context->counters.failed);
    tls->failed = true;
    ERR_clear_error();
    if (tls_flush(tls, conn) < 0)
        numaperf_conn_reset(conn, -EPROTO);
    else
        (void)numaperf_conn_finish(conn); /* it is open */
}

/* ---- sending by the kernel ---- */

static int on_received(numaperf_conn_t *conn, const void *bytes, size_t length, void *state);
static int on_received_end(numaperf_conn_t *conn, void *state);
static void on_ending(numaperf_conn_t *conn, void *state);
static void on_removed(void *state);

/* Whether there is a point in trying, now. */
static bool kernel_may(struct tls_conn *tls, numaperf_conn_t *conn)
{
    if (!tls->has_secret || tls->in_kernel ||
        atomic_load_explicit(&tls->context->kernel_absent, memory_order_relaxed))
        return false;
    uint16_t cipher = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(tls->ssl));
    tls->sending.is_256 = cipher == 0x1302;
    if (cipher != 0x1301 && cipher != 0x1302) {
        tls->has_secret = false;
        return false;
    }
    return numaperf_conn_queued_bytes(conn) == 0 && BIO_pending(tls->out) == 0;
}

static bool kernel_try(struct tls_conn *tls, numaperf_conn_t *conn)
{
    if (!kernel_may(tls, conn))
        return false;
    int fd = numaperf_conn_fd(conn);
    int rc = fd >= 0 ? tls_kernel_take_over(fd, &tls->sending) : -EBADF;
    tls->has_secret = false; /* once is enough */
    OPENSSL_cleanse(tls->sending.secret, sizeof(tls->sending.secret));
    if (rc < 0) {
        count(&tls->context->counters.kernel_refused);
        /* No module, or not for this kind of socket: the next one will not fare better. */
        if (rc == -ENOENT || rc == -ENOPROTOOPT || rc == -EOPNOTSUPP)
            atomic_store_explicit(&tls->context->kernel_absent, true, memory_order_relaxed);
        return false;
    }
    numaperf_conn_filter_t filter = NUMAPERF_CONN_FILTER_INIT;
    filter.on_received = on_received;
    filter.on_ending = on_ending;
    filter.on_received_end = on_received_end;
    filter.on_removed = on_removed;
    tls->in_kernel = true;
    tls->replacing = true;
    rc = numaperf_conn_set_filter(conn, &filter, tls);
    tls->replacing = false;
    count(&tls->context->counters.kernel);
    if (rc < 0)
        numaperf_conn_reset(conn, rc); /* it was closed meanwhile */
    return true;
}

/* ---- filter ---- */

static int on_written(numaperf_conn_t *conn, const void *bytes, size_t length, void *state)
{
    struct tls_conn *tls = state;
    if (tls->failed)
        return -EPIPE;
    if (!tls->open)
        return -EAGAIN;
    if (kernel_try(tls, conn))
        return numaperf_conn_send_raw(conn, bytes, length);
    int rc = 0;
    for (size_t at = 0; at < length && rc >= 0;) {
        size_t piece = length - at < RECORD_BYTES ? length - at : RECORD_BYTES;
        size_t taken = 0;
        if (SSL_write_ex(tls->ssl, (const char *)bytes + at, piece, &taken) != 1)
            rc = -EIO;
        else
            rc = tls_flush(tls, conn);
        at += taken;
    }
    /* Half of it is encrypted, and cannot be taken back. */
    if (rc < 0) {
        ERR_clear_error();
        numaperf_conn_reset(conn, rc);
    }
    return rc;
}

/* 1: it is over; 0: it needs more; < 0: it failed, and the connection ends. */
static int tls_shake_hands(struct tls_conn *tls, numaperf_conn_t *conn)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(tls->ssl);
    if (rc != 1) {
        if (SSL_get_error(tls->ssl, rc) != SSL_ERROR_WANT_READ) {
            tls_fail(tls, conn);
            return -EPROTO;
        }
        return tls_flush(tls, conn) < 0 ? -EPROTO : 0;
    }
    tls->open = true;
    count(&tls->context->counters.handshakes);
    if (SSL_session_reused(tls->ssl) == 1)
        count(&tls->context->counters.resumed);
    return tls_flush(tls, conn) < 0 ? -EPROTO : 1;
}

/* Nothing more can be read for now: why. */
static int tls_read_ended(struct tls_conn *tls, numaperf_conn_t *conn, int rc)
{
    int error = SSL_get_error(tls->ssl, rc);
    if (error == SSL_ERROR_ZERO_RETURN) {
        tls->peer_done = true;
        tls->on_end(conn);
    } else if (error != SSL_ERROR_WANT_READ) {
        tls_fail(tls, conn);
    }
    return 0;
}

static int tls_read(struct tls_conn *tls, numaperf_conn_t *conn)
{
    char bytes[RECORD_BYTES];
    while (!tls->peer_done && !tls->failed) {
        ERR_clear_error();
        int n = SSL_read(tls->ssl, bytes, sizeof(bytes));
        if (tls_flush(tls, conn) < 0)
            return -EPROTO; /* a new key of the peer's, with the kernel sending */
        if (n <= 0)
            return tls_read_ended(tls, conn, n);
        if (numaperf_conn_deliver(conn, bytes, (size_t)n) != 0)
            return 0; /* paused or closed; asked again if there is a point */
    }
    return 0;
}

static int on_received(numaperf_conn_t *conn, const void *bytes, size_t length, void *state)
{
    struct tls_conn *tls = state;
    if (tls->failed || tls->peer_done)
        return 0;
    if (length > 0 &&
        (BIO_pending(tls->in) > INPUT_MAX || BIO_write(tls->in, bytes, (int)length) != (int)length))
        return -ENOMEM;
    if (!tls->open && tls_shake_hands(tls, conn) <= 0)
        return 0; /* what failed has ended the connection */
    return tls_read(tls, conn);
}

static int on_received_end(numaperf_conn_t *conn, void *state)
{
    (void)conn;
    struct tls_conn *tls = state;
    if (tls->peer_done || tls->failed)
        return 0;
    count(tls->open ? &tls->context->counters.truncated : &tls->context->counters.failed);
    return -EPROTO;
}

static void on_ending(numaperf_conn_t *conn, void *state)
{
    struct tls_conn *tls = state;
    if (!tls->open || tls->failed)
        return;
    if (tls->in_kernel) {
        /* Behind what waits it cannot be put: the kernel takes it as a message of its own. */
        int fd = numaperf_conn_fd(conn);
        if (fd >= 0 && numaperf_conn_queued_bytes(conn) == 0)
            tls_kernel_close_notify(fd);
        return;
    }
    (void)SSL_shutdown(tls->ssl); /* 0: the peer's is not there yet, which is no matter */
    (void)tls_flush(tls, conn);   /* a connection that cannot take it ends without */
    ERR_clear_error();
}

static void on_removed(void *state)
{
    struct tls_conn *tls = state;
    if (tls->replacing)
        return;
    OPENSSL_cleanse(&tls->sending, sizeof(tls->sending));
    SSL_free(tls->ssl); /* and its BIOs */
    free(tls);
}

int tls_attach(struct tls_context *context, numaperf_conn_t *conn,
               void (*on_end)(numaperf_conn_t *conn))
{
    struct tls_conn *tls = calloc(1, sizeof(*tls));
    if (tls == NULL)
        return -ENOMEM;
    tls->context = context;
    tls->on_end = on_end;
    tls->ssl = SSL_new(context->ssl);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    numaperf_conn_filter_t filter = NUMAPERF_CONN_FILTER_INIT;
    filter.on_received = on_received;
    filter.on_written = on_written;
    filter.on_ending = on_ending;
    filter.on_received_end = on_received_end;
    filter.on_removed = on_removed;
    int rc = tls->ssl != NULL && tls->in != NULL && tls->out != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        SSL_set_app_data(tls->ssl, tls);
        SSL_set_bio(tls->ssl, tls->in, tls->out);
        SSL_set_accept_state(tls->ssl);
        rc = numaperf_conn_set_filter(conn, &filter, tls);
        if (rc < 0)
            on_removed(tls);
        return rc;
    }
    BIO_free(tls->in);
    BIO_free(tls->out);
    SSL_free(tls->ssl);
    free(tls);
    return rc;
}
