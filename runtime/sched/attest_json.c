/* SPDX-License-Identifier: MIT */
/*
 * JSON for the attestation: values that can only fail for want of memory, and writing it out.
 *
 * jansson refuses text that is no UTF-8, and what the kernel says is bytes: everything outside
 * printable ASCII is replaced before, so that a NULL of jansson's always means memory. Numbers of
 * JSON are jansson's long long; a larger one is given as text rather than rounded.
 *
 * jansson's allocator is the embedding program's to choose and may be anything; what is handed
 * out is free(3)'s. So the text is written piece by piece into memory of our own.
 *
 * Thread rule: nothing is shared; a value belongs to who makes it.
 */
#include "sched/attest_json.h"

#include "base/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define JSON_TEXT_START 4096u /* bytes; doubled as needed */

struct json_text {
    char *data;
    size_t length;
    size_t capacity;
};

/* ---- values ---- */

void numaperf__json_put(struct numaperf__json *json, json_t *object, const char *key, json_t *value)
{
    /* It takes the value even when it fails, and fails for one that is NULL. */
    if (json_object_set_new(object, key, value) < 0)
        json->failed = true;
}

void numaperf__json_append(struct numaperf__json *json, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) < 0)
        json->failed = true;
}

json_t *numaperf__json_section(struct numaperf__json *json, json_t *object, const char *key)
{
    numaperf__json_put(json, object, key, json_object());
    return json_object_get(object, key); /* NULL when that failed, and so will what goes in */
}

static bool json_is_plain(char byte)
{
    return byte >= ' ' && byte <= '~';
}

json_t *numaperf__json_text(const char *text)
{
    if (text == NULL)
        return json_null();
    size_t plain = 0;
    while (json_is_plain(text[plain]))
        plain++;
    if (text[plain] == '\0')
        return json_string(text);
    size_t size = plain + strlen(text + plain) + 1;
    char *copy = malloc(size);
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, size);
    for (char *at = copy + plain; *at != '\0'; at++) {
        if (!json_is_plain(*at))
            *at = '?';
    }
    json_t *value = json_string(copy);
    free(copy);
    return value;
}

json_t *numaperf__json_number(uint64_t number)
{
    if (number <= INT64_MAX)
        return json_integer((json_int_t)number);
    char digits[24];
    (void)snprintf(digits, sizeof(digits), "%" PRIu64, number);
    return json_string(digits);
}

json_t *numaperf__json_time(int64_t time_ns)
{
    if (time_ns <= 0)
        return json_null();
    time_t seconds = (time_t)(time_ns / 1000000000);
    struct tm utc;
    if (gmtime_r(&seconds, &utc) == NULL)
        return json_null(); /* a year beyond what it can name, which 63 bits of ns do not reach */
    char text[64];
    size_t length = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(text + length, sizeof(text) - length, ".%09dZ", (int)(time_ns % 1000000000));
    return json_string(text);
}

json_t *numaperf__json_cpuset(const numaperf_cpuset_t *cpus)
{
    int length = numaperf_cpuset_format(cpus, NULL, 0);
    if (length < 0)
        return NULL;
    size_t size = (size_t)length + 1;
    char *list = malloc(size);
    if (list == NULL)
        return NULL;
    /* The same set once more, so of the same length. */
    json_t *value = numaperf_cpuset_format(cpus, list, size) == length ? json_string(list) : NULL;
    free(list);
    return value;
}

/* ---- text ---- */

/* A json_dump_callback_t: -1 ends the dump. There is always room for a newline and a zero. */
static int json_take(const char *piece, size_t size, void *data)
{
    struct json_text *text = data;
    size_t needed = text->length + size + 2;
    size_t capacity = text->capacity != 0 ? text->capacity : JSON_TEXT_START;
    while (capacity < needed)
        capacity *= 2;
    if (capacity > text->capacity) {
        char *grown = realloc(text->data, capacity);
        if (grown == NULL)
            return -1;
        text->data = grown;
        text->capacity = capacity;
    }
    memcpy(text->data + text->length, piece, size);
    text->length += size;
    return 0;
}

int numaperf__json_write(const json_t *document, char **out_text)
{
    NUMAPERF_ASSERT(json_is_object(document));

    struct json_text text = {.data = NULL};
    if (json_dump_callback(document, json_take, &text, JSON_INDENT(2)) < 0) {
        free(text.data);
        return -ENOMEM;
    }
    NUMAPERF_ASSERT(text.length + 2 <= text.capacity);
    memcpy(text.data + text.length, "\n", 2);
    *out_text = text.data;
    return 0;
}
