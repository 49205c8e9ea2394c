/* SPDX-License-Identifier: MIT */
/*
 * Affinity of threads, set and read back.
 *
 * The kernel trims an affinity that is partly outside the thread's cpuset and still returns 0, so
 * a return value proves nothing: every level here comes from a second, reading call. Raw system
 * calls are used throughout, because the C library's cpu_set_t ends at 1024 PUs and nothing but
 * the raw call tells how much the kernel wrote.
 *
 * A pin belongs to the thread that made it; other threads only read it.
 *
 * Source: sched_setaffinity(2), cpuset(7).
 */
#include "place/pin.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "place/enforce.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The size of numaperf_pin_t in the first release: no caller knows less. */
#define PIN_SIZE_MIN 3248u

/* PUs of the buffer that is tried when a kernel is built for more than NUMAPERF_CPU_MAX. */
#define CPU_MAX_LARGE (8 * NUMAPERF_CPU_MAX)

/* Bytes of a set in a reason, with room for two of them. */
#define SET_TEXT_SIZE 40

_Static_assert(sizeof(numaperf_pin_t) == PIN_SIZE_MIN, "part of the ABI");
_Static_assert(offsetof(numaperf_pin_t, thread_id) == 4, "part of the ABI");
_Static_assert(offsetof(numaperf_pin_t, requested) == 8, "part of the ABI");
_Static_assert(offsetof(numaperf_pin_t, applied) == 1032, "part of the ABI");
_Static_assert(offsetof(numaperf_pin_t, previous) == 2056, "part of the ABI");
_Static_assert(offsetof(numaperf_pin_t, enforcement) == 3080, "part of the ABI");
_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "sets are the kernel's arrays of long");

/* ---- affinity, plain ---- */

static int affinity_get_large(int thread_id, numaperf_cpuset_t *out)
{
    uint64_t bits[CPU_MAX_LARGE / 64] = {0};
    if (syscall(SYS_sched_getaffinity, thread_id, sizeof(bits), bits) < 0)
        return -errno;
    for (size_t i = NUMAPERF_CPU_MAX / 64; i < CPU_MAX_LARGE / 64; i++) {
        /* Leaving these PUs out would make a trimmed set look like the whole one. */
        if (bits[i] != 0)
            return -EOVERFLOW;
    }
    memcpy(out->bits, bits, sizeof(out->bits));
    return 0;
}

int numaperf__affinity_get(int thread_id, numaperf_cpuset_t *out)
{
    /* The kernel writes only as much as it has PUs for; the rest must read as zero. */
    numaperf_cpuset_t set;
    numaperf_cpuset_zero(&set);
    if (syscall(SYS_sched_getaffinity, thread_id, sizeof(set.bits), set.bits) < 0) {
        /* EINVAL is a buffer shorter than nr_cpu_ids. */
        return errno == EINVAL ? affinity_get_large(thread_id, out) : -errno;
    }
    *out = set;
    return 0;
}

int numaperf__affinity_set(int thread_id, const numaperf_cpuset_t *cpus)
{
    if (syscall(SYS_sched_setaffinity, thread_id, sizeof(cpus->bits), cpus->bits) < 0)
        return -errno;
    return 0;
}

int numaperf__current_cpu(int *out_cpu, int *out_node)
{
    unsigned int cpu = 0;
    unsigned int node = 0;
    if (getcpu(&cpu, &node) < 0)
        return -errno;
    if (out_cpu != NULL)
        *out_cpu = (int)cpu;
    if (out_node != NULL)
        *out_node = (int)node;
    return 0;
}

/* ---- pins ---- */

/* A set as text that fits into a reason; a long one is cut, and says so. */
static const char *set_text(const numaperf_cpuset_t *set, char *buf, size_t size)
{
    int length = numaperf_cpuset_format(set, buf, size);
    if (length < 0)
        return "?";
    if ((size_t)length >= size)
        memcpy(buf + size - sizeof("..."), "...", sizeof("..."));
    return buf;
}

/* Set an affinity and see that the kernel says the same. Returns 0, -ERANGE when trimmed, -errno.
 */
static int affinity_set_exactly(const numaperf_cpuset_t *cpus, numaperf_cpuset_t *out_applied)
{
    int rc = numaperf__affinity_set(0, cpus);
    if (rc < 0)
        return rc;
    rc = numaperf__affinity_get(0, out_applied);
    if (rc < 0)
        return rc;
    return numaperf_cpuset_equal(cpus, out_applied) ? 0 : -ERANGE;
}

/*
 * Pin and find the level reached. A level of none means that the thread is as it was. Returns the
 * system's errno behind a lower level, or 0.
 */
static int pin_find_level(numaperf_pin_t *pin)
{
    numaperf_enforcement_t *found = &pin->enforcement;
    char asked[SET_TEXT_SIZE];
    (void)set_text(&pin->requested, asked, sizeof(asked));

    int rc = numaperf__affinity_get(0, &pin->previous);
    if (rc < 0) {
        numaperf__enforce_set(
            found, NUMAPERF_ENFORCE_NONE,
            "pin to PUs %s: the old affinity cannot be read, so it could not be given back: "
            "%s",
            asked, numaperf_strerror(rc));
        return -rc;
    }
    rc = numaperf__affinity_set(0, &pin->requested);
    if (rc < 0) {
        pin->applied = pin->previous;
        numaperf__enforce_set(found, NUMAPERF_ENFORCE_NONE,
                              "pin to PUs %s: the kernel refuses: %s%s", asked,
                              numaperf_strerror(rc),
                              rc == -EINVAL ? " (all of them outside the cpuset, or offline)" : "");
        return -rc;
    }
    rc = numaperf__affinity_get(0, &pin->applied);
    if (rc < 0) {
        numaperf__enforce_set(found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "pin to PUs %s: set, but it cannot be read back: %s", asked,
                              numaperf_strerror(rc));
        return -rc;
    }
    if (!numaperf_cpuset_equal(&pin->requested, &pin->applied)) {
        char got[SET_TEXT_SIZE];
        numaperf__enforce_set(found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "pin to PUs %s: the kernel trimmed it to %s (cpuset, or offline PUs)",
                              asked, set_text(&pin->applied, got, sizeof(got)));
        return 0;
    }
    numaperf__enforce_set(found, NUMAPERF_ENFORCE_STRICT, "%s", "");
    return 0;
}

/* Put the old affinity back after a refusal whose record is already made; returns `refusal`. */
static int pin_undo(const numaperf_pin_t *pin, int refusal)
{
    if (numaperf_is_none(&pin->enforcement))
        return refusal;

    numaperf_cpuset_t now;
    int rc = affinity_set_exactly(&pin->previous, &now);
    if (rc < 0)
        return numaperf__fail(refusal, -rc, "sched_setaffinity",
                              "%s; and the old affinity could not be put back: %s",
                              pin->enforcement.reason, numaperf_strerror(rc));
    return refusal;
}

/* `foreign_reason`: why the level cannot be strict whatever the kernel says, or NULL. */
static int pin_thread(const numaperf_cpuset_t *cpus, numaperf_mode_t mode,
                      const char *foreign_reason, numaperf_pin_t *out_pin)
{
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    pin.thread_id = (int32_t)gettid();
    pin.requested = *cpus;
    int sys_errno = pin_find_level(&pin);
    if (foreign_reason != NULL) {
        numaperf_enforcement_t ceiling;
        numaperf__enforce_set(&ceiling, NUMAPERF_ENFORCE_BEST_EFFORT, "%s", foreign_reason);
        numaperf__enforce_lower(&pin.enforcement, &ceiling);
    }
    int rc = numaperf__enforce_settle(mode, &pin.enforcement, sys_errno, "sched_setaffinity",
                                      &pin.enforcement);
    if (rc < 0)
        return pin_undo(&pin, rc);

    NUMAPERF_ASSERT(!numaperf_is_strict(&pin.enforcement) ||
                    numaperf_cpuset_equal(&pin.requested, &pin.applied));
    return numaperf__result_store(out_pin, PIN_SIZE_MIN, &pin, sizeof(pin), "pin");
}

/* All of this is looked at before the thread is touched. */
static int pin_check(const numaperf_pin_t *pin, numaperf_mode_t mode)
{
    if (pin == NULL || pin->size < PIN_SIZE_MIN)
        return numaperf__fail(-EINVAL, 0, "pin",
                              "out_pin is NULL or was not started from NUMAPERF_PIN_INIT");
    if (mode != NUMAPERF_MODE_SOFT && mode != NUMAPERF_MODE_HARD)
        return numaperf__fail(-EINVAL, 0, "pin", "mode %d is neither soft nor hard", (int)mode);
    return 0;
}

int numaperf_pin_current(const numaperf_cpuset_t *cpus, numaperf_mode_t mode,
                         numaperf_pin_t *out_pin)
{
    int rc = pin_check(out_pin, mode);
    if (rc < 0)
        return rc;
    if (cpus == NULL || numaperf_cpuset_count(cpus) == 0)
        return numaperf__fail(-EINVAL, 0, "pin", "cpus is NULL or holds no PU");
    return pin_thread(cpus, mode, NULL, out_pin);
}

int numaperf_pin_to_cpu(int cpu, numaperf_mode_t mode, numaperf_pin_t *out_pin)
{
    int rc = pin_check(out_pin, mode);
    if (rc < 0)
        return rc;
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    if (numaperf_cpuset_add(&cpus, cpu) < 0)
        return numaperf__fail(-EINVAL, 0, "pin", "PU %d is not 0 .. %d", cpu, NUMAPERF_CPU_MAX - 1);
    return pin_thread(&cpus, mode, NULL, out_pin);
}

static int pin_to_node_of(const numaperf_topology_t *topology, int node, numaperf_mode_t mode,
                          numaperf_pin_t *out_pin)
{
    numaperf_cpuset_t cpus;
    int rc = numaperf_topology_node_cpus(topology, node, &cpus);
    if (rc < 0)
        return numaperf__fail(rc, 0, "pin", "node %d is not in the topology", node);
    if (numaperf_cpuset_count(&cpus) == 0)
        return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "pin", "node %d has no usable PU", node);
    if (numaperf_topology_is_this_machine(topology))
        return pin_thread(&cpus, mode, NULL, out_pin);

    if (mode == NUMAPERF_MODE_HARD)
        return numaperf__fail(NUMAPERF_E_HARD_MODE, 0, "pin",
                              "node %d: the topology is not this machine's", node);
    char reason[96];
    (void)snprintf(reason, sizeof(reason), "node %d: the topology is not this machine's", node);
    return pin_thread(&cpus, mode, reason, out_pin);
}

int numaperf_pin_to_node(const numaperf_topology_t *topology, int node, numaperf_mode_t mode,
                         numaperf_pin_t *out_pin)
{
    int rc = pin_check(out_pin, mode);
    if (rc < 0)
        return rc;
    if (topology != NULL)
        return pin_to_node_of(topology, node, mode, out_pin);

    numaperf_topology_t *discovered = NULL;
    rc = numaperf_topology_discover(&discovered);
    if (rc < 0)
        return rc;
    rc = pin_to_node_of(discovered, node, mode, out_pin);
    numaperf_topology_destroy(discovered);
    return rc;
}

int numaperf_pin_restore(numaperf_pin_t *pin)
{
    if (pin == NULL || pin->size < PIN_SIZE_MIN || pin->thread_id == 0)
        return numaperf__fail(-EINVAL, 0, "pin restore", "nothing is pinned by this pin");
    if (pin->thread_id != (int32_t)gettid())
        return numaperf__fail(-EBUSY, 0, "pin restore", "the pin is that of thread %d",
                              (int)pin->thread_id);

    /* A pin of level none changed nothing, and what refused it would refuse the restore too. */
    if (!numaperf_is_none(&pin->enforcement)) {
        numaperf_cpuset_t now;
        int rc = affinity_set_exactly(&pin->previous, &now);
        if (rc < 0) {
            char text[SET_TEXT_SIZE];
            return numaperf__fail(rc, -rc, "sched_setaffinity",
                                  "the old affinity, PUs %s, cannot be put back",
                                  set_text(&pin->previous, text, sizeof(text)));
        }
    }
    pin->thread_id = 0;
    return 0;
}

int numaperf_get_affinity(numaperf_cpuset_t *out)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "affinity", "out must not be NULL");
    int rc = numaperf__affinity_get(0, out);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "sched_getaffinity", "the affinity cannot be read");
    return 0;
}

int numaperf_set_affinity(const numaperf_cpuset_t *cpus)
{
    if (cpus == NULL || numaperf_cpuset_count(cpus) == 0)
        return numaperf__fail(-EINVAL, 0, "affinity", "cpus is NULL or holds no PU");

    numaperf_cpuset_t applied;
    int rc = affinity_set_exactly(cpus, &applied);
    if (rc < 0) {
        char text[SET_TEXT_SIZE];
        return numaperf__fail(rc, -rc, "sched_setaffinity", "PUs %s: %s",
                              set_text(cpus, text, sizeof(text)),
                              rc == -ERANGE ? "the kernel trimmed them" : "refused");
    }
    return 0;
}
