/* SPDX-License-Identifier: MIT */
/*
 * Topologies from hwloc's synthetic descriptions: "numa:2 pu:1".
 *
 * hwloc reads the description; its tree is walked once and let go, and its -1 with errno becomes
 * our codes here. Exporting XML would spare the walk, but its library keeps memory for each thread
 * that is lost when hwloc unloads it. A description knows no distances and nothing disallowed. No
 * state: any thread. Source: hwloc, "Synthetic topologies".
 */
#include "topo/picture.h"

#include "base/error.h"

#include <errno.h>
#include <hwloc.h>
#include <limits.h>
#include <stdlib.h>

/*
 * Whether a description asks for more PUs than we hold: hwloc would build them all first, or run
 * out of memory. Every level multiplies: a number that begins a word or follows its colon. What is
 * in brackets adds nothing to that.
 */
static bool synthetic_is_too_large(const char *description)
{
    unsigned long long product = 1;
    int depth = 0;
    char previous = ' ';
    for (const char *at = description; *at != '\0'; previous = *at++) {
        depth += (*at == '(' || *at == '[') - (*at == ')' || *at == ']');
        bool begins = previous == ':' || previous == ' ';
        if (depth != 0 || !begins || *at < '0' || *at > '9')
            continue;
        unsigned long long count = strtoull(at, NULL, 0); /* as hwloc reads it */
        if (count > NUMAPERF_CPU_MAX || product * count > NUMAPERF_CPU_MAX)
            return true;
        product *= count;
    }
    return false;
}

static int synthetic_load(hwloc_topology_t hwloc, const char *description)
{
    /* Two of hwloc's environment variables together cut it down to this machine's PUs; kept as
       disallowed, they stay, and nobody here asks what is allowed. */
    int rc = hwloc_topology_set_flags(hwloc, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if (rc == 0)
        rc = hwloc_topology_set_synthetic(hwloc, description);
    if (rc == 0)
        rc = hwloc_topology_load(hwloc);
    if (rc == 0)
        return 0;
    if (errno == ENOMEM)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "\"%.120s\"", description);
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, errno, "topology",
                          "\"%.120s\" is not a synthetic description, like \"numa:2 pu:4\"",
                          description);
}

/* Check the id of an object; the description may give ids of its own (indexes=). */
static int synthetic_check_id(const struct numaperf__picture *picture, hwloc_obj_t object,
                              bool is_there, unsigned limit)
{
    const char *kind = object->type == HWLOC_OBJ_PU ? "PU" : "node";
    if (object->os_index < limit && !is_there)
        return 0;
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology",
                          "\"%.120s\" has a %s of the id %u, %s", picture->name, kind,
                          object->os_index, is_there ? "twice" : "out of range");
}

static int synthetic_package(hwloc_topology_t hwloc, hwloc_obj_t object)
{
    hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(hwloc, HWLOC_OBJ_PACKAGE, object);
    return package == NULL || package->os_index > INT_MAX ? -1 : (int)package->os_index;
}

static int synthetic_node(hwloc_topology_t hwloc, hwloc_obj_t object,
                          struct numaperf__picture *picture)
{
    unsigned id = object->os_index;
    bool is_there = id < NUMAPERF_NODE_MAX && picture->nodes[id].is_there;
    int rc = synthetic_check_id(picture, object, is_there, NUMAPERF_NODE_MAX);
    if (rc < 0)
        return rc;
    struct numaperf__picture_node *node = &picture->nodes[id];
    node->is_there = true;
    node->package = synthetic_package(hwloc, object);
    node->memory_bytes = object->attr->numanode.local_memory;
    for (int cpu = hwloc_bitmap_first(object->cpuset); cpu >= 0 && cpu < NUMAPERF_CPU_MAX;
         cpu = hwloc_bitmap_next(object->cpuset, cpu))
        (void)numaperf_cpuset_add(&node->cpus, cpu); /* in range */
    return 0;
}

static int synthetic_pu(hwloc_topology_t hwloc, hwloc_obj_t object,
                        struct numaperf__picture *picture)
{
    unsigned id = object->os_index;
    bool is_there = id < NUMAPERF_CPU_MAX && picture->pus[id].is_there;
    int rc = synthetic_check_id(picture, object, is_there, NUMAPERF_CPU_MAX);
    if (rc < 0)
        return rc;
    struct numaperf__picture_pu *pu = &picture->pus[id];
    hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(hwloc, HWLOC_OBJ_CORE, object);
    pu->is_there = true;
    pu->core = core == NULL ? (int)id : hwloc_bitmap_first(core->cpuset);
    pu->package = synthetic_package(hwloc, object);
    pu->complete_node = -1;
    for (hwloc_obj_t cache = object->parent; cache != NULL; cache = cache->parent) {
        if (!hwloc_obj_type_is_dcache(cache->type))
            continue;
        unsigned level = cache->attr->cache.depth;
        if (level >= 1 && level <= NUMAPERF_CACHE_LEVELS)
            pu->cache_bytes[level - 1] = cache->attr->cache.size;
    }
    return 0;
}

static int synthetic_convert(hwloc_topology_t hwloc, const char *description,
                             numaperf_topology_t **out)
{
    struct numaperf__picture *picture = numaperf__picture_new(description);
    if (picture == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "\"%.120s\"", description);
    int rc = 0;
    hwloc_obj_t object = NULL;
    while (rc == 0 &&
           (object = hwloc_get_next_obj_by_type(hwloc, HWLOC_OBJ_NUMANODE, object)) != NULL)
        rc = synthetic_node(hwloc, object, picture);
    object = NULL;
    while (rc == 0 && (object = hwloc_get_next_obj_by_type(hwloc, HWLOC_OBJ_PU, object)) != NULL)
        rc = synthetic_pu(hwloc, object, picture);
    if (rc == 0)
        rc = numaperf__picture_convert(picture, out);
    numaperf__picture_free(picture);
    return rc;
}

int numaperf_topology_from_synthetic(const char *hwloc_description, numaperf_topology_t **out)
{
    if (hwloc_description == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "topology", "description and out must not be NULL");

    if (synthetic_is_too_large(hwloc_description))
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", "\"%.120s\" has more than %d PUs",
                              hwloc_description, NUMAPERF_CPU_MAX);
    hwloc_topology_t hwloc;
    if (hwloc_topology_init(&hwloc) < 0)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "hwloc cannot start");
    int rc = synthetic_load(hwloc, hwloc_description);
    if (rc == 0)
        rc = synthetic_convert(hwloc, hwloc_description, out);
    hwloc_topology_destroy(hwloc);
    return rc;
}
