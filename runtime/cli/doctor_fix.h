/* SPDX-License-Identifier: MIT */
/*
 * What to do about a requirement that is not met: exact commands, files and settings. Every
 * function appends to a JSON array of {"where": ..., "text": ...}; lines of a text end with '\n',
 * the last one without.
 */
#ifndef NUMAPERF_CLI_DOCTOR_FIX_H
#define NUMAPERF_CLI_DOCTOR_FIX_H

#include <jansson.h>

/* System calls as a profile names them, most of a kind. */
enum fix_calls {
    FIX_CALLS_MEMORY = 0,
    FIX_CALLS_QUERY,
    FIX_CALLS_AFFINITY,
    FIX_CALLS_RING,
    FIX_CALLS_AUDIT,
    FIX_CALLS_COUNT
};

/* A setting of the machine, for now and for good. */
void fix_sysctl(json_t *fixes, const char *name, int value);
/* The two privileges, or doing without. */
void fix_privileges(json_t *fixes);
/* Calls that a seccomp filter refuses. */
void fix_seccomp(json_t *fixes, enum fix_calls calls);
/* PUs or memory nodes that a cpuset keeps from us. */
void fix_cpuset(json_t *fixes);
/* Memory that a cgroup or a node has too little of. */
void fix_memory(json_t *fixes);
/* One line by itself. */
__attribute__((format(printf, 3, 4))) void fix_line(json_t *fixes, const char *where,
                                                    const char *format, ...);

#endif
