/* SPDX-License-Identifier: MIT */
/* Memory on a chosen node, and the kernel's own word for where its pages are. */
#include <numaperf.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH (UINT64_C(4) << 20)

static int fail(const char *what)
{
    const numaperf_error_t *error = numaperf_last_error();
    fprintf(stderr, "%s: %s: %s\n", what, error->operation, error->reason);
    return EXIT_FAILURE;
}

static int show(const char *what, const numaperf_region_t *region)
{
    numaperf_placement_t placement = NUMAPERF_PLACEMENT_INIT;
    if (numaperf_region_audit(region, &placement) < 0)
        return fail("audit");
    printf("%s: %" PRIu64 " pages, %" PRIu64 " absent", what, placement.pages, placement.absent);
    for (int node = 0; node < NUMAPERF_NODE_MAX; node++)
        if (placement.on_node[node] > 0)
            printf(", %" PRIu64 " on node %d", placement.on_node[node], node);
    const numaperf_enforcement_t *level = numaperf_region_enforcement(region);
    const char *reason = numaperf_enforcement_reason(level);
    printf("; %s%s%s\n", numaperf_enforcement_level_name(level->level), reason ? ": " : "",
           reason ? reason : "");
    return EXIT_SUCCESS;
}

/* One region bound to one node. Pages are placed as they are first touched, or all at creation. */
static int place(int node, uint32_t prefault)
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = LENGTH;
    config.policy = NUMAPERF_MEM_BIND;
    config.nodes = numaperf_nodemask_single(node);
    config.prefault = prefault;
    numaperf_region_t *region = NULL;
    if (numaperf_region_create(&config, &region) < 0)
        return fail("create");

    char what[64];
    (void)snprintf(what, sizeof(what), "node %d, %s", node,
                   prefault == NUMAPERF_PREFAULT_NONE ? "untouched" : "prefaulted");
    int code = show(what, region);
    if (code == EXIT_SUCCESS && prefault == NUMAPERF_PREFAULT_NONE) {
        memset(numaperf_region_data(region), 1, numaperf_region_length(region) / 2);
        (void)snprintf(what, sizeof(what), "node %d, first half touched", node);
        code = show(what, region);
    }
    numaperf_region_destroy(region);
    return code;
}

int main(void)
{
    numaperf_topology_t *topology = NULL;
    if (numaperf_topology_discover(&topology) < 0)
        return fail("discover");

    int code = EXIT_SUCCESS;
    for (size_t i = 0; i < numaperf_topology_node_count(topology) && code == EXIT_SUCCESS; i++) {
        int node = numaperf_topology_node_id(topology, i);
        if (numaperf_topology_node_memory_bytes(topology, node) == 0)
            continue;
        code = place(node, NUMAPERF_PREFAULT_NONE);
        if (code == EXIT_SUCCESS)
            code = place(node, NUMAPERF_PREFAULT_TOUCH);
    }
    numaperf_topology_destroy(topology);
    return code;
}
