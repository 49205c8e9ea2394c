/* SPDX-License-Identifier: MIT */
/*
 * A queue whose owner pushes and pops while one thief steals without a pause: items a second that
 * came out, whoever took them. The owner pushes a burst and pops as many: of 256, so that both have
 * enough to take, or of one, which both want; one by one, or where the queue can in batches (the
 * textbook's cannot, and pushes them one by one). What the thief took in between it does without.
 * Or it only pushes, and the thief takes all. Every item comes out once, which the sum of all
 * proves.
 *
 * The owner's and the thief's sums are each their thread's own until it has ended.
 */
#include "steal.h"

#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define STEAL_ITEMS 4194304u
#define STEAL_ITEMS_SMOKE 4096u
#define STEAL_BURST_MAX 256u /* at most a quarter of the room */

/* A multiple of each of them is pushed in all. */
_Static_assert(STEAL_ITEMS % STEAL_BURST_MAX == 0 && STEAL_ITEMS_SMOKE % STEAL_BURST_MAX == 0 &&
                   STEAL_BURST_MAX % BENCH_STEAL_BATCH == 0,
               "bursts and batches are whole");

enum steal_kind { STEAL_DEEP = 0, STEAL_BATCHES, STEAL_SHALLOW, STEAL_DRAIN };

struct steal_side {
    uint64_t count;
    uint64_t sum;
};

struct steal_run {
    const struct bench_steal_ops *ops;
    void *queue;
    int32_t cpus[2];
    uint64_t count;
    uint32_t burst;
    uint32_t batch;
    bool owner_pops;
    _Alignas(128) struct steal_side owner;
    uint64_t start_ns;
    uint64_t end_ns;
    _Alignas(128) struct steal_side thief;
    _Alignas(128) _Atomic uint64_t stolen; /* written by the thief where the owner never pops */
    _Alignas(128) _Atomic bool thief_is_here;
    _Atomic bool done;
};

static void *steal_thief(void *arg)
{
    struct steal_run *run = arg;
    uint64_t items[BENCH_STEAL_BATCH];
    if (bench_pin(run->cpus[1]) < 0)
        abort(); /* numaperf was here before: the PU exists */
    atomic_store_explicit(&run->thief_is_here, true, memory_order_release);
    struct steal_side side = {0, 0};
    while (!atomic_load_explicit(&run->done, memory_order_relaxed)) {
        size_t count = run->ops->steal_thief(run->queue, items);
        for (size_t i = 0; i < count; i++)
            side.sum += items[i];
        side.count += count;
        if (!run->owner_pops && count > 0)
            atomic_store_explicit(&run->stolen, side.count, memory_order_relaxed);
    }
    run->thief = side;
    return NULL;
}

/* Take up to `limit`; how many were left of it when the queue was empty. */
static uint64_t steal_take(struct steal_run *run, struct steal_side *side, uint64_t limit)
{
    for (; limit > 0; limit--) {
        uint64_t item = run->ops->pop_owner(run->queue);
        if (item == 0)
            break;
        side->sum += item;
        side->count++;
    }
    return limit;
}

/* So that the next burst never finds the queue full. */
static void steal_wait_for_room(struct steal_run *run, uint64_t pushed)
{
    while (pushed - atomic_load_explicit(&run->stolen, memory_order_relaxed) >
           BENCH_STEAL_ROOM - STEAL_BURST_MAX)
        continue;
}

static void *steal_owner(void *arg)
{
    struct steal_run *run = arg;
    if (bench_pin(run->cpus[0]) < 0)
        abort(); /* numaperf was here before: the PU exists */
    while (!atomic_load_explicit(&run->thief_is_here, memory_order_acquire))
        continue;
    struct steal_side side = {0, 0};
    run->start_ns = bench_now_ns();
    for (uint64_t next = 1; next <= run->count;) {
        for (uint32_t i = 0; i < run->burst; i += run->batch, next += run->batch)
            run->ops->push_owner(run->queue, next, run->batch);
        if (run->owner_pops)
            (void)steal_take(run, &side, run->burst); /* the thief may have been faster */
        else
            steal_wait_for_room(run, next - 1);
    }
    while (!run->owner_pops &&
           atomic_load_explicit(&run->stolen, memory_order_relaxed) < run->count)
        continue;
    /* A pop may fail for a thief that is about to take the last one, so once is not enough. */
    while (steal_take(run, &side, run->count) < run->count)
        continue;
    run->end_ns = bench_now_ns();
    run->owner = side;
    atomic_store_explicit(&run->done, true, memory_order_relaxed);
    return NULL;
}

static int steal_threads(struct steal_run *run)
{
    pthread_t threads[2];
    int rc = -pthread_create(&threads[1], NULL, steal_thief, run);
    if (rc < 0)
        return rc;
    rc = -pthread_create(&threads[0], NULL, steal_owner, run);
    if (rc < 0)
        atomic_store_explicit(&run->done, true, memory_order_relaxed);
    else
        pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    return rc;
}

static int steal_sample(const struct bench_run *run, double *out_values)
{
    static struct steal_run work; /* its process takes one sample */
    work.ops = run->peer->ops;
    work.count = run->smoke ? STEAL_ITEMS_SMOKE : STEAL_ITEMS;
    work.cpus[0] = run->setup->cpus[0];
    work.cpus[1] = run->setup->cpus[1];
    uint32_t kind = run->bench->parameter;
    work.owner_pops = kind != STEAL_DRAIN;
    work.burst = kind == STEAL_SHALLOW ? 1 : STEAL_BURST_MAX;
    work.batch = kind == STEAL_BATCHES ? BENCH_STEAL_BATCH : 1;
    work.queue = work.ops->create();
    if (work.queue == NULL)
        return -ENOMEM;
    int rc = steal_threads(&work);
    work.ops->destroy(work.queue);
    if (rc < 0)
        return rc;
    if (work.owner.count + work.thief.count != work.count ||
        work.owner.sum + work.thief.sum != work.count * (work.count + 1) / 2)
        return -EPROTO; /* an item was lost, or came out twice */
    out_values[0] = (double)work.count * 1e9 / (double)(work.end_ns - work.start_ns);
    return 0;
}

#define STEAL_CASE(suffix, text, kind)                                                           \
    {                                                                                            \
        .name = "steal." suffix, .about = text,                                                  \
        .peers = {&bench_chase_lev, &bench_chase_lev_word, &bench_numaperf_queue},               \
        .metrics = {{.name = "items/s", .unit = "1/s"}},                                         \
        .goals =                                                                                 \
            {{.peer = &bench_numaperf_queue, .against = &bench_chase_lev, .must = 2, .aim = 3}}, \
        .node_count = 1, .workers_per_node = 2, .parameter = (uint32_t)(kind),                   \
        .sample = steal_sample                                                                   \
    }

static const struct bench_case steal_cases[] = {
    STEAL_CASE("deep", "an owner pushes and pops 256 at a time, a thief steals without a pause",
               STEAL_DEEP),
    STEAL_CASE("batches", "the same, and 64 are pushed at once", STEAL_BATCHES),
    STEAL_CASE("shallow", "an owner pushes and pops one at a time, a thief steals without a pause",
               STEAL_SHALLOW),
    STEAL_CASE("drain", "an owner pushes, a thief steals all", STEAL_DRAIN),
};

const struct bench_workload bench_steal = {
    .name = "steal",
    .cases = steal_cases,
    .case_count = sizeof(steal_cases) / sizeof(steal_cases[0]),
};
