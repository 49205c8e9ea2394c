/* SPDX-License-Identifier: MIT */
/* A JSON document in the making, for the attestation; <jansson.h> is behind this and cli/ alone. */
#ifndef NUMAPERF_SCHED_ATTEST_JSON_H
#define NUMAPERF_SCHED_ATTEST_JSON_H

#include <numaperf/cpuset.h>

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Whether something could not be made so far: for want of memory, since values are made such that
 * nothing else can fail. It sticks, so that only the end is checked. On the caller's thread.
 */
struct numaperf__json {
    bool failed;
};

/*
 * Put a value, which becomes the object's also when that fails. Neither need exist: what was to be
 * made of memory that was not there is NULL, and putting that is the failure.
 */
void numaperf__json_put(struct numaperf__json *json, json_t *object, const char *key,
                        json_t *value);
void numaperf__json_append(struct numaperf__json *json, json_t *array, json_t *value);
/* Put an empty object, and lend it. */
json_t *numaperf__json_section(struct numaperf__json *json, json_t *object, const char *key);

/* Any bytes as text: those that are no printable ASCII become '?'. NULL is null. */
json_t *numaperf__json_text(const char *text);
/* A number above the largest of JSON in C, 2^63 - 1, is its digits as text. */
json_t *numaperf__json_number(uint64_t number);
/* Nanoseconds of CLOCK_REALTIME as RFC 3339 in UTC; null for 0, which no clock says. */
json_t *numaperf__json_time(int64_t time_ns);
json_t *numaperf__json_cpuset(const numaperf_cpuset_t *cpus);

/* The document as text of malloc(3), whatever allocator jansson was given. 0 or -ENOMEM. */
int numaperf__json_write(const json_t *document, char **out_text);

#endif
