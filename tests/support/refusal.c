/* SPDX-License-Identifier: MIT */
#include "support/refusal.h"

#include "support/census.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf/capabilities.h>
#include <numaperf/error.h>

#include <stdio.h>
#include <string.h>

#define BALANCING "/proc/sys/kernel/numa_balancing"
#define WORD_BUFFERS 8

const char *refusal_word(const char *format, int a, int b)
{
    static char buffers[WORD_BUFFERS][96];
    static unsigned next;
    char *buffer = buffers[next++ % WORD_BUFFERS];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(buffer, sizeof(buffers[0]), format, a, b);
#pragma GCC diagnostic pop
    return buffer;
}

numaperf_rt_config_t refusal_hard_config(void)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = NUMAPERF_MODE_HARD;
    config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    return config;
}

static void refusal_print(int rc)
{
    const numaperf_error_t *error = numaperf_last_error();
    (void)fprintf(stderr, "%s (%s), errno %s, %s: %s\n", rc == 0 ? "started" : "refused",
                  numaperf_err_name(rc), numaperf_err_name(-error->sys_errno), error->operation,
                  error->reason);
}

/* Tasks on every node, then nothing is left. */
static void refusal_use(numaperf_rt_t *rt, const struct census *before)
{
    atomic_int ran = 0;
    int count = numaperf_rt_each_node(rt, runtime_count_task, &ran);
    CHECK(count > 0 && runtime_reaches(&ran, count));
    numaperf_rt_destroy(rt);
    CHECK(census_returns_to(before));
}

void refusal_warm_up(void)
{
    census_prepare();
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.audit_interval_ms = 60000; /* the auditor's thread, too: its stack is kept */
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    atomic_int ran = 0;
    CHECK(numaperf_rt_each_node(rt, runtime_count_task, &ran) > 0);
    numaperf_rt_destroy(rt);
}

static bool refusal_said(const struct refusal *refusal, const numaperf_error_t *error)
{
    bool said = error->operation[0] != '\0' &&
                (refusal->operation == NULL || strcmp(error->operation, refusal->operation) == 0);
    said =
        said && (refusal->sys_errno == REFUSAL_SOME_ERRNO ? error->sys_errno > 0
                                                          : error->sys_errno == refusal->sys_errno);
    for (size_t i = 0; i < REFUSAL_WORDS_MAX && refusal->words[i] != NULL; i++) {
        bool has_word = strstr(error->reason, refusal->words[i]) != NULL;
        if (!has_word)
            (void)fprintf(stderr, "without \"%s\":\n", refusal->words[i]);
        said = said && has_word;
    }
    return said && (refusal->not_word == NULL || strstr(error->reason, refusal->not_word) == NULL);
}

void refusal_check(const numaperf_rt_config_t *config, const struct refusal *refusal)
{
    struct census before = census_take();
    numaperf_rt_t *rt = NULL;
    int rc = numaperf_rt_start(config, &rt);
    const numaperf_error_t *error = numaperf_last_error();
    bool said = rc == refusal->code && refusal_said(refusal, error);
    if (!said)
        refusal_print(rc);
    CHECK(rc == refusal->code);
    CHECK(rt == NULL);
    CHECK(error->code == rc);
    CHECK(said);
    CHECK(census_returns_to(&before));
}

void refusal_soft_start(numaperf_rt_config_t config)
{
    config.mode = NUMAPERF_MODE_SOFT;
    struct census before = census_take();
    numaperf_rt_t *rt = NULL;
    int rc = numaperf_rt_start(&config, &rt);
    if (rc < 0)
        refusal_print(rc);
    CHECK(rc == 0);
    refusal_use(rt, &before);
}

void refusal_hard_start(const numaperf_rt_config_t *config)
{
    struct census before = census_take();
    numaperf_rt_t *rt = NULL;
    int rc = numaperf_rt_start(config, &rt);
    if (rc < 0)
        refusal_print(rc);
    CHECK(rc == 0);
    numaperf_enforcement_t level;
    CHECK(numaperf_rt_enforcement(rt, &level) == 0 && numaperf_is_strict(&level));
    refusal_use(rt, &before);
}

bool refusal_balancing_is_on(void)
{
    FILE *file = fopen(BALANCING, "re");
    int value = 0;
    if (file == NULL)
        return false;
    if (fscanf(file, "%d", &value) != 1)
        value = 0;
    (void)fclose(file);
    return value != 0;
}

bool refusal_set_balancing(bool on)
{
    FILE *file = fopen(BALANCING, "we");
    if (file == NULL)
        return false;
    bool is_written = fputs(on ? "1" : "0", file) >= 0;
    return fclose(file) == 0 && is_written;
}

/* Asked once: that takes long in a guest, and no case of this process changes the answers. */
static const numaperf_capabilities_t *capabilities(void)
{
    static numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    static bool is_known;
    if (!is_known)
        CHECK(numaperf_capabilities_detect(&caps) == 0);
    is_known = true;
    return &caps;
}

bool refusal_has_ring(void)
{
    if (capabilities()->probe_io_uring == NUMAPERF_PROBE_OK)
        return true;
    printf("skipped: there is no io_uring here\n");
    return false;
}

bool refusal_machine_can(void)
{
    const numaperf_capabilities_t caps = *capabilities();
    if (caps.probe_mbind == NUMAPERF_PROBE_OK && caps.probe_page_query == NUMAPERF_PROBE_OK &&
        caps.probe_affinity == NUMAPERF_PROBE_OK &&
        (caps.probe_io_uring != NUMAPERF_PROBE_OK ||
         caps.probe_iowq_affinity == NUMAPERF_PROBE_OK) &&
        !refusal_balancing_is_on())
        return true;
    char text[2048];
    (void)numaperf_capabilities_summary(&caps, text, sizeof(text));
    printf("skipped: placement is not possible here:\n%s", text);
    return false;
}

void refusal_machine_open(struct refusal_machine *machine)
{
    CHECK(numaperf_topology_discover(&machine->topology) == 0);
    CHECK(numaperf_topology_usable_nodes(machine->topology, &machine->usable) == 0);
}

void refusal_machine_close(struct refusal_machine *machine)
{
    numaperf_topology_destroy(machine->topology);
    machine->topology = NULL;
}

int refusal_last_node(const struct refusal_machine *machine)
{
    int last = -1;
    for (int node = numaperf_nodemask_next(&machine->usable, -1); node >= 0;
         node = numaperf_nodemask_next(&machine->usable, node))
        last = node;
    return last;
}

int refusal_pu_count(const numaperf_topology_t *topology, int node)
{
    numaperf_cpuset_t cpus;
    CHECK(numaperf_topology_node_cpus(topology, node, &cpus) == 0);
    return numaperf_cpuset_count(&cpus);
}

bool refusal_has_two_nodes(void)
{
    struct refusal_machine machine;
    refusal_machine_open(&machine);
    int count = numaperf_nodemask_count(&machine.usable);
    refusal_machine_close(&machine);
    if (count < 2)
        printf("skipped: needs two nodes with PUs and memory\n");
    return count >= 2;
}
