/* SPDX-License-Identifier: MIT */
/*
 * Scenes for loops that are run by hand: each writes down what every run returned and which
 * callbacks it made, so that two ways to run a loop can be compared line by line.
 */
#ifndef TESTS_SUPPORT_RUN_SCENES_H
#define TESTS_SUPPORT_RUN_SCENES_H

#include <stddef.h>
#include <uv.h>

struct run_trace {
    char text[8192];
    size_t length;
};

struct run_stage {
    uv_loop_t *uv;
    int (*run)(struct run_stage *stage, int mode);
    void *runner; /* of run */
    struct run_trace *trace;
};

struct run_scene {
    const char *name;
    void (*play)(struct run_stage *stage); /* leaves no handle behind */
};

extern const struct run_scene run_scenes[];
extern const size_t run_scene_count;

#endif
