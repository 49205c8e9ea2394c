/* SPDX-License-Identifier: MIT */
/*
 * proxy: every connection is carried on to another address, in both directions. The way out is
 * made on the worker that has the way in, so bytes never leave their node.
 *
 *     proxy --listen 127.0.0.1:7000 --connect example.net:80
 */
#include "../server/service.h"
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define DEFAULT_PORT 7000

static const char *read_connect(void *data, const char *text)
{
    struct proxy *proxy = data;
    struct sockaddr_un address;
    if (text[0] == '/' || text[0] == '@') {
        proxy->unix_path = text;
        return strlen(text) < sizeof(address.sun_path) ? NULL : "is too long for a socket address";
    }
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text)
        return "is neither HOST:PORT nor a path";
    const char *host = text;
    size_t length = (size_t)(colon - text);
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    } else if (memchr(host, ':', length) != NULL) {
        return "is not HOST:PORT (an IPv6 address goes in brackets)";
    }
    if (length == 0 || length >= sizeof(proxy->host))
        return "has no host, or one that is too long";
    char *end = NULL;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port == 0 || port > UINT16_MAX)
        return "has a port that is not a number from 1 to 65535";
    memcpy(proxy->host, host, length);
    proxy->host[length] = '\0';
    proxy->port = (uint16_t)port;
    return NULL;
}

static const char *read_timeout(void *data, const char *text)
{
    struct proxy *proxy = data;
    char *end = NULL;
    unsigned long seconds = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || seconds == 0 || seconds > 3600)
        return "is not a number from 1 to 3600";
    proxy->connect_ms = (uint32_t)seconds * 1000;
    return NULL;
}

static const struct service_option options[] = {
    {"--connect", "HOST:PORT|PATH", "where connections are carried to; needed", read_connect},
    {"--connect-timeout", "SECONDS", "how long that may take (10)", read_timeout},
};

static int proxy_prepare(void *data, const struct server_options *common,
                         numaperf_conn_config_t *conn)
{
    (void)common; /* nothing in them is ours */
    struct proxy *proxy = data;
    if (proxy->host[0] == '\0' && proxy->unix_path == NULL) {
        fprintf(stderr, "proxy: --connect is needed\n");
        return -EINVAL;
    }
    conn->callbacks = proxy_client_callbacks;
    conn->high_water_bytes = PROXY_HIGH_WATER_BYTES;
    proxy->upstream = *conn;
    proxy->upstream.callbacks = proxy_upstream_callbacks;
    return 0;
}

int main(int argc, char **argv)
{
    struct proxy proxy = {.connect_ms = 10000};
    const struct service_app app = {
        .name = "proxy",
        .default_port = DEFAULT_PORT,
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .prepare = proxy_prepare,
        .data = &proxy,
    };
    return service_main(&app, argc, argv);
}
