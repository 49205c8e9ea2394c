/* SPDX-License-Identifier: MIT */
/*
 * SQPOLL: a kernel thread polls a ring's SQ, so that submitting is a store. While there is I/O it
 * takes a whole PU, which the loop pays for where a quota counts both, or where both share one: a
 * loop is refused a poller then, and told why.
 *
 * The thread belongs to this process; the kernel names it "iou-sqp-" and a number. That it has the
 * affinity that was asked for is read back.
 *
 * Thread rule: nothing is kept; any thread.
 *
 * Source: io_uring_setup(2) "IORING_SETUP_SQPOLL", proc(5) "/proc/[pid]/task".
 */
#include "io/sqpoll.h"

#include "base/error.h"
#include "place/kernel_text.h"
#include "place/pin.h"
#include "place/quota.h"

#include <numaperf/topology.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SQPOLL_PREFIX "iou-sqp-"
#define SQPOLL_LOOK_NS 1000000u /* between two looks for it */
#define SQPOLL_LOOKS_MAX 500u

int numaperf__sqpoll_check_quota(uint32_t loop_count, int code)
{
    char file[160];
    uint64_t quota = numaperf__quota_milli_pus(file, sizeof(file));
    uint64_t need = 2000u * (uint64_t)loop_count; /* the loop's thread, and its poller */
    if (quota >= need)
        return 0;
    return numaperf__fail(code, 0, "SQPOLL",
                          "SQPOLL: the CPU quota is %llu.%03llu PUs (%s): %u loops with a poller "
                          "each use %llu, and would pay for the pollers",
                          (unsigned long long)(quota / 1000), (unsigned long long)(quota % 1000),
                          file, loop_count, (unsigned long long)(need / 1000));
}

static int sqpoll_choose_on(const numaperf_topology_t *topology, int32_t *out_cpu)
{
    int own = -1;
    int rc = numaperf__current_cpu(&own, NULL);
    int node = rc == 0 ? numaperf_topology_node_of_cpu(topology, own) : -1;
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    if (node >= 0)
        (void)numaperf_topology_node_cpus(topology, node, &cpus); /* the node is one of its own */
    numaperf_cpuset_remove(&cpus, own);
    int cpu = numaperf_cpuset_next(&cpus, -1);
    if (cpu < 0)
        return numaperf__fail(-EINVAL, 0, "SQPOLL",
                              "SQPOLL: node %d has no usable PU beside PU %d, which the loop "
                              "itself runs on",
                              node, own);
    *out_cpu = cpu;
    return 0;
}

int numaperf__sqpoll_choose(int32_t *out_cpu)
{
    numaperf_topology_t *topology = NULL;
    int rc = numaperf_topology_discover(&topology);
    if (rc < 0)
        return rc;
    rc = sqpoll_choose_on(topology, out_cpu);
    numaperf_topology_destroy(topology);
    return rc;
}

/* ---- read back ---- */

/* Whether a thread of this process is a poller that may run on that PU alone. */
static bool sqpoll_is_on(const char *thread, int32_t cpu)
{
    char path[320];
    char name[32];
    numaperf_cpuset_t cpus;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", thread);
    if (numaperf__kernel_text_read(path, name, sizeof(name)) < 0)
        return false; /* gone in the meantime */
    if (strncmp(name, SQPOLL_PREFIX, strlen(SQPOLL_PREFIX)) != 0)
        return false;
    if (numaperf__affinity_get((int)strtol(thread, NULL, 10), &cpus) < 0)
        return false;
    return numaperf_cpuset_count(&cpus) == 1 && numaperf_cpuset_contains(&cpus, cpu);
}

static int sqpoll_look(int32_t cpu)
{
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL)
        return -errno;
    int rc = -ENODATA;
    const struct dirent *entry = NULL;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this call's own */
    while (rc < 0 && (entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] != '.' && sqpoll_is_on(entry->d_name, cpu))
            rc = 0;
    }
    (void)closedir(tasks); /* was only read */
    return rc;
}

int numaperf__sqpoll_prove(int32_t cpu)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = SQPOLL_LOOK_NS};
    int rc = sqpoll_look(cpu);
    /* It sets its affinity itself, when it first runs. */
    for (unsigned i = 0; i < SQPOLL_LOOKS_MAX && rc == -ENODATA; i++) {
        (void)nanosleep(&pause, NULL); /* shorter when a signal comes, which is as well */
        rc = sqpoll_look(cpu);
    }
    return rc;
}
