/* SPDX-License-Identifier: MIT */
/*
 * The watch of a stop: a worker is stuck when it runs, has been in the same turn for long, and that
 * is its callback's doing: it had the PU for most of that, or waits for something. One that is
 * ready to run and gets no PU is on its way, however long that takes, and so is one that has ended.
 *
 * Thread rule: belongs to the thread that stops; it reads what workers write for everybody, and
 * asks the kernel about a thread by its id, which at worst is no more.
 *
 * Source: "stat" in proc(5).
 */
#include "sched/watch.h"

#include "base/assert.h"
#include "place/kernel_text.h"
#include "sched/stall.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WATCH_STUCK_NS 100000000u /* a turn that lasts longer is a callback's */
#define WATCH_STAT_STATE 3
#define WATCH_STAT_UTIME 14 /* field of the stat file, counted from 1; stime follows */

struct watch_worker {
    uint64_t turn;     /* when it was last seen to move, or not to run */
    uint64_t since_ns; /* when that was */
    uint64_t ticks;    /* of CPU time it had when it was first asked about in this turn */
    bool asked;
};

struct numaperf__watch {
    const numaperf_rt_t *rt;
    uint64_t start_ns;
    struct watch_worker workers[];
};

struct numaperf__watch *numaperf__watch_create(const numaperf_rt_t *rt, uint64_t now_ns)
{
    struct numaperf__watch *watch =
        calloc(1, sizeof(*watch) + rt->worker_count * sizeof(watch->workers[0]));
    if (watch == NULL)
        return NULL;
    watch->rt = rt;
    watch->start_ns = now_ns;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        watch->workers[i] = (struct watch_worker){.turn = UINT64_MAX, .since_ns = now_ns};
    return watch;
}

bool numaperf__watch_ask(int thread_id, char *out_state, uint64_t *out_ticks)
{
    char path[64];
    char text[512];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_id);
    if (numaperf__kernel_text_read(path, text, sizeof(text)) < 0)
        return false;
    const char *state = numaperf__kernel_text_stat_field(text, WATCH_STAT_STATE);
    const char *times = numaperf__kernel_text_stat_field(text, WATCH_STAT_UTIME);
    if (state == NULL || times == NULL)
        return false;
    *out_state = *state;
    char *end = NULL;
    *out_ticks = strtoull(times, &end, 10);
    *out_ticks += strtoull(end, NULL, 10);
    return true;
}

/* Whether the long turn of a worker is the doing of its callback. */
static bool watch_is_callback(struct watch_worker *seen, const struct numaperf_worker *worker)
{
    char state = 'R';
    uint64_t ticks = 0;
    if (!numaperf__watch_ask(worker->thread_id, &state, &ticks))
        return access("/proc/self/stat", F_OK) != 0; /* it has ended, unless nothing tells */
    if (!seen->asked) {
        seen->asked = true;
        seen->ticks = ticks;
    }
    if (state != 'R')
        return true;
    const uint64_t wanted =
        WATCH_STUCK_NS / (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
    return ticks - seen->ticks >= wanted;
}

bool numaperf__watch_any_stuck(struct numaperf__watch *watch, uint64_t now_ns)
{
    const numaperf_rt_t *rt = watch->rt;
    bool stuck = (!numaperf__auditor_exited(rt) && now_ns - watch->start_ns >= WATCH_STUCK_NS) ||
                 numaperf__stall_is_stuck(rt, now_ns);
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        const struct numaperf_worker *worker = &rt->workers[i];
        struct watch_worker *seen = &watch->workers[i];
        uint64_t turn = atomic_load_explicit(&worker->turn, memory_order_relaxed);
        bool runs = atomic_load_explicit(&worker->state, memory_order_relaxed) ==
                        NUMAPERF__WORKER_RUNNING &&
                    !atomic_load_explicit(&worker->at_latch, memory_order_relaxed);
        /* One that slept in this turn and was woken to end runs since then, not since its turn. */
        if (turn != seen->turn || !runs)
            *seen = (struct watch_worker){.turn = turn, .since_ns = now_ns};
        if (now_ns - seen->since_ns >= WATCH_STUCK_NS && watch_is_callback(seen, worker))
            stuck = true;
    }
    return stuck;
}

void numaperf__watch_destroy(struct numaperf__watch *watch)
{
    free(watch);
}
