/* SPDX-License-Identifier: MIT */
#include "support/sleeper.h"

#include "base/atomic.h"

#include "support/stress.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

struct sleeper {
    const struct sleeper_queue *queue;
    atomic_int asleep;
    sem_t wake;
    atomic_uint taken;
    atomic_bool lost;
    uint32_t wanted;
    uint64_t random; /* the sleeper's own */
};

static void pause_randomly(uint64_t *random)
{
    for (uint64_t k = stress_below(random, 400); k > 0; k--)
        numaperf__cpu_relax();
}

static void sleeper_sleep(struct sleeper *sleeper)
{
    pause_randomly(&sleeper->random); /* or it would be asleep before the next push begins */
    atomic_store_explicit(&sleeper->asleep, 1, memory_order_seq_cst);
    if (sleeper->queue->has_work() && atomic_exchange(&sleeper->asleep, 0) == 1)
        return;
    struct timespec limit;
    (void)clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += (time_t)(test_limit_ns(5) / 1000000000u);
    int rc = 0;
    do
        rc = sem_timedwait(&sleeper->wake, &limit);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        atomic_store(&sleeper->lost, true);
}

static void *sleeper_main(void *arg)
{
    struct sleeper *sleeper = arg;
    while (atomic_load(&sleeper->taken) < sleeper->wanted && !atomic_load(&sleeper->lost)) {
        if (sleeper->queue->take())
            (void)atomic_fetch_add(&sleeper->taken, 1);
        else
            sleeper_sleep(sleeper);
    }
    return NULL;
}

static void sleeper_feed(struct sleeper *sleeper, uint32_t number, uint64_t *random)
{
    pause_randomly(random); /* until about when it falls asleep */
    sleeper->queue->push(number);
    if (atomic_load_explicit(&sleeper->asleep, memory_order_seq_cst) == 1 &&
        atomic_exchange(&sleeper->asleep, 0) == 1)
        (void)sem_post(&sleeper->wake);
    while (atomic_load(&sleeper->taken) <= number && !atomic_load(&sleeper->lost))
        (void)sched_yield();
}

bool sleeper_survives(const struct sleeper_queue *queue, uint32_t count, uint64_t seed)
{
    struct sleeper sleeper = {.queue = queue, .wanted = count, .random = ~seed};
    pthread_t thread;
    if (sem_init(&sleeper.wake, 0, 0) != 0 ||
        pthread_create(&thread, NULL, sleeper_main, &sleeper) != 0)
        abort();
    for (uint32_t i = 0; i < count && !atomic_load(&sleeper.lost); i++)
        sleeper_feed(&sleeper, i, &seed);
    if (!atomic_load(&sleeper.lost) && atomic_exchange(&sleeper.asleep, 0) == 1)
        (void)sem_post(&sleeper.wake);
    if (pthread_join(thread, NULL) != 0)
        abort();
    (void)sem_destroy(&sleeper.wake);
    return !atomic_load(&sleeper.lost) && atomic_load(&sleeper.taken) == count;
}
