/* SPDX-License-Identifier: MIT */
/*
 * Any text to the list readers. What is accepted must mean the same to an independent reading, and
 * must survive being written and read again; what is refused must leave the output alone.
 */
#include <numaperf/cpuset.h>

#include "fuzz.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The slow, obvious reading of a list that was accepted: every id is named by some item. */
static void check_meaning(const char *list, const numaperf_cpuset_t *set)
{
    numaperf_cpuset_t expected = {{0}};
    const char *at = list;
    while (*at >= '0' && *at <= '9') {
        char *end = NULL;
        long first = strtol(at, &end, 10);
        long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        for (long id = first; id <= last; id++)
            check(numaperf_cpuset_add(&expected, (int)id) == 0);
        at = *end == ',' ? end + 1 : end;
    }
    check(*at == '\0' || strcmp(at, "\n") == 0);
    check(numaperf_cpuset_equal(&expected, set));
}

static void check_round_trip(const numaperf_cpuset_t *set)
{
    int length = numaperf_cpuset_format(set, NULL, 0);
    check(length >= 0);
    char *text = malloc((size_t)length + 1);
    check(text != NULL);
    check(numaperf_cpuset_format(set, text, (size_t)length + 1) == length);
    numaperf_cpuset_t again;
    check(numaperf_cpuset_parse(text, &again) == 0);
    check(numaperf_cpuset_equal(set, &again));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *list = malloc(size + 1);
    check(list != NULL);
    if (size > 0)
        memcpy(list, data, size);
    list[size] = '\0';

    numaperf_cpuset_t set, before;
    memset(&set, 0x5a, sizeof(set));
    before = set;
    int rc = numaperf_cpuset_parse(list, &set);
    check(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        check_meaning(list, &set);
        check_round_trip(&set);
    } else {
        check(numaperf_cpuset_equal(&set, &before));
    }

    /* Nodes are the same grammar with a lower limit. */
    numaperf_nodemask_t mask;
    int node_rc = numaperf_nodemask_parse(list, &mask);
    if (rc != 0)
        check(node_rc != 0);
    if (node_rc == 0) {
        check(numaperf_nodemask_count(&mask) == numaperf_cpuset_count(&set));
        check(numaperf_cpuset_next(&set, NUMAPERF_NODE_MAX - 1) == -1);
    }
    free(list);
    return 0;
}
