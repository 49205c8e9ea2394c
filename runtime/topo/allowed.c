/* SPDX-License-Identifier: MIT */
/*
 * The affinity the process was started with.
 *
 * A constructor reads it when the library is loaded, before main() and so before any pin of ours;
 * afterwards it never changes, which is why every thread may read it without a lock. It is read
 * from /proc: that costs no system call of affinity here, and prints sets of any length.
 * Source: proc(5), "Cpus_allowed_list".
 */
#include "topo/allowed.h"

#include "topo/textfile.h"

#include <stdlib.h>

/* Written by the constructor alone. */
static struct {
    numaperf_cpuset_t cpus;
    bool restricts;
} at_load;

static int allowed_read(numaperf_cpuset_t *out)
{
    char *text = NULL;
    int rc =
        numaperf__textfile_read("/proc/thread-self/status", NUMAPERF_KERNEL_TEXT_MAX, &text, NULL);
    if (rc < 0)
        return rc;
    char *list = numaperf__textfile_field(text, "Cpus_allowed_list");
    rc = numaperf_cpuset_parse(list == NULL ? "" : list, out);
    free(text);
    return rc;
}

static int allowed_online(numaperf_cpuset_t *out)
{
    char *text = NULL;
    int rc = numaperf__textfile_read("/sys/devices/system/cpu/online", NUMAPERF_KERNEL_TEXT_MAX,
                                     &text, NULL);
    if (rc < 0)
        return rc;
    rc = numaperf_cpuset_parse(text, out);
    free(text);
    return rc;
}

__attribute__((constructor)) static void allowed_capture(void)
{
    numaperf_cpuset_t cpus;
    if (allowed_read(&cpus) < 0)
        return;
    at_load.cpus = cpus;

    /* Without the list of online PUs the affinity is taken at its word. */
    numaperf_cpuset_t online = cpus;
    at_load.restricts = allowed_online(&online) < 0;
    numaperf_cpuset_t both;
    numaperf_cpuset_intersect(&cpus, &online, &both);
    if (!numaperf_cpuset_equal(&both, &online))
        at_load.restricts = true;
}

const numaperf_cpuset_t *numaperf__allowed_at_load(void)
{
    return &at_load.cpus;
}

bool numaperf__allowed_restricts(void)
{
    return at_load.restricts;
}
