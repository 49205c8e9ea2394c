/* SPDX-License-Identifier: MIT */
/*
 * Where devices are: the nodes of NICs, disks and accelerators, their queues, and the PUs that
 * their interrupts go to.
 *
 * A node is what the kernel says of the device, or of the nearest parent of which it says
 * anything: a virtio device is on the node of its PCI function. A device made of others (a bond, a
 * VLAN, a device-mapper volume, an NVMe namespace with several paths) is on theirs. Often nothing
 * is known: then the node is -1, as the kernel writes it, never a guess. Before Linux 6.6 the nvme
 * driver wrote the first node with memory where the firmware said nothing.
 *
 * Names are those of /sys/class: "eth0", "nvme0n1", "mlx5_0"; or of a PCI function,
 * "0000:41:00.0".
 */
#ifndef NUMAPERF_DEVICE_H
#define NUMAPERF_DEVICE_H

#include <numaperf/cpuset.h>
#include <numaperf/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

#define NUMAPERF_DEVICE_NAME_MAX 64 /* bytes, with the terminating zero */

enum {
    NUMAPERF_DEVICE_NET = 1,    /* network interface */
    NUMAPERF_DEVICE_BLOCK,      /* disk, or what looks like one */
    NUMAPERF_DEVICE_NVME,       /* NVMe controller */
    NUMAPERF_DEVICE_INFINIBAND, /* RDMA device */
    NUMAPERF_DEVICE_GPU,
    NUMAPERF_DEVICE_ACCELERATOR, /* compute accelerator */
    NUMAPERF_DEVICE_PCI          /* any PCI function; found by name, not listed */
};

/* Bits of numaperf_device_t.flags. */
enum {
    NUMAPERF_DEVICE_VIRTUAL = 1u << 0 /* no hardware of its own: loop, veth, bond, ... */
};

typedef struct numaperf_device {
    uint32_t size;              /* bytes of this struct the caller knows; set by _INIT */
    uint32_t kind;              /* NUMAPERF_DEVICE_NET and so on */
    uint32_t flags;             /* NUMAPERF_DEVICE_VIRTUAL */
    int32_t node;               /* OS node id; -1 when none is known, or `nodes` are several */
    uint32_t rx_queue_count;    /* receive queues of a NIC */
    uint32_t tx_queue_count;    /* send queues of a NIC */
    uint32_t block_queue_count; /* hardware queues of a block device */
    uint32_t irq_count;         /* interrupts of the device, or of the parent it shares them with */
    numaperf_nodemask_t nodes;  /* OS node ids; empty when not known */
    char name[NUMAPERF_DEVICE_NAME_MAX];
} numaperf_device_t;

#define NUMAPERF_DEVICE_INIT                                   \
    {                                                          \
        sizeof(numaperf_device_t), 0, 0, 0, 0, 0, 0, 0, {{0}}, \
        {                                                      \
            0                                                  \
        }                                                      \
    }

typedef struct numaperf_device_irq {
    uint32_t size;               /* bytes of this struct the caller knows; set by _INIT */
    int32_t irq;                 /* its number in /proc/irq and /proc/interrupts */
    numaperf_cpuset_t affinity;  /* PUs that are allowed to get it */
    numaperf_cpuset_t effective; /* PUs that do get it; empty when the kernel does not say */
    char name[NUMAPERF_DEVICE_NAME_MAX]; /* as a handler registered it, "nvme0q1"; "" without one */
} numaperf_device_irq_t;

#define NUMAPERF_DEVICE_IRQ_INIT                        \
    {                                                   \
        sizeof(numaperf_device_irq_t), 0, {{0}}, {{0}}, \
        {                                               \
            0                                           \
        }                                               \
    }

typedef struct numaperf_device_list numaperf_device_list_t;

/**
 * The node of a device.
 *
 * Returns:  the OS node id; NUMAPERF_E_UNSUPPORTED the device is there, but no node is known or it
 *           spans several; -ENODEV no such device; -EINVAL `name` is not a device's name; -ENOMEM.
 * Threads:  any.
 * Source:   kernel ABI, "sysfs-bus-pci", numa_node.
 */
NUMAPERF_API int numaperf_device_node(const char *name);

/**
 * The nodes to run on for this device, as numaperf_rt_config_t.nodes takes them.
 *
 * Where the device's nodes are known, these are the ones among them that have usable PUs and
 * memory. Where they are not known, this is every node with usable PUs and memory, so that a
 * runtime starts as if no device had been named; the return value tells the two apart.
 *
 * Returns:  > 0 known, and how many nodes `out` holds; 0 not known; -EINVAL; -ENODEV;
 *           NUMAPERF_E_NO_NODE known, but without usable PUs or memory; NUMAPERF_E_TOPOLOGY;
 *           -ENOMEM.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_device_nodes(const char *name, numaperf_nodemask_t *out);

/**
 * Look at all devices: the entries of /sys/class/net, block (whole disks), nvme, infiniband, drm
 * (one per GPU) and accel that can be read. By kind, then by name, "eth2" before "eth10".
 *
 * Returns:  0; -EINVAL; -ENOMEM.
 * Owner:    caller, until numaperf_device_list_destroy().
 * Threads:  any.
 */
NUMAPERF_API int numaperf_device_list_create(numaperf_device_list_t **out);

/**
 * Free a list; NULL is allowed.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_device_list_destroy(numaperf_device_list_t *list);

/**
 * How many devices the list holds.
 *
 * Threads:  any.
 */
NUMAPERF_API size_t numaperf_device_list_count(const numaperf_device_list_t *list);

/**
 * Whether nothing was left out: a class counts 4096 devices and a device 4096 interrupts at most.
 *
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_device_list_is_complete(const numaperf_device_list_t *list);

/**
 * Copy one device, 0 .. numaperf_device_list_count() - 1.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_device_list_get(const numaperf_device_list_t *list, size_t index,
                                          numaperf_device_t *out);

/**
 * Find a device of the list.
 *
 * Returns:  its index; -ENODEV it is not listed; -EINVAL `name` is not a device's name.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_device_list_find(const numaperf_device_list_t *list, const char *name);

/**
 * One interrupt of a device, 0 .. irq_count - 1, in ascending order of their numbers.
 *
 * Which interrupts there are is part of the list; who gets them is read now, since that changes.
 *
 * Returns:  0; -EINVAL; -ENODEV the interrupt is gone; -errno when it cannot be read; -ENOMEM.
 * Threads:  any.
 * Source:   kernel, core-api/irq/irq-affinity.
 */
NUMAPERF_API int numaperf_device_list_irq(const numaperf_device_list_t *list, size_t index,
                                          size_t irq_index, numaperf_device_irq_t *out);

/**
 * The name of a kind: "net", "block", "nvme", "infiniband", "gpu", "accelerator", "pci".
 *
 * Returns:  a constant string; "unknown" for another number.
 * Owner:    the library.
 * Threads:  signal.
 */
NUMAPERF_API const char *numaperf_device_kind_name(uint32_t kind);

NUMAPERF_END_DECLS
#endif
