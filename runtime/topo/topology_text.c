/* SPDX-License-Identifier: MIT */
/*
 * A topology as text for people: a line for the whole, a line a node, then the distances.
 *
 * The writer counts every byte and stores those that fit, so one pass serves both a measuring call
 * and a real one, without memory of its own. Reads only; any thread.
 */
#include "topo/topology.h"

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

struct text_writer {
    char *buf;
    size_t size;
    size_t length; /* of the whole text so far, also beyond size */
    int rc;        /* first failure; 0 */
};

static char *text_at(const struct text_writer *writer)
{
    return writer->length < writer->size ? writer->buf + writer->length : NULL;
}

static size_t text_room(const struct text_writer *writer)
{
    return writer->length < writer->size ? writer->size - writer->length : 0;
}

static void text_advance(struct text_writer *writer, int length)
{
    if (length < 0)
        writer->rc = length;
    else
        writer->length += (size_t)length;
}

static void text_print(struct text_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void text_print(struct text_writer *writer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text_at(writer), text_room(writer), format, args);
    va_end(args);
    text_advance(writer, length < 0 ? -EINVAL : length);
}

static void text_cpus(struct text_writer *writer, const numaperf_cpuset_t *cpus)
{
    text_advance(writer, numaperf_cpuset_format(cpus, text_at(writer), text_room(writer)));
}

/* The largest unit that divides the size, so that nothing is rounded away. */
static void text_bytes(struct text_writer *writer, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        bytes /= 1024;
        unit++;
    }
    text_print(writer, "%" PRIu64 " %s", bytes, units[unit]);
}

static void text_node(struct text_writer *writer, const numaperf_topology_t *topology,
                      const struct numaperf__topology_node *node)
{
    int first = numaperf_cpuset_next(&node->cpus, -1);
    text_print(writer, "node %d: ", node->id);
    if (first < 0) {
        text_print(writer, "no usable PUs");
    } else {
        text_print(writer, "PUs ");
        text_cpus(writer, &node->cpus);
        text_print(writer, " (cores ");
        text_cpus(writer, &node->cores);
        text_print(writer, ")");
    }
    text_print(writer, ", memory ");
    text_bytes(writer, node->memory_bytes);
    if (node->package >= 0)
        text_print(writer, ", package %d", node->package);
    for (unsigned level = 1; level <= NUMAPERF_CACHE_LEVELS; level++) {
        uint64_t bytes = numaperf_topology_cache_bytes(topology, first, level);
        if (bytes == 0)
            continue;
        text_print(writer, ", L%u ", level);
        text_bytes(writer, bytes);
    }
    text_print(writer, "\n");
}

static void text_distances(struct text_writer *writer, const numaperf_topology_t *topology)
{
    text_print(writer, "distance from row to column\n     ");
    for (size_t to = 0; to < topology->node_count; to++)
        text_print(writer, " %5d", topology->nodes[to].id);
    text_print(writer, "\n");
    for (size_t from = 0; from < topology->node_count; from++) {
        text_print(writer, "%5d", topology->nodes[from].id);
        for (size_t to = 0; to < topology->node_count; to++) {
            uint32_t distance = topology->distances[from * topology->node_count + to];
            if (distance != 0)
                text_print(writer, " %5" PRIu32, distance);
            else
                text_print(writer, " %5s", from == to ? "10" : "?");
        }
        text_print(writer, "\n");
    }
}

int numaperf_topology_summary(const numaperf_topology_t *topology, char *buf, size_t size)
{
    if (topology == NULL || (buf == NULL && size > 0))
        return numaperf__fail(-EINVAL, 0, "summary", "topology and buf must not be NULL");

    struct text_writer writer = {.buf = buf, .size = size};
    text_print(&writer, "%zu node%s, %d usable PU%s, %s\n", topology->node_count,
               topology->node_count == 1 ? "" : "s", numaperf_cpuset_count(&topology->cpus),
               numaperf_cpuset_count(&topology->cpus) == 1 ? "" : "s",
               topology->is_this_machine ? "this machine" : "not this machine");
    for (size_t i = 0; i < topology->node_count; i++)
        text_node(&writer, topology, &topology->nodes[i]);
    if (topology->node_count > 1)
        text_distances(&writer, topology);
    if (writer.rc < 0)
        return writer.rc;
    NUMAPERF_ASSERT(writer.length <= INT_MAX);
    return (int)writer.length;
}
