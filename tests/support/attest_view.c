/* SPDX-License-Identifier: MIT */
#include "support/attest_view.h"

#include "support/witness.h"

#include <numaperf/error.h>

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- documents ---- */

json_t *attest(numaperf_rt_t *rt)
{
    char *text = NULL;
    int rc = numaperf_rt_attest(rt, &text);
    if (rc < 0)
        print_error("%s\n", numaperf_last_error()->reason);
    assert_int_equal(rc, 0);
    assert_int_equal(text[strlen(text) - 1], '\n');
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    assert_non_null(root);
    return root;
}

static json_t *step_into(json_t *at, const char *key)
{
    if (json_is_object(at))
        return json_object_get(at, key);
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(at, index, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name != NULL && strcmp(name, key) == 0)
            return item;
    }
    return json_array_get(at, strtoul(key, NULL, 10));
}

json_t *at_path(json_t *root, const char *format, ...)
{
    char path[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(path, sizeof(path), format, args);
    va_end(args);
    char whole[160];
    (void)snprintf(whole, sizeof(whole), "%s", path);
    char *rest = NULL;
    for (char *key = strtok_r(path, "/", &rest); key != NULL && root != NULL;
         key = strtok_r(NULL, "/", &rest))
        root = step_into(root, key);
    if (root == NULL)
        print_error("there is no %s\n", whole);
    assert_non_null(root);
    return root;
}

const char *text_of(json_t *value)
{
    assert_true(json_is_string(value));
    return json_string_value(value);
}

uint64_t number_of(json_t *value)
{
    assert_true(json_is_integer(value));
    return (uint64_t)json_integer_value(value);
}

bool verdict_is(json_t *root, uint32_t worker, const char *part, const char *when,
                const char *verdict)
{
    const char *found =
        text_of(at_path(root, "workers/%u/parts/%s/%s/verdict", worker, part, when));
    if (strcmp(found, verdict) != 0)
        print_message("worker %u, %s %s: %s, not %s\n", worker, part, when, found, verdict);
    return strcmp(found, verdict) == 0;
}

/* ---- runtimes ---- */

struct runtime_box box_with(numaperf_mode_t mode)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.mode = mode;
    box.config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    return box;
}

void box_open(struct runtime_box *box, const char *machine)
{
    int rc = runtime_box_open(box, machine);
    if (rc < 0)
        print_error("start: %s\n", numaperf_last_error()->reason);
    assert_int_equal(rc, 0);
}

void set_affinity(int thread_id, int cpu_only)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (cpu_only < 0 || cpu == (size_t)cpu_only)
            CPU_SET(cpu, &cpus);
    }
    assert_int_equal(sched_setaffinity(thread_id, sizeof(cpus), &cpus), 0);
}

bool has_one_pu(void)
{
    if (numaperf_cpuset_count(&witness_allowed) > 1)
        return false;
    print_message("skipped: one PU alone: no affinity is wider\n");
    return true;
}
