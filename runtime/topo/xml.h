/* SPDX-License-Identifier: MIT */
/* A scanner for the XML that hwloc writes: tags and attributes, without copies. */
#ifndef NUMAPERF_TOPO_XML_H
#define NUMAPERF_TOPO_XML_H

#include <stdbool.h>
#include <stddef.h>

#define NUMAPERF_XML_ATTRIBUTES_MAX 32

struct numaperf__xml_span {
    const char *at; /* into the text; not terminated */
    size_t length;
};

struct numaperf__xml_tag {
    struct numaperf__xml_span name;
    const char *content; /* what follows the tag, up to the next '<' */
    bool is_empty;       /* <name/>: no closing tag follows */
    size_t attribute_count;
    struct {
        struct numaperf__xml_span name, value; /* entities in the value are left as they are */
    } attributes[NUMAPERF_XML_ATTRIBUTES_MAX];
};

enum { NUMAPERF_XML_END = 0, NUMAPERF_XML_OPEN, NUMAPERF_XML_CLOSE };

/*
 * Scan to the next tag from `*io_at`, past text, comments and declarations.
 *
 * Returns:  NUMAPERF_XML_END, _OPEN or _CLOSE; -EINVAL the text is no such XML.
 */
int numaperf__xml_next(const char **io_at, struct numaperf__xml_tag *out_tag);

bool numaperf__xml_is(struct numaperf__xml_span span, const char *text);

/* The value of an attribute; a span of NULL when the tag has none of that name. */
struct numaperf__xml_span numaperf__xml_value(const struct numaperf__xml_tag *tag,
                                              const char *name);

#endif
