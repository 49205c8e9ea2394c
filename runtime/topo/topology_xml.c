/* SPDX-License-Identifier: MIT */
/*
 * Topologies from hwloc's XML, version 2 and up.
 *
 * Files come from strangers, and hwloc's own reader trusts them: it dereferences what a file left
 * out and allocates by ids a file states. So the text is scanned here, once, into a picture of
 * fixed size whose every id was checked, and hwloc takes no part; its synthetic descriptions come
 * by the same way, as the XML it exports. What a file says beyond nodes, PUs, cores, packages,
 * caches and the distances of nodes is skipped. No state: any thread.
 *
 * Life: xml_read (a file) -> picture_scan (tags, a stack of open ones) -> picture_convert.
 * Source: hwloc2.dtd; hwloc, "Heterogeneous memory", "Distances".
 */
#include "topo/textfile.h"
#include "topo/topology.h"
#include "topo/xml.h"

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The XML of a machine of 8192 PUs is about a third of this. */
#define XML_SIZE_MAX ((size_t)64 * 1024 * 1024)
#define XML_DEPTH_MAX 64
#define KIND_LATENCY 4 /* bit of a distance table's kind */

/* Error texts name the source; a long one is cut. */
#define NAME_FORMAT "\"%.120s\""

struct picture_node {
    bool is_there;
    bool is_device; /* its memory is a device's: no PU's own node */
    int package;    /* of the object that holds it; -1 */
    uint64_t memory_bytes;
    numaperf_cpuset_t cpus; /* as hwloc says: those of the nearest nodes when it has none itself */
};

struct picture_pu {
    bool is_there;
    int core; /* lowest PU of its core */
    int package;
    int complete_node; /* the one node of its complete nodeset; -1 */
    uint64_t cache_bytes[NUMAPERF_CACHE_LEVELS];
};

/* An open tag, with what it says about everything inside it. */
struct picture_frame {
    struct numaperf__xml_span name;
    int node;    /* id of the node that this very tag is; -1 */
    int core;    /* lowest PU of the enclosing core; -1 */
    int package; /* of the enclosing package; -1 */
    uint64_t cache_bytes[NUMAPERF_CACHE_LEVELS];
};

/* A distance table while it is read. */
struct picture_distances {
    bool is_open; /* being read; else whole, or absent when values is NULL */
    size_t count;
    size_t id_count;
    size_t value_count;
    int ids[NUMAPERF_NODE_MAX];
    uint32_t *values; /* count * count; NULL without a table */
};

struct picture {
    const char *name; /* of the source, for errors */
    bool has_root;
    size_t depth;
    struct picture_frame stack[XML_DEPTH_MAX];
    numaperf_cpuset_t allowed_cpus;
    numaperf_nodemask_t allowed_nodes;
    struct picture_distances distances;
    struct picture_node nodes[NUMAPERF_NODE_MAX];
    struct picture_pu pus[NUMAPERF_CPU_MAX];
};

static int picture_fail(const struct picture *picture, const char *what)
{
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " %s", picture->name,
                          what);
}

/* ---- values ---- */

static bool value_number(struct numaperf__xml_span value, uint64_t *out)
{
    const char *at = value.at;
    if (at == NULL || numaperf__textfile_number(&at, out) < 0)
        return false;
    return at == value.at + value.length;
}

/* A number 0 .. INT_MAX; -1 for anything else. */
static int value_int(struct numaperf__xml_span value)
{
    uint64_t number = 0;
    return value_number(value, &number) && number <= INT_MAX ? (int)number : -1;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

/*
 * A set as hwloc writes it: words of 32 bits in hexadecimal, the highest first, an empty one for
 * zero, and "0xf...f" in front when it has no end. Bits beyond `word_count` words are dropped: an
 * object with such an id is refused by itself.
 */
static bool value_bits(struct numaperf__xml_span value, uint64_t *bits, size_t word_count)
{
    memset(bits, 0, word_count * sizeof(*bits));
    const char *end = value.at + value.length;
    const char *at = end;
    for (size_t position = 0; at >= value.at; position++) {
        const char *start = at;
        while (start > value.at && start[-1] != ',')
            start--;
        size_t length = (size_t)(at - start);
        if (length == strlen("0xf...f") && memcmp(start, "0xf...f", length) == 0) {
            for (; position < word_count * 2; position++)
                bits[position / 2] |= (uint64_t)UINT32_MAX << (position % 2 * 32);
            return start == value.at;
        }
        if (length > 0 && (length < 3 || length > 10 || start[0] != '0' || start[1] != 'x'))
            return false;
        uint64_t word = 0;
        for (const char *digit = start + 2; length > 0 && digit < at; digit++) {
            if (hex_digit(*digit) < 0)
                return false;
            word = word << 4 | (uint64_t)hex_digit(*digit);
        }
        if (position < word_count * 2)
            bits[position / 2] |= word << (position % 2 * 32);
        if (start == value.at)
            break;
        at = start - 1;
    }
    return true;
}

static bool value_cpus(struct numaperf__xml_span value, numaperf_cpuset_t *out)
{
    return value.at == NULL || value_bits(value, out->bits, NUMAPERF_CPU_MAX / 64);
}

static bool value_nodes(struct numaperf__xml_span value, numaperf_nodemask_t *out)
{
    return value.at == NULL || value_bits(value, out->bits, NUMAPERF_NODE_MAX / 64);
}

/* ---- objects ---- */

static int picture_root(struct picture *picture, const struct numaperf__xml_tag *tag)
{
    picture->has_root = true;
    /* Without these attributes everything is allowed. */
    memset(&picture->allowed_cpus, 0xff, sizeof(picture->allowed_cpus));
    memset(&picture->allowed_nodes, 0xff, sizeof(picture->allowed_nodes));
    if (!value_cpus(numaperf__xml_value(tag, "allowed_cpuset"), &picture->allowed_cpus) ||
        !value_nodes(numaperf__xml_value(tag, "allowed_nodeset"), &picture->allowed_nodes))
        return picture_fail(picture, "has an allowed set that is none");
    return 0;
}

/* OS index of a node or PU below `limit`; a failure is recorded. */
static int picture_id(const struct picture *picture, const struct numaperf__xml_tag *tag,
                      const char *kind, int limit)
{
    struct numaperf__xml_span value = numaperf__xml_value(tag, "os_index");
    int id = value_int(value);
    if (id >= 0 && id < limit)
        return id;
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology",
                          NAME_FORMAT " has a %s of the id \"%.*s\", not 0 .. %d", picture->name,
                          kind, value.at == NULL ? 0 : (int)(value.length < 40 ? value.length : 40),
                          value.at == NULL ? "" : value.at, limit - 1);
}

static int picture_node(struct picture *picture, const struct numaperf__xml_tag *tag,
                        struct picture_frame *frame)
{
    int id = picture_id(picture, tag, "node", NUMAPERF_NODE_MAX);
    if (id < 0)
        return id;
    struct picture_node *node = &picture->nodes[id];
    if (node->is_there)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " has node %d twice",
                              picture->name, id);
    struct numaperf__xml_span memory = numaperf__xml_value(tag, "local_memory");
    if (memory.at != NULL && !value_number(memory, &node->memory_bytes))
        return picture_fail(picture, "has a local_memory that is no number");
    if (!value_cpus(numaperf__xml_value(tag, "cpuset"), &node->cpus))
        return picture_fail(picture, "has a node whose cpuset is none");
    node->is_there = true;
    node->package = frame->package;
    frame->node = id;
    return 0;
}

static int picture_pu(struct picture *picture, const struct numaperf__xml_tag *tag,
                      const struct picture_frame *frame)
{
    int id = picture_id(picture, tag, "PU", NUMAPERF_CPU_MAX);
    if (id < 0)
        return id;
    struct picture_pu *pu = &picture->pus[id];
    if (pu->is_there)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " has PU %d twice",
                              picture->name, id);
    numaperf_nodemask_t complete = {{0}};
    if (!value_nodes(numaperf__xml_value(tag, "complete_nodeset"), &complete))
        return picture_fail(picture, "has a PU whose complete_nodeset is none");
    pu->is_there = true;
    pu->package = frame->package;
    pu->core = frame->core >= 0 ? frame->core : id;
    pu->complete_node =
        numaperf_nodemask_count(&complete) == 1 ? numaperf_nodemask_next(&complete, -1) : -1;
    memcpy(pu->cache_bytes, frame->cache_bytes, sizeof(pu->cache_bytes));
    return 0;
}

/* "L1Cache" .. "L5Cache"; an instruction cache is an "L1iCache". */
static void picture_cache(const struct numaperf__xml_tag *tag, struct numaperf__xml_span type,
                          struct picture_frame *frame)
{
    char name[] = "L1Cache";
    for (unsigned level = 0; level < NUMAPERF_CACHE_LEVELS; level++) {
        name[1] = (char)('1' + level);
        uint64_t size = 0;
        if (numaperf__xml_is(type, name) &&
            value_number(numaperf__xml_value(tag, "cache_size"), &size))
            frame->cache_bytes[level] = size;
    }
}

static int picture_object(struct picture *picture, const struct numaperf__xml_tag *tag,
                          struct picture_frame *frame)
{
    int rc = picture->has_root ? 0 : picture_root(picture, tag);
    if (rc < 0)
        return rc;
    struct numaperf__xml_span type = numaperf__xml_value(tag, "type");
    if (numaperf__xml_is(type, "NUMANode"))
        return picture_node(picture, tag, frame);
    if (numaperf__xml_is(type, "PU"))
        return picture_pu(picture, tag, frame);
    if (numaperf__xml_is(type, "Package")) {
        frame->package = value_int(numaperf__xml_value(tag, "os_index"));
    } else if (numaperf__xml_is(type, "Core")) {
        numaperf_cpuset_t cpus = {{0}};
        if (!value_cpus(numaperf__xml_value(tag, "cpuset"), &cpus))
            return picture_fail(picture, "has a core whose cpuset is none");
        frame->core = numaperf_cpuset_next(&cpus, -1);
    } else {
        picture_cache(tag, type, frame);
    }
    return 0;
}

/* ---- distances ---- */

static void distances_drop(struct picture_distances *distances)
{
    free(distances->values);
    memset(distances, 0, sizeof(*distances));
}

/* Start a table of nodes. Firmware's, which has a name, replaces any other; else the first counts.
 */
static int distances_open(struct picture *picture, const struct numaperf__xml_tag *tag)
{
    struct picture_distances *distances = &picture->distances;
    bool is_firmware = numaperf__xml_is(numaperf__xml_value(tag, "name"), "NUMALatency");
    int kind = value_int(numaperf__xml_value(tag, "kind"));
    int count = value_int(numaperf__xml_value(tag, "nbobjs"));
    if (!numaperf__xml_is(numaperf__xml_value(tag, "type"), "NUMANode") ||
        !numaperf__xml_is(numaperf__xml_value(tag, "indexing"), "os"))
        return 0;
    if (kind < 0 || (kind & KIND_LATENCY) == 0 || (distances->values != NULL && !is_firmware))
        return 0;
    if (count < 1 || count > NUMAPERF_NODE_MAX)
        return picture_fail(picture, "has distances of an impossible number of nodes");

    distances_drop(distances);
    distances->values = calloc((size_t)count * (size_t)count, sizeof(*distances->values));
    if (distances->values == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "distances of %d nodes", count);
    distances->count = (size_t)count;
    distances->is_open = true;
    return 0;
}

static int distances_ids(struct picture *picture, const char *at)
{
    struct picture_distances *distances = &picture->distances;
    uint64_t id = 0;
    while (numaperf__textfile_number(&at, &id) == 0) {
        if (id >= NUMAPERF_NODE_MAX || distances->id_count == distances->count)
            return picture_fail(picture, "has distances of nodes that cannot be");
        distances->ids[distances->id_count++] = (int)id;
    }
    return 0;
}

static int distances_values(struct picture *picture, const char *at)
{
    struct picture_distances *distances = &picture->distances;
    uint64_t value = 0;
    while (numaperf__textfile_number(&at, &value) == 0) {
        if (distances->value_count == distances->count * distances->count)
            return picture_fail(picture, "has more distances than pairs of nodes");
        /* One beyond any firmware's is as good as not known. */
        distances->values[distances->value_count++] = value <= INT_MAX ? (uint32_t)value : 0;
    }
    return 0;
}

/* A table that is not whole tells nothing: which number is whose is not sure. */
static void distances_close(struct picture_distances *distances)
{
    distances->is_open = false;
    if (distances->id_count != distances->count ||
        distances->value_count != distances->count * distances->count)
        distances_drop(distances);
}

/* ---- tags ---- */

static int picture_check_root(const struct picture *picture, const struct numaperf__xml_tag *tag)
{
    if (!numaperf__xml_is(tag->name, "topology"))
        return picture_fail(picture, "is not an XML file of hwloc");
    struct numaperf__xml_span version = numaperf__xml_value(tag, "version");
    if (version.at == NULL || version.at[0] == '1')
        return picture_fail(picture, "is of hwloc 1: write it again with hwloc 2");
    return 0;
}

static int picture_open(struct picture *picture, const struct numaperf__xml_tag *tag)
{
    if (picture->depth == XML_DEPTH_MAX)
        return picture_fail(picture, "is nested too deeply");
    const struct picture_frame *parent =
        picture->depth == 0 ? NULL : &picture->stack[picture->depth - 1];
    struct picture_frame frame = {.core = -1, .package = -1};
    if (parent != NULL)
        frame = *parent;
    frame.name = tag->name;
    frame.node = -1;

    int rc = parent == NULL ? picture_check_root(picture, tag) : 0;
    if (rc < 0)
        return rc;
    if (numaperf__xml_is(tag->name, "object"))
        rc = picture_object(picture, tag, &frame);
    else if (numaperf__xml_is(tag->name, "distances2"))
        rc = distances_open(picture, tag);
    else if (picture->distances.is_open && numaperf__xml_is(tag->name, "indexes"))
        rc = distances_ids(picture, tag->content);
    else if (picture->distances.is_open && numaperf__xml_is(tag->name, "u64values"))
        rc = distances_values(picture, tag->content);
    else if (parent != NULL && parent->node >= 0 && numaperf__xml_is(tag->name, "info") &&
             numaperf__xml_is(numaperf__xml_value(tag, "name"), "DAXDevice"))
        picture->nodes[parent->node].is_device = true;
    if (rc == 0)
        picture->stack[picture->depth++] = frame;
    return rc;
}

static int picture_close(struct picture *picture, struct numaperf__xml_span name)
{
    if (picture->depth == 0)
        return picture_fail(picture, "closes a tag it did not open");
    struct numaperf__xml_span open = picture->stack[picture->depth - 1].name;
    if (open.length != name.length || memcmp(open.at, name.at, name.length) != 0)
        return picture_fail(picture, "closes another tag than it opened");
    picture->depth--;
    if (numaperf__xml_is(name, "distances2") && picture->distances.is_open)
        distances_close(&picture->distances);
    return 0;
}

static int picture_scan(struct picture *picture, const char *text)
{
    struct numaperf__xml_tag tag;
    int kind = 0;
    while ((kind = numaperf__xml_next(&text, &tag)) > 0) {
        int rc = 0;
        if (kind == NUMAPERF_XML_OPEN)
            rc = picture_open(picture, &tag);
        if (rc == 0 && (kind == NUMAPERF_XML_CLOSE || tag.is_empty))
            rc = picture_close(picture, tag.name);
        if (rc < 0)
            return rc;
    }
    if (kind < 0)
        return picture_fail(picture, "is not well-formed XML");
    if (picture->depth > 0)
        return picture_fail(picture, "is cut off: a tag is not closed");
    return picture->has_root ? 0 : picture_fail(picture, "is not an XML file of hwloc");
}

/* ---- conversion ---- */

/* Whether `a` rather than `b` is the own node of a PU that is in the cpusets of both. */
static bool picture_node_is_nearer(const struct picture_node *a, const struct picture_node *b)
{
    int a_count = numaperf_cpuset_count(&a->cpus);
    int b_count = numaperf_cpuset_count(&b->cpus);
    if (a_count != b_count)
        return a_count < b_count;
    return b->is_device && !a->is_device;
}

/*
 * Give every PU its node. hwloc gives a memory-only node the cpuset of the nodes nearest to it, so
 * a PU may be in several: it belongs to the smallest, since a memory-only node covers whole nodes;
 * among equal ones, never to a device's memory, and else to the lowest id, since firmware numbers
 * nodes with PUs first. hwloc leaves out a node without memory unless asked: it still stands in the
 * complete nodeset of its PUs.
 */
static void picture_assign(const struct picture *picture, int *out_node_of)
{
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++)
        out_node_of[cpu] = -1;
    for (int id = 0; id < NUMAPERF_NODE_MAX; id++) {
        const struct picture_node *node = &picture->nodes[id];
        if (!node->is_there)
            continue;
        for (int cpu = numaperf_cpuset_next(&node->cpus, -1); cpu >= 0;
             cpu = numaperf_cpuset_next(&node->cpus, cpu)) {
            int other = out_node_of[cpu];
            if (other < 0 || picture_node_is_nearer(node, &picture->nodes[other]))
                out_node_of[cpu] = id;
        }
    }
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++) {
        if (out_node_of[cpu] < 0 && picture->pus[cpu].is_there)
            out_node_of[cpu] = picture->pus[cpu].complete_node;
    }
}

static void picture_fill_pus(const struct picture *picture, const int *node_of,
                             numaperf_topology_t *topology)
{
    for (int cpu = 0; cpu < topology->pu_limit; cpu++) {
        const struct picture_pu *from = &picture->pus[cpu];
        struct numaperf__topology_pu *pu = &topology->pus[cpu];
        if (!from->is_there || node_of[cpu] < 0)
            continue;
        pu->node = numaperf__topology_node_index(topology, node_of[cpu]);
        NUMAPERF_ASSERT(pu->node >= 0);
        pu->core = from->core;
        pu->package = from->package;
        memcpy(pu->cache_bytes, from->cache_bytes, sizeof(pu->cache_bytes));
    }
}

static void picture_fill_nodes(const struct picture *picture, const numaperf_nodemask_t *with_pus,
                               numaperf_topology_t *topology)
{
    for (size_t i = 0; i < topology->node_count; i++) {
        struct numaperf__topology_node *node = &topology->nodes[i];
        const struct picture_node *from = &picture->nodes[node->id];
        if (from->is_there && numaperf_nodemask_contains(&picture->allowed_nodes, node->id))
            node->memory_bytes = from->memory_bytes;
        /* A node with PUs is where they are, which seal derives. */
        if (from->is_there && !numaperf_nodemask_contains(with_pus, node->id))
            node->package = from->package;
    }
}

/* values[i * count + j] goes from node i to node j of the table, as the kernel's files do. */
static void picture_fill_distances(const struct picture_distances *distances,
                                   numaperf_topology_t *topology)
{
    for (size_t i = 0; i < distances->count; i++) {
        int from = numaperf__topology_node_index(topology, distances->ids[i]);
        for (size_t j = 0; j < distances->count && from >= 0; j++) {
            int to = numaperf__topology_node_index(topology, distances->ids[j]);
            if (to >= 0)
                topology->distances[(size_t)from * topology->node_count + (size_t)to] =
                    distances->values[i * distances->count + j];
        }
    }
}

static int picture_convert(const struct picture *picture, numaperf_topology_t **out)
{
    int node_of[NUMAPERF_CPU_MAX];
    picture_assign(picture, node_of);
    numaperf_nodemask_t nodes = {{0}};
    numaperf_nodemask_t with_pus = {{0}};
    numaperf_cpuset_t cpus = {{0}};
    for (int id = 0; id < NUMAPERF_NODE_MAX; id++) {
        if (picture->nodes[id].is_there)
            (void)numaperf_nodemask_add(&nodes, id); /* in range */
    }
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++) {
        if (!picture->pus[cpu].is_there)
            continue;
        (void)numaperf_cpuset_add(&cpus, cpu); /* in range */
        if (node_of[cpu] >= 0)
            (void)numaperf_nodemask_add(&with_pus, node_of[cpu]); /* in range */
    }
    numaperf_nodemask_union(&nodes, &with_pus, &nodes);

    numaperf_topology_t *topology = NULL;
    int rc = numaperf__topology_alloc(picture->name, &nodes, &cpus, &topology);
    if (rc < 0)
        return rc;
    picture_fill_pus(picture, node_of, topology);
    picture_fill_nodes(picture, &with_pus, topology);
    picture_fill_distances(&picture->distances, topology);
    rc = numaperf__topology_seal(picture->name, topology, &picture->allowed_cpus);
    if (rc < 0) {
        numaperf_topology_destroy(topology);
        return rc;
    }
    *out = topology;
    return 0;
}

int numaperf__topology_from_xml_text(const char *name, const char *text, numaperf_topology_t **out)
{
    struct picture *picture = calloc(1, sizeof(*picture));
    if (picture == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", NAME_FORMAT, name);
    picture->name = name;
    int rc = picture_scan(picture, text);
    if (rc == 0)
        rc = picture_convert(picture, out);
    distances_drop(&picture->distances);
    free(picture);
    return rc;
}

int numaperf_topology_from_xml(const char *path, numaperf_topology_t **out)
{
    if (path == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "topology", "path and out must not be NULL");

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

    if (strlen(text) == size)
        rc = numaperf__topology_from_xml_text(path, text, out);
    else
        rc = numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " is not text", path);
    free(text);
    return rc;
}
