/* SPDX-License-Identifier: MIT */
#include "support/runtimes.h"

#include "support/clock.h"

#include <stdio.h>
#include <string.h>

int runtime_box_open(struct runtime_box *box, const char *machine)
{
    int rc = 0;
    box->topology = NULL;
    box->rt = NULL;
    size_t length = machine != NULL ? strlen(machine) : 0;
    if (length > 4 && strcmp(machine + length - 4, ".xml") == 0) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/fixtures/topology/%s", NUMAPERF_TESTS_DIR, machine);
        rc = numaperf_topology_from_xml(path, &box->topology);
    } else if (machine != NULL) {
        rc = numaperf_topology_from_synthetic(machine, &box->topology);
    }
    if (rc < 0)
        return rc;
    box->config.topology = box->topology;
    rc = numaperf_rt_start(&box->config, &box->rt);
    if (rc < 0)
        runtime_box_close(box);
    return rc;
}

void runtime_box_close(struct runtime_box *box)
{
    numaperf_rt_destroy(box->rt);
    numaperf_topology_destroy(box->topology);
    box->rt = NULL;
    box->topology = NULL;
}

void runtime_gate_task(numaperf_worker_t *worker, void *gate)
{
    (void)worker;
    struct runtime_gate *own = gate;
    (void)atomic_fetch_add(&own->entered, 1);
    while (!atomic_load(&own->open))
        test_sleep_ms(1);
    (void)atomic_fetch_add(&own->left, 1);
}

void runtime_count_task(numaperf_worker_t *worker, void *counter)
{
    (void)worker;
    (void)atomic_fetch_add((atomic_int *)counter, 1);
}

void runtime_count_cancel(numaperf_task_fn fn, void *counter, void *data)
{
    (void)fn;
    (void)data;
    (void)atomic_fetch_add((atomic_int *)counter, 1);
}

bool runtime_reaches(const atomic_int *counter, int wanted)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (atomic_load(counter) < wanted) {
        if (test_now_ns() > limit_ns) {
            printf("counted %d of %d\n", atomic_load(counter), wanted);
            return false;
        }
        test_sleep_ms(1);
    }
    return atomic_load(counter) == wanted;
}

uint64_t runtime_parks(const numaperf_rt_t *rt, uint32_t worker)
{
    numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
    return numaperf_rt_worker_stats(rt, worker, &stats) == 0 ? stats.parks : 0;
}

bool runtime_parks_reach(const numaperf_rt_t *rt, uint32_t worker, uint64_t wanted)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (runtime_parks(rt, worker) < wanted) {
        if (test_now_ns() > limit_ns) {
            printf("worker %u went to sleep %llu times, not %llu\n", worker,
                   (unsigned long long)runtime_parks(rt, worker), (unsigned long long)wanted);
            return false;
        }
        test_sleep_ms(1);
    }
    return true;
}
