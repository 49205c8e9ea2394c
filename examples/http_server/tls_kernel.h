/* SPDX-License-Identifier: MIT */
/* kTLS: the kernel encrypts what is sent on a socket (Linux, Documentation/networking/tls). */
#ifndef EXAMPLES_HTTP_TLS_KERNEL_H
#define EXAMPLES_HTTP_TLS_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_SECRET_MAX 48u

/* The state of the sending side of a TLS 1.3 connection with AES-GCM. */
struct tls_sending {
    bool is_256; /* AES-256 with SHA-384; else AES-128 with SHA-256 */
    uint8_t secret[TLS_SECRET_MAX];
    size_t secret_length;
    uint64_t records; /* sent under this secret so far */
};

/* Reads "SERVER_TRAFFIC_SECRET_0 ..." of a key log; false: it is another line. */
bool tls_kernel_read_secret(const char *line, struct tls_sending *out);

/* Has the kernel encrypt from here on; nothing may be waiting to be sent. 0 or -errno. */
int tls_kernel_take_over(int fd, const struct tls_sending *sending);

/* close_notify on such a socket, if it takes it now. */
void tls_kernel_close_notify(int fd);

#endif
