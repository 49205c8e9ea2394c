/* SPDX-License-Identifier: MIT */
/*
 * Devices, between the modules that read them. device_sysfs.c reads one directory of /sys/devices,
 * device_irq.c interrupts, device.c makes lists and answers of them. Rooms below use
 * <numaperf/device.h>.
 */
#ifndef NUMAPERF_TOPO_DEVICE_H
#define NUMAPERF_TOPO_DEVICE_H

#include <numaperf/device.h>
#include <numaperf/topology.h>

#define NUMAPERF_DEVICE_CLASS_MAX 4096 /* devices of one class */
#define NUMAPERF_DEVICE_IRQ_MAX 4096   /* interrupts of one device; a PCI function has 2048 */

/* Where to read: "/sys" and "/proc", or copies of them. Without a final slash; borrowed. */
struct numaperf__device_tree {
    const char *sys;
    const char *proc;
};

struct numaperf__device {
    numaperf_device_t about;
    int *irqs;          /* ascending, about.irq_count of them; NULL without any */
    bool irqs_left_out; /* there were more than NUMAPERF_DEVICE_IRQ_MAX */
};

/* ---- directories (device_sysfs.c) ---- */

/* Returns 0 to go on; 1 to stop; or a negative code, which numaperf__device_each() returns. */
typedef int (*numaperf__device_entry_fn)(const char *name, void *data);

/* Each entry of a directory but those with a leading dot. 0, also without the directory; -ENOMEM.
 */
int numaperf__device_each(const char *dir, numaperf__device_entry_fn fn, void *data);

/* Read a file of a directory; as numaperf__textfile_read(). The text is the caller's to free(). */
int numaperf__device_text(const char *dir, const char *name, char **out_text);

/* Whether this is a decimal number and nothing else; its value, if it is an int. */
bool numaperf__device_number(const char *text, int *out_number);

/* Cut a path to its parent; false when that is no longer below `sys`/devices. */
bool numaperf__device_up(size_t sys_length, char *path);

/* ---- one device ---- */

/*
 * Read the device `name` of a class, "class/net". `name` was checked. Returns 0; -ENODEV when it
 * is not there, not recorded as the last error; -ENOMEM, recorded.
 */
int numaperf__device_read(const struct numaperf__device_tree *tree, uint32_t kind,
                          const char *class_dir, const char *name, struct numaperf__device *out);
void numaperf__device_fini(struct numaperf__device *device);

/* The numbers of the interrupts of the device at `path`. Returns 0 or -ENOMEM, not recorded. */
int numaperf__device_irqs(size_t sys_length, const char *path, struct numaperf__device *device);

/* Who gets an interrupt, into a whole struct; the public function's codes. */
int numaperf__device_irq_read(const char *proc, int irq, numaperf_device_irq_t *out);

/* ---- the public functions, of any tree ---- */

int numaperf__device_node_of(const struct numaperf__device_tree *tree, const char *name);

/* `topology` NULL: this machine's, discovered. */
int numaperf__device_nodes_of(const struct numaperf__device_tree *tree,
                              const numaperf_topology_t *topology, const char *name,
                              numaperf_nodemask_t *out);

/* The tree's strings are borrowed until destroy. */
int numaperf__device_list_of(const struct numaperf__device_tree *tree,
                             numaperf_device_list_t **out);

#endif
