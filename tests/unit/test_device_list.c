/* SPDX-License-Identifier: MIT */
/* Lists of devices, their queues and interrupts, in trees made by hand. */
#include <numaperf/error.h>

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/device_tree.h"

/* ---- memory that runs out ---- */

static int allocations_left = -1; /* -1: no limit */

void *__wrap_calloc(size_t count, size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__real_malloc(size_t size);

static bool allocation_fails(void)
{
    if (allocations_left < 0)
        return false;
    if (allocations_left == 0)
        return true;
    allocations_left--;
    return false;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return allocation_fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_malloc(size_t size)
{
    return allocation_fails() ? NULL : __real_malloc(size);
}

/* ---- helpers ---- */

static numaperf_device_list_t *list_of(const char *tree)
{
    struct numaperf__device_tree at = tree_of(tree);
    numaperf_device_list_t *list = NULL;
    assert_int_equal(numaperf__device_list_of(&at, &list), 0);
    assert_non_null(list);
    return list;
}

/* ---- lists ---- */

static void a_list_has_the_devices_by_kind_and_name(void **state)
{
    (void)state;
    tree_node1("list");
    tree_link("list", "class/net/eth10", "devices/pci0000:00/0000:00:10.0/net/eth10");
    tree_link("list", "class/net/eth2", "devices/pci0000:00/0000:00:02.0/net/eth2");
    assert_int_equal(symlink("nowhere", tree_path("list", "class/net/dangling")), 0);
    tree_write("list", "devices/pci0000:00/0000:00:08.0/numa_node", "3\n");
    tree_dir("list", "devices/pci0000:00/0000:00:08.0/drm/card0/card0-DP-1");
    tree_link("list", "class/drm/card0", "devices/pci0000:00/0000:00:08.0/drm/card0");
    tree_link("list", "class/drm/card0-DP-1",
              "devices/pci0000:00/0000:00:08.0/drm/card0/card0-DP-1");
    tree_link("list", "class/drm/renderD128", "devices/pci0000:00/0000:00:08.0/drm/renderD128");
    tree_link("list", "class/accel/accel0", "devices/pci0000:00/0000:00:08.0/accel/accel0");
    tree_link("list", "class/infiniband/mlx5_0", NIC "/infiniband/mlx5_0");
    tree_link("list", "class/net/lo", VIRTUAL "/net/lo");

    static const struct {
        const char *kind, *name;
        int node;
    } wanted[] = {
        {"net", "eth0", 1},          {"net", "eth2", -1},     {"net", "eth10", -1},
        {"net", "lo", -1},           {"block", "nvme0n1", 1}, {"nvme", "nvme0", 1},
        {"infiniband", "mlx5_0", 1}, {"gpu", "card0", 3},     {"accelerator", "accel0", 3},
    };
    numaperf_device_list_t *list = list_of("list");
    assert_true(numaperf_device_list_is_complete(list));
    assert_int_equal(numaperf_device_list_count(list), sizeof(wanted) / sizeof(wanted[0]));
    for (size_t i = 0; i < numaperf_device_list_count(list); i++) {
        numaperf_device_t device = NUMAPERF_DEVICE_INIT;
        assert_int_equal(numaperf_device_list_get(list, i, &device), 0);
        assert_string_equal(device.name, wanted[i].name);
        assert_string_equal(numaperf_device_kind_name(device.kind), wanted[i].kind);
        assert_int_equal(device.node, wanted[i].node);
        assert_int_equal(numaperf_nodemask_count(&device.nodes), wanted[i].node >= 0);
        assert_int_equal(device.flags,
                         strcmp(device.name, "lo") == 0 ? NUMAPERF_DEVICE_VIRTUAL : 0);
    }
    assert_int_equal(numaperf_device_list_find(list, "nvme0n1p1"), -ENODEV);
    numaperf_device_list_destroy(list);
    assert_string_equal(numaperf_device_kind_name(0), "unknown");
}

static void a_list_of_nothing_is_empty(void **state)
{
    (void)state;
    numaperf_device_list_t *list = list_of("no-such-tree");
    assert_int_equal(numaperf_device_list_count(list), 0);
    assert_true(numaperf_device_list_is_complete(list));
    numaperf_device_list_destroy(list);
    numaperf_device_list_destroy(NULL);
    assert_int_equal(numaperf_device_list_count(NULL), 0);
    assert_false(numaperf_device_list_is_complete(NULL));
    assert_int_equal(numaperf_device_list_create(NULL), -EINVAL);
}

static void queues_and_interrupts_are_those_of_the_device_not_of_the_bridge(void **state)
{
    (void)state;
    tree_node1("irqs");
    tree_link("irqs", "class/net/eth3", "devices/pci0000:40/0000:40:00.0/0000:43:00.0/net/eth3");
    tree_write("irqs", "devices/pci0000:40/0000:40:00.0/0000:43:00.0/irq", "0\n");
    numaperf_device_list_t *list = list_of("irqs");
    numaperf_device_t nic = device_at(list, "eth0");
    assert_int_equal(nic.rx_queue_count, 2);
    assert_int_equal(nic.tx_queue_count, 1);
    assert_int_equal(nic.block_queue_count, 0);
    assert_int_equal(nic.irq_count, 3);
    numaperf_device_t disk = device_at(list, "nvme0n1");
    assert_int_equal(disk.rx_queue_count, 0);
    assert_int_equal(disk.block_queue_count, 2);
    assert_int_equal(disk.irq_count, 1); /* the line, without messages */
    assert_int_equal(device_at(list, "eth3").irq_count, 0);

    size_t index = (size_t)numaperf_device_list_find(list, "eth0");
    numaperf_device_irq_t irq = NUMAPERF_DEVICE_IRQ_INIT;
    assert_int_equal(numaperf_device_list_irq(list, index, 0, &irq), 0);
    assert_int_equal(irq.irq, 31);
    assert_cpus(&irq.affinity, "2-3");
    assert_cpus(&irq.effective, "2");
    assert_string_equal(irq.name, "virtio0-config");
    assert_int_equal(numaperf_device_list_irq(list, index, 1, &irq), 0);
    assert_int_equal(irq.irq, 32);
    assert_cpus(&irq.affinity, "0-3");
    assert_cpus(&irq.effective, "");
    assert_string_equal(irq.name, "");
    /* PU ids beyond ours are no list that could be told. */
    assert_int_equal(numaperf_device_list_irq(list, index, 2, &irq), -EINVAL);
    assert_int_equal(irq.irq, 32);
    numaperf_device_list_destroy(list);
}

static void who_gets_an_interrupt_is_read_when_asked(void **state)
{
    (void)state;
    tree_node1("moved");
    numaperf_device_list_t *list = list_of("moved");
    size_t index = (size_t)numaperf_device_list_find(list, "eth0");
    tree_write("moved", "proc/irq/31/smp_affinity_list", "7\n");
    numaperf_device_irq_t irq = NUMAPERF_DEVICE_IRQ_INIT;
    assert_int_equal(numaperf_device_list_irq(list, index, 0, &irq), 0);
    assert_cpus(&irq.affinity, "7");
    assert_int_equal(unlink(tree_path("moved", "proc/irq/31/smp_affinity_list")), 0);
    assert_int_equal(numaperf_device_list_irq(list, index, 0, &irq), -ENODEV);
    assert_non_null(strstr(numaperf_last_error()->reason, "31"));
    assert_cpus(&irq.affinity, "7");
    numaperf_device_list_destroy(list);
}

static void an_index_or_a_struct_that_is_too_small_is_refused(void **state)
{
    (void)state;
    tree_node1("small");
    numaperf_device_list_t *list = list_of("small");
    size_t count = numaperf_device_list_count(list);
    numaperf_device_t device = NUMAPERF_DEVICE_INIT;
    numaperf_device_irq_t irq = NUMAPERF_DEVICE_IRQ_INIT;
    assert_int_equal(numaperf_device_list_get(list, count, &device), -EINVAL);
    assert_int_equal(numaperf_device_list_get(NULL, 0, &device), -EINVAL);
    assert_int_equal(numaperf_device_list_get(list, 0, NULL), -EINVAL);
    assert_int_equal(numaperf_device_list_irq(list, count, 0, &irq), -EINVAL);
    assert_int_equal(numaperf_device_list_irq(list, 0, 3, &irq), -EINVAL);
    assert_int_equal(numaperf_device_list_irq(list, 0, 0, NULL), -EINVAL);
    device.size = sizeof(device) - 1;
    irq.size = 0;
    assert_int_equal(numaperf_device_list_get(list, 0, &device), -EINVAL);
    assert_int_equal(numaperf_device_list_irq(list, 0, 0, &irq), -EINVAL);
    assert_int_equal(device.kind, 0);
    assert_int_equal(irq.irq, 0);
    numaperf_device_list_destroy(list);
}

static void more_than_the_limits_is_cut_and_said(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i <= NUMAPERF_DEVICE_IRQ_MAX; i++) {
        (void)snprintf(name, sizeof(name), NIC "/msi_irqs/%d", i + 1);
        tree_write("many", name, "");
    }
    tree_link("many", "class/nvme/nvme0", NIC "/nvme/nvme0");
    numaperf_device_list_t *list = list_of("many");
    assert_false(numaperf_device_list_is_complete(list));
    assert_int_equal(device_at(list, "nvme0").irq_count, NUMAPERF_DEVICE_IRQ_MAX);
    numaperf_device_list_destroy(list);

    for (int i = 0; i <= NUMAPERF_DEVICE_CLASS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "class/net/veth%d", i);
        tree_link("crowd", name, VIRTUAL "/net/veth");
    }
    tree_link("crowd", "class/nvme/nvme0", NIC "/nvme/nvme0");
    list = list_of("crowd");
    assert_false(numaperf_device_list_is_complete(list));
    assert_int_equal(numaperf_device_list_count(list), NUMAPERF_DEVICE_CLASS_MAX + 1);
    (void)device_at(list, "nvme0");
    numaperf_device_list_destroy(list);
}

/* Fail the first, second, ... allocation until one call gets all it wants. */
static void without_memory_nothing_is_made_and_nothing_lost(void **state)
{
    (void)state;
    tree_node1("poor");
    tree_link("poor", VIRTUAL "/net/bond0/lower_eth0", NIC "/virtio0/net/eth0");
    tree_link("poor", "class/net/bond0", VIRTUAL "/net/bond0");
    struct numaperf__device_tree tree = tree_of("poor");
    numaperf_device_list_t *list = NULL;
    int rc = -ENOMEM;
    int tries = 0;
    int unused = 0;
    for (; rc == -ENOMEM && tries < 1000; tries++) {
        allocations_left = tries;
        rc = numaperf__device_list_of(&tree, &list);
        unused = allocations_left;
        allocations_left = -1;
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_true((list == NULL) == (rc < 0));
    }
    assert_int_equal(rc, 0);
    assert_true(tries > 10);
    assert_int_equal(unused, 0); /* no failure was taken for something else */
    assert_int_equal(numaperf_device_list_count(list), 4);

    rc = -ENOMEM;
    numaperf_device_irq_t irq = NUMAPERF_DEVICE_IRQ_INIT;
    size_t index = (size_t)numaperf_device_list_find(list, "eth0");
    for (tries = 0; rc == -ENOMEM && tries < 100; tries++) {
        allocations_left = tries;
        rc = numaperf_device_list_irq(list, index, 0, &irq);
        unused = allocations_left;
        allocations_left = -1;
        assert_true(rc == 0 || rc == -ENOMEM);
    }
    assert_true(tries > 2);
    assert_int_equal(unused, 0);
    assert_cpus(&irq.effective, "2");
    numaperf_device_list_destroy(list);
}

/* ---- program ---- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_has_the_devices_by_kind_and_name),
        cmocka_unit_test(a_list_of_nothing_is_empty),
        cmocka_unit_test(queues_and_interrupts_are_those_of_the_device_not_of_the_bridge),
        cmocka_unit_test(who_gets_an_interrupt_is_read_when_asked),
        cmocka_unit_test(an_index_or_a_struct_that_is_too_small_is_refused),
        cmocka_unit_test(more_than_the_limits_is_cut_and_said),
        cmocka_unit_test(without_memory_nothing_is_made_and_nothing_lost),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
