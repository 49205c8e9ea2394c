/* SPDX-License-Identifier: MIT */
/* Command line of the example servers: every option both of them take, checked as it is read. */
#ifndef EXAMPLES_SERVER_OPTIONS_H
#define EXAMPLES_SERVER_OPTIONS_H

#include <numaperf.h>

#include <stdbool.h>
#include <stdint.h>

struct server_options {
    char host[256];         /* name or address, without brackets */
    uint16_t port;          /* 0: the kernel chooses */
    const char *unix_path;  /* NULL: TCP */
    const char *topology;   /* NULL: this machine */
    const char *attest;     /* file for the attestation; NULL: none */
    const char *steal_name; /* as given, for reports */
    uint32_t mode;          /* NUMAPERF_MODE_* */
    uint32_t rt_flags;      /* NUMAPERF_RT_* */
    uint32_t backend;       /* NUMAPERF_IO_* */
    uint32_t steal_policy;  /* NUMAPERF_STEAL_* */
    uint32_t workers;       /* a node; 0: one a core */
    numaperf_nodemask_t nodes;
    uint32_t connections_max; /* a worker */
    uint32_t idle_seconds;    /* a connection without progress is closed; 0: never */
    uint32_t drain_seconds;   /* how long a stop waits for answers */
    uint64_t arena_mib;       /* limit of a worker's arena; 0: the library's default */
    uint64_t task_limit;      /* unfinished tasks a node; 0: the library's default */
};

enum server_options_result {
    SERVER_OPTIONS_RUN,  /* all good */
    SERVER_OPTIONS_HELP, /* help was printed to standard output */
    SERVER_OPTIONS_BAD   /* a message naming the option went to standard error */
};

/* Reads argv into `out`, which keeps pointers into argv. */
enum server_options_result server_options_parse(int argc, char **argv, uint16_t default_port,
                                                struct server_options *out);

#endif
