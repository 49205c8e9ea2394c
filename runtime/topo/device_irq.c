/* SPDX-License-Identifier: MIT */
/*
 * The interrupts of devices: their numbers out of /sys, who gets them out of /proc/irq.
 *
 * They belong to the nearest parent that has any: the PCI function of a virtio NIC, the controller
 * of a disk. The search ends at the first parent that says anything of interrupts, even that it
 * has none, because the ones further up are those of a bridge. No state: any thread.
 * Source: kernel Documentation/ABI testing/sysfs-bus-pci, "msi_irqs" and "irq";
 * core-api/irq/irq-affinity.
 */
#include "topo/device.h"

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- numbers ---- */

static int irqs_add(struct numaperf__device *device, int irq)
{
    uint32_t count = device->about.irq_count;
    if (count == NUMAPERF_DEVICE_IRQ_MAX) {
        device->irqs_left_out = true;
        return 0;
    }
    /* Powers of two are when it is full. */
    if ((count & (count - 1)) == 0) {
        size_t room = count == 0 ? 1 : (size_t)count * 2;
        int *irqs = realloc(device->irqs, room * sizeof(*irqs));
        if (irqs == NULL)
            return -ENOMEM;
        device->irqs = irqs;
    }
    device->irqs[count] = irq;
    device->about.irq_count = count + 1;
    return 0;
}

static int irqs_entry(const char *name, void *data)
{
    int irq = 0;
    return numaperf__device_number(name, &irq) ? irqs_add(data, irq) : 0;
}

static int irqs_compare(const void *a, const void *b)
{
    int left = *(const int *)a;
    int right = *(const int *)b;
    return (left > right) - (left < right);
}

/* Returns 1 when the directory says anything of interrupts; 0; -ENOMEM. */
static int irqs_of_directory(const char *dir, struct numaperf__device *device)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/msi_irqs", dir);
    int rc = length > 0 && (size_t)length < sizeof(path)
                 ? numaperf__device_each(path, irqs_entry, device)
                 : 0;
    if (rc < 0 || device->about.irq_count > 0)
        return rc < 0 ? rc : 1;

    /* Without messages it is the one line of the function; 0 is none. */
    char *text = NULL;
    rc = numaperf__device_text(dir, "irq", &text);
    if (rc < 0)
        return rc == -ENOMEM ? rc : 0;
    int irq = 0;
    rc = numaperf__device_number(text, &irq) && irq > 0 ? irqs_add(device, irq) : 0;
    free(text);
    return rc < 0 ? rc : 1;
}

int numaperf__device_irqs(size_t sys_length, const char *path, struct numaperf__device *device)
{
    NUMAPERF_ASSERT(device->irqs == NULL && device->about.irq_count == 0);
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s", path); /* it is one of realpath(): it fits */
    int rc = 0;
    do {
        rc = irqs_of_directory(dir, device);
    } while (rc == 0 && numaperf__device_up(sys_length, dir));
    if (device->about.irq_count > 1)
        qsort(device->irqs, device->about.irq_count, sizeof(*device->irqs), irqs_compare);
    return rc < 0 ? rc : 0;
}

/* ---- who gets one ---- */

/* Returns 0; -errno; -EINVAL when the text is not a list of PUs. */
static int irq_cpus(const char *dir, const char *name, numaperf_cpuset_t *out)
{
    char *text = NULL;
    int rc = numaperf__device_text(dir, name, &text);
    if (rc < 0)
        return rc;
    rc = numaperf_cpuset_parse(text, out);
    free(text);
    return rc;
}

struct irq_handler {
    const char *dir;
    char *name; /* of NUMAPERF_DEVICE_NAME_MAX bytes */
};

/* Beside its files, the directory of an interrupt has one directory for each handler. */
static int irq_handler_entry(const char *name, void *data)
{
    struct irq_handler *handler = data;
    char path[PATH_MAX];
    struct stat info;
    int length = snprintf(path, sizeof(path), "%s/%s", handler->dir, name);
    if (length < 0 || (size_t)length >= sizeof(path) || stat(path, &info) < 0 ||
        !S_ISDIR(info.st_mode))
        return 0;
    (void)snprintf(handler->name, NUMAPERF_DEVICE_NAME_MAX, "%s", name); /* cut when too long */
    return 1;
}

int numaperf__device_irq_read(const char *proc, int irq, numaperf_device_irq_t *out)
{
    char dir[PATH_MAX];
    int length = snprintf(dir, sizeof(dir), "%s/irq/%d", proc, irq);
    NUMAPERF_ASSERT(length > 0 && (size_t)length < sizeof(dir));

    numaperf_device_irq_t found = NUMAPERF_DEVICE_IRQ_INIT;
    found.irq = irq;
    int rc = irq_cpus(dir, "smp_affinity_list", &found.affinity);
    if (rc == -ENOENT)
        return numaperf__fail(-ENODEV, ENOENT, "interrupt", "interrupt %d is gone", irq);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "interrupt", "%s/smp_affinity_list cannot be read", dir);
    /* Empty when the kernel does not say, and untouched then. */
    rc = irq_cpus(dir, "effective_affinity_list", &found.effective);
    if (rc != -ENOMEM)
        rc = numaperf__device_each(dir, irq_handler_entry,
                                   &(struct irq_handler){.dir = dir, .name = found.name});
    if (rc < 0)
        return numaperf__fail(rc, -rc, "interrupt", "no memory to read interrupt %d", irq);
    *out = found;
    return 0;
}
