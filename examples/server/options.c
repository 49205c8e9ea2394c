/* SPDX-License-Identifier: MIT */
/*
 * Command line of the example servers. One table holds every option with its reader and its help
 * line, so that the parser, the messages and --help cannot disagree. A reader returns NULL, or in
 * plain words why it does not take the value.
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

struct option {
    const char *name;
    const char *value; /* what --help calls it; NULL: the option takes none */
    const char *help;
    const char *(*read)(struct server_options *options, const char *text);
};

/* A plain decimal number: strtoull() alone would take spaces, signs and nothing at all. */
static const char *read_number(const char *text, uint64_t max, uint64_t *out)
{
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return "is not a number";
    errno = 0;
    unsigned long long number = strtoull(text, NULL, 10);
    if (errno != 0 || number > max)
        return "is too large";
    *out = number;
    return NULL;
}

static const char *read_u32(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t number = 0;
    const char *why = read_number(text, max, &number);
    if (why == NULL)
        *out = (uint32_t)number;
    return why;
}

static const char *read_listen(struct server_options *options, const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return "is not HOST:PORT";
    const char *host = text;
    size_t length = (size_t)(colon - text);
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    } else if (memchr(host, ':', length) != NULL) {
        return "is not HOST:PORT (an IPv6 address goes in brackets)";
    }
    if (length == 0)
        return "has no host";
    if (length >= sizeof(options->host))
        return "has a host that is too long";
    uint64_t port = 0;
    if (read_number(colon + 1, UINT16_MAX, &port) != NULL)
        return "has a port that is not a number from 0 to 65535";
    memcpy(options->host, host, length);
    options->host[length] = '\0';
    options->port = (uint16_t)port;
    return NULL;
}

static const char *read_unix(struct server_options *options, const char *text)
{
    struct sockaddr_un address;
    if (text[0] == '\0')
        return "is empty";
    if (strlen(text) >= sizeof(address.sun_path))
        return "is too long for a socket address";
    options->unix_path = text;
    return NULL;
}

static const char *read_mode(struct server_options *options, const char *text)
{
    if (strcmp(text, "soft") != 0 && strcmp(text, "hard") != 0)
        return "is not soft or hard";
    options->mode = text[0] == 'h' ? NUMAPERF_MODE_HARD : NUMAPERF_MODE_SOFT;
    return NULL;
}

static const char *read_waive(struct server_options *options, const char *text)
{
    (void)text; /* it takes no value */
    options->rt_flags |= NUMAPERF_RT_WAIVE_PRIVILEGES;
    return NULL;
}

static const char *read_workers(struct server_options *options, const char *text)
{
    return read_u32(text, 1024, &options->workers);
}

static const char *read_nodes(struct server_options *options, const char *text)
{
    numaperf_nodemask_t nodes;
    if (numaperf_nodemask_parse(text, &nodes) < 0)
        return "is not a list of nodes such as 0-1,3";
    if (numaperf_nodemask_count(&nodes) == 0)
        return "names no node";
    options->nodes = nodes;
    return NULL;
}

static const char *read_topology(struct server_options *options, const char *text)
{
    if (text[0] == '\0')
        return "is empty";
    options->topology = text;
    return NULL;
}

static const char *read_attest(struct server_options *options, const char *text)
{
    if (text[0] == '\0')
        return "is empty";
    options->attest = text;
    return NULL;
}

static const char *read_backend(struct server_options *options, const char *text)
{
    static const char *const names[] = {"auto", "io_uring", "epoll"};
    static const uint32_t backends[] = {NUMAPERF_IO_AUTO, NUMAPERF_IO_URING, NUMAPERF_IO_EPOLL};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            options->backend = backends[i];
            return NULL;
        }
    }
    return "is not auto, io_uring or epoll";
}

static const char *read_steal(struct server_options *options, const char *text)
{
    static const char *const names[] = {"local-only", "local-then-socket-then-remote", "any"};
    static const uint32_t policies[] = {NUMAPERF_STEAL_LOCAL_ONLY,
                                        NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE,
                                        NUMAPERF_STEAL_ANY};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            options->steal_policy = policies[i];
            options->steal_name = names[i];
            return NULL;
        }
    }
    return "is not local-only, local-then-socket-then-remote or any";
}

static const char *read_connections(struct server_options *options, const char *text)
{
    const char *why = read_u32(text, 1000000, &options->connections_max);
    return why == NULL && options->connections_max == 0 ? "must be at least 1" : why;
}

static const char *read_idle(struct server_options *options, const char *text)
{
    return read_u32(text, 86400, &options->idle_seconds);
}

static const char *read_drain(struct server_options *options, const char *text)
{
    return read_u32(text, 3600, &options->drain_seconds);
}

static const char *read_arena(struct server_options *options, const char *text)
{
    return read_number(text, UINT64_MAX >> 21, &options->arena_mib);
}

static const char *read_task_limit(struct server_options *options, const char *text)
{
    return read_number(text, UINT64_MAX - 1, &options->task_limit);
}

static const struct option option_table[] = {
    {"--listen", "HOST:PORT", "TCP address; [..] around IPv6; port 0: the kernel chooses",
     read_listen},
    {"--unix", "PATH", "a unix socket instead; replaces a socket, never another file", read_unix},
    {"--mode", "soft|hard", "hard: refuse to start unless placement is proven (soft)", read_mode},
    {"--waive-privileges", NULL, "hard mode without capabilities, by read-back alone", read_waive},
    {"--workers-per-node", "N", "worker threads a node (0: one a core)", read_workers},
    {"--nodes", "LIST", "nodes to run on, as 0-1,3 (all)", read_nodes},
    {"--topology", "TEXT", "an hwloc XML file or a synthetic one as \"numa:2 pu:1\"",
     read_topology},
    {"--attest", "FILE", "write where everything is, as JSON, before the ready line", read_attest},
    {"--backend", "NAME", "auto, io_uring or epoll (auto)", read_backend},
    {"--steal", "POLICY", "local-only, local-then-socket-then-remote or any", read_steal},
    {"--max-connections", "N", "most connections a worker (10000)", read_connections},
    {"--idle-timeout", "SECONDS", "close a connection without progress (300; 0: never)", read_idle},
    {"--drain-timeout", "SECONDS", "how long SIGTERM waits for answers (5)", read_drain},
    {"--arena-mib", "N", "limit of a worker's memory, MiB (0: library default)", read_arena},
    {"--task-limit", "N", "unfinished tasks a node (0: library default)", read_task_limit},
};

#define OPTION_COUNT (sizeof(option_table) / sizeof(option_table[0]))

static void options_help(const char *program, uint16_t default_port)
{
    printf("Usage: %s [options]\nListens on 127.0.0.1:%u unless told otherwise.\n\n", program,
           (unsigned)default_port);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &option_table[i];
        char left[48];
        (void)snprintf(left, sizeof(left), "%s %s", option->name,
                       option->value ? option->value : "");
        printf("  %-30s %s\n", left, option->help);
    }
    printf("  %-30s %s\n", "--help", "this text");
}

static const struct option *option_find(const char *name, size_t length)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const char *known = option_table[i].name;
        if (strlen(known) == length && memcmp(known, name, length) == 0)
            return &option_table[i];
    }
    return NULL;
}

/* Reads one option, "--name value" or "--name=value"; returns how many words it took, 0: bad. */
static int option_read(const char *program, char **words, struct server_options *out)
{
    const char *word = words[0];
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const struct option *option = option_find(word, length);
    if (option == NULL) {
        fprintf(stderr, "%s: %s: no such option; try --help\n", program, word);
        return 0;
    }
    if (option->value == NULL && equals != NULL) {
        fprintf(stderr, "%s: %s: takes no value\n", program, option->name);
        return 0;
    }
    const char *value = equals != NULL ? equals + 1 : words[1];
    if (option->value != NULL && value == NULL) {
        fprintf(stderr, "%s: %s: needs a value: %s\n", program, option->name, option->value);
        return 0;
    }
    const char *why = option->read(out, value);
    if (why != NULL) {
        fprintf(stderr, "%s: %s: \"%s\" %s\n", program, option->name, value, why);
        return 0;
    }
    return option->value != NULL && equals == NULL ? 2 : 1;
}

enum server_options_result server_options_parse(int argc, char **argv, uint16_t default_port,
                                                struct server_options *out)
{
    struct server_options options = {
        .host = "127.0.0.1",
        .port = default_port,
        .steal_name = "default",
        .connections_max = 10000,
        .idle_seconds = 300,
        .drain_seconds = 5,
    };
    for (int i = 1; i < argc;) {
        if (strcmp(argv[i], "--help") == 0) {
            options_help(argv[0], default_port);
            return SERVER_OPTIONS_HELP;
        }
        int taken = option_read(argv[0], &argv[i], &options);
        if (taken == 0)
            return SERVER_OPTIONS_BAD;
        i += taken;
    }
    *out = options;
    return SERVER_OPTIONS_RUN;
}
