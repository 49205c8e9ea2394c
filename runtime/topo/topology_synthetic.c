/* SPDX-License-Identifier: MIT */
/*
 * Topologies from hwloc's synthetic descriptions: "numa:2 pu:1".
 *
 * hwloc reads the description and exports what it made as XML, and that text is read as a file's
 * would be, so there is one way in from hwloc and one place that judges ids. hwloc's -1 with errno
 * becomes our codes here. No state: any thread.
 * Source: hwloc, "Synthetic topologies".
 */
#include "topo/topology.h"

#include "base/error.h"

#include <errno.h>
#include <hwloc.h>
#include <hwloc/export.h>
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

/* Load the description and write it as XML, to be freed with hwloc_free_xmlbuffer(). */
static int synthetic_export(hwloc_topology_t hwloc, const char *description, char **out_text)
{
    int length = 0;
    int rc = hwloc_topology_set_synthetic(hwloc, description);
    if (rc == 0)
        rc = hwloc_topology_load(hwloc);
    if (rc == 0)
        rc = hwloc_topology_export_xmlbuffer(hwloc, out_text, &length, 0);
    if (rc == 0)
        return 0;
    if (errno == ENOMEM)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "\"%.120s\"", description);
    return numaperf__fail(NUMAPERF_E_TOPOLOGY, errno, "topology",
                          "\"%.120s\" is not a synthetic description, like \"numa:2 pu:4\"",
                          description);
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
    char *text = NULL;
    int rc = synthetic_export(hwloc, hwloc_description, &text);
    if (rc == 0) {
        rc = numaperf__topology_from_xml_text(hwloc_description, text, out);
        hwloc_free_xmlbuffer(hwloc, text);
    }
    hwloc_topology_destroy(hwloc);
    return rc;
}
