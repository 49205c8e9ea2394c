/* SPDX-License-Identifier: MIT */
/*
 * A scanner for the XML that hwloc writes.
 *
 * It knows tags, attributes in quotes, comments and declarations, and nothing else of XML: no
 * entities, no internal subset, no character data sections, so a short file cannot expand. Every
 * loop moves forward over a text that ends with a zero, and spans point into that text. It checks
 * the form of single tags; that they nest is for the caller, who knows how deep they may. No state.
 */
#include "topo/xml.h"

#include <errno.h>
#include <string.h>

static const char blanks[] = " \t\r\n";

/* Move past `mark` at the end of a comment or declaration; false when it never ends. */
static bool xml_skip_past(const char **io_at, const char *mark)
{
    const char *end = strstr(*io_at, mark);
    if (end == NULL)
        return false;
    *io_at = end + strlen(mark);
    return true;
}

/* From a '<', past everything that is no tag. Returns 1 at a tag, 0 at the end, -EINVAL. */
static int xml_find_tag(const char **io_at)
{
    const char *at = *io_at;
    for (;;) {
        at += strcspn(at, "<");
        if (*at == '\0')
            return 0;
        bool ends = true;
        if (strncmp(at, "<!--", 4) == 0)
            ends = xml_skip_past(&at, "-->");
        else if (strncmp(at, "<?", 2) == 0)
            ends = xml_skip_past(&at, "?>");
        else if (strncmp(at, "<!DOCTYPE", 9) == 0)
            ends = xml_skip_past(&at, ">");
        else
            break;
        if (!ends)
            return -EINVAL;
    }
    *io_at = at;
    return at[1] == '!' ? -EINVAL : 1;
}

static bool xml_name(const char **io_at, struct numaperf__xml_span *out)
{
    out->at = *io_at;
    out->length = strcspn(*io_at, " \t\r\n/<>=\"'&");
    *io_at += out->length;
    return out->length > 0;
}

/* name="value", with blanks before it. */
static bool xml_attribute(const char **io_at, struct numaperf__xml_tag *tag)
{
    if (tag->attribute_count == NUMAPERF_XML_ATTRIBUTES_MAX)
        return false;
    struct numaperf__xml_span name;
    if (!xml_name(io_at, &name) || *(*io_at)++ != '=')
        return false;
    char quote[] = {**io_at, '\0'};
    if (quote[0] != '"' && quote[0] != '\'')
        return false;
    struct numaperf__xml_span value = {.at = *io_at + 1};
    value.length = strcspn(value.at, quote);
    if (value.at[value.length] == '\0' || memchr(value.at, '<', value.length) != NULL)
        return false;
    *io_at = value.at + value.length + 1;
    tag->attributes[tag->attribute_count].name = name;
    tag->attributes[tag->attribute_count].value = value;
    tag->attribute_count++;
    return true;
}

int numaperf__xml_next(const char **io_at, struct numaperf__xml_tag *out_tag)
{
    int rc = xml_find_tag(io_at);
    if (rc <= 0)
        return rc;
    const char *at = *io_at + 1;
    bool closes = *at == '/';
    at += closes;
    out_tag->attribute_count = 0;
    if (!xml_name(&at, &out_tag->name))
        return -EINVAL;

    size_t gap = strspn(at, blanks);
    while (gap > 0 && at[gap] != '>' && at[gap] != '/') {
        at += gap;
        if (closes || !xml_attribute(&at, out_tag))
            return -EINVAL;
        gap = strspn(at, blanks);
    }
    at += gap;
    out_tag->is_empty = *at == '/';
    at += out_tag->is_empty;
    if (*at != '>' || (closes && out_tag->is_empty))
        return -EINVAL;
    out_tag->content = at + 1;
    *io_at = at + 1;
    return closes ? NUMAPERF_XML_CLOSE : NUMAPERF_XML_OPEN;
}

bool numaperf__xml_is(struct numaperf__xml_span span, const char *text)
{
    return span.at != NULL && strlen(text) == span.length &&
           memcmp(span.at, text, span.length) == 0;
}

struct numaperf__xml_span numaperf__xml_value(const struct numaperf__xml_tag *tag, const char *name)
{
    for (size_t i = 0; i < tag->attribute_count; i++) {
        if (numaperf__xml_is(tag->attributes[i].name, name))
            return tag->attributes[i].value;
    }
    return (struct numaperf__xml_span){NULL, 0};
}
