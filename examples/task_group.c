/* SPDX-License-Identifier: MIT */
/* Wait for tasks together: a group of them sums up a range, each its part, on any node. */
#include <numaperf.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define PARTS 64
#define PART_LENGTH 10000u

static atomic_ullong total;

static void sum_part(numaperf_worker_t *worker, void *arg)
{
    const unsigned *first = arg;
    unsigned long long sum = 0;
    (void)worker;
    for (unsigned i = 0; i < PART_LENGTH; i++)
        sum += *first + i;
    atomic_fetch_add_explicit(&total, sum, memory_order_relaxed);
}

static void say_done(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    printf("done, says worker %u\n", numaperf_worker_index(worker));
}

static int fail(const char *what)
{
    const numaperf_error_t *error = numaperf_last_error();
    fprintf(stderr, "%s: %s: %s\n", what, error->operation, error->reason);
    return EXIT_FAILURE;
}

int main(void)
{
    numaperf_rt_t *rt = NULL;
    numaperf_group_t *group = NULL;
    if (numaperf_rt_start(NULL, &rt) < 0)
        return fail("start");
    if (numaperf_group_create(rt, &group) < 0)
        return fail("group");

    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.node = NUMAPERF_NODE_ANY;
    options.group = group;
    static unsigned firsts[PARTS];
    for (unsigned i = 0; i < PARTS; i++) {
        firsts[i] = i * PART_LENGTH;
        if (numaperf_rt_spawn_with(rt, &options, sum_part, &firsts[i]) < 0)
            return fail("spawn");
    }

    /* Inside, a task says so; outside, this thread waits for it. */
    if (numaperf_group_on_done(group, NULL, say_done, NULL) < 0)
        return fail("on_done");
    if (numaperf_group_wait(group, UINT64_MAX) < 0)
        return fail("wait");
    printf("sum of 0 to %u: %llu\n", PARTS * PART_LENGTH - 1, atomic_load(&total));

    (void)numaperf_rt_stop(rt, UINT64_MAX);
    numaperf_rt_destroy(rt);
    return numaperf_group_destroy(group) < 0 ? fail("group") : EXIT_SUCCESS;
}
