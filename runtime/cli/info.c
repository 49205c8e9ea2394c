/* SPDX-License-Identifier: MIT */
/*
 * numaperf info: the machine and this process as the library sees them. Each section is read once,
 * into JSON; text is drawn from that, so both tell the same.
 */
#include "cli/info_device.h"
#include "cli/info_io.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/procfs.h"
#include "cli/table.h"

#include <numaperf/capabilities.h>
#include <numaperf/cpuset.h>
#include <numaperf/error.h>
#include <numaperf/pin.h>
#include <numaperf/topology.h>

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INFO_CACHE_LEVELS 4u
#define INFO_DISTANCE_COLUMNS 12u /* of the matrix, side by side on a terminal */

struct info_settings {
    const char *section; /* NULL or "all": every one */
    bool is_json;
};

/* ---- topology ---- */

static json_t *info_node(const numaperf_topology_t *topology, int node)
{
    numaperf_cpuset_t cpus;
    numaperf_cpuset_t cores;
    numaperf_cpuset_zero(&cpus);
    numaperf_cpuset_zero(&cores);
    (void)numaperf_topology_node_cpus(topology, node, &cpus); /* the node exists */
    (void)numaperf_topology_node_cores(topology, node, &cores);

    json_t *caches = json_array();
    int first = numaperf_cpuset_next(&cpus, -1);
    for (unsigned level = 1; first >= 0 && level <= INFO_CACHE_LEVELS; level++) {
        uint64_t bytes = numaperf_topology_cache_bytes(topology, first, level);
        if (bytes > 0)
            json_array_append_new(
                caches, json_pack("{s:i, s:I}", "level", (int)level, "bytes", (json_int_t)bytes));
    }
    int package = numaperf_topology_node_package(topology, node);
    return json_pack("{s:i, s:o, s:I, s:o, s:i, s:i, s:o}", "node", node, "package",
                     package >= 0 ? json_integer(package) : json_null(), "memory_bytes",
                     (json_int_t)numaperf_topology_node_memory_bytes(topology, node), "caches",
                     caches, "core_count", numaperf_cpuset_count(&cores), "pu_count",
                     numaperf_cpuset_count(&cpus), "pus", procfs_cpuset_json(&cpus));
}

static json_t *info_read_topology(const numaperf_topology_t *topology)
{
    json_t *nodes = json_array();
    size_t count = numaperf_topology_node_count(topology);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(nodes, info_node(topology, numaperf_topology_node_id(topology, i)));
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    (void)numaperf_topology_cpus(topology, &cpus); /* both are valid */
    return json_pack("{s:i, s:i, s:o}", "node_count", (int)count, "pu_count",
                     numaperf_cpuset_count(&cpus), "nodes", nodes);
}

static void info_print_caches(struct table *table, const json_t *caches)
{
    size_t i;
    json_t *cache;
    json_array_foreach(caches, i, cache)
    {
        char text[32];
        json_int_t level = json_integer_value(json_object_get(cache, "level"));
        output_bytes((uint64_t)json_integer_value(json_object_get(cache, "bytes")), text,
                     sizeof(text));
        if (level >= 1 && level <= (json_int_t)INFO_CACHE_LEVELS)
            table_set(table, 2 + (size_t)level, "%s", text);
    }
}

static void info_print_topology(const json_t *facts)
{
    static const char *const headings[] = {"NODE", "PACKAGE", "MEMORY", "L1",  "L2",
                                           "L3",   "L4",      "CORES",  "PUS", "PU IDS"};
    struct table table;
    table_init(&table, 10, 0x1ffu, headings);
    size_t i;
    json_t *node;
    json_array_foreach(json_object_get(facts, "nodes"), i, node)
    {
        char memory[32];
        output_bytes((uint64_t)json_integer_value(json_object_get(node, "memory_bytes")), memory,
                     sizeof(memory));
        const json_t *package = json_object_get(node, "package");
        table_next(&table);
        table_set(&table, 0, "%" JSON_INTEGER_FORMAT,
                  json_integer_value(json_object_get(node, "node")));
        if (json_is_integer(package))
            table_set(&table, 1, "%" JSON_INTEGER_FORMAT, json_integer_value(package));
        else
            table_set(&table, 1, "-");
        table_set(&table, 2, "%s", memory);
        info_print_caches(&table, json_object_get(node, "caches"));
        table_set(&table, 7, "%" JSON_INTEGER_FORMAT,
                  json_integer_value(json_object_get(node, "core_count")));
        table_set(&table, 8, "%" JSON_INTEGER_FORMAT,
                  json_integer_value(json_object_get(node, "pu_count")));
        table_set(&table, 9, "%s", json_string_value(json_object_get(node, "pus")));
    }
    table_print(&table);
    json_int_t nodes = json_integer_value(json_object_get(facts, "node_count"));
    json_int_t pus = json_integer_value(json_object_get(facts, "pu_count"));
    printf("%" JSON_INTEGER_FORMAT " node%s, %" JSON_INTEGER_FORMAT " usable PU%s\n", nodes,
           nodes == 1 ? "" : "s", pus, pus == 1 ? "" : "s");
}

/* ---- capabilities ---- */

static json_t *info_probe(uint32_t probe, int32_t sys_errno)
{
    return json_pack("{s:s, s:o}", "outcome", numaperf_probe_name(probe), "errno",
                     sys_errno != 0 ? json_string(numaperf_err_name(-sys_errno)) : json_null());
}

static json_t *info_read_capabilities(const numaperf_topology_t *topology)
{
    (void)topology; /* asked of the kernel */
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    if (numaperf_capabilities_detect(&caps) < 0)
        return NULL;
    const char *texts[16];
    size_t count = numaperf_capabilities_missing_for_hard_mode(&caps, texts, 16);
    json_t *missing = json_array();
    for (size_t i = 0; i < count && i < 16; i++)
        json_array_append_new(missing, json_string(texts[i]));
    return json_pack("{s:b, s:b, s:b, s:b, s:i, s:{s:o, s:o, s:o, s:o, s:o}, s:o}", "cap_sys_admin",
                     (int)caps.strict_memory_binding, "cap_sys_nice", (int)caps.strict_cpu_affinity,
                     "cap_ipc_lock", (int)caps.memory_locking, "numa_balancing_off",
                     (int)caps.numa_balancing_disabled, "memory_node_count",
                     (int)caps.numa_node_count, "probes", "mbind",
                     info_probe(caps.probe_mbind, caps.errno_mbind), "move_pages",
                     info_probe(caps.probe_page_query, caps.errno_page_query), "affinity",
                     info_probe(caps.probe_affinity, caps.errno_affinity), "io_uring",
                     info_probe(caps.probe_io_uring, caps.errno_io_uring), "io_wq_affinity",
                     info_probe(caps.probe_iowq_affinity, caps.errno_iowq_affinity),
                     "missing_for_hard_mode", missing);
}

/* "yes" and "no" in green and red when it matters. */
static void info_print_flag(const char *what, bool value)
{
    printf("%-26s %s%s%s\n", what, output_style(value ? OUTPUT_GOOD : OUTPUT_MIDDLING),
           value ? "yes" : "no", output_style(OUTPUT_PLAIN));
}

static void info_print_capabilities(const json_t *facts)
{
    static const char *const flags[][2] = {{"CAP_SYS_ADMIN", "cap_sys_admin"},
                                           {"CAP_SYS_NICE", "cap_sys_nice"},
                                           {"CAP_IPC_LOCK", "cap_ipc_lock"},
                                           {"NUMA balancing off", "numa_balancing_off"}};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        info_print_flag(flags[i][0], json_is_true(json_object_get(facts, flags[i][1])));
    printf("%-26s %" JSON_INTEGER_FORMAT "\n", "nodes with memory",
           json_integer_value(json_object_get(facts, "memory_node_count")));

    const char *name;
    json_t *probe;
    json_object_foreach(json_object_get(facts, "probes"), name, probe)
    {
        const char *outcome = json_string_value(json_object_get(probe, "outcome"));
        const char *error = json_string_value(json_object_get(probe, "errno"));
        printf("probe: %-19s %s%s%s", name, output_style(error ? OUTPUT_MIDDLING : OUTPUT_GOOD),
               outcome, output_style(OUTPUT_PLAIN));
        if (error != NULL)
            printf(" (%s)", error);
        printf("\n");
    }
    const json_t *missing = json_object_get(facts, "missing_for_hard_mode");
    if (json_array_size(missing) == 0)
        printf("missing for hard mode      nothing\n");
    size_t i;
    json_t *text;
    json_array_foreach(missing, i, text)
    {
        printf("missing for hard mode      ");
        output_wrapped(27, json_string_value(text));
    }
}

/* ---- affinity ---- */

static json_t *info_read_affinity(const numaperf_topology_t *topology)
{
    numaperf_cpuset_t cpus;
    if (numaperf_get_affinity(&cpus) < 0)
        return NULL;
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&cpus, cpu)) {
        int node = numaperf_topology_node_of_cpu(topology, cpu);
        if (node >= 0)
            (void)numaperf_nodemask_add(&nodes, node); /* an id of the topology is in range */
    }
    int cpu = sched_getcpu();
    int node = cpu >= 0 ? numaperf_topology_node_of_cpu(topology, cpu) : -1;
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o}", "pu_count", numaperf_cpuset_count(&cpus),
                     "pus", procfs_cpuset_json(&cpus), "nodes", procfs_nodemask_json(&nodes),
                     "memory_nodes", procfs_own_memory_nodes(), "current_pu",
                     cpu >= 0 ? json_integer(cpu) : json_null(), "current_node",
                     node >= 0 ? json_integer(node) : json_null());
}

static void info_print_number(const char *what, const json_t *value)
{
    if (json_is_integer(value))
        printf("%-26s %" JSON_INTEGER_FORMAT "\n", what, json_integer_value(value));
    else
        printf("%-26s unknown\n", what);
}

static void info_print_affinity(const json_t *facts)
{
    static const char *const lists[][2] = {{"PUs it may run on", "pus"},
                                           {"of nodes", "nodes"},
                                           {"nodes it may allocate on", "memory_nodes"}};
    info_print_number("PUs", json_object_get(facts, "pu_count"));
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const char *list = json_string_value(json_object_get(facts, lists[i][1]));
        printf("%-26s %s\n", lists[i][0], list != NULL ? list : "unknown");
    }
    info_print_number("current PU", json_object_get(facts, "current_pu"));
    info_print_number("current node", json_object_get(facts, "current_node"));
}

/* ---- distances ---- */

static json_t *info_read_distances(const numaperf_topology_t *topology)
{
    json_t *ids = json_array();
    json_t *rows = json_array();
    size_t count = numaperf_topology_node_count(topology);
    for (size_t from = 0; from < count; from++) {
        int from_id = numaperf_topology_node_id(topology, from);
        json_t *row = json_array();
        for (size_t to = 0; to < count; to++) {
            int distance = numaperf_topology_distance(topology, from_id,
                                                      numaperf_topology_node_id(topology, to));
            json_array_append_new(row, distance >= 0 ? json_integer(distance) : json_null());
        }
        json_array_append_new(ids, json_integer(from_id));
        json_array_append_new(rows, row);
    }
    return json_pack("{s:o, s:o}", "nodes", ids, "distances", rows);
}

/* Some columns of the matrix: those from `first` on. */
static void info_print_columns(const json_t *ids, const json_t *rows, size_t first)
{
    size_t end = first + INFO_DISTANCE_COLUMNS;
    end = end < json_array_size(ids) ? end : json_array_size(ids);
    printf("%s%7s", output_style(OUTPUT_HEADING), "FROM");
    for (size_t to = first; to < end; to++)
        printf(" %5" JSON_INTEGER_FORMAT, json_integer_value(json_array_get(ids, to)));
    printf("%s\n", output_style(OUTPUT_PLAIN));
    size_t from;
    json_t *row;
    json_array_foreach(rows, from, row)
    {
        printf("%7" JSON_INTEGER_FORMAT, json_integer_value(json_array_get(ids, from)));
        for (size_t to = first; to < end; to++) {
            const json_t *distance = json_array_get(row, to);
            if (json_is_integer(distance))
                printf(" %5" JSON_INTEGER_FORMAT, json_integer_value(distance));
            else
                printf(" %5s", "?");
        }
        printf("\n");
    }
}

static void info_print_distances(const json_t *facts)
{
    const json_t *ids = json_object_get(facts, "nodes");
    const json_t *rows = json_object_get(facts, "distances");
    printf("from the node of the row to that of the column; 10 is local\n");
    for (size_t first = 0; first < json_array_size(ids); first += INFO_DISTANCE_COLUMNS)
        info_print_columns(ids, rows, first);
}

/* ---- the command ---- */

static const struct {
    const char *name;
    json_t *(*read)(const numaperf_topology_t *topology); /* NULL: the library's last error */
    void (*print)(const json_t *facts);
} info_sections[] = {{"topology", info_read_topology, info_print_topology},
                     {"capabilities", info_read_capabilities, info_print_capabilities},
                     {"affinity", info_read_affinity, info_print_affinity},
                     {"distances", info_read_distances, info_print_distances},
                     {"devices", info_read_devices, info_print_devices},
                     {"io", info_read_io, info_print_io}};
#define INFO_SECTION_COUNT (sizeof(info_sections) / sizeof(info_sections[0]))

static bool info_has_section(const struct info_settings *settings, size_t i)
{
    return settings->section == NULL || strcmp(settings->section, "all") == 0 ||
           strcmp(settings->section, info_sections[i].name) == 0;
}

static bool info_read(const struct info_settings *settings, const numaperf_topology_t *topology,
                      json_t *document)
{
    for (size_t i = 0; i < INFO_SECTION_COUNT; i++) {
        if (!info_has_section(settings, i))
            continue;
        json_t *facts = info_sections[i].read(topology);
        if (facts == NULL) {
            output_library_error(info_sections[i].name);
            return false;
        }
        json_object_set_new(document, info_sections[i].name, facts);
    }
    return true;
}

static void info_print(const json_t *document)
{
    bool is_first = true;
    for (size_t i = 0; i < INFO_SECTION_COUNT; i++) {
        const json_t *facts = json_object_get(document, info_sections[i].name);
        if (facts == NULL)
            continue;
        printf("%s%s%s%s\n", is_first ? "" : "\n", output_style(OUTPUT_HEADING),
               info_sections[i].name, output_style(OUTPUT_PLAIN));
        info_sections[i].print(facts);
        is_first = false;
    }
}

static int info_run(const void *given)
{
    const struct info_settings *settings = given;
    numaperf_topology_t *topology = NULL;
    if (numaperf_topology_discover(&topology) < 0) {
        output_library_error("topology");
        return CLI_FAILED;
    }
    json_t *document = output_document("numaperf-info");
    bool is_whole = info_read(settings, topology, document);
    if (is_whole && settings->is_json)
        output_json(document);
    else if (is_whole)
        info_print(document);
    json_decref(document);
    numaperf_topology_destroy(topology);
    return is_whole ? CLI_OK : CLI_FAILED;
}

static const char *info_read_section(void *settings, const char *text)
{
    bool is_known = strcmp(text, "all") == 0;
    for (size_t i = 0; i < INFO_SECTION_COUNT; i++)
        is_known = is_known || strcmp(text, info_sections[i].name) == 0;
    if (!is_known)
        return "is not all, topology, capabilities, affinity, distances, devices or io";
    ((struct info_settings *)settings)->section = text;
    return NULL;
}

static const char *info_read_format(void *settings, const char *text)
{
    return options_read_format(&((struct info_settings *)settings)->is_json, text);
}

static const struct option info_options[] = {OPTIONS_FORMAT(info_read_format)};

const struct command info_command = {
    .name = "info",
    .operand = "SECTION",
    .summary = "nodes, PUs, memory, distances, capabilities, devices, io_uring",
    .about = "Shows the machine and this process as the library sees them. SECTION is one of\n"
             "  all           everything (the default)\n"
             "  topology      nodes with their PUs, cores, memory and caches, as far as this\n"
             "                process may use them\n"
             "  capabilities  privileges, settings, and what live probes found\n"
             "  affinity      where this process may run and allocate, and where it runs\n"
             "  distances     between nodes, as the firmware states them\n"
             "  devices       NICs, disks, accelerators: their nodes, queues and interrupts\n"
             "  io            what of io_uring works here, each found by doing it\n",
    .options = info_options,
    .option_count = sizeof(info_options) / sizeof(info_options[0]),
    .read_operand = info_read_section,
    .settings_size = sizeof(struct info_settings),
    .run = info_run,
};
