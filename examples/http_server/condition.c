/* SPDX-License-Identifier: MIT */
/*
 * Conditions in the order of RFC 9110, 13.2.2: If-Match before If-Unmodified-Since, If-None-Match
 * before If-Modified-Since, then Range. What cannot be read is passed over, as the RFC has it.
 */
#include "condition.h"

#include "date.h"

#include <string.h>

/* Whether a list of entity tags has this one, or is "*". Weak ones count when `weak`. */
static bool etags_have(const struct span *list, const struct validator *file, bool weak)
{
    const char *at = list->data;
    const char *end = at + list->length;
    if (list->length == 1 && at[0] == '*')
        return true;
    while (at < end) {
        bool is_weak = end - at > 2 && at[0] == 'W' && at[1] == '/';
        const char *tag = is_weak ? at + 2 : at;
        const char *close =
            tag < end && *tag == '"' ? memchr(tag + 1, '"', (size_t)(end - tag) - 1) : NULL;
        if (close == NULL) {
            at++; /* a comma, a space, or nothing we know */
            continue;
        }
        size_t length = (size_t)(close - tag) + 1;
        if ((weak || !is_weak) && length == file->etag_length &&
            memcmp(tag, file->etag, length) == 0)
            return true;
        at = close + 1;
    }
    return false;
}

/* Whether the file has changed since a date; `unknown` when it is no date. */
static bool modified_since(const struct span *date, const struct validator *file, bool unknown)
{
    time_t when = 0;
    if (!date_parse(date->data, date->length, &when))
        return unknown;
    return file->modified > when;
}

/* 0: go on; else 304 or 412. */
static unsigned preconditions(const struct request *request, const struct validator *file)
{
    const struct span *fields = request->fields;
    if (fields[FIELD_IF_MATCH].data != NULL) {
        if (!etags_have(&fields[FIELD_IF_MATCH], file, false))
            return 412;
    } else if (fields[FIELD_IF_UNMODIFIED_SINCE].data != NULL &&
               modified_since(&fields[FIELD_IF_UNMODIFIED_SINCE], file, false)) {
        return 412;
    }
    if (fields[FIELD_IF_NONE_MATCH].data != NULL)
        return etags_have(&fields[FIELD_IF_NONE_MATCH], file, true) ? 304 : 0;
    if (fields[FIELD_IF_MODIFIED_SINCE].data != NULL &&
        !modified_since(&fields[FIELD_IF_MODIFIED_SINCE], file, true))
        return 304;
    return 0;
}

/* Decimal digits at `*at`; false: there are none. What is too large is as large as can be. */
static bool read_digits(const char **at, const char *end, uint64_t *out)
{
    const char *from = *at;
    uint64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        value = value > UINT64_MAX / 10 - 1 ? UINT64_MAX - 1 : value * 10 + (uint64_t)(**at - '0');
    *out = value;
    return *at > from;
}

/* "bytes=a-b", "bytes=a-", "bytes=-n": 206, 416; 200 what is not one range of bytes. */
static unsigned range_read(const struct span *range, uint64_t size, struct part *out)
{
    const char *at = range->data;
    const char *end = at + range->length;
    if (range->length < 6 || memcmp(at, "bytes=", 6) != 0)
        return 200;
    at += 6;
    uint64_t first = 0;
    uint64_t last = 0;
    bool has_first = read_digits(&at, end, &first);
    if (at == end || *at++ != '-')
        return 200;
    bool has_last = read_digits(&at, end, &last);
    if (at != end || (!has_first && !has_last) || (has_first && has_last && last < first))
        return 200;
    if (!has_first) {
        first = last < size ? size - last : 0;
        if (last == 0)
            return 416;
        last = size - 1;
    }
    if (first >= size)
        return 416;
    if (!has_last || last >= size)
        last = size - 1;
    *out = (struct part){.offset = first, .length = last - first + 1};
    return 206;
}

/* Whether If-Range lets the range through. */
static bool range_is_for(const struct span *version, const struct validator *file)
{
    time_t when = 0;
    if (version->data == NULL)
        return true;
    if (version->length == file->etag_length &&
        memcmp(version->data, file->etag, file->etag_length) == 0)
        return true;
    return date_parse(version->data, version->length, &when) && when == file->modified;
}

unsigned condition_status(const struct request *request, const struct validator *file,
                          struct part *out)
{
    *out = (struct part){.offset = 0, .length = file->size};
    unsigned status = preconditions(request, file);
    if (status != 0)
        return status;
    const struct span *range = &request->fields[FIELD_RANGE];
    if (range->data == NULL || !request->is_get ||
        !range_is_for(&request->fields[FIELD_IF_RANGE], file))
        return 200;
    return range_read(range, file->size, out);
}
