/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses to and from text. Only what is numeric: names need a resolver, see resolve.c.
 *
 * Invariant: what format() writes for IPv4 and IPv6, parse() reads back, its brackets and port
 * apart. Thread rule: pure functions, any thread.
 *
 * Source: ip(7), ipv6(7), unix(7), inet_pton(3).
 */
#include "net/address.h"

#include "base/assert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <uv.h>

#define UNIX_PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof("unix:@") <=
                   NUMAPERF__ADDRESS_TEXT_MAX,
               "every text fits");
_Static_assert(sizeof("[]%4294967295:65535") + INET6_ADDRSTRLEN <= NUMAPERF__ADDRESS_TEXT_MAX,
               "every text fits");

/* ---- from text ---- */

/* The interface behind the '%' of `text`, by its name or its number; 0 is none. */
static uint32_t address_scope(const char *text, const char *scope)
{
    struct sockaddr_in6 named;
    if (uv_ip6_addr(text, 0, &named) == 0 && named.sin6_scope_id != 0)
        return named.sin6_scope_id;
    if (scope[0] < '0' || scope[0] > '9')
        return 0;
    char *end = NULL;
    errno = 0;
    unsigned long number = strtoul(scope, &end, 10);
    return errno == 0 && *end == '\0' && number <= UINT32_MAX ? (uint32_t)number : 0;
}

static int address_parse_v6(const char *text, uint16_t port, struct sockaddr_in6 *out)
{
    char digits[INET6_ADDRSTRLEN];
    const char *scope = strchr(text, '%');
    size_t length = scope != NULL ? (size_t)(scope - text) : strlen(text);
    if (length >= sizeof(digits))
        return -EINVAL;
    memcpy(digits, text, length);
    digits[length] = '\0';

    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET6, digits, &address.sin6_addr) != 1)
        return -EINVAL;
    if (scope != NULL) {
        address.sin6_scope_id = address_scope(text, scope + 1);
        if (address.sin6_scope_id == 0)
            return -EINVAL;
    }
    *out = address;
    return 0;
}

int numaperf__address_parse(const char *text, uint16_t port, struct sockaddr_storage *out,
                            socklen_t *out_length)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        memset(out, 0, sizeof(*out));
        memcpy(out, &v4, sizeof(v4));
        *out_length = sizeof(v4);
        return 0;
    }
    struct sockaddr_in6 v6;
    int rc = address_parse_v6(text, port, &v6);
    if (rc < 0)
        return rc;
    memset(out, 0, sizeof(*out));
    memcpy(out, &v6, sizeof(v6));
    *out_length = sizeof(v6);
    return 0;
}

void numaperf__address_any(int family, uint16_t port, struct sockaddr_storage *out,
                           socklen_t *out_length)
{
    NUMAPERF_ASSERT(family == AF_INET || family == AF_INET6);
    /* The wildcard of either family is all zeros. */
    memset(out, 0, sizeof(*out));
    out->ss_family = (sa_family_t)family;
    numaperf__address_set_port((struct sockaddr *)out, port);
    *out_length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

int numaperf__address_unix(const char *path, struct sockaddr_storage *out, socklen_t *out_length)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    bool is_abstract = path[0] == '@';
    size_t length = strlen(path);
    if (length == (is_abstract ? 1 : 0))
        return -EINVAL;
    /* An abstract name has a zero before it, a path one behind it: both are as long as that. */
    if (length >= sizeof(address.sun_path) + (is_abstract ? 1 : 0))
        return -ENAMETOOLONG;

    memcpy(address.sun_path, path, length);
    if (is_abstract)
        address.sun_path[0] = '\0';
    memset(out, 0, sizeof(*out));
    memcpy(out, &address, sizeof(address));
    *out_length = (socklen_t)(UNIX_PATH_OFFSET + length + (is_abstract ? 0 : 1));
    return 0;
}

/* ---- ports ---- */

uint16_t numaperf__address_port(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)address)->sin_port);
    if (address->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    return 0;
}

void numaperf__address_set_port(struct sockaddr *address, uint16_t port)
{
    if (address->sa_family == AF_INET)
        ((struct sockaddr_in *)(void *)address)->sin_port = htons(port);
    else if (address->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons(port);
}

/* ---- to text ---- */

static int address_format_v4(const struct in_addr *address, uint16_t port, char *buf, size_t size)
{
    char digits[INET_ADDRSTRLEN];
    const char *text = inet_ntop(AF_INET, address, digits, sizeof(digits));
    NUMAPERF_ASSERT(text != NULL);
    return snprintf(buf, size, "%s:%u", text, (unsigned)port);
}

static int address_format_v6(const struct sockaddr_in6 *address, char *buf, size_t size)
{
    uint16_t port = ntohs(address->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
        struct in_addr v4;
        memcpy(&v4, &address->sin6_addr.s6_addr[12], sizeof(v4));
        return address_format_v4(&v4, port, buf, size);
    }
    char digits[INET6_ADDRSTRLEN];
    const char *text = inet_ntop(AF_INET6, &address->sin6_addr, digits, sizeof(digits));
    NUMAPERF_ASSERT(text != NULL);
    if (address->sin6_scope_id == 0)
        return snprintf(buf, size, "[%s]:%u", text, (unsigned)port);
    return snprintf(buf, size, "[%s%%%u]:%u", text, (unsigned)address->sin6_scope_id,
                    (unsigned)port);
}

static int address_format_unix(const struct sockaddr_un *address, socklen_t length, char *buf,
                               size_t size)
{
    size_t name_length = length - UNIX_PATH_OFFSET;
    if (name_length > sizeof(address->sun_path))
        name_length = sizeof(address->sun_path);
    if (name_length == 0)
        return snprintf(buf, size, "unix");
    char name[sizeof(address->sun_path) + 1];
    memcpy(name, address->sun_path, name_length);
    name[name_length] = '\0';
    /* A path ends at its zero, though the length may count more. In an abstract name zeros are
     * bytes like others; they are written as the kernel's own lists do. */
    bool is_abstract = name[0] == '\0';
    for (size_t i = 0; is_abstract && i < name_length; i++) {
        if (name[i] == '\0')
            name[i] = '@';
    }
    return snprintf(buf, size, "unix:%s", name);
}

int numaperf__address_format(const struct sockaddr *address, socklen_t length, char *buf,
                             size_t size)
{
    if (length < sizeof(sa_family_t))
        return -EINVAL;
    if (address->sa_family == AF_UNIX)
        return address_format_unix((const struct sockaddr_un *)(const void *)address, length, buf,
                                   size);
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        return length < sizeof(*v4)
                   ? -EINVAL
                   : address_format_v4(&v4->sin_addr, ntohs(v4->sin_port), buf, size);
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        return length < sizeof(*v6) ? -EINVAL : address_format_v6(v6, buf, size);
    }
    return -EAFNOSUPPORT;
}
