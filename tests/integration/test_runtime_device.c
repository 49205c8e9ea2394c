/* SPDX-License-Identifier: MIT */
/* A runtime on the nodes of a device. */
#include <numaperf/device.h>
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/runtimes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Start on the nodes of `name`, which run exactly those; returns what the library said of them. */
static int runtime_on(const char *name, numaperf_nodemask_t *out_nodes)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    int rc = numaperf_device_nodes(name, &box.config.nodes);
    assert_true(rc >= 0);
    assert_int_equal(runtime_box_open(&box, NULL), 0);
    assert_int_equal(numaperf_rt_nodes(box.rt, out_nodes), 0);
    assert_true(numaperf_nodemask_equal(out_nodes, &box.config.nodes));
    for (uint32_t i = 0; i < numaperf_rt_worker_count(box.rt, NUMAPERF_NODE_ANY); i++)
        assert_true(numaperf_nodemask_contains(
            out_nodes, numaperf_worker_node(numaperf_rt_worker(box.rt, i))));
    runtime_box_close(&box);
    return rc;
}

/* Whatever a device's node is, known or not, a runtime starts with the answer. */
static void a_runtime_starts_on_the_nodes_of_each_device(void **state)
{
    (void)state;
    numaperf_device_list_t *list = NULL;
    assert_int_equal(numaperf_device_list_create(&list), 0);
    size_t count = numaperf_device_list_count(list);
    for (size_t i = 0; i < count && i < 8; i++) {
        numaperf_device_t device = NUMAPERF_DEVICE_INIT;
        assert_int_equal(numaperf_device_list_get(list, i, &device), 0);
        numaperf_nodemask_t nodes;
        int known = runtime_on(device.name, &nodes);
        assert_int_equal(known, numaperf_nodemask_count(&device.nodes));
        if (known > 0)
            assert_true(numaperf_nodemask_equal(&nodes, &device.nodes));
    }
    numaperf_device_list_destroy(list);
}

static void a_runtime_of_the_guests_nic_is_on_node_1_alone(void **state)
{
    (void)state;
    const char *guest = getenv("VM_TOPOLOGY");
    if (guest == NULL || strcmp(guest, "2node-nic") != 0) {
        print_message("needs the guest 2node-nic: not checked here\n");
        skip();
    }
    numaperf_nodemask_t nodes;
    numaperf_nodemask_t one = numaperf_nodemask_single(1);
    assert_int_equal(runtime_on("eth0", &nodes), 1);
    assert_true(numaperf_nodemask_equal(&nodes, &one));
    assert_int_equal(runtime_on("lo", &nodes), 0);
    assert_int_equal(numaperf_nodemask_count(&nodes), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_runtime_starts_on_the_nodes_of_each_device),
        cmocka_unit_test(a_runtime_of_the_guests_nic_is_on_node_1_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
