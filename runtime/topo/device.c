/* SPDX-License-Identifier: MIT */
/*
 * Devices by name and as a list; where a device is comes from device_sysfs.c.
 *
 * A list is a snapshot: once made, only destroy changes it, so any number of threads may read.
 * Names that come from outside become part of a path, so they are checked first: one component,
 * bounded, never "." or "..". Entries that cannot be read are left out; only missing memory fails.
 */
#include "topo/device.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(numaperf_device_t) == 224, "public struct");
_Static_assert(offsetof(numaperf_device_t, node) == 12, "public struct");
_Static_assert(offsetof(numaperf_device_t, irq_count) == 28, "public struct");
_Static_assert(offsetof(numaperf_device_t, nodes) == 32, "public struct");
_Static_assert(offsetof(numaperf_device_t, name) == 160, "public struct");
_Static_assert(sizeof(numaperf_device_irq_t) == 2120, "public struct");
_Static_assert(offsetof(numaperf_device_irq_t, affinity) == 8, "public struct");
_Static_assert(offsetof(numaperf_device_irq_t, effective) == 1032, "public struct");
_Static_assert(offsetof(numaperf_device_irq_t, name) == 2056, "public struct");

#define DEVICE_MIN_SIZE sizeof(numaperf_device_t)
#define DEVICE_IRQ_MIN_SIZE sizeof(numaperf_device_irq_t)

static const struct numaperf__device_tree this_machine = {.sys = "/sys", .proc = "/proc"};

/* Where a name is looked up, in this order, and what is listed. */
static const struct {
    uint32_t kind;
    const char *name;
    const char *dir;
    bool is_listed;
} classes[] = {
    {NUMAPERF_DEVICE_NET, "net", "class/net", true},
    {NUMAPERF_DEVICE_BLOCK, "block", "class/block", true},
    {NUMAPERF_DEVICE_NVME, "nvme", "class/nvme", true},
    {NUMAPERF_DEVICE_INFINIBAND, "infiniband", "class/infiniband", true},
    {NUMAPERF_DEVICE_GPU, "gpu", "class/drm", true},
    {NUMAPERF_DEVICE_ACCELERATOR, "accelerator", "class/accel", true},
    {NUMAPERF_DEVICE_PCI, "pci", "bus/pci/devices", false},
};
#define CLASS_COUNT (sizeof(classes) / sizeof(classes[0]))

struct numaperf_device_list {
    struct numaperf__device_tree tree;
    bool is_complete;
    size_t count;
    size_t room;
    struct numaperf__device *devices; /* by kind, then by name */
};

const char *numaperf_device_kind_name(uint32_t kind)
{
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        if (classes[i].kind == kind)
            return classes[i].name;
    }
    return "unknown";
}

/* ---- one device by name ---- */

static int device_check_name(const char *name)
{
    if (name == NULL)
        return numaperf__fail(-EINVAL, 0, "device", "name must not be NULL");
    size_t length = strnlen(name, NUMAPERF_DEVICE_NAME_MAX);
    if (length == 0 || length == NUMAPERF_DEVICE_NAME_MAX)
        return numaperf__fail(-EINVAL, 0, "device", "a name has 1 to %d bytes",
                              NUMAPERF_DEVICE_NAME_MAX - 1);
    bool is_name = strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)name[i];
        is_name = is_name && byte > ' ' && byte != 0x7f && byte != '/';
    }
    if (!is_name)
        return numaperf__fail(-EINVAL, 0, "device",
                              "not a device's name: it has a slash, a space, or is a directory");
    return 0;
}

/* Returns 0; -EINVAL, -ENODEV, -ENOMEM, all recorded. */
static int device_find(const struct numaperf__device_tree *tree, const char *name,
                       struct numaperf__device *out)
{
    int rc = device_check_name(name);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        rc = numaperf__device_read(tree, classes[i].kind, classes[i].dir, name, out);
        if (rc != -ENODEV)
            return rc;
    }
    return numaperf__fail(-ENODEV, ENODEV, "device", "%s: there is no such device in %s", name,
                          tree->sys);
}

int numaperf__device_node_of(const struct numaperf__device_tree *tree, const char *name)
{
    struct numaperf__device device;
    int rc = device_find(tree, name, &device);
    if (rc < 0)
        return rc;
    rc = device.about.node;
    if (rc < 0)
        rc = numaperf__fail(NUMAPERF_E_UNSUPPORTED, 0, "device", "%s: %s", name,
                            numaperf_nodemask_count(&device.about.nodes) > 1
                                ? "it spans several nodes"
                                : "its node is not known");
    numaperf__device_fini(&device);
    return rc;
}

int numaperf_device_node(const char *name)
{
    return numaperf__device_node_of(&this_machine, name);
}

/* ---- the nodes to run on ---- */

/* Cut what is known of a device down to what can be used. The public function's codes. */
static int device_choose_nodes(const numaperf_device_t *about, const numaperf_nodemask_t *usable,
                               numaperf_nodemask_t *out)
{
    if (numaperf_nodemask_count(&about->nodes) == 0) {
        *out = *usable;
        return 0;
    }
    numaperf_nodemask_t both;
    numaperf_nodemask_intersect(&about->nodes, usable, &both);
    int count = numaperf_nodemask_count(&both);
    if (count == 0) {
        char list[128];
        (void)numaperf_nodemask_format(&about->nodes, list, sizeof(list)); /* may be cut */
        return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "device",
                              "%s is on node %s, which has no usable PUs or no usable memory",
                              about->name, list);
    }
    *out = both;
    return count;
}

int numaperf__device_nodes_of(const struct numaperf__device_tree *tree,
                              const numaperf_topology_t *topology, const char *name,
                              numaperf_nodemask_t *out)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "device", "out must not be NULL");
    struct numaperf__device device;
    int rc = device_find(tree, name, &device);
    if (rc < 0)
        return rc;

    numaperf_topology_t *discovered = NULL;
    numaperf_nodemask_t usable;
    if (topology == NULL)
        rc = numaperf_topology_discover(&discovered);
    if (rc == 0)
        rc = numaperf_topology_usable_nodes(topology == NULL ? discovered : topology, &usable);
    if (rc == 0)
        rc = device_choose_nodes(&device.about, &usable, out);
    numaperf_topology_destroy(discovered);
    numaperf__device_fini(&device);
    return rc;
}

int numaperf_device_nodes(const char *name, numaperf_nodemask_t *out)
{
    return numaperf__device_nodes_of(&this_machine, NULL, name, out);
}

/* ---- the list ---- */

/* One class while it is listed. */
struct device_class {
    numaperf_device_list_t *list;
    size_t index; /* into classes */
    size_t count;
};

/*
 * Whether an entry is listed: a GPU once, without its connectors and its render node; disks without
 * their partitions. Returns 1 or 0; -ENOMEM, not recorded.
 */
static int class_lists(const struct device_class *class, const char *name)
{
    const char *dir = classes[class->index].dir;
    int number = 0;
    if (classes[class->index].kind == NUMAPERF_DEVICE_GPU)
        return strncmp(name, "card", strlen("card")) == 0 &&
               numaperf__device_number(name + strlen("card"), &number);
    if (classes[class->index].kind != NUMAPERF_DEVICE_BLOCK)
        return 1;
    char path[PATH_MAX];
    char *text = NULL;
    int length = snprintf(path, sizeof(path), "%s/%s/%s", class->list->tree.sys, dir, name);
    if (length < 0 || (size_t)length >= sizeof(path))
        return 0;
    int rc = numaperf__device_text(path, "partition", &text);
    if (rc < 0)
        return rc == -ENOMEM ? rc : 1;
    free(text);
    return 0;
}

/* Make room for one more. */
static int list_grow(numaperf_device_list_t *list)
{
    if (list->count < list->room)
        return 0;
    size_t room = list->room == 0 ? 16 : list->room * 2;
    struct numaperf__device *devices = realloc(list->devices, room * sizeof(*devices));
    if (devices == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "device", "list of %zu devices", room);
    list->devices = devices;
    list->room = room;
    return 0;
}

static int class_entry(const char *name, void *data)
{
    struct device_class *class = data;
    numaperf_device_list_t *list = class->list;
    if (strlen(name) >= NUMAPERF_DEVICE_NAME_MAX) {
        list->is_complete = false;
        return 0;
    }
    int is_listed = class_lists(class, name);
    if (is_listed <= 0)
        return is_listed;
    if (class->count == NUMAPERF_DEVICE_CLASS_MAX) {
        list->is_complete = false;
        return 1;
    }
    int rc = list_grow(list);
    if (rc < 0)
        return rc;
    rc = numaperf__device_read(&list->tree, classes[class->index].kind, classes[class->index].dir,
                               name, &list->devices[list->count]);
    if (rc < 0)
        return rc == -ENODEV ? 0 : rc; /* a plain file, or it went away meanwhile */
    if (list->devices[list->count].irqs_left_out)
        list->is_complete = false;
    list->count++;
    class->count++;
    return 0;
}

static int list_compare(const void *a, const void *b)
{
    const struct numaperf__device *left = a;
    const struct numaperf__device *right = b;
    return strverscmp(left->about.name, right->about.name);
}

static int list_add_class(numaperf_device_list_t *list, size_t index)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/%s", list->tree.sys, classes[index].dir);
    if (length < 0 || (size_t)length >= sizeof(path))
        return 0;
    struct device_class class = {.list = list, .index = index};
    size_t first = list->count;
    int rc = numaperf__device_each(path, class_entry, &class);
    if (rc == 0 && class.count > 1)
        qsort(list->devices + first, class.count, sizeof(*list->devices), list_compare);
    return rc;
}

int numaperf__device_list_of(const struct numaperf__device_tree *tree, numaperf_device_list_t **out)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "device", "out must not be NULL");
    numaperf_device_list_t *list = calloc(1, sizeof(*list));
    if (list == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "device", "list");
    list->tree = *tree;
    list->is_complete = true;
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        int rc = classes[i].is_listed ? list_add_class(list, i) : 0;
        if (rc < 0) {
            numaperf_device_list_destroy(list);
            return numaperf__fail(rc, -rc, "device", "no memory for the devices of %s/%s",
                                  tree->sys, classes[i].dir);
        }
    }
    if (!list->is_complete)
        numaperf__log(NUMAPERF_LOG_WARN, "device: %zu devices listed, more were left out",
                      list->count);
    *out = list;
    return 0;
}

int numaperf_device_list_create(numaperf_device_list_t **out)
{
    return numaperf__device_list_of(&this_machine, out);
}

void numaperf_device_list_destroy(numaperf_device_list_t *list)
{
    if (list == NULL)
        return;
    for (size_t i = 0; i < list->count; i++)
        numaperf__device_fini(&list->devices[i]);
    free(list->devices);
    free(list);
}

size_t numaperf_device_list_count(const numaperf_device_list_t *list)
{
    return list == NULL ? 0 : list->count;
}

bool numaperf_device_list_is_complete(const numaperf_device_list_t *list)
{
    return list != NULL && list->is_complete;
}

/* The device, or NULL and -EINVAL recorded. */
static const struct numaperf__device *list_at(const numaperf_device_list_t *list, size_t index)
{
    if (list != NULL && index < list->count)
        return &list->devices[index];
    (void)numaperf__fail(-EINVAL, 0, "device", "index %zu is not below the list's %zu devices",
                         index, numaperf_device_list_count(list));
    return NULL;
}

int numaperf_device_list_get(const numaperf_device_list_t *list, size_t index,
                             numaperf_device_t *out)
{
    const struct numaperf__device *device = list_at(list, index);
    if (device == NULL)
        return -EINVAL;
    return numaperf__result_store(out, DEVICE_MIN_SIZE, &device->about, sizeof(device->about),
                                  "device");
}

int numaperf_device_list_find(const numaperf_device_list_t *list, const char *name)
{
    int rc = device_check_name(name);
    if (rc < 0)
        return rc;
    size_t count = numaperf_device_list_count(list);
    NUMAPERF_ASSERT(count <= INT_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list->devices[i].about.name, name) == 0)
            return (int)i;
    }
    return numaperf__fail(-ENODEV, ENODEV, "device", "%s is not among the list's %zu devices", name,
                          count);
}

int numaperf_device_list_irq(const numaperf_device_list_t *list, size_t index, size_t irq_index,
                             numaperf_device_irq_t *out)
{
    const struct numaperf__device *device = list_at(list, index);
    if (device == NULL)
        return -EINVAL;
    if (irq_index >= device->about.irq_count)
        return numaperf__fail(-EINVAL, 0, "interrupt", "index %zu is not below the %u of %s",
                              irq_index, device->about.irq_count, device->about.name);
    numaperf_device_irq_t irq;
    int rc = numaperf__device_irq_read(list->tree.proc, device->irqs[irq_index], &irq);
    if (rc < 0)
        return rc;
    return numaperf__result_store(out, DEVICE_IRQ_MIN_SIZE, &irq, sizeof(irq), "interrupt");
}
