/* SPDX-License-Identifier: MIT */
/*
 * Parts of numaperf doctor: a report of requirements, which checks fill in before the trial start
 * and which the trial has the last word about.
 */
#ifndef NUMAPERF_CLI_DOCTOR_H
#define NUMAPERF_CLI_DOCTOR_H

#include <numaperf/runtime.h>

#include <jansson.h>
#include <stdbool.h>

struct doctor_settings {
    numaperf_rt_config_t config; /* what is tried; its size is set by doctor_config() */
    bool is_json;
};

/* A requirement: met, not met, or not met where the start does without. */
enum doctor_status { DOCTOR_OK = 0, DOCTOR_NOTE, DOCTOR_MISSING };

struct doctor_line {
    const char *name;
    enum doctor_status status;
    const char *found;
    const char *needed;
    const char *why; /* why it is needed */
};

/* Adds a requirement; returns its array of fixes, which the report owns. */
json_t *doctor_add(json_t *report, const struct doctor_line *line);

/* Everything that can be looked at before a start. Returns 0 or an exit code. */
int doctor_check(json_t *report, const numaperf_rt_config_t *config);

/* The start itself: adds the last line and "trial", and settles the statuses. Whether it started.
 */
bool doctor_trial(json_t *report, const numaperf_rt_config_t *config);

#endif
