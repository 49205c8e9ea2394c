/* SPDX-License-Identifier: MIT */
/* Socket addresses to and from text. None of these records a failure: who asks knows for what. */
#ifndef NUMAPERF_NET_ADDRESS_H
#define NUMAPERF_NET_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NUMAPERF__ADDRESS_TEXT_MAX 128u /* bytes of the longest text, its end included */

/*
 * A numeric address, IPv4 or IPv6, the latter with or without "%scope". 0; -EINVAL it is none, and
 * nothing was written.
 */
int numaperf__address_parse(const char *text, uint16_t port, struct sockaddr_storage *out,
                            socklen_t *out_length);
/* The address that stands for all of them; `family` is AF_INET or AF_INET6. */
void numaperf__address_any(int family, uint16_t port, struct sockaddr_storage *out,
                           socklen_t *out_length);
/* AF_UNIX: a path, or with '@' an abstract name. 0; -EINVAL it is empty; -ENAMETOOLONG. */
int numaperf__address_unix(const char *path, struct sockaddr_storage *out, socklen_t *out_length);

/* The port; 0 where the family has none. */
uint16_t numaperf__address_port(const struct sockaddr *address);
void numaperf__address_set_port(struct sockaddr *address, uint16_t port);

/*
 * "192.0.2.1:80", "[2001:db8::1]:80", "unix:/path", "unix:@name", "unix"; an IPv4 address in
 * IPv6's clothes is written as the former. As snprintf(); -EINVAL for `length` too short for its
 * family, -EAFNOSUPPORT.
 */
int numaperf__address_format(const struct sockaddr *address, socklen_t length, char *buf,
                             size_t size);

#endif
