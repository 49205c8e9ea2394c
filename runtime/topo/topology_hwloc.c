/* SPDX-License-Identifier: MIT */
/*
 * Topologies that are not this machine's: XML files and synthetic descriptions, read by hwloc.
 *
 * hwloc's tree is walked once and let go; no hwloc type or index leaves this file, and its -1 with
 * errno becomes our codes here. Disallowed objects are kept while walking, as a node without memory
 * counts as one, and left out by the allowed sets afterwards. A file is read by us, with a size
 * limit, and handed over as text, so that its path, its kind and its length are judged before any
 * parser sees it. No state: any thread.
 * Source: hwloc, "Object attributes", "Heterogeneous memory", "Distances".
 */
#include "topo/textfile.h"
#include "topo/topology.h"

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <hwloc.h>
#include <hwloc/distances.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The XML of a machine of 8192 PUs is about a third of this. */
#define XML_SIZE_MAX ((size_t)64 * 1024 * 1024)

/* Error texts name the source; a long description is cut. */
#define NAME_FORMAT "\"%.120s\""

/* What is being converted, and its name for errors. */
struct source {
    hwloc_topology_t hwloc;
    const char *name;
};

static int source_fail(const struct source *source, const char *what, unsigned id)
{
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " %s %u", source->name,
                          what, id);
}

/* ---- ids ---- */

static int source_nodes(const struct source *source, numaperf_nodemask_t *out)
{
    numaperf_nodemask_zero(out);
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(source->hwloc, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        if (node->os_index >= NUMAPERF_NODE_MAX)
            return source_fail(source, "has a node out of range:", node->os_index);
        if (numaperf_nodemask_contains(out, (int)node->os_index))
            return source_fail(source, "has two nodes of the id", node->os_index);
        (void)numaperf_nodemask_add(out, (int)node->os_index); /* in range */
    }
    return 0;
}

static int source_cpus(const struct source *source, numaperf_cpuset_t *out)
{
    numaperf_cpuset_zero(out);
    hwloc_obj_t pu = NULL;
    while ((pu = hwloc_get_next_obj_by_type(source->hwloc, HWLOC_OBJ_PU, pu)) != NULL) {
        if (pu->os_index >= NUMAPERF_CPU_MAX)
            return source_fail(source, "has a PU out of range:", pu->os_index);
        if (numaperf_cpuset_contains(out, (int)pu->os_index))
            return source_fail(source, "has two PUs of the id", pu->os_index);
        (void)numaperf_cpuset_add(out, (int)pu->os_index); /* in range */
    }
    return 0;
}

/* ---- which node a PU belongs to ---- */

/* Whether `a` rather than `b` is the node that a PU in the cpusets of both belongs to. */
static bool node_is_nearer(hwloc_obj_t a, hwloc_obj_t b)
{
    int a_weight = hwloc_bitmap_weight(a->cpuset);
    int b_weight = hwloc_bitmap_weight(b->cpuset);
    if (a_weight != b_weight)
        return a_weight < b_weight;
    bool a_is_device = hwloc_obj_get_info_by_name(a, "DAXDevice") != NULL;
    bool b_is_device = hwloc_obj_get_info_by_name(b, "DAXDevice") != NULL;
    if (a_is_device != b_is_device)
        return b_is_device;
    return a->os_index < b->os_index;
}

/*
 * hwloc gives a memory-only node the cpuset of the nodes nearest to it, so a PU may be in the
 * cpusets of several. It belongs to the one with the smallest cpuset, since a memory-only node
 * covers whole nodes; among equal ones, memory of a device is never a PU's own node, and firmware
 * numbers nodes with PUs first.
 */
static hwloc_obj_t source_node_of(const struct source *source, unsigned cpu)
{
    hwloc_obj_t found = NULL;
    hwloc_obj_t node = NULL;
    while ((node = hwloc_get_next_obj_by_type(source->hwloc, HWLOC_OBJ_NUMANODE, node)) != NULL) {
        if (node->cpuset == NULL || !hwloc_bitmap_isset(node->cpuset, cpu))
            continue;
        if (found == NULL || node_is_nearer(node, found))
            found = node;
    }
    return found;
}

/*
 * The id of the node of a PU; -1 when there is none. A node that hwloc left out, for want of
 * memory, still stands in the complete nodeset of its PUs.
 */
static int source_node_id_of(const struct source *source, hwloc_obj_t pu)
{
    hwloc_obj_t node = source_node_of(source, pu->os_index);
    if (node != NULL)
        return (int)node->os_index;
    if (pu->complete_nodeset == NULL || hwloc_bitmap_weight(pu->complete_nodeset) != 1)
        return -1;
    return hwloc_bitmap_first(pu->complete_nodeset);
}

static int source_add_omitted_nodes(const struct source *source, numaperf_nodemask_t *nodes)
{
    hwloc_obj_t pu = NULL;
    while ((pu = hwloc_get_next_obj_by_type(source->hwloc, HWLOC_OBJ_PU, pu)) != NULL) {
        int node = source_node_id_of(source, pu);
        if (node >= NUMAPERF_NODE_MAX)
            return source_fail(source, "has a node out of range:", (unsigned)node);
        if (node >= 0)
            (void)numaperf_nodemask_add(nodes, node); /* in range */
    }
    return 0;
}

/* ---- nodes and PUs ---- */

/* OS id of the package that holds an object; -1 when none is known. */
static int source_package_of(const struct source *source, hwloc_obj_t object)
{
    hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(source->hwloc, HWLOC_OBJ_PACKAGE, object);
    return package == NULL || package->os_index > INT_MAX ? -1 : (int)package->os_index;
}

static void source_fill_pu(const struct source *source, hwloc_obj_t object,
                           numaperf_topology_t *topology)
{
    struct numaperf__topology_pu *pu = &topology->pus[object->os_index];
    int node = source_node_id_of(source, object);
    pu->node = node < 0 ? -1 : numaperf__topology_node_index(topology, node);
    pu->package = source_package_of(source, object);

    hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(source->hwloc, HWLOC_OBJ_CORE, object);
    int lowest = core == NULL || core->cpuset == NULL ? -1 : hwloc_bitmap_first(core->cpuset);
    if (lowest >= 0 && lowest < NUMAPERF_CPU_MAX)
        pu->core = lowest;

    for (hwloc_obj_t cache = object->parent; cache != NULL; cache = cache->parent) {
        if (!hwloc_obj_type_is_dcache(cache->type))
            continue;
        unsigned level = cache->attr->cache.depth;
        if (level >= 1 && level <= NUMAPERF_CACHE_LEVELS)
            pu->cache_bytes[level - 1] = cache->attr->cache.size;
    }
}

static void source_fill_node(const struct source *source, hwloc_obj_t object,
                             numaperf_topology_t *topology)
{
    int index = numaperf__topology_node_index(topology, (int)object->os_index);
    NUMAPERF_ASSERT(index >= 0);
    struct numaperf__topology_node *node = &topology->nodes[index];
    hwloc_const_nodeset_t allowed = hwloc_topology_get_allowed_nodeset(source->hwloc);
    if (hwloc_bitmap_isset(allowed, object->os_index))
        node->memory_bytes = object->attr->numanode.local_memory;

    /* A node with PUs is where they are, which seal derives; only the others need the tree. */
    for (int cpu = 0; cpu < topology->pu_limit; cpu++) {
        if (topology->pus[cpu].node == index)
            return;
    }
    node->package = source_package_of(source, object);
}

/* hwloc's values[i * count + j] goes from object i to object j, as the kernel's files do. */
static void source_fill_distances(const struct hwloc_distances_s *table,
                                  numaperf_topology_t *topology)
{
    for (unsigned i = 0; i < table->nbobjs; i++) {
        for (unsigned j = 0; j < table->nbobjs; j++) {
            hwloc_uint64_t distance = table->values[(size_t)i * table->nbobjs + j];
            if (table->objs[i] == NULL || table->objs[j] == NULL || distance > INT_MAX)
                continue;
            int from = numaperf__topology_node_index(topology, (int)table->objs[i]->os_index);
            int to = numaperf__topology_node_index(topology, (int)table->objs[j]->os_index);
            if (from >= 0 && to >= 0)
                topology->distances[(size_t)from * topology->node_count + (size_t)to] =
                    (uint32_t)distance;
        }
    }
}

static void source_read_distances(const struct source *source, numaperf_topology_t *topology)
{
    unsigned count = 1;
    struct hwloc_distances_s *table = NULL;
    /* Firmware's table by its name; else any that says it is of latencies. */
    int rc = hwloc_distances_get_by_name(source->hwloc, "NUMALatency", &count, &table, 0);
    if (rc < 0 || count == 0) {
        count = 1;
        rc = hwloc_distances_get_by_type(source->hwloc, HWLOC_OBJ_NUMANODE, &count, &table,
                                         HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0);
    }
    if (rc < 0 || count == 0 || table == NULL)
        return;
    bool is_of_nodes = (table->kind & HWLOC_DISTANCES_KIND_HETEROGENEOUS_TYPES) == 0;
    for (unsigned i = 0; i < table->nbobjs && is_of_nodes; i++)
        is_of_nodes = table->objs[i] == NULL || table->objs[i]->type == HWLOC_OBJ_NUMANODE;
    if (is_of_nodes)
        source_fill_distances(table, topology);
    hwloc_distances_release(source->hwloc, table);
}

static void source_usable(const struct source *source, const numaperf_topology_t *topology,
                          numaperf_cpuset_t *out)
{
    hwloc_const_cpuset_t allowed = hwloc_topology_get_allowed_cpuset(source->hwloc);
    numaperf_cpuset_zero(out);
    for (int cpu = 0; cpu < topology->pu_limit; cpu++) {
        if (hwloc_bitmap_isset(allowed, (unsigned)cpu))
            (void)numaperf_cpuset_add(out, cpu); /* below the limit */
    }
}

/* ---- the whole ---- */

static int source_convert(const struct source *source, numaperf_topology_t **out)
{
    numaperf_nodemask_t nodes;
    numaperf_cpuset_t cpus;
    int rc = source_nodes(source, &nodes);
    if (rc == 0)
        rc = source_cpus(source, &cpus);
    if (rc == 0)
        rc = source_add_omitted_nodes(source, &nodes);
    if (rc < 0)
        return rc;

    numaperf_topology_t *topology = NULL;
    rc = numaperf__topology_alloc(&nodes, &cpus, &topology);
    if (rc < 0)
        return rc;
    hwloc_obj_t object = NULL;
    while ((object = hwloc_get_next_obj_by_type(source->hwloc, HWLOC_OBJ_PU, object)) != NULL)
        source_fill_pu(source, object, topology);
    while ((object = hwloc_get_next_obj_by_type(source->hwloc, HWLOC_OBJ_NUMANODE, object)) != NULL)
        source_fill_node(source, object, topology);
    source_read_distances(source, topology);

    numaperf_cpuset_t usable;
    source_usable(source, topology, &usable);
    rc = numaperf__topology_seal(topology, &usable);
    if (rc < 0) {
        numaperf_topology_destroy(topology);
        return rc;
    }
    *out = topology;
    return 0;
}

/* Load what was set on `source` and convert it. */
static int source_load(const struct source *source, numaperf_topology_t **out)
{
    /* Devices are of no use here, and the less is parsed of a stranger's file the better. */
    int rc = hwloc_topology_set_io_types_filter(source->hwloc, HWLOC_TYPE_FILTER_KEEP_NONE);
    if (rc == 0)
        rc = hwloc_topology_set_type_filter(source->hwloc, HWLOC_OBJ_MISC,
                                            HWLOC_TYPE_FILTER_KEEP_NONE);
    if (rc == 0)
        rc = hwloc_topology_set_flags(source->hwloc, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if (rc == 0)
        rc = hwloc_topology_load(source->hwloc);
    if (rc < 0)
        return numaperf__fail(errno == ENOMEM ? -ENOMEM : NUMAPERF_E_TOPOLOGY, errno, "topology",
                              NAME_FORMAT " is not a topology that hwloc can load", source->name);
    return source_convert(source, out);
}

static int source_init(struct source *source, const char *name)
{
    source->name = name;
    if (hwloc_topology_init(&source->hwloc) < 0)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "hwloc cannot start");
    return 0;
}

int numaperf_topology_from_synthetic(const char *hwloc_description, numaperf_topology_t **out)
{
    if (hwloc_description == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "topology", "description and out must not be NULL");

    struct source source;
    int rc = source_init(&source, hwloc_description);
    if (rc < 0)
        return rc;
    if (hwloc_topology_set_synthetic(source.hwloc, hwloc_description) < 0)
        rc = numaperf__fail(NUMAPERF_E_TOPOLOGY, errno, "topology",
                            NAME_FORMAT " is not a synthetic description, like \"numa:2 pu:4\"",
                            hwloc_description);
    else
        rc = source_load(&source, out);
    hwloc_topology_destroy(source.hwloc);
    return rc;
}

/* Read the file and refuse what cannot be hwloc's XML at all. */
static int xml_read(const char *path, char **out_text, size_t *out_size)
{
    char *text = NULL;
    size_t size = 0;
    int rc = numaperf__textfile_read(path, XML_SIZE_MAX, &text, &size);
    if (rc == -EFBIG)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, EFBIG, "topology",
                              NAME_FORMAT " is longer than %zu MiB", path, XML_SIZE_MAX >> 20);
    if (rc == -ENOTSUP)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology",
                              NAME_FORMAT " is not a regular file", path);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "topology", NAME_FORMAT " cannot be read", path);
    if (strlen(text) != size || strstr(text, "<topology") == NULL) {
        free(text);
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology",
                              NAME_FORMAT " is not an XML file of hwloc", path);
    }
    *out_text = text;
    *out_size = size;
    return 0;
}

int numaperf_topology_from_xml(const char *path, numaperf_topology_t **out)
{
    if (path == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "topology", "path and out must not be NULL");

    char *text = NULL;
    size_t size = 0;
    int rc = xml_read(path, &text, &size);
    if (rc < 0)
        return rc;
    struct source source;
    rc = source_init(&source, path);
    if (rc < 0)
        goto free_text;
    /* hwloc counts the final zero. The size is at most XML_SIZE_MAX, so it fits an int. */
    if (hwloc_topology_set_xmlbuffer(source.hwloc, text, (int)size + 1) < 0)
        rc = numaperf__fail(NUMAPERF_E_TOPOLOGY, errno, "topology",
                            NAME_FORMAT " is not an XML file of hwloc", path);
    else
        rc = source_load(&source, out);
    hwloc_topology_destroy(source.hwloc);
free_text:
    free(text);
    return rc;
}
