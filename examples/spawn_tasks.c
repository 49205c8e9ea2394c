/* SPDX-License-Identifier: MIT */
/* Tasks go to the node they name: start a runtime, spawn onto every node, see where they ran. */
#include <numaperf.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TASKS_PER_NODE 1000

static atomic_int ran_at_home;
static atomic_int ran_elsewhere;

/* `arg` is the node that the task was spawned to. */
static void count_task(numaperf_worker_t *worker, void *arg)
{
    const int *home = arg;
    atomic_int *counter = numaperf_worker_node(worker) == *home ? &ran_at_home : &ran_elsewhere;
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void say_hello(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    printf("hello from worker %u: node %d, PU %d\n", numaperf_worker_index(worker),
           numaperf_worker_node(worker), numaperf_worker_cpu(worker));
}

static int fail(const char *what)
{
    const numaperf_error_t *error = numaperf_last_error();
    fprintf(stderr, "%s: %s: %s\n", what, error->operation, error->reason);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    /* Several nodes on any machine: ./spawn_tasks "numa:2 pu:1" */
    numaperf_topology_t *topology = NULL;
    if (argc > 1 && numaperf_topology_from_synthetic(argv[1], &topology) < 0)
        return fail("topology");

    /* Without stealing, every task runs on its own node, come what may. */
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.topology = topology;
    config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    numaperf_rt_t *rt = NULL;
    if (numaperf_rt_start(&config, &rt) < 0)
        return fail("start");

    if (numaperf_rt_each_node(rt, say_hello, NULL) < 0)
        return fail("each_node");

    numaperf_nodemask_t nodes;
    (void)numaperf_rt_nodes(rt, &nodes); /* cannot fail with valid pointers */
    static int home[NUMAPERF_NODE_MAX];
    int spawned = 0;
    for (int n = numaperf_nodemask_next(&nodes, -1); n >= 0;
         n = numaperf_nodemask_next(&nodes, n)) {
        home[n] = n;
        for (int i = 0; i < TASKS_PER_NODE; i++)
            if (numaperf_rt_spawn(rt, n, count_task, &home[n]) == 0)
                spawned++;
    }

    /* A stop without time limit lets everything that was accepted run first. */
    (void)numaperf_rt_stop(rt, UINT64_MAX);
    printf("%d tasks spawned: %d ran on their node, %d elsewhere\n", spawned,
           atomic_load(&ran_at_home), atomic_load(&ran_elsewhere));
    numaperf_rt_destroy(rt);
    numaperf_topology_destroy(topology);
    return atomic_load(&ran_at_home) == spawned ? EXIT_SUCCESS : EXIT_FAILURE;
}
