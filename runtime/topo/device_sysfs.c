/* SPDX-License-Identifier: MIT */
/*
 * One device, out of its directory in /sys/devices.
 *
 * Like discovery this reads /sys itself. hwloc finds the same devices with I/O discovery switched
 * on, but hangs one without a known node on the whole machine, where on one node it looks like a
 * device of node 0; with HWLOC_SYNTHETIC and HWLOC_THISSYSTEM set it shows no device and still says
 * that it is this system; and it knows neither queues nor interrupts.
 *
 * The parents of a device are the directories above its own: the first with a numa_node file says
 * the node, -1 included, since the kernel already copies a node down to children without one. A
 * directory with links to lower devices hands the question on to them, through a list of bounded
 * length, as it may be a tree. Those that have no hardware in the end (the veths of a bridge) do
 * not count; hardware without a known node leaves the whole not known. Devices come and go while
 * this runs: what cannot be read is "not known". No state: any thread. Source: kernel
 * Documentation/ABI testing/sysfs-bus-pci, testing/sysfs-class-net.
 */
#include "topo/device.h"
#include "topo/textfile.h"

#include "base/assert.h"
#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES_MAX 65536 /* looked at in one directory */
#define LOWER_MAX 64      /* devices that one device is made of, on all levels */

#define DEVICES "/devices"

/* ---- directories ---- */

/* Returns false when the path is too long for the system. */
static bool path_join(char path[PATH_MAX], const char *dir, const char *name)
{
    int length = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return length > 0 && length < PATH_MAX;
}

int numaperf__device_each(const char *dir, numaperf__device_entry_fn fn, void *data)
{
    DIR *entries = opendir(dir);
    if (entries == NULL)
        return errno == ENOMEM ? -ENOMEM : 0;
    int rc = 0;
    for (int i = 0; i < ENTRIES_MAX && rc == 0; i++) {
        /* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this call's own */
        const struct dirent *entry = readdir(entries);
        if (entry == NULL)
            break;
        if (entry->d_name[0] != '.')
            rc = fn(entry->d_name, data);
    }
    (void)closedir(entries); /* only read from: nothing can be lost */
    return rc < 0 ? rc : 0;
}

int numaperf__device_text(const char *dir, const char *name, char **out_text)
{
    char path[PATH_MAX];
    if (!path_join(path, dir, name))
        return -ENAMETOOLONG;
    return numaperf__textfile_read(path, NUMAPERF_KERNEL_TEXT_MAX, out_text, NULL);
}

bool numaperf__device_number(const char *text, int *out_number)
{
    uint64_t number = 0;
    const char *at = text;
    if (*at < '0' || *at > '9' || numaperf__textfile_number(&at, &number) < 0)
        return false;
    if ((*at != '\0' && *at != '\n') || number > INT_MAX)
        return false;
    *out_number = (int)number;
    return true;
}

bool numaperf__device_up(size_t sys_length, char *path)
{
    char *slash = strrchr(path, '/');
    NUMAPERF_ASSERT(slash != NULL);
    *slash = '\0';
    return (size_t)(slash - path) > sys_length + strlen(DEVICES);
}

/* Resolve a link into the tree of devices; false for anything that is not in it. */
static bool device_resolve(const char *sys, const char *link, char out_path[PATH_MAX])
{
    size_t length = strlen(sys);
    return realpath(link, out_path) != NULL && strncmp(out_path, sys, length) == 0 &&
           strncmp(out_path + length, DEVICES "/", strlen(DEVICES "/")) == 0;
}

/* ---- nodes ---- */

/* Large: always on the heap. */
struct device_walk {
    const char *sys; /* resolved */
    size_t sys_length;
    const char *dir;   /* being searched for lower devices */
    size_t path_count; /* devices to ask, in paths */
    bool is_unknown;   /* some hardware has no known node */
    numaperf_nodemask_t nodes;
    char paths[LOWER_MAX][PATH_MAX];
};

static void walk_add(struct device_walk *walk, const char *path)
{
    if (walk->path_count == LOWER_MAX) {
        walk->is_unknown = true;
        return;
    }
    /* It is one of realpath(): it fits. */
    (void)snprintf(walk->paths[walk->path_count], PATH_MAX, "%s", path);
    walk->path_count++;
}

/* Add what `dir`/`name` links to, if it is a device. Returns 0: a directory is read to its end. */
static int walk_add_link(struct device_walk *walk, const char *dir, const char *name)
{
    char link[PATH_MAX];
    char path[PATH_MAX];
    char unused[1];
    /* Only a link: a device that is named like one is a directory. */
    if (path_join(link, dir, name) && readlink(link, unused, sizeof(unused)) >= 0 &&
        device_resolve(walk->sys, link, path))
        walk_add(walk, path);
    return 0;
}

/* What a bond, a VLAN or a bridge stands on: links "lower_eth0" in its directory. */
static int walk_net(const char *name, void *data)
{
    struct device_walk *walk = data;
    return strncmp(name, "lower_", strlen("lower_")) == 0 ? walk_add_link(walk, walk->dir, name)
                                                          : 0;
}

/* What a device-mapper or md volume stands on: links in the directory "slaves". */
static int walk_block(const char *name, void *data)
{
    struct device_walk *walk = data;
    return walk_add_link(walk, walk->dir, name);
}

/* The controllers of an NVMe subsystem: links "nvme0" in its directory, above its namespaces. */
static int walk_nvme(const char *name, void *data)
{
    struct device_walk *walk = data;
    int number = 0;
    if (strncmp(name, "nvme", strlen("nvme")) != 0 ||
        !numaperf__device_number(name + strlen("nvme"), &number))
        return 0;
    return walk_add_link(walk, walk->dir, name);
}

/* Add the devices that the one at `dir` stands on. Returns 0; -ENOMEM. */
static int walk_lower(struct device_walk *walk, const char *dir)
{
    walk->dir = dir;
    int rc = numaperf__device_each(dir, walk_net, walk);
    const char *last = strrchr(dir, '/');
    if (rc == 0 && last != NULL && strncmp(last, "/nvme-subsys", strlen("/nvme-subsys")) == 0)
        rc = numaperf__device_each(dir, walk_nvme, walk);
    char slaves[PATH_MAX];
    if (rc < 0 || !path_join(slaves, dir, "slaves"))
        return rc;
    walk->dir = slaves;
    rc = numaperf__device_each(slaves, walk_block, walk);
    walk->dir = NULL;
    return rc;
}

/* Note the node that the directory names. Returns 1; 0 when it names none; -ENOMEM. */
static int walk_node(struct device_walk *walk, const char *dir)
{
    char *text = NULL;
    int rc = numaperf__device_text(dir, "numa_node", &text);
    if (rc < 0)
        return rc == -ENOMEM ? rc : 0;
    int node = -1;
    if (numaperf__device_number(text, &node) && node < NUMAPERF_NODE_MAX)
        (void)numaperf_nodemask_add(&walk->nodes, node); /* in range */
    else
        walk->is_unknown = true;
    free(text);
    return 1;
}

static bool device_is_virtual(size_t sys_length, const char *path)
{
    return strncmp(path + sys_length, DEVICES "/virtual/", strlen(DEVICES "/virtual/")) == 0;
}

/* Ask one device and its parents. Returns 0; -ENOMEM. */
static int walk_device(struct device_walk *walk, const char *path)
{
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s", path); /* it is one of realpath(): it fits */
    do {
        int rc = walk_node(walk, dir);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        size_t before = walk->path_count;
        rc = walk_lower(walk, dir);
        if (rc < 0 || walk->path_count > before)
            return rc;
    } while (numaperf__device_up(walk->sys_length, dir));
    if (!device_is_virtual(walk->sys_length, path))
        walk->is_unknown = true;
    return 0;
}

/* The nodes of the device at `path`; empty when not all are known. Returns 0; -ENOMEM. */
static int device_nodes(const char *sys, const char *path, numaperf_nodemask_t *out)
{
    /* Not calloc(): most of it is never touched. */
    struct device_walk *walk = malloc(sizeof(*walk));
    if (walk == NULL)
        return -ENOMEM;
    walk->sys = sys;
    walk->sys_length = strlen(sys);
    walk->dir = NULL;
    walk->path_count = 0;
    walk->is_unknown = false;
    numaperf_nodemask_zero(&walk->nodes);

    walk_add(walk, path);
    int rc = 0;
    for (size_t i = 0; i < walk->path_count && rc == 0; i++)
        rc = walk_device(walk, walk->paths[i]);
    if (walk->is_unknown)
        numaperf_nodemask_zero(&walk->nodes);
    if (rc == 0)
        *out = walk->nodes;
    free(walk);
    return rc;
}

/* ---- queues ---- */

static int count_net_queue(const char *name, void *data)
{
    numaperf_device_t *about = data;
    about->rx_queue_count += strncmp(name, "rx-", strlen("rx-")) == 0;
    about->tx_queue_count += strncmp(name, "tx-", strlen("tx-")) == 0;
    return 0;
}

static int count_block_queue(const char *name, void *data)
{
    numaperf_device_t *about = data;
    int number = 0;
    about->block_queue_count += numaperf__device_number(name, &number);
    return 0;
}

static int device_queues(const char *path, numaperf_device_t *about)
{
    char dir[PATH_MAX];
    if (about->kind == NUMAPERF_DEVICE_NET && path_join(dir, path, "queues"))
        return numaperf__device_each(dir, count_net_queue, about);
    if (about->kind == NUMAPERF_DEVICE_BLOCK && path_join(dir, path, "mq"))
        return numaperf__device_each(dir, count_block_queue, about);
    return 0;
}

/* ---- the whole ---- */

/* Fill in all but the name. Returns 0; -ENOMEM, not recorded. */
static int device_fill(const char *sys, const char *path, struct numaperf__device *device)
{
    numaperf_device_t *about = &device->about;
    size_t sys_length = strlen(sys);
    if (device_is_virtual(sys_length, path))
        about->flags |= NUMAPERF_DEVICE_VIRTUAL;
    int rc = device_nodes(sys, path, &about->nodes);
    if (rc < 0)
        return rc;
    about->node = numaperf_nodemask_count(&about->nodes) == 1
                      ? numaperf_nodemask_next(&about->nodes, -1)
                      : -1;
    rc = device_queues(path, about);
    return rc < 0 ? rc : numaperf__device_irqs(sys_length, path, device);
}

int numaperf__device_read(const struct numaperf__device_tree *tree, uint32_t kind,
                          const char *class_dir, const char *name, struct numaperf__device *out)
{
    NUMAPERF_ASSERT(name[0] != '\0' && strchr(name, '/') == NULL);
    char sys[PATH_MAX];
    char class_path[PATH_MAX];
    char link[PATH_MAX];
    char path[PATH_MAX];
    if (realpath(tree->sys, sys) == NULL || !path_join(class_path, sys, class_dir) ||
        !path_join(link, class_path, name) || !device_resolve(sys, link, path))
        return -ENODEV;

    struct numaperf__device device = {.about = NUMAPERF_DEVICE_INIT};
    device.about.kind = kind;
    (void)snprintf(device.about.name, sizeof(device.about.name), "%s", name); /* checked to fit */
    int rc = device_fill(sys, path, &device);
    if (rc < 0) {
        numaperf__device_fini(&device);
        return numaperf__fail(rc, -rc, "device", "%s: no memory to read its directory", name);
    }
    *out = device;
    return 0;
}

void numaperf__device_fini(struct numaperf__device *device)
{
    free(device->irqs);
    device->irqs = NULL;
}
