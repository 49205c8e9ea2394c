/* SPDX-License-Identifier: MIT */
/*
 * Scenes: one for every libuv handle or request type. A scene starts on the thread of a loop,
 * brings its handles to an effect that it checks, and closes them; nothing else keeps the loop
 * moving, so what a loop fails to notice shows as a scene that does not end.
 */
#ifndef TESTS_SUPPORT_UV_SCENES_H
#define TESTS_SUPPORT_UV_SCENES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct scene;

/* One run of a scene. */
struct scene_run {
    const struct scene *scene;
    uv_loop_t *loop;
    void *parts;     /* of the scene's own */
    int open;        /* handles and requests that are left; loop's thread */
    char path[96];   /* a temporary file or directory of this run */
    int fds[2];      /* what poke uses; -1 */
    uv_timer_t hint; /* of launchers */
    uv_async_t async;

    atomic_bool ready;             /* poke may act */
    atomic_bool ended;             /* all handles are closed; set last */
    _Atomic(const char *) failure; /* the first thing that was not so */
    _Atomic(const char *) skipped; /* why it cannot be played here */
    atomic_bool spawn_by_library;  /* process: by numaperf_uv_spawn() */
};

struct scene {
    const char *name;
    void (*start)(struct scene_run *run);
    /* By another thread, every few milliseconds between ready and ended; may be NULL. */
    void (*poke)(struct scene_run *run);
    size_t parts_size;
};

extern const struct scene scenes[];
extern const size_t scene_count;

#define SCENE_TEXT_(x) #x
#define SCENE_TEXT(x) SCENE_TEXT_(x)
#define SCENE_SEE(run, condition)                                                           \
    do {                                                                                    \
        if (!(condition))                                                                   \
            scene_failed((run), __FILE__ ":" SCENE_TEXT(__LINE__) ": not so: " #condition); \
    } while (0)

void scene_failed(struct scene_run *run, const char *what);

/* Count a handle that was initialised; scene_close() counts it out. The last one ends the run. */
void scene_track(struct scene_run *run, uv_handle_t *handle);
void scene_close(uv_handle_t *handle);
/* The same for requests. */
void scene_request_begins(struct scene_run *run);
void scene_request_ends(struct scene_run *run);

/* Memory of a run; false when there is none. Freed by scene_run_fini(). */
bool scene_run_init(struct scene_run *run, const struct scene *scene);
void scene_run_fini(struct scene_run *run);
/* From another thread: poke until it has ended. False when it takes too long. */
bool scene_run_watch(struct scene_run *run);

/* By how much a timer may be early: libuv counts in whole milliseconds, ticks of the kernel. */
uint64_t scene_early_ns_max(void);

/* For main(): a program that is a scene's child ends here. */
void scene_child_main(int argc, char **argv);

#endif
