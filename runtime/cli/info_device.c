/* SPDX-License-Identifier: MIT */
/*
 * NICs, disks and accelerators with their nodes and queues, and which PUs get their interrupts.
 * Names come from drivers and administrators: they are made printable.
 */
#include "cli/info_device.h"

#include "cli/output.h"
#include "cli/procfs.h"
#include "cli/table.h"

#include <numaperf/device.h>

#include <stdio.h>

/* ---- reading ---- */

/* Unknown PUs are null, not none. */
static json_t *device_pus(const numaperf_cpuset_t *cpus)
{
    return numaperf_cpuset_count(cpus) > 0 ? procfs_cpuset_json(cpus) : json_null();
}

static json_t *device_read_irqs(const numaperf_device_list_t *list, size_t index, size_t count)
{
    json_t *irqs = json_array();
    for (size_t i = 0; i < count; i++) {
        numaperf_device_irq_t irq = NUMAPERF_DEVICE_IRQ_INIT;
        if (numaperf_device_list_irq(list, index, i, &irq) < 0)
            continue; /* it is gone, or not for us to see */
        output_make_printable(irq.name);
        json_array_append_new(irqs, json_pack("{s:i, s:s, s:o, s:o}", "irq", (int)irq.irq, "name",
                                              irq.name, "affinity", device_pus(&irq.affinity),
                                              "effective", device_pus(&irq.effective)));
    }
    return irqs;
}

static json_t *device_read(const numaperf_device_list_t *list, size_t index)
{
    numaperf_device_t device = NUMAPERF_DEVICE_INIT;
    if (numaperf_device_list_get(list, index, &device) < 0)
        return NULL;
    output_make_printable(device.name);
    return json_pack("{s:s, s:s, s:b, s:o, s:o, s:i, s:i, s:i, s:i, s:o}", "name", device.name,
                     "kind", numaperf_device_kind_name(device.kind), "virtual",
                     (int)(device.flags & NUMAPERF_DEVICE_VIRTUAL), "node",
                     device.node >= 0 ? json_integer(device.node) : json_null(), "nodes",
                     procfs_nodemask_json(&device.nodes), "rx_queue_count",
                     (int)device.rx_queue_count, "tx_queue_count", (int)device.tx_queue_count,
                     "block_queue_count", (int)device.block_queue_count, "irq_count",
                     (int)device.irq_count, "irqs",
                     device_read_irqs(list, index, device.irq_count));
}

json_t *info_read_devices(const numaperf_topology_t *topology)
{
    (void)topology; /* devices are where they are, whatever this process may use */
    numaperf_device_list_t *list = NULL;
    if (numaperf_device_list_create(&list) < 0)
        return NULL;
    json_t *devices = json_array();
    for (size_t i = 0; i < numaperf_device_list_count(list); i++) {
        json_t *device = device_read(list, i);
        if (device != NULL)
            json_array_append_new(devices, device);
    }
    json_t *facts = json_pack("{s:b, s:o}", "complete", (int)numaperf_device_list_is_complete(list),
                              "devices", devices);
    numaperf_device_list_destroy(list);
    return facts;
}

/* ---- text ---- */

static void device_set_text(struct table *table, size_t column, const json_t *value)
{
    const char *text = json_string_value(value);
    table_set(table, column, "%s", text != NULL && *text != '\0' ? text : "-");
}

static void device_set_count(struct table *table, size_t column, const json_t *value)
{
    table_set(table, column, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
}

static void device_print_list(const json_t *devices)
{
    static const char *const headings[] = {"KIND", "NAME",   "VIRTUAL", "RX",
                                           "TX",   "BLOCKQ", "IRQS",    "NODES"};
    struct table table;
    table_init(&table, 8, 0x78u, headings);
    size_t i;
    json_t *device;
    json_array_foreach(devices, i, device)
    {
        table_next(&table);
        device_set_text(&table, 0, json_object_get(device, "kind"));
        device_set_text(&table, 1, json_object_get(device, "name"));
        table_set(&table, 2, "%s", json_is_true(json_object_get(device, "virtual")) ? "yes" : "no");
        device_set_count(&table, 3, json_object_get(device, "rx_queue_count"));
        device_set_count(&table, 4, json_object_get(device, "tx_queue_count"));
        device_set_count(&table, 5, json_object_get(device, "block_queue_count"));
        device_set_count(&table, 6, json_object_get(device, "irq_count"));
        device_set_text(&table, 7, json_object_get(device, "nodes"));
    }
    table_print(&table);
}

static void device_print_irqs(const json_t *devices)
{
    static const char *const headings[] = {"DEVICE", "IRQ", "NAME", "GOES TO", "ALLOWED"};
    struct table table;
    table_init(&table, 5, 0x2u, headings);
    size_t i;
    json_t *device;
    json_array_foreach(devices, i, device)
    {
        size_t k;
        json_t *irq;
        json_array_foreach(json_object_get(device, "irqs"), k, irq)
        {
            table_next(&table);
            device_set_text(&table, 0, json_object_get(device, "name"));
            device_set_count(&table, 1, json_object_get(irq, "irq"));
            device_set_text(&table, 2, json_object_get(irq, "name"));
            device_set_text(&table, 3, json_object_get(irq, "effective"));
            device_set_text(&table, 4, json_object_get(irq, "affinity"));
        }
    }
    table_print(&table);
}

void info_print_devices(const json_t *facts)
{
    const json_t *devices = json_object_get(facts, "devices");
    device_print_list(devices);
    printf("\n");
    device_print_irqs(devices);
    if (!json_is_true(json_object_get(facts, "complete")))
        printf("not complete: there are more devices than are listed\n");
}
