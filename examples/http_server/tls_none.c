/* SPDX-License-Identifier: MIT */
/* TLS in a build without OpenSSL: there is none, and the options say so. */
#include "tls.h"

#include <errno.h>
#include <stdio.h>

int tls_context_create(const char *certificate, const char *key, char *why, size_t size,
                       struct tls_context **out)
{
    (void)certificate;
    (void)key;
    (void)out;
    (void)snprintf(why, size, "this program was built without OpenSSL");
    return -ENOTSUP;
}

void tls_context_destroy(struct tls_context *context)
{
    (void)context; /* there never is one */
}

const struct tls_counters *tls_counters(const struct tls_context *context)
{
    (void)context;
    return NULL;
}

int tls_attach(struct tls_context *context, numaperf_conn_t *conn,
               void (*on_end)(numaperf_conn_t *conn))
{
    (void)context;
    (void)conn;
    (void)on_end;
    return -ENOTSUP;
}
