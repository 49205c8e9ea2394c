/* SPDX-License-Identifier: MIT */
/*
 * What this process may and can do, asked before it is needed: the documented privileges and
 * settings, and live probes that do the thing once and look at the effect.
 */
#ifndef NUMAPERF_CAPABILITIES_H
#define NUMAPERF_CAPABILITIES_H

#include <numaperf/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

/* Outcome of a live probe. */
enum {
    NUMAPERF_PROBE_OK = 0,           /* done, and the effect was read back */
    NUMAPERF_PROBE_NO_PRIVILEGE = 1, /* the kernel wants a capability this process lacks */
    NUMAPERF_PROBE_SECCOMP = 2,      /* a seccomp filter refuses the system call */
    NUMAPERF_PROBE_SYSCTL = 3,       /* switched off by a kernel setting */
    NUMAPERF_PROBE_TOO_OLD = 4,      /* this kernel does not have it */
    NUMAPERF_PROBE_FAILED = 5,       /* anything else; see the summary */
    NUMAPERF_PROBE_NOT_ASKED = 6     /* not tried: nobody asked for it */
};

typedef struct numaperf_capabilities {
    uint32_t size;                /* bytes of this struct the caller knows; set by _INIT */
    bool strict_memory_binding;   /* CAP_SYS_ADMIN is effective */
    bool strict_cpu_affinity;     /* CAP_SYS_NICE is effective */
    bool memory_locking;          /* CAP_IPC_LOCK is effective */
    bool numa_balancing_disabled; /* kernel.numa_balancing is 0, or the kernel has none */
    uint32_t numa_node_count;     /* nodes with memory that this process may use */
    uint32_t probe_mbind;         /* NUMAPERF_PROBE_*: mbind of one page, policy read back */
    uint32_t probe_page_query;    /* move_pages query of a touched page */
    uint32_t probe_affinity;      /* own thread to one PU, read back, restored */
    uint32_t probe_io_uring;      /* a ring is created and completes a NOP */
    uint32_t probe_iowq_affinity; /* io-wq affinity registered, a worker's mask read back */
    int32_t errno_mbind;          /* the probe's errno, positive; 0 when it is OK */
    int32_t errno_page_query;
    int32_t errno_affinity;
    int32_t errno_io_uring;
    int32_t errno_iowq_affinity;
} numaperf_capabilities_t;

#define NUMAPERF_CAPABILITIES_INIT                                                   \
    {                                                                                \
        sizeof(numaperf_capabilities_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/**
 * Look at privileges and settings, and run every live probe once.
 *
 * The calling thread's affinity is changed and restored during the call. A probe that fails is
 * not an error of this function.
 *
 * Returns:  0; -EINVAL `out` is NULL or its size is shorter than the first release's.
 * Owner:    caller memory.
 * Threads:  any.
 * Source:   capabilities(7), seccomp(2), Documentation/admin-guide/sysctl/kernel.rst.
 */
NUMAPERF_API int numaperf_capabilities_detect(numaperf_capabilities_t *out);

/**
 * Whether everything that hard mode documents as required is there.
 *
 * Returns:  true when numaperf_capabilities_missing_for_hard_mode() lists nothing.
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_capabilities_supports_hard_mode(const numaperf_capabilities_t *caps);

/**
 * What hard mode needs and this process lacks, one line of plain words each.
 *
 * Up to `max` pointers to constant strings go to `out`, which may be NULL when `max` is 0.
 *
 * Returns:  how many are missing, also when they did not all fit.
 * Owner:    the strings are the library's.
 * Threads:  any.
 */
NUMAPERF_API size_t numaperf_capabilities_missing_for_hard_mode(const numaperf_capabilities_t *caps,
                                                                const char **out, size_t max);

/**
 * All of it as text, one line an item, as snprintf does.
 *
 * Units:    bytes.
 * Returns:  the length of the whole text, also when it did not fit; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_capabilities_summary(const numaperf_capabilities_t *caps, char *buf,
                                               size_t size);

/**
 * The name of a NUMAPERF_PROBE_* outcome: "ok", "no privilege", "seccomp", ...
 *
 * Returns:  a constant string; "unknown" for a number that is no outcome.
 * Owner:    the library.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_probe_name(uint32_t probe);

NUMAPERF_END_DECLS
#endif
