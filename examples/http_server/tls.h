/* SPDX-License-Identifier: MIT */
/*
 * TLS for connections of net.h: a filter between the socket and the callbacks, made of OpenSSL and
 * two memory BIOs. Servers of other protocols may use this file as it is.
 */
#ifndef EXAMPLES_HTTP_TLS_H
#define EXAMPLES_HTTP_TLS_H

#include <numaperf.h>

#include <stdatomic.h>

struct tls_context;

/* Written by any worker, read by anyone. */
struct tls_counters {
    atomic_ullong handshakes; /* that came to an end */
    atomic_ullong resumed;    /* of these: by a ticket */
    atomic_ullong failed;     /* handshakes and records that were wrong */
    atomic_ullong truncated;  /* streams that ended without a close_notify */
    atomic_ullong kernel;     /* connections whose sending the kernel has taken over */
    atomic_ullong kernel_refused;
};

/* One a process. 0, or < 0 with the reason in `why`. */
int tls_context_create(const char *certificate, const char *key, char *why, size_t size,
                       struct tls_context **out);
void tls_context_destroy(struct tls_context *context);
const struct tls_counters *tls_counters(const struct tls_context *context);

/*
 * Puts the filter before a connection, in on_open. `on_end` is called when the peer has said that
 * it sends no more (close_notify); on_end of the connection may come as well. How long a handshake
 * may take is for the caller to limit: until it is over on_read does not come.
 */
int tls_attach(struct tls_context *context, numaperf_conn_t *conn,
               void (*on_end)(numaperf_conn_t *conn));

#endif
