/* SPDX-License-Identifier: MIT */
/*
 * The life of an example server on net.h: options, runtime, listener, one ready line, signals,
 * drain. A server brings its options, its connections' callbacks and what a worker needs.
 */
#ifndef EXAMPLES_SERVER_SERVICE_H
#define EXAMPLES_SERVER_SERVICE_H

#include "options.h"

#include <numaperf.h>

/* An option of one server, beside those that all have. */
struct service_option {
    const char *name;
    const char *value; /* what --help calls it */
    const char *help;
    const char *(*read)(void *data, const char *text); /* NULL, or why it does not take `text` */
};

struct service_app {
    const char *name;
    uint16_t default_port;
    const struct service_option *options;
    size_t option_count;
    /* Options are read, no thread runs: < 0 ends the program; the reason was printed. */
    int (*prepare)(void *data, const struct server_options *options, numaperf_conn_config_t *conn);
    numaperf_start_cb worker_start, node_start; /* of the runtime; may be NULL */
    numaperf_stop_cb worker_stop, node_stop;
    void (*ready)(void *data, numaperf_rt_t *rt); /* it runs, nobody has connected; may be NULL */
    void (*listens)(void *data, const char *address); /* peers may be there; may be NULL */
    uint32_t refusals_max; /* connections above the limit that a worker is given all the same, to
                              turn them away with a word */
    void *data;            /* for all of the above, and of connections */
};

/* The whole program; returns its exit code. */
int service_main(const struct service_app *app, int argc, char **argv);

#endif
