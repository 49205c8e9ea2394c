/* SPDX-License-Identifier: MIT */
/*
 * The io section of numaperf info: what a worker's loop has of io_uring here. A runtime of one
 * worker is started and asked, since only such a loop has a node that its ring can be bound to.
 */
#include "cli/info_io.h"

#include "cli/output.h"

#include <numaperf/capabilities.h>
#include <numaperf/loop.h>
#include <numaperf/runtime.h>

#include <stdio.h>
#include <string.h>

/* A runtime as small as there is, on the first node that has PUs and memory. */
static numaperf_rt_t *io_start(const numaperf_topology_t *topology)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    (void)numaperf_topology_usable_nodes(topology, &nodes); /* none: the start says so */
    int node = numaperf_nodemask_next(&nodes, -1);
    if (node >= 0)
        config.nodes = numaperf_nodemask_single(node);
    config.workers_per_node = 1;
    config.topology = topology;
    config.spin_ns_max = UINT64_MAX;
    config.audit_interval_ms = UINT32_MAX;
    /* Asked for, so that there is an answer. A poller takes a PU: it is not tried. */
    config.io_flags = NUMAPERF_LOOP_BUSY_POLL;
    numaperf_rt_t *rt = NULL;
    return numaperf_rt_start(&config, &rt) == 0 ? rt : NULL;
}

static json_t *io_features(const numaperf_loop_features_t *features)
{
    json_t *object = json_object();
    uint32_t outcome = 0;
    const char *name = NULL;
    for (size_t i = 0; (name = numaperf_loop_feature(features, i, &outcome)) != NULL; i++) {
        /* A poller takes a PU: it is not tried, so there is no answer. */
        if (strcmp(name, "sqpoll") != 0)
            json_object_set_new(object, name, json_string(numaperf_probe_name(outcome)));
    }
    return object;
}

json_t *info_read_io(const numaperf_topology_t *topology)
{
    numaperf_rt_t *rt = io_start(topology);
    if (rt == NULL)
        return NULL;
    numaperf_worker_t *worker = numaperf_rt_worker(rt, 0);
    numaperf_loop_features_t features = NUMAPERF_LOOP_FEATURES_INIT;
    json_t *facts = NULL;
    if (numaperf_loop_features(numaperf_worker_io(worker), &features) == 0) {
        const char *reason = numaperf_worker_backend_reason(worker);
        bool has_ring = numaperf_worker_backend(worker) == NUMAPERF_IO_URING;
        facts = json_pack("{s:s, s:o, s:o}", "backend", has_ring ? "io_uring" : "epoll", "reason",
                          reason != NULL ? json_string(reason) : json_null(), "features",
                          io_features(&features));
    }
    numaperf_rt_destroy(rt);
    return facts;
}

static const char *io_title(const char *name)
{
    static const char *const titles[][2] = {
        {"ring", "io_uring"},
        {"defer_taskrun", "deferred completions"},
        {"own_memory", "ring in memory of its node"},
        {"buffer_ring", "provided-buffer rings"},
        {"buffer_incremental", "incremental buffers"},
        {"accept_multishot", "multishot accept"},
        {"receive_multishot", "multishot receive"},
        {"send_zero_copy", "zero-copy send"},
        {"direct_descriptors", "direct descriptors"},
        {"message_ring", "messages between rings"},
        {"iowq_affinity", "io-wq affinity"},
        {"busy_poll", "NAPI busy poll"},
    };
    for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++) {
        if (strcmp(titles[i][0], name) == 0)
            return titles[i][1];
    }
    return name;
}

void info_print_io(const json_t *facts)
{
    const char *reason = json_string_value(json_object_get(facts, "reason"));
    printf("%-26s %s\n", "workers wait in", json_string_value(json_object_get(facts, "backend")));
    if (reason != NULL) {
        printf("%-26s ", "not io_uring, since");
        output_wrapped(27, reason);
    }
    const char *name;
    json_t *outcome;
    json_object_foreach(json_object_get(facts, "features"), name, outcome)
    {
        const char *text = json_string_value(outcome);
        bool is_ok = strcmp(text, numaperf_probe_name(NUMAPERF_PROBE_OK)) == 0;
        printf("%-26s %s%s%s\n", io_title(name),
               output_style(is_ok ? OUTPUT_GOOD : OUTPUT_MIDDLING), text,
               output_style(OUTPUT_PLAIN));
    }
}
