/* SPDX-License-Identifier: MIT */
/*
 * Starts that must be refused: what the error must say, that nothing stays behind, and that a soft
 * start right after works. For scenes in children (sandbox.h); they end the child when it is not
 * so.
 */
#ifndef TESTS_SUPPORT_REFUSAL_H
#define TESTS_SUPPORT_REFUSAL_H

#include <numaperf/runtime.h>
#include <numaperf/topology.h>

#include <stdbool.h>
#include <stdint.h>

#define REFUSAL_WORDS_MAX 4
#define REFUSAL_SOME_ERRNO (-1) /* any but none */

struct refusal {
    int code;
    int sys_errno;
    const char *operation;                /* NULL: of several steps the first that notices */
    const char *words[REFUSAL_WORDS_MAX]; /* each stands in the reason */
    const char *not_word;                 /* or NULL */
};

/* Text for a word, with up to two numbers; in one of a few buffers. */
const char *refusal_word(const char *format, int a, int b);

/* What a first start leaves behind by nature is not counted: before anything is refused. */
void refusal_warm_up(void);

/* Hard mode, privileges waived. */
numaperf_rt_config_t refusal_hard_config(void);

/* Start it: it must be refused so, and leave nothing. */
void refusal_check(const numaperf_rt_config_t *config, const struct refusal *refusal);

/* The same in soft mode must start and run a task on every node; ends with nothing left. */
void refusal_soft_start(numaperf_rt_config_t config);
/* In hard mode it must start now, strict, and run a task on every node. */
void refusal_hard_start(const numaperf_rt_config_t *config);

/* kernel.numa_balancing; false when it is off or absent. */
bool refusal_balancing_is_on(void);
bool refusal_set_balancing(bool on);

/* Whether hard mode with privileges waived can start here at all; says why it cannot. */
bool refusal_machine_can(void);
/* Whether there is io_uring; says so when there is not. */
bool refusal_has_ring(void);

/* This machine as the library sees it now. */
struct refusal_machine {
    numaperf_topology_t *topology;
    numaperf_nodemask_t usable; /* nodes with PUs and memory */
};
void refusal_machine_open(struct refusal_machine *machine);
void refusal_machine_close(struct refusal_machine *machine);
/* The last of the usable nodes. */
int refusal_last_node(const struct refusal_machine *machine);
int refusal_pu_count(const numaperf_topology_t *topology, int node);
/* Whether there are two usable nodes; says so when there are not. */
bool refusal_has_two_nodes(void);

#endif
