/* SPDX-License-Identifier: MIT */
/* Where devices are: in trees made by hand, then on the machine this runs on. */
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

/* ---- helpers ---- */

static int node_of(const char *tree, const char *name)
{
    struct numaperf__device_tree at = tree_of(tree);
    return numaperf__device_node_of(&at, name);
}

/* "count: nodes" for a machine by its synthetic description; or "code". */
static const char *nodes_of(const char *tree, const char *machine, const char *name)
{
    static char text[64];
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic(machine, &topology), 0);
    struct numaperf__device_tree at = tree_of(tree);
    numaperf_nodemask_t nodes = numaperf_nodemask_single(77);
    int rc = numaperf__device_nodes_of(&at, topology, name, &nodes);
    numaperf_topology_destroy(topology);
    char list[32];
    assert_true(numaperf_nodemask_format(&nodes, list, sizeof(list)) > 0);
    if (rc < 0)
        assert_string_equal(list, "77");
    if (rc < 0)
        (void)snprintf(text, sizeof(text), "%s", numaperf_err_name(rc));
    else
        (void)snprintf(text, sizeof(text), "%d: %s", rc, list);
    return text;
}

/* ---- where a device is ---- */

static void a_device_is_on_the_node_of_the_nearest_parent_that_says(void **state)
{
    (void)state;
    tree_node1("node1");
    assert_int_equal(node_of("node1", "eth0"), 1);
    assert_int_equal(node_of("node1", "nvme0"), 1);
    assert_int_equal(node_of("node1", "nvme0n1"), 1);
    assert_int_equal(node_of("node1", "nvme0n1p1"), 1);
    assert_int_equal(node_of("node1", "0000:41:00.0"), 1);
    assert_int_equal(node_of("node1", "eth1"), -ENODEV);
    assert_non_null(strstr(numaperf_last_error()->reason, "eth1"));
    tree_link("node1", "class/drm/renderD128", NIC "/drm/renderD128");
    assert_int_equal(node_of("node1", "renderD128"), 1);
}

static void minus_one_is_none_known_and_means_every_usable_node(void **state)
{
    (void)state;
    tree_write("minus", "devices/pci0000:00/0000:00:01.0/numa_node", "0\n");
    tree_write("minus", "devices/pci0000:00/0000:00:01.0/0000:01:00.0/numa_node", "-1\n");
    tree_link("minus", "class/net/eth0", "devices/pci0000:00/0000:00:01.0/0000:01:00.0/net/eth0");
    tree_link("minus", "class/net/lo", VIRTUAL "/net/lo");
    tree_write("minus", "devices/platform/odd/numa_node", "1024\n");
    tree_link("minus", "class/block/odd", "devices/platform/odd/block/odd");
    tree_link("minus", "class/block/mute", "devices/platform/mute/block/mute");
    static const char *const names[] = {"eth0", "lo", "odd", "mute"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(node_of("minus", names[i]), NUMAPERF_E_UNSUPPORTED);
        assert_non_null(strstr(numaperf_last_error()->reason, "not known"));
        assert_string_equal(nodes_of("minus", "numa:2 pu:1", names[i]), "0: 0-1");
        /* Which is a success, and leaves the last failure as it was. */
        assert_int_equal(numaperf_last_error()->code, NUMAPERF_E_UNSUPPORTED);
    }
}

static void a_runtime_is_told_only_nodes_that_it_can_use(void **state)
{
    (void)state;
    tree_node1("usable");
    assert_string_equal(nodes_of("usable", "numa:2 pu:1", "eth0"), "1: 1");
    assert_string_equal(nodes_of("usable", "numa:4 pu:1", "nvme0n1"), "1: 1");
    assert_string_equal(nodes_of("usable", "numa:1 pu:2", "eth0"), "NUMAPERF_E_NO_NODE");
    assert_non_null(strstr(numaperf_last_error()->reason, "eth0 is on node 1"));
    assert_string_equal(nodes_of("usable", "numa:2 pu:1", "eth1"), "ENODEV");
}

static void a_device_made_of_others_is_on_their_nodes(void **state)
{
    (void)state;
    tree_node1("made");
    tree_write("made", "devices/pci0000:00/0000:00:03.0/numa_node", "0\n");
    tree_link("made", "class/net/eth1", "devices/pci0000:00/0000:00:03.0/net/eth1");
    tree_write("made", "devices/pci0000:00/0000:00:04.0/numa_node", "-1\n");
    tree_link("made", "class/net/eth2", "devices/pci0000:00/0000:00:04.0/net/eth2");

    tree_link("made", VIRTUAL "/net/bond0/lower_eth0", NIC "/virtio0/net/eth0");
    tree_link("made", VIRTUAL "/net/bond0/lower_eth1", "devices/pci0000:00/0000:00:03.0/net/eth1");
    tree_link("made", "class/net/bond0", VIRTUAL "/net/bond0");
    tree_link("made", VIRTUAL "/net/bond0.7/lower_bond0", VIRTUAL "/net/bond0");
    tree_link("made", "class/net/bond0.7", VIRTUAL "/net/bond0.7");
    assert_string_equal(nodes_of("made", "numa:3 pu:1", "bond0.7"), "2: 0-1");
    assert_string_equal(nodes_of("made", "numa:1 pu:1", "bond0"), "1: 0");
    assert_int_equal(node_of("made", "bond0.7"), NUMAPERF_E_UNSUPPORTED);
    assert_non_null(strstr(numaperf_last_error()->reason, "several"));

    /* The ports of a bridge that lead to containers do not count. */
    tree_link("made", VIRTUAL "/net/br0/lower_eth0", NIC "/virtio0/net/eth0");
    tree_link("made", VIRTUAL "/net/br0/lower_veth0", VIRTUAL "/net/veth0");
    tree_link("made", "class/net/br0", VIRTUAL "/net/br0");
    assert_int_equal(node_of("made", "br0"), 1);

    /* Half known is not known. */
    tree_link("made", VIRTUAL "/net/bond1/lower_eth0", NIC "/virtio0/net/eth0");
    tree_link("made", VIRTUAL "/net/bond1/lower_eth2", "devices/pci0000:00/0000:00:04.0/net/eth2");
    tree_link("made", "class/net/bond1", VIRTUAL "/net/bond1");
    assert_string_equal(nodes_of("made", "numa:3 pu:1", "bond1"), "0: 0-2");

    /* An interface named like a link, with a node, leads nothing beside it there. */
    tree_link("made", VIRTUAL "/net/lower_9/lower_eth0", NIC "/virtio0/net/eth0");
    tree_link("made", "class/net/lower_9", VIRTUAL "/net/lower_9");
    tree_link("made", "class/net/veth0", VIRTUAL "/net/veth0");
    assert_int_equal(node_of("made", "lower_9"), 1);
    assert_string_equal(nodes_of("made", "numa:3 pu:1", "veth0"), "0: 0-2");
}

static void a_volume_is_on_the_nodes_of_its_disks(void **state)
{
    (void)state;
    tree_node1("volume");
    tree_link("volume", VIRTUAL "/block/dm-0/slaves/nvme0n1p1",
              NVME "/nvme/nvme0/nvme0n1/nvme0n1p1");
    tree_link("volume", "class/block/dm-0", VIRTUAL "/block/dm-0");
    assert_int_equal(node_of("volume", "dm-0"), 1);

    /* With several paths a namespace is below its subsystem, which links to the controllers. */
    tree_link("volume", VIRTUAL "/nvme-subsystem/nvme-subsys5/nvme0", NVME "/nvme/nvme0");
    tree_dir("volume", VIRTUAL "/nvme-subsystem/nvme-subsys5/nvme5n1/nvme5n1p2");
    tree_link("volume", "class/block/nvme5n1", VIRTUAL "/nvme-subsystem/nvme-subsys5/nvme5n1");
    tree_link("volume", "class/block/nvme5n1p2",
              VIRTUAL "/nvme-subsystem/nvme-subsys5/nvme5n1/nvme5n1p2");
    assert_int_equal(node_of("volume", "nvme5n1"), 1);
    assert_int_equal(node_of("volume", "nvme5n1p2"), 1);
}

static void too_many_lower_devices_are_not_known(void **state)
{
    (void)state;
    tree_node1("deep");
    char name[64];
    for (int i = 0; i < 62; i++) {
        (void)snprintf(name, sizeof(name), VIRTUAL "/net/br0/lower_veth%d", i);
        tree_link("deep", name, VIRTUAL "/net/veth");
    }
    tree_link("deep", VIRTUAL "/net/br0/lower_eth0", NIC "/virtio0/net/eth0");
    tree_link("deep", "class/net/br0", VIRTUAL "/net/br0");
    assert_int_equal(node_of("deep", "br0"), 1);
    tree_link("deep", VIRTUAL "/net/br0/lower_veth", VIRTUAL "/net/veth");
    assert_int_equal(node_of("deep", "br0"), NUMAPERF_E_UNSUPPORTED);
    /* A circle, which the kernel does not make, ends there, too. */
    tree_link("deep", VIRTUAL "/net/ring0/lower_ring0", VIRTUAL "/net/ring0");
    tree_link("deep", "class/net/ring0", VIRTUAL "/net/ring0");
    assert_int_equal(node_of("deep", "ring0"), NUMAPERF_E_UNSUPPORTED);
}

static void what_is_no_name_is_refused_before_it_is_a_path(void **state)
{
    (void)state;
    tree_node1("names");
    char name[NUMAPERF_DEVICE_NAME_MAX + 1];
    memset(name, 'x', sizeof(name));
    name[NUMAPERF_DEVICE_NAME_MAX] = '\0';
    const char *const bad[] = {NULL,  "",      ".",     "..",     "../net/eth0", "/sys",
                               "a/b", "eth0/", "eth 0", "eth0\n", "\x7f",        name};
    numaperf_nodemask_t nodes;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(node_of("names", bad[i]), -EINVAL);
        assert_int_equal(numaperf_device_node(bad[i]), -EINVAL);
        assert_int_equal(numaperf_device_nodes(bad[i], &nodes), -EINVAL);
        assert_int_equal(numaperf_device_list_find(NULL, bad[i]), -EINVAL);
    }
    assert_int_equal(numaperf_device_nodes("lo", NULL), -EINVAL);
    name[NUMAPERF_DEVICE_NAME_MAX - 1] = '\0';
    assert_int_equal(node_of("names", name), -ENODEV);

    /* Entries of a class that are no devices, or lead out of the tree. */
    tree_write("names", "class/net/bonding_masters", "\n");
    assert_int_equal(node_of("names", "bonding_masters"), -ENODEV);
    tree_dir("names", "class/net/outside");
    assert_int_equal(node_of("names", "outside"), -ENODEV);
    assert_int_equal(symlink("/", tree_path("names", "class/net/root")), 0);
    assert_int_equal(node_of("names", "root"), -ENODEV);
    tree_dir("names", "devices");
    assert_int_equal(symlink("../../devices", tree_path("names", "class/net/all")), 0);
    assert_int_equal(node_of("names", "all"), -ENODEV);
    assert_int_equal(node_of("no-such-tree", "eth0"), -ENODEV);
}

/* ---- this machine ---- */

/* Read the first word of a file on our own; false without the file. */
static bool own_word(const char *path, char *word, size_t size)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    char *line = fgets(word, (int)size, file);
    (void)fclose(file);
    if (line == NULL)
        word[0] = '\0';
    word[strcspn(word, "\n")] = '\0';
    return true;
}

/* The node that the kernel says of a device, by our own walk up; -1. */
static int own_node(const char *class_dir, const char *name)
{
    char link[PATH_MAX];
    char path[PATH_MAX];
    char file[PATH_MAX + 16];
    char word[32];
    (void)snprintf(link, sizeof(link), "/sys/class/%s/%s", class_dir, name);
    assert_non_null(realpath(link, path));
    while (strcmp(path, "/sys/devices") != 0) {
        (void)snprintf(file, sizeof(file), "%s/numa_node", path);
        if (own_word(file, word, sizeof(word)))
            return atoi(word);
        *strrchr(path, '/') = '\0';
    }
    return -1;
}

static void check_irqs(const numaperf_device_list_t *list, size_t index)
{
    numaperf_device_t device = NUMAPERF_DEVICE_INIT;
    assert_int_equal(numaperf_device_list_get(list, index, &device), 0);
    for (size_t i = 0; i < device.irq_count; i++) {
        numaperf_device_irq_t irq = NUMAPERF_DEVICE_IRQ_INIT;
        int rc = numaperf_device_list_irq(list, index, i, &irq);
        if (rc == -ENODEV || rc == -EACCES) {
            print_message("%s, interrupt %zu: %s\n", device.name, i, numaperf_last_error()->reason);
            continue;
        }
        assert_int_equal(rc, 0);
        char path[96];
        char word[256];
        (void)snprintf(path, sizeof(path), "/proc/irq/%d/smp_affinity_list", irq.irq);
        assert_true(own_word(path, word, sizeof(word)));
        assert_cpus(&irq.affinity, word);
        print_message("%s: interrupt %d \"%s\" to %s\n", device.name, irq.irq, irq.name, word);
    }
}

static void this_machine_is_told_as_the_kernel_tells_it(void **state)
{
    (void)state;
    static const char *const dirs[] = {"", "net", "block", "nvme", "infiniband", "drm", "accel"};
    numaperf_device_list_t *list = NULL;
    assert_int_equal(numaperf_device_list_create(&list), 0);
    assert_true(numaperf_device_list_is_complete(list));
    for (size_t i = 0; i < numaperf_device_list_count(list); i++) {
        numaperf_device_t device = NUMAPERF_DEVICE_INIT;
        assert_int_equal(numaperf_device_list_get(list, i, &device), 0);
        assert_true(device.kind >= NUMAPERF_DEVICE_NET && device.kind < NUMAPERF_DEVICE_PCI);
        print_message("%s %s: node %d, queues %u %u %u, %u interrupts%s\n",
                      numaperf_device_kind_name(device.kind), device.name, device.node,
                      device.rx_queue_count, device.tx_queue_count, device.block_queue_count,
                      device.irq_count, device.flags & NUMAPERF_DEVICE_VIRTUAL ? ", virtual" : "");
        int node = numaperf_device_node(device.name);
        assert_true(node == device.node || (node == NUMAPERF_E_UNSUPPORTED && device.node < 0));
        check_irqs(list, i);
        /* Virtual devices may stand on others, which our own walk does not follow. */
        if ((device.flags & NUMAPERF_DEVICE_VIRTUAL) == 0)
            assert_int_equal(device.node, own_node(dirs[device.kind], device.name));
    }
    numaperf_device_list_destroy(list);
}

static void the_guest_with_a_nic_on_node_1_says_so(void **state)
{
    (void)state;
    const char *guest = getenv("VM_TOPOLOGY");
    if (guest == NULL || strcmp(guest, "2node-nic") != 0) {
        print_message("needs the guest 2node-nic: not checked here\n");
        skip();
    }
    static const char *const names[] = {"eth0", "nvme0n1", "nvme0"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(numaperf_device_node(names[i]), 1);
        numaperf_nodemask_t nodes;
        assert_int_equal(numaperf_device_nodes(names[i], &nodes), 1);
        numaperf_nodemask_t one = numaperf_nodemask_single(1);
        assert_true(numaperf_nodemask_equal(&nodes, &one));
    }
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_device_node("lo"), NUMAPERF_E_UNSUPPORTED);
    assert_int_equal(numaperf_device_nodes("lo", &nodes), 0);
    assert_int_equal(numaperf_nodemask_count(&nodes), 2);

    numaperf_device_list_t *list = NULL;
    assert_int_equal(numaperf_device_list_create(&list), 0);
    numaperf_device_t nic = device_at(list, "eth0");
    assert_true(nic.rx_queue_count >= 1 && nic.irq_count >= 3); /* config, input, output */
    size_t index = (size_t)numaperf_device_list_find(list, "eth0");
    bool has_input = false;
    for (size_t i = 0; i < nic.irq_count; i++) {
        numaperf_device_irq_t irq = NUMAPERF_DEVICE_IRQ_INIT;
        assert_int_equal(numaperf_device_list_irq(list, index, i, &irq), 0);
        assert_int_equal(numaperf_cpuset_count(&irq.effective), 1);
        has_input = has_input || strstr(irq.name, "input") != NULL;
    }
    assert_true(has_input);
    numaperf_device_t disk = device_at(list, "nvme0n1");
    assert_true(disk.block_queue_count >= 1);
    assert_true(disk.irq_count > disk.block_queue_count); /* and the admin queue's */
    numaperf_device_list_destroy(list);
}

/* ---- program ---- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_is_on_the_node_of_the_nearest_parent_that_says),
        cmocka_unit_test(minus_one_is_none_known_and_means_every_usable_node),
        cmocka_unit_test(a_runtime_is_told_only_nodes_that_it_can_use),
        cmocka_unit_test(a_device_made_of_others_is_on_their_nodes),
        cmocka_unit_test(a_volume_is_on_the_nodes_of_its_disks),
        cmocka_unit_test(too_many_lower_devices_are_not_known),
        cmocka_unit_test(what_is_no_name_is_refused_before_it_is_a_path),
        cmocka_unit_test(this_machine_is_told_as_the_kernel_tells_it),
        cmocka_unit_test(the_guest_with_a_nic_on_node_1_says_so),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
