/* SPDX-License-Identifier: MIT */
/*
 * What this process may and can do: effective privileges, kernel settings, and what the live
 * probes' answers mean.
 *
 * A refusal is explained by the first cause that is known to hold: a sysctl, then a seccomp
 * filter, then a missing privilege. Nothing is remembered between calls, since privileges, filters
 * and settings change. The calling thread is the one that is looked at; any thread may ask.
 *
 * Source: capabilities(7), seccomp(2), Documentation/admin-guide/sysctl/kernel.rst.
 */
#include "place/capability.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "place/kernel_text.h"
#include "place/probe.h"
#include "topo/textfile.h"

#include <numaperf/cpuset.h>

#include <errno.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The size of numaperf_capabilities_t in the first release. */
#define CAPS_SIZE_MIN 52u

/* The sysctl io_uring_disabled: 1 lets privileged processes and one group through, 2 nobody. */
#define IO_URING_RESTRICTED 1
#define IO_URING_OFF 2

/* Requirements that missing_for_hard_mode() can list. */
#define REQUIREMENT_COUNT 6

_Static_assert(sizeof(numaperf_capabilities_t) == CAPS_SIZE_MIN, "part of the ABI");
_Static_assert(offsetof(numaperf_capabilities_t, strict_memory_binding) == 4, "part of the ABI");
_Static_assert(offsetof(numaperf_capabilities_t, numa_node_count) == 8, "part of the ABI");
_Static_assert(offsetof(numaperf_capabilities_t, probe_mbind) == 12, "part of the ABI");
_Static_assert(offsetof(numaperf_capabilities_t, errno_mbind) == 32, "part of the ABI");

static const char text_sys_admin[] =
    "CAP_SYS_ADMIN is not effective: run as root, grant it with setcap or AmbientCapabilities=, "
    "or waive it with NUMAPERF_RT_WAIVE_PRIVILEGES";
static const char text_sys_nice[] =
    "CAP_SYS_NICE is not effective: run as root, grant it with setcap or AmbientCapabilities=, "
    "or waive it with NUMAPERF_RT_WAIVE_PRIVILEGES";
static const char text_both[] =
    "CAP_SYS_ADMIN and CAP_SYS_NICE are not effective: run as root, grant them with setcap or "
    "AmbientCapabilities=, or waive them with NUMAPERF_RT_WAIVE_PRIVILEGES";
static const char text_balancing[] =
    "kernel.numa_balancing is not 0: run `sysctl kernel.numa_balancing=0` as root";
static const char text_mbind[] =
    "mbind does not work: allow mbind, set_mempolicy and get_mempolicy in the seccomp profile, on "
    "a kernel built with NUMA";
static const char text_page_query[] =
    "move_pages does not work: allow it in the seccomp profile, on a kernel built with NUMA";
static const char text_affinity[] =
    "threads cannot be pinned: allow sched_setaffinity and sched_getaffinity in the seccomp "
    "profile";

/* ---- reading the process and the kernel ---- */

static bool privilege_is_effective(unsigned int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    memset(data, 0, sizeof(data));
    if (syscall(SYS_capget, &header, data) < 0)
        return false; /* what cannot be seen is not claimed */
    return (data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

/* The value of "name:" in the calling thread's status file, for the caller to free(), or NULL. */
static char *status_read(const char *name)
{
    char *status = NULL;
    if (numaperf__textfile_read("/proc/thread-self/status", NUMAPERF_KERNEL_TEXT_MAX, &status,
                                NULL) < 0)
        return NULL;
    const char *field = numaperf__textfile_field(status, name);
    char *value = field == NULL ? NULL : strdup(field);
    free(status);
    return value;
}

static bool seccomp_filters_us(void)
{
    char *value = status_read("Seccomp");
    if (value != NULL) {
        bool is_filtered = strcmp(value, "0") != 0;
        free(value);
        return is_filtered;
    }
    /* Without /proc; a kernel built without seccomp says EINVAL, only a filter says else. */
    int mode = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
    return mode > 0 || (mode < 0 && errno != EINVAL);
}

static int sysctl_read(const char *path, long *out_value)
{
    char text[64];
    int rc = numaperf__kernel_text_read(path, text, sizeof(text));
    if (rc < 0)
        return rc;
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text)
        return -EIO;
    *out_value = value;
    return 0;
}

int numaperf__numa_balancing(void)
{
    long value = 0;
    int rc = sysctl_read("/proc/sys/kernel/numa_balancing", &value);
    if (rc == 0)
        return (int)value;
    /* An absent file means an absent feature only where its directory is there to be seen. */
    bool is_absent = rc == -ENOENT && access("/proc/sys/kernel", F_OK) == 0;
    return is_absent ? 0 : rc;
}

/* Nodes that have memory and that this thread may use; empty when the kernel does not say. */
static void memory_nodes_read(numaperf_nodemask_t *out_nodes)
{
    numaperf_nodemask_zero(out_nodes);
    char *allowed = status_read("Mems_allowed_list");
    if (allowed != NULL && numaperf_nodemask_parse(allowed, out_nodes) < 0)
        numaperf_nodemask_zero(out_nodes);
    free(allowed);

    char *text = NULL;
    numaperf_nodemask_t with_memory;
    if (numaperf__textfile_read("/sys/devices/system/node/has_memory", NUMAPERF_KERNEL_TEXT_MAX,
                                &text, NULL) == 0 &&
        numaperf_nodemask_parse(text, &with_memory) == 0)
        numaperf_nodemask_intersect(out_nodes, &with_memory, out_nodes);
    free(text);
}

/* ---- what a probe's answer means ---- */

static uint32_t probe_outcome(int sys_errno)
{
    switch (sys_errno) {
    case 0:
        return NUMAPERF_PROBE_OK;
    case EPERM:
    case EACCES:
        return seccomp_filters_us() ? NUMAPERF_PROBE_SECCOMP : NUMAPERF_PROBE_NO_PRIVILEGE;
    case ENOSYS:
        return seccomp_filters_us() ? NUMAPERF_PROBE_SECCOMP : NUMAPERF_PROBE_TOO_OLD;
    default:
        return NUMAPERF_PROBE_FAILED;
    }
}

/* The kernel wants the privilege in the first user namespace; one in a container's is not it. */
static bool is_initial_user_namespace(void)
{
    char map[256];
    unsigned long inside = 0;
    unsigned long outside = 0;
    unsigned long count = 0;
    if (numaperf__kernel_text_read("/proc/self/uid_map", map, sizeof(map)) < 0)
        return true; /* a kernel without user namespaces */
    return sscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 &&
           outside == 0 && count == UINT32_MAX;
}

static bool is_in_group(gid_t group)
{
    if (getegid() == group)
        return true;
    int count = getgroups(0, NULL);
    if (count <= 0)
        return false;
    gid_t *groups = calloc((size_t)count, sizeof(*groups));
    if (groups == NULL)
        return false;
    bool is_member = false;
    count = getgroups(count, groups);
    for (int i = 0; i < count; i++)
        is_member = is_member || groups[i] == group;
    free(groups);
    return is_member;
}

/* Whether kernel.io_uring_disabled keeps this process out. */
static bool io_uring_is_switched_off(void)
{
    long disabled = 0;
    long group = -1;
    if (sysctl_read("/proc/sys/kernel/io_uring_disabled", &disabled) < 0)
        return false;
    if (disabled < IO_URING_RESTRICTED)
        return false;
    if (disabled >= IO_URING_OFF)
        return true;
    if (privilege_is_effective(CAP_SYS_ADMIN) && is_initial_user_namespace())
        return false;
    if (sysctl_read("/proc/sys/kernel/io_uring_group", &group) < 0 || group < 0)
        return true;
    return !is_in_group((gid_t)group);
}

uint32_t numaperf__io_uring_probe_outcome(int sys_errno)
{
    NUMAPERF_ASSERT(sys_errno >= 0);
    if (sys_errno == EPERM && io_uring_is_switched_off())
        return NUMAPERF_PROBE_SYSCTL;
    if (sys_errno == EINVAL)
        return NUMAPERF_PROBE_TOO_OLD;
    return probe_outcome(sys_errno);
}

static void probe_store(int rc, uint32_t *out_outcome, int32_t *out_errno)
{
    NUMAPERF_ASSERT(rc <= 0);
    *out_errno = -rc;
    *out_outcome = probe_outcome(-rc);
}

static void ring_probe_store(numaperf_capabilities_t *caps)
{
    struct numaperf__ring_probe probe;
    numaperf__probe_ring(&probe);

    if (probe.setup < 0) {
        caps->errno_io_uring = -probe.setup;
        caps->probe_io_uring = numaperf__io_uring_probe_outcome(-probe.setup);
    } else {
        probe_store(probe.nop, &caps->probe_io_uring, &caps->errno_io_uring);
    }
    if (caps->probe_io_uring != NUMAPERF_PROBE_OK) {
        /* Without a ring there is no io-wq, for the same reason. */
        caps->probe_iowq_affinity = caps->probe_io_uring;
        caps->errno_iowq_affinity = caps->errno_io_uring;
        return;
    }
    int rc = probe.iowq_register < 0 ? probe.iowq_register : probe.iowq_effect;
    probe_store(rc, &caps->probe_iowq_affinity, &caps->errno_iowq_affinity);
    if (probe.iowq_register == -EINVAL)
        caps->probe_iowq_affinity = NUMAPERF_PROBE_TOO_OLD; /* an unknown register operation */
}

/* ---- the public functions ---- */

int numaperf_capabilities_detect(numaperf_capabilities_t *out)
{
    if (out == NULL || out->size < CAPS_SIZE_MIN)
        return numaperf__fail(-EINVAL, 0, "capabilities",
                              "out is NULL or was not started from NUMAPERF_CAPABILITIES_INIT");

    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    caps.strict_memory_binding = privilege_is_effective(CAP_SYS_ADMIN);
    caps.strict_cpu_affinity = privilege_is_effective(CAP_SYS_NICE);
    caps.memory_locking = privilege_is_effective(CAP_IPC_LOCK);
    caps.numa_balancing_disabled = numaperf__numa_balancing() == 0;

    numaperf_nodemask_t nodes;
    memory_nodes_read(&nodes);
    int node = numaperf_nodemask_next(&nodes, -1);
    if (node < 0)
        (void)numaperf_nodemask_add(&nodes, 0); /* a kernel without NUMA is one node */
    caps.numa_node_count = (uint32_t)numaperf_nodemask_count(&nodes);

    probe_store(numaperf__probe_mbind(node < 0 ? 0 : node), &caps.probe_mbind, &caps.errno_mbind);
    probe_store(numaperf__probe_page_query(), &caps.probe_page_query, &caps.errno_page_query);
    probe_store(numaperf__probe_affinity(), &caps.probe_affinity, &caps.errno_affinity);
    ring_probe_store(&caps);
    return numaperf__result_store(out, CAPS_SIZE_MIN, &caps, sizeof(caps), "capabilities");
}

/* What the caller's struct says; a struct that says nothing has nothing. */
static numaperf_capabilities_t caps_load(const numaperf_capabilities_t *caps)
{
    numaperf_capabilities_t known;
    memset(&known, 0, sizeof(known));
    if (caps != NULL && caps->size >= CAPS_SIZE_MIN)
        memcpy(&known, caps, sizeof(known));
    return known;
}

size_t numaperf_capabilities_missing_for_hard_mode(const numaperf_capabilities_t *caps,
                                                   const char **out, size_t max)
{
    numaperf_capabilities_t known = caps_load(caps);
    const struct {
        bool is_there;
        const char *text;
    } requirements[REQUIREMENT_COUNT] = {
        {known.strict_memory_binding, text_sys_admin},
        {known.strict_cpu_affinity, text_sys_nice},
        {known.numa_balancing_disabled, text_balancing},
        {known.probe_mbind == NUMAPERF_PROBE_OK, text_mbind},
        {known.probe_page_query == NUMAPERF_PROBE_OK, text_page_query},
        {known.probe_affinity == NUMAPERF_PROBE_OK, text_affinity},
    };

    size_t count = 0;
    for (size_t i = 0; i < REQUIREMENT_COUNT; i++) {
        if (requirements[i].is_there)
            continue;
        if (out != NULL && count < max)
            out[count] = requirements[i].text;
        count++;
    }
    return count;
}

bool numaperf_capabilities_supports_hard_mode(const numaperf_capabilities_t *caps)
{
    return numaperf_capabilities_missing_for_hard_mode(caps, NULL, 0) == 0;
}

int numaperf__hard_mode_check(bool waive)
{
    bool has_admin = waive || privilege_is_effective(CAP_SYS_ADMIN);
    bool has_nice = waive || privilege_is_effective(CAP_SYS_NICE);
    if (!has_admin || !has_nice)
        return numaperf__fail(NUMAPERF_E_HARD_MODE, EPERM, "hard mode", "%s",
                              has_nice    ? text_sys_admin
                              : has_admin ? text_sys_nice
                                          : text_both);
    int balancing = numaperf__numa_balancing();
    if (balancing < 0)
        return numaperf__fail(NUMAPERF_E_HARD_MODE, -balancing, "hard mode",
                              "kernel.numa_balancing cannot be read, and must be known to be 0: %s",
                              numaperf_strerror(balancing));
    if (balancing != 0)
        return numaperf__fail(NUMAPERF_E_HARD_MODE, 0, "hard mode", "%s (it is %d)", text_balancing,
                              balancing);
    return 0;
}

const char *numaperf_probe_name(uint32_t probe)
{
    switch (probe) {
    case NUMAPERF_PROBE_OK:
        return "ok";
    case NUMAPERF_PROBE_NO_PRIVILEGE:
        return "no privilege";
    case NUMAPERF_PROBE_SECCOMP:
        return "seccomp";
    case NUMAPERF_PROBE_SYSCTL:
        return "sysctl";
    case NUMAPERF_PROBE_TOO_OLD:
        return "too old";
    case NUMAPERF_PROBE_FAILED:
        return "failed";
    case NUMAPERF_PROBE_NOT_ASKED:
        return "not asked";
    default:
        return "unknown";
    }
}

/* ---- the summary ---- */

/* Text that grows; like snprintf, it counts what did not fit. */
struct text {
    char *buf;
    size_t size;
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void text_add(struct text *text, const char *format,
                                                           ...)
{
    size_t used = text->length < text->size ? text->length : text->size;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(used < text->size ? text->buf + used : NULL, text->size - used, format, args);
    va_end(args);
    NUMAPERF_ASSERT(n >= 0);
    text->length += (size_t)n;
}

static void text_add_probe(struct text *text, const char *what, uint32_t probe, int32_t sys_errno)
{
    if (probe == NUMAPERF_PROBE_OK)
        text_add(text, "%s: ok\n", what);
    else
        text_add(text, "%s: %s (%s)\n", what, numaperf_probe_name(probe),
                 numaperf_err_name(-sys_errno));
}

int numaperf_capabilities_summary(const numaperf_capabilities_t *caps, char *buf, size_t size)
{
    if (caps == NULL || caps->size < CAPS_SIZE_MIN || (buf == NULL && size > 0))
        return numaperf__fail(-EINVAL, 0, "capabilities",
                              "caps is NULL or was never filled, or buf is NULL");

    struct text text = {buf, size, 0};
    text_add(&text, "CAP_SYS_ADMIN (strict memory binding): %s\n",
             caps->strict_memory_binding ? "yes" : "no");
    text_add(&text, "CAP_SYS_NICE (strict CPU affinity): %s\n",
             caps->strict_cpu_affinity ? "yes" : "no");
    text_add(&text, "CAP_IPC_LOCK (memory locking): %s\n", caps->memory_locking ? "yes" : "no");
    text_add(&text, "NUMA balancing: %s\n", caps->numa_balancing_disabled ? "off" : "on");
    text_add(&text, "nodes with memory: %u\n", (unsigned int)caps->numa_node_count);
    text_add_probe(&text, "mbind", caps->probe_mbind, caps->errno_mbind);
    text_add_probe(&text, "move_pages query", caps->probe_page_query, caps->errno_page_query);
    text_add_probe(&text, "thread affinity", caps->probe_affinity, caps->errno_affinity);
    text_add_probe(&text, "io_uring", caps->probe_io_uring, caps->errno_io_uring);
    text_add_probe(&text, "io-wq affinity", caps->probe_iowq_affinity, caps->errno_iowq_affinity);

    const char *missing[REQUIREMENT_COUNT];
    size_t count = numaperf_capabilities_missing_for_hard_mode(caps, missing, REQUIREMENT_COUNT);
    text_add(&text, "hard mode: %s\n", count == 0 ? "yes" : "no");
    for (size_t i = 0; i < count; i++)
        text_add(&text, "hard mode needs: %s\n", missing[i]);
    return (int)text.length;
}
