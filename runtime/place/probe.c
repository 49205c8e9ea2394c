/* SPDX-License-Identifier: MIT */
/*
 * Live probes of memory policy, page query and affinity.
 *
 * Capability bits say little: a container's seccomp filter refuses mbind where every bit is set,
 * and the kernel asks for no privilege where none is set. So each probe does the thing. Invariant:
 * no mapping stays, and the calling thread ends with the affinity it had. Any thread may probe;
 * only its own affinity is touched.
 *
 * Source: mbind(2), get_mempolicy(2), move_pages(2), sched_setaffinity(2).
 */
#include "place/probe.h"

#include "base/assert.h"
#include "base/error.h"
#include "place/pin.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *page_map(void)
{
    void *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? NULL : page;
}

static void page_unmap(void *page)
{
    /* Fails only for an address that is not one, which would be our own mistake. */
    int rc = munmap(page, (size_t)sysconf(_SC_PAGESIZE));
    NUMAPERF_ASSERT(rc == 0);
}

static int page_bind(void *page, const numaperf_nodemask_t *nodes)
{
    size_t length = (size_t)sysconf(_SC_PAGESIZE);
    /* The kernel reads one bit less than it is told. */
    unsigned long node_bits = NUMAPERF_NODE_MAX + 1;
    if (syscall(SYS_mbind, page, length, MPOL_BIND, nodes->bits, node_bits, MPOL_MF_STRICT) < 0)
        return -errno;

    int policy = -1;
    numaperf_nodemask_t got;
    numaperf_nodemask_zero(&got);
    if (syscall(SYS_get_mempolicy, &policy, got.bits, node_bits, page, MPOL_F_ADDR) < 0)
        return -errno;
    return policy == MPOL_BIND && numaperf_nodemask_equal(&got, nodes) ? 0 : -EIO;
}

int numaperf__probe_mbind(int node)
{
    numaperf_nodemask_t nodes = numaperf_nodemask_single(node);
    void *page = page_map();
    if (page == NULL)
        return -ENOMEM;
    int rc = page_bind(page, &nodes);
    page_unmap(page);
    return rc;
}

int numaperf__probe_page_query(void)
{
    void *page = page_map();
    if (page == NULL)
        return -ENOMEM;

    *(volatile char *)page = 1; /* an untouched page is on no node */
    void *pages[1] = {page};
    int status[1] = {-EIO};
    int rc = 0;
    if (syscall(SYS_move_pages, 0, 1UL, pages, NULL, status, 0) < 0)
        rc = -errno;
    else if (status[0] < 0)
        rc = status[0];
    page_unmap(page);
    return rc;
}

/* Set, read back, compare. */
static int affinity_try(const numaperf_cpuset_t *cpus)
{
    int rc = numaperf__affinity_set(0, cpus);
    if (rc < 0)
        return rc;
    numaperf_cpuset_t got;
    rc = numaperf__affinity_get(0, &got);
    if (rc < 0)
        return rc;
    return numaperf_cpuset_equal(&got, cpus) ? 0 : -EIO;
}

int numaperf__probe_affinity(void)
{
    numaperf_cpuset_t old;
    int rc = numaperf__affinity_get(0, &old);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(numaperf_cpuset_count(&old) > 0);

    /* A PU of the thread's own set: a caller who pinned it never runs anywhere else. */
    numaperf_cpuset_t one;
    numaperf_cpuset_zero(&one);
    (void)numaperf_cpuset_add(&one, numaperf_cpuset_next(&old, -1)); /* in range: from a set */
    rc = affinity_try(&one);
    int restore_rc = affinity_try(&old);
    if (rc == 0 && restore_rc < 0)
        numaperf__log(NUMAPERF_LOG_ERROR, "affinity probe: the old affinity was not given back");
    return rc < 0 ? rc : restore_rc;
}
