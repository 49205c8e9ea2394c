/* SPDX-License-Identifier: MIT */
/*
 * Trees of /sys and /proc made by hand, with devices in them. Included once in a program, after
 * <cmocka.h>; scratch_make() and scratch_remove() are the group's fixtures.
 */
#ifndef TESTS_SUPPORT_DEVICE_TREE_H
#define TESTS_SUPPORT_DEVICE_TREE_H

#include "topo/device.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NIC "devices/pci0000:40/0000:40:00.0/0000:41:00.0"
#define NVME "devices/pci0000:40/0000:40:01.0/0000:42:00.0"
#define VIRTUAL "devices/virtual"

static char scratch[] = "/tmp/numaperf-device-XXXXXX";

/* The path of an entry of a tree, with the directories it needs; static. */
static inline const char *tree_path(const char *tree, const char *name)
{
    static char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s/%s", scratch, tree, name);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    return path;
}

static inline void tree_write(const char *tree, const char *name, const char *text)
{
    FILE *file = fopen(tree_path(tree, name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static inline void tree_dir(const char *tree, const char *name)
{
    assert_true(mkdir(tree_path(tree, name), 0700) == 0 || errno == EEXIST);
}

/* A link to what is at `target` within the same tree; both are made. */
static inline void tree_link(const char *tree, const char *name, const char *target)
{
    char whole[PATH_MAX];
    tree_dir(tree, target);
    (void)snprintf(whole, sizeof(whole), "%s", tree_path(tree, target));
    assert_int_equal(symlink(whole, tree_path(tree, name)), 0);
}

/* The tree as the library takes it; its strings are static, two at a time. */
static inline struct numaperf__device_tree tree_of(const char *tree)
{
    static char sys[PATH_MAX];
    static char proc[PATH_MAX];
    (void)snprintf(sys, sizeof(sys), "%s/%s", scratch, tree);
    (void)snprintf(proc, sizeof(proc), "%s/%s/proc", scratch, tree);
    return (struct numaperf__device_tree){.sys = sys, .proc = proc};
}

/* A virtio NIC and an NVMe disk on node 1, below bridges that have interrupts of their own. */
static inline void tree_node1(const char *tree)
{
    tree_write(tree, "devices/pci0000:40/0000:40:00.0/numa_node", "0\n");
    tree_write(tree, "devices/pci0000:40/0000:40:00.0/msi_irqs/24", "msix\n");
    tree_write(tree, NIC "/numa_node", "1\n");
    tree_write(tree, NIC "/irq", "11\n");
    tree_write(tree, NIC "/msi_irqs/133", "msix\n");
    tree_write(tree, NIC "/msi_irqs/31", "msix\n");
    tree_write(tree, NIC "/msi_irqs/32", "msix\n");
    tree_dir(tree, NIC "/virtio0/net/eth0/queues/rx-0");
    tree_dir(tree, NIC "/virtio0/net/eth0/queues/rx-1");
    tree_dir(tree, NIC "/virtio0/net/eth0/queues/tx-0");
    tree_link(tree, "class/net/eth0", NIC "/virtio0/net/eth0");
    tree_link(tree, "bus/pci/devices/0000:41:00.0", NIC);
    tree_write(tree, NVME "/numa_node", "1\n");
    tree_write(tree, NVME "/irq", "10\n");
    tree_write(tree, NVME "/nvme/nvme0/numa_node", "1\n");
    tree_dir(tree, NVME "/nvme/nvme0/nvme0n1/mq/0");
    tree_dir(tree, NVME "/nvme/nvme0/nvme0n1/mq/1");
    tree_dir(tree, NVME "/nvme/nvme0/nvme0n1/slaves");
    tree_write(tree, NVME "/nvme/nvme0/nvme0n1/nvme0n1p1/partition", "1\n");
    tree_link(tree, "class/nvme/nvme0", NVME "/nvme/nvme0");
    tree_link(tree, "class/block/nvme0n1", NVME "/nvme/nvme0/nvme0n1");
    tree_link(tree, "class/block/nvme0n1p1", NVME "/nvme/nvme0/nvme0n1/nvme0n1p1");
    tree_write(tree, "proc/irq/31/smp_affinity_list", "2-3\n");
    tree_write(tree, "proc/irq/31/effective_affinity_list", "2\n");
    tree_dir(tree, "proc/irq/31/virtio0-config");
    tree_write(tree, "proc/irq/32/smp_affinity_list", "0-3\n");
    tree_write(tree, "proc/irq/133/smp_affinity_list", "0-8192\n");
}

static inline numaperf_device_t device_at(const numaperf_device_list_t *list, const char *name)
{
    numaperf_device_t device = NUMAPERF_DEVICE_INIT;
    int index = numaperf_device_list_find(list, name);
    assert_true(index >= 0);
    assert_int_equal(numaperf_device_list_get(list, (size_t)index, &device), 0);
    assert_string_equal(device.name, name);
    return device;
}

static inline void assert_cpus(const numaperf_cpuset_t *set, const char *list)
{
    char text[256];
    assert_true(numaperf_cpuset_format(set, text, sizeof(text)) < (int)sizeof(text));
    assert_string_equal(text, list);
}

static inline int scratch_remove_one(const char *path, const struct stat *info, int kind,
                                     struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static inline int scratch_make(void **state)
{
    (void)state;
    return mkdtemp(scratch) == NULL ? -1 : 0;
}

static inline int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
