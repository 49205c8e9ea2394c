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
 * Life: a file -> scan_text (tags, a stack of open ones) -> numaperf__picture_convert.
 * Source: hwloc2.dtd; hwloc, "Heterogeneous memory", "Distances".
 */
#include "topo/picture.h"
#include "topo/textfile.h"
#include "topo/xml.h"

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

/* An open tag, with what it says about everything inside it. */
struct scan_frame {
    struct numaperf__xml_span name;
    int node;    /* id of the node that this very tag is; -1 */
    int core;    /* lowest PU of the enclosing core; -1 */
    int package; /* of the enclosing package; -1 */
    uint64_t cache_bytes[NUMAPERF_CACHE_LEVELS];
};

/* A file while it is scanned. */
struct scan {
    struct numaperf__picture *picture;
    bool has_root;
    bool is_in_distances; /* inside a table that is wanted */
    size_t depth;
    size_t id_count;    /* of that table, read so far */
    size_t value_count; /* likewise */
    struct scan_frame stack[XML_DEPTH_MAX];
};

static int scan_fail(const struct scan *scan, const char *what)
{
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " %s",
                          scan->picture->name, what);
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

/* One word of a set: "0x0000000f", or nothing for zero. */
static bool word_bits(const char *at, size_t length, uint32_t *out)
{
    static const char digits[] = "0123456789abcdef";
    *out = 0;
    if (length == 0)
        return true;
    if (length < 3 || length > 10 || at[0] != '0' || at[1] != 'x')
        return false;
    for (size_t i = 2; i < length; i++) {
        const char *digit = strchr(digits, at[i]); /* a span holds no zero to match */
        if (digit == NULL)
            return false;
        *out = *out << 4 | (uint32_t)(digit - digits);
    }
    return true;
}

/*
 * A set as hwloc writes it: words of 32 bits in hexadecimal, the highest first, an empty one for
 * zero, and "0xf...f" in front when it has no end. Bits beyond `word_count` words are dropped: an
 * object with such an id is refused by itself.
 */
static bool value_bits(struct numaperf__xml_span value, uint64_t *bits, size_t word_count)
{
    static const char endless[] = "0xf...f";
    memset(bits, 0, word_count * sizeof(*bits));
    size_t end = value.length;
    for (size_t position = 0;; position++) {
        size_t start = end;
        while (start > 0 && value.at[start - 1] != ',')
            start--;
        bool is_first = start == 0;
        if (is_first && end == strlen(endless) && memcmp(value.at, endless, end) == 0) {
            for (; position < word_count * 2; position++)
                bits[position / 2] |= (uint64_t)UINT32_MAX << (position % 2 * 32);
            return true;
        }
        uint32_t word = 0;
        if (!word_bits(value.at + start, end - start, &word))
            return false;
        if (position < word_count * 2)
            bits[position / 2] |= (uint64_t)word << (position % 2 * 32);
        if (is_first)
            return true;
        end = start - 1;
    }
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

static int scan_root(struct scan *scan, const struct numaperf__xml_tag *tag)
{
    scan->has_root = true;
    /* Without these attributes everything stays allowed. */
    if (!value_cpus(numaperf__xml_value(tag, "allowed_cpuset"), &scan->picture->allowed_cpus) ||
        !value_nodes(numaperf__xml_value(tag, "allowed_nodeset"), &scan->picture->allowed_nodes))
        return scan_fail(scan, "has an allowed set that is none");
    return 0;
}

/* OS index of a node or PU below `limit`; a failure is recorded. */
static int scan_id(const struct scan *scan, const struct numaperf__xml_tag *tag, const char *kind,
                   int limit)
{
    struct numaperf__xml_span value = numaperf__xml_value(tag, "os_index");
    int id = value_int(value);
    if (id >= 0 && id < limit)
        return id;
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology",
                          NAME_FORMAT " has a %s of the id \"%.*s\", not 0 .. %d",
                          scan->picture->name, kind,
                          value.at == NULL ? 0 : (int)(value.length < 40 ? value.length : 40),
                          value.at == NULL ? "" : value.at, limit - 1);
}

static int scan_node(struct scan *scan, const struct numaperf__xml_tag *tag,
                     struct scan_frame *frame)
{
    int id = scan_id(scan, tag, "node", NUMAPERF_NODE_MAX);
    if (id < 0)
        return id;
    struct numaperf__picture_node *node = &scan->picture->nodes[id];
    if (node->is_there)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " has node %d twice",
                              scan->picture->name, id);
    struct numaperf__xml_span memory = numaperf__xml_value(tag, "local_memory");
    if (memory.at != NULL && !value_number(memory, &node->memory_bytes))
        return scan_fail(scan, "has a local_memory that is no number");
    if (!value_cpus(numaperf__xml_value(tag, "cpuset"), &node->cpus))
        return scan_fail(scan, "has a node whose cpuset is none");
    node->is_there = true;
    node->package = frame->package;
    frame->node = id;
    return 0;
}

static int scan_pu(struct scan *scan, const struct numaperf__xml_tag *tag,
                   const struct scan_frame *frame)
{
    int id = scan_id(scan, tag, "PU", NUMAPERF_CPU_MAX);
    if (id < 0)
        return id;
    struct numaperf__picture_pu *pu = &scan->picture->pus[id];
    if (pu->is_there)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " has PU %d twice",
                              scan->picture->name, id);
    numaperf_nodemask_t complete = {{0}};
    if (!value_nodes(numaperf__xml_value(tag, "complete_nodeset"), &complete))
        return scan_fail(scan, "has a PU whose complete_nodeset is none");
    pu->is_there = true;
    pu->package = frame->package;
    pu->core = frame->core >= 0 ? frame->core : id;
    pu->complete_node =
        numaperf_nodemask_count(&complete) == 1 ? numaperf_nodemask_next(&complete, -1) : -1;
    memcpy(pu->cache_bytes, frame->cache_bytes, sizeof(pu->cache_bytes));
    return 0;
}

/* "L1Cache" .. "L5Cache"; an instruction cache is an "L1iCache". */
static void scan_cache(const struct numaperf__xml_tag *tag, struct numaperf__xml_span type,
                       struct scan_frame *frame)
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

static int scan_object(struct scan *scan, const struct numaperf__xml_tag *tag,
                       struct scan_frame *frame)
{
    int rc = scan->has_root ? 0 : scan_root(scan, tag);
    if (rc < 0)
        return rc;
    struct numaperf__xml_span type = numaperf__xml_value(tag, "type");
    if (numaperf__xml_is(type, "NUMANode"))
        return scan_node(scan, tag, frame);
    if (numaperf__xml_is(type, "PU"))
        return scan_pu(scan, tag, frame);
    if (numaperf__xml_is(type, "Package")) {
        frame->package = value_int(numaperf__xml_value(tag, "os_index"));
    } else if (numaperf__xml_is(type, "Core")) {
        numaperf_cpuset_t cpus = {{0}};
        if (!value_cpus(numaperf__xml_value(tag, "cpuset"), &cpus))
            return scan_fail(scan, "has a core whose cpuset is none");
        frame->core = numaperf_cpuset_next(&cpus, -1);
    } else {
        scan_cache(tag, type, frame);
    }
    return 0;
}

/* ---- distances ---- */

/* Start a table of nodes. Firmware's, which has a name, replaces any other; else the first counts.
 */
static int distances_open(struct scan *scan, const struct numaperf__xml_tag *tag)
{
    struct numaperf__picture_distances *distances = &scan->picture->distances;
    bool is_firmware = numaperf__xml_is(numaperf__xml_value(tag, "name"), "NUMALatency");
    int kind = value_int(numaperf__xml_value(tag, "kind"));
    int count = value_int(numaperf__xml_value(tag, "nbobjs"));
    if (!numaperf__xml_is(numaperf__xml_value(tag, "type"), "NUMANode") ||
        !numaperf__xml_is(numaperf__xml_value(tag, "indexing"), "os"))
        return 0;
    if (kind < 0 || (kind & KIND_LATENCY) == 0 || (distances->values != NULL && !is_firmware))
        return 0;
    if (count < 1 || count > NUMAPERF_NODE_MAX)
        return scan_fail(scan, "has distances of an impossible number of nodes");

    numaperf__picture_drop_distances(scan->picture);
    distances->values = calloc((size_t)count * (size_t)count, sizeof(*distances->values));
    if (distances->values == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "distances of %d nodes", count);
    distances->count = (size_t)count;
    scan->is_in_distances = true;
    scan->id_count = 0;
    scan->value_count = 0;
    return 0;
}

static int distances_ids(struct scan *scan, const char *at)
{
    struct numaperf__picture_distances *distances = &scan->picture->distances;
    uint64_t id = 0;
    while (numaperf__textfile_number(&at, &id) == 0) {
        if (id >= NUMAPERF_NODE_MAX || scan->id_count == distances->count)
            return scan_fail(scan, "has distances of nodes that cannot be");
        distances->ids[scan->id_count++] = (int)id;
    }
    return 0;
}

static int distances_values(struct scan *scan, const char *at)
{
    struct numaperf__picture_distances *distances = &scan->picture->distances;
    uint64_t value = 0;
    while (numaperf__textfile_number(&at, &value) == 0) {
        if (scan->value_count == distances->count * distances->count)
            return scan_fail(scan, "has more distances than pairs of nodes");
        /* One beyond any firmware's is as good as not known. */
        distances->values[scan->value_count++] = value <= INT_MAX ? (uint32_t)value : 0;
    }
    return 0;
}

/* A table that is not whole tells nothing: which number is whose is not sure. */
static void distances_close(struct scan *scan)
{
    size_t count = scan->picture->distances.count;
    scan->is_in_distances = false;
    if (scan->id_count != count || scan->value_count != count * count)
        numaperf__picture_drop_distances(scan->picture);
}

/* ---- tags ---- */

static int scan_check_root(const struct scan *scan, const struct numaperf__xml_tag *tag)
{
    if (!numaperf__xml_is(tag->name, "topology"))
        return scan_fail(scan, "is not an XML file of hwloc");
    struct numaperf__xml_span version = numaperf__xml_value(tag, "version");
    if (version.at == NULL || version.at[0] == '1')
        return scan_fail(scan, "is of hwloc 1: write it again with hwloc 2");
    return 0;
}

static int scan_open(struct scan *scan, const struct numaperf__xml_tag *tag)
{
    if (scan->depth == XML_DEPTH_MAX)
        return scan_fail(scan, "is nested too deeply");
    const struct scan_frame *parent = scan->depth == 0 ? NULL : &scan->stack[scan->depth - 1];
    struct scan_frame frame = {.core = -1, .package = -1};
    if (parent != NULL)
        frame = *parent;
    frame.name = tag->name;
    frame.node = -1;

    int rc = parent == NULL ? scan_check_root(scan, tag) : 0;
    if (rc < 0)
        return rc;
    if (numaperf__xml_is(tag->name, "object"))
        rc = scan_object(scan, tag, &frame);
    else if (numaperf__xml_is(tag->name, "distances2"))
        rc = distances_open(scan, tag);
    else if (scan->is_in_distances && numaperf__xml_is(tag->name, "indexes"))
        rc = distances_ids(scan, tag->content);
    else if (scan->is_in_distances && numaperf__xml_is(tag->name, "u64values"))
        rc = distances_values(scan, tag->content);
    else if (parent != NULL && parent->node >= 0 && numaperf__xml_is(tag->name, "info") &&
             numaperf__xml_is(numaperf__xml_value(tag, "name"), "DAXDevice"))
        scan->picture->nodes[parent->node].is_device = true;
    if (rc == 0)
        scan->stack[scan->depth++] = frame;
    return rc;
}

static int scan_close(struct scan *scan, struct numaperf__xml_span name)
{
    if (scan->depth == 0)
        return scan_fail(scan, "closes a tag it did not open");
    struct numaperf__xml_span open = scan->stack[scan->depth - 1].name;
    if (open.length != name.length || memcmp(open.at, name.at, name.length) != 0)
        return scan_fail(scan, "closes another tag than it opened");
    scan->depth--;
    if (numaperf__xml_is(name, "distances2") && scan->is_in_distances)
        distances_close(scan);
    return 0;
}

static int scan_text(struct scan *scan, const char *text)
{
    struct numaperf__xml_tag tag;
    int kind = 0;
    while ((kind = numaperf__xml_next(&text, &tag)) > 0) {
        int rc = 0;
        if (kind == NUMAPERF_XML_OPEN)
            rc = scan_open(scan, &tag);
        if (rc == 0 && (kind == NUMAPERF_XML_CLOSE || tag.is_empty))
            rc = scan_close(scan, tag.name);
        if (rc < 0)
            return rc;
    }
    if (kind < 0)
        return scan_fail(scan, "is not well-formed XML");
    if (scan->depth > 0)
        return scan_fail(scan, "is cut off: a tag is not closed");
    return scan->has_root ? 0 : scan_fail(scan, "is not an XML file of hwloc");
}

static int xml_load(const char *path, const char *text, numaperf_topology_t **out)
{
    struct numaperf__picture *picture = numaperf__picture_new(path);
    struct scan *scan = calloc(1, sizeof(*scan));
    int rc = 0;
    if (picture == NULL || scan == NULL) {
        rc = numaperf__fail(-ENOMEM, ENOMEM, "topology", NAME_FORMAT, path);
        goto free_both;
    }
    scan->picture = picture;
    rc = scan_text(scan, text);
    if (rc == 0)
        rc = numaperf__picture_convert(picture, out);
free_both:
    free(scan);
    numaperf__picture_free(picture);
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
        rc = xml_load(path, text, out);
    else
        rc = numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", NAME_FORMAT " is not text", path);
    free(text);
    return rc;
}
