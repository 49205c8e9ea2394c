/* SPDX-License-Identifier: MIT */
/*
 * The stall detector: a thread that looks at the workers, a few times in what counts as too long,
 * and finds one that runs but does not get on. Workers read no clock for it, and write nothing but
 * the function of the task they run.
 *
 *   ACTIVE --a while in which all workers slept--> PARKED --a worker wakes up--> ACTIVE
 *      |                                             |
 *      +-------------------> END <-------------------+
 *
 * Progress is a number that changes with every turn of the loop, task and sleep. A worker that is
 * RUNNING with the same progress at every look since a first one has been in one callback at least
 * since then: what is told is a lower bound. Too long is a stall only when it is the callback's
 * doing: it has had the PU for half of that, or waits for something. A worker that is ready to run
 * and gets no PU is no stall.
 *
 * No stall is missed for the detector being parked. It stores PARKED, then looks at all states; a
 * worker stores that it does not sleep any more, or finds that its waker did, then looks at the
 * word; all of it sequentially consistent. So the detector sees the worker awake, or the worker
 * sees it parked and rouses it.
 *
 * Thread rule: the detector's thread has the seats, but for the counts, which anybody reads. It
 * reads what workers write for everybody. It is joined before they are. In on_stall it may do
 * anything but stop or destroy; a stop does not wait longer for it than for a callback.
 */
#include "sched/stall.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/futex.h"
#include "sched/callstack.h"
#include "sched/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STALL_MS_DEFAULT 100u
#define STALL_LOOKS 4u               /* in what counts as too long */
#define STALL_QUIET_LOOKS 8u         /* in a row, all asleep: enough */
#define STALL_CALLSTACK_NS 10000000u /* waited for a call stack before looking whether to end */
#define STALL_CALLSTACK_WAITS 50     /* then the report goes out without */
#define STALL_STUCK_NS 100000000u    /* an on_stall that lasts longer keeps no stop waiting */

_Static_assert(sizeof(numaperf_stall_t) == 296, "public struct: append only");
_Static_assert(offsetof(numaperf_stall_t, frames) == 40, "public struct: append only");

/* What the detector knows of a worker. */
struct stall_seat {
    uint64_t progress;      /* when it was last seen to get on, or not to run */
    uint64_t since_ns;      /* when that was */
    uint64_t cpu_ns;        /* it had when it was first seen not to */
    bool asked;             /* cpu_ns is of this stand */
    bool reported;          /* this stand was */
    clockid_t clock;        /* of its CPU time */
    _Atomic uint64_t count; /* stalls; written by the detector, read by anybody */
};

struct numaperf__stall_watch {
    _Atomic uint32_t word; /* enum numaperf__stall_word: by the detector, workers and who ends it */
    numaperf_rt_t *rt;
    uint64_t limit_ns;
    pthread_t thread;
    bool created; /* the thread; by start */
    bool joined;  /* under the runtime's stop_mutex */
    bool has_signal;
    atomic_bool exited;        /* written by the detector, last */
    _Atomic uint64_t end_ns;   /* when it was first asked to end; 0: not yet */
    _Atomic int32_t thread_id; /* written by the detector, and 0 again by who joins it */
    struct numaperf__callstack *callstacks; /* of the workers; NULL when they are not taken */
    struct stall_seat seats[];
};

/* ---- rouse, park ---- */

void numaperf__stall_rouse(struct numaperf__stall_watch *watch)
{
    uint32_t expected = NUMAPERF__STALL_PARKED;
    if (atomic_compare_exchange_strong_explicit(&watch->word, &expected, NUMAPERF__STALL_ACTIVE,
                                                memory_order_seq_cst, memory_order_seq_cst))
        numaperf__futex_wake_all(&watch->word);
}

void numaperf__stall_notice(const struct numaperf_worker *worker)
{
    struct numaperf__stall_watch *watch = worker->rt->stall;
    /* seq_cst: after the change of the worker's state; pairs with stall_park(). */
    if (watch != NULL &&
        atomic_load_explicit(&watch->word, memory_order_seq_cst) == NUMAPERF__STALL_PARKED)
        numaperf__stall_rouse(watch);
}

static uint32_t stall_word(const struct numaperf__stall_watch *watch)
{
    return atomic_load_explicit(&watch->word, memory_order_seq_cst);
}

static bool stall_all_sleep(const numaperf_rt_t *rt)
{
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        /* seq_cst: after the store of PARKED; pairs with numaperf__stall_notice(). */
        if (atomic_load_explicit(&rt->workers[i].state, memory_order_seq_cst) !=
            NUMAPERF__WORKER_SLEEPING)
            return false;
    }
    return true;
}

/* Wait until a worker is awake. */
static void stall_park(struct numaperf__stall_watch *watch)
{
    uint32_t expected = NUMAPERF__STALL_ACTIVE;
    if (!atomic_compare_exchange_strong_explicit(&watch->word, &expected, NUMAPERF__STALL_PARKED,
                                                 memory_order_seq_cst, memory_order_seq_cst))
        return; /* it is to end */
    if (!stall_all_sleep(watch->rt))
        numaperf__stall_rouse(watch);
    while (stall_word(watch) == NUMAPERF__STALL_PARKED)
        numaperf__futex_wait(&watch->word, NUMAPERF__STALL_PARKED, UINT64_MAX);
}

/* Workers are ending: there is nothing to look at any more. */
static void stall_await_end(struct numaperf__stall_watch *watch)
{
    for (uint32_t word = stall_word(watch); word != NUMAPERF__STALL_END; word = stall_word(watch))
        numaperf__futex_wait(&watch->word, word, UINT64_MAX);
}

/* ---- look ---- */

/* CPU time of a worker; false when it has ended. */
static bool stall_cpu_ns(const struct stall_seat *seat, uint64_t *out_ns)
{
    struct timespec cpu;
    if (clock_gettime(seat->clock, &cpu) != 0)
        return false;
    *out_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
    return true;
}

/* Whether it is the callback that holds the worker, and not the want of a PU. */
static bool stall_is_callback(const struct numaperf__stall_watch *watch,
                              const struct stall_seat *seat, const struct numaperf_worker *worker)
{
    uint64_t cpu_ns = 0;
    if (!stall_cpu_ns(seat, &cpu_ns))
        return false;
    if (cpu_ns - seat->cpu_ns >= watch->limit_ns / 2)
        return true;
    char state = 'S'; /* where nothing tells, it is not taken for one that is ready to run */
    uint64_t ticks = 0;
    (void)numaperf__watch_ask(worker->thread_id, &state, &ticks);
    return state != 'R';
}

/* The frames of the stand that is looked at, where they can be had. */
static void stall_take_frames(struct numaperf__stall_watch *watch,
                              const struct numaperf_worker *worker, numaperf_stall_t *stall)
{
    struct numaperf__callstack *callstack = worker->callstack;
    if (callstack == NULL || !numaperf__callstack_ask(callstack, worker->thread))
        return;
    bool taken = false;
    for (int i = 0; i < STALL_CALLSTACK_WAITS && !taken && stall_word(watch) != NUMAPERF__STALL_END;
         i++)
        taken = numaperf__callstack_await(callstack, STALL_CALLSTACK_NS);
    if (taken && callstack->progress == watch->seats[worker->index].progress) {
        stall->frame_count = callstack->frame_count;
        memcpy(stall->frames, callstack->frames, sizeof(stall->frames));
    }
    numaperf__callstack_drop(callstack);
}

static void stall_report(struct numaperf__stall_watch *watch, struct stall_seat *seat,
                         const struct numaperf_worker *worker, uint64_t now_ns)
{
    numaperf_rt_t *rt = watch->rt;
    numaperf_stall_t stall = {.size = sizeof(stall),
                              .worker = worker->index,
                              .node = worker->node->id,
                              .cpu = worker->cpu,
                              .held_ns = now_ns - seat->since_ns,
                              .fn = atomic_load_explicit(&worker->running, memory_order_relaxed)};
    if (numaperf__worker_progress(worker) != seat->progress)
        return; /* it got on a moment ago, so this may be the next task's */
    seat->reported = true;
    (void)atomic_fetch_add_explicit(&seat->count, 1, memory_order_relaxed);
    if (rt->config.on_stall != NULL)
        stall_take_frames(watch, worker, &stall);
    numaperf__log(NUMAPERF_LOG_WARN, "stall: worker %u of node %d held for %" PRIu64 " ms by %s",
                  worker->index, worker->node->id, stall.held_ns / 1000000u,
                  stall.fn != NULL ? "a task" : "a callback of its loop");
    if (rt->config.on_stall != NULL && stall_word(watch) != NUMAPERF__STALL_END)
        rt->config.on_stall(rt, &stall, rt->config.data);
}

/* Whether a worker runs callbacks that are looked at; its first turn comes after the start's. */
static bool stall_runs(const struct numaperf_worker *worker)
{
    return atomic_load_explicit(&worker->state, memory_order_relaxed) == NUMAPERF__WORKER_RUNNING &&
           atomic_load_explicit(&worker->turn, memory_order_relaxed) > 0;
}

/* Look at one; whether it has slept since the last look. */
static bool stall_look_at(struct numaperf__stall_watch *watch, uint32_t index)
{
    struct stall_seat *seat = &watch->seats[index];
    const struct numaperf_worker *worker = &watch->rt->workers[index];
    uint64_t progress = numaperf__worker_progress(worker);
    uint64_t now_ns = numaperf__clock_now_ns();
    bool moved = progress != seat->progress;
    if (moved || !stall_runs(worker)) {
        seat->progress = progress;
        seat->since_ns = now_ns;
        seat->asked = false;
        seat->reported = false;
        return !moved && atomic_load_explicit(&worker->state, memory_order_relaxed) ==
                             NUMAPERF__WORKER_SLEEPING;
    }
    if (!seat->asked)
        seat->asked = stall_cpu_ns(seat, &seat->cpu_ns);
    else if (!seat->reported && now_ns - seat->since_ns >= watch->limit_ns &&
             stall_is_callback(watch, seat, worker))
        stall_report(watch, seat, worker, now_ns);
    return false;
}

static bool stall_look(struct numaperf__stall_watch *watch)
{
    bool all_slept = true;
    for (uint32_t i = 0; i < watch->rt->worker_count; i++) {
        if (!stall_look_at(watch, i))
            all_slept = false;
    }
    return all_slept;
}

/* ---- thread ---- */

static void *stall_main(void *arg)
{
    struct numaperf__stall_watch *watch = arg;
    uint32_t quiet = 0;
    atomic_store_explicit(&watch->thread_id, (int32_t)syscall(SYS_gettid), memory_order_relaxed);
    while (stall_word(watch) != NUMAPERF__STALL_END) {
        if (numaperf__rt_state(watch->rt) >= NUMAPERF__RT_CLOSING) {
            stall_await_end(watch);
            break;
        }
        quiet = stall_look(watch) ? quiet + 1 : 0;
        if (quiet < STALL_QUIET_LOOKS) {
            numaperf__futex_wait(&watch->word, NUMAPERF__STALL_ACTIVE,
                                 watch->limit_ns / STALL_LOOKS);
            continue;
        }
        stall_park(watch);
        quiet = 0;
    }
    /* Release pairs with the acquire of who waits for the end. */
    atomic_store_explicit(&watch->exited, true, memory_order_release);
    return NULL;
}

/* ---- start ---- */

/* How long is too long, with the default filled in; 0 when stalls are not looked for. */
static uint64_t stall_limit_ns(const numaperf_rt_config_t *config)
{
    uint64_t ms = config->stall_ms;
    if (ms == UINT32_MAX || (ms == 0 && config->on_stall == NULL))
        return 0;
    return (ms != 0 ? ms : STALL_MS_DEFAULT) * 1000000u;
}

static int stall_prepare_callstacks(numaperf_rt_t *rt, struct numaperf__stall_watch *watch)
{
    watch->callstacks = calloc(rt->worker_count, sizeof(*watch->callstacks));
    if (watch->callstacks == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for call stacks");
    int rc = numaperf__callstack_acquire();
    if (rc < 0)
        return rc;
    watch->has_signal = true;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        rt->workers[i].callstack = &watch->callstacks[i];
    return 0;
}

int numaperf__stall_prepare(numaperf_rt_t *rt)
{
    bool has_frames = (rt->config.flags & NUMAPERF_RT_STALL_BACKTRACE) != 0;
    if (has_frames && rt->config.on_stall == NULL)
        return numaperf__fail(-EINVAL, 0, "start",
                              "NUMAPERF_RT_STALL_BACKTRACE without on_stall: nobody is told");
    uint64_t limit_ns = stall_limit_ns(&rt->config);
    if (limit_ns == 0)
        return 0;
    struct numaperf__stall_watch *watch =
        calloc(1, sizeof(*watch) + rt->worker_count * sizeof(watch->seats[0]));
    if (watch == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for the stall detector");
    watch->rt = rt;
    watch->limit_ns = limit_ns;
    rt->stall = watch; /* from here on destroy undoes it */
    return has_frames ? stall_prepare_callstacks(rt, watch) : 0;
}

int numaperf__stall_start(numaperf_rt_t *rt)
{
    struct numaperf__stall_watch *watch = rt->stall;
    if (watch == NULL)
        return 0;
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        int rc = pthread_getcpuclockid(rt->workers[i].thread, &watch->seats[i].clock);
        NUMAPERF_ASSERT(rc == 0); /* it waits at the latch */
    }
    sigset_t all;
    sigset_t previous;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &previous); /* signals go to the user's threads */
    int rc = pthread_create(&watch->thread, NULL, stall_main, watch);
    (void)pthread_sigmask(SIG_SETMASK, &previous, NULL);
    if (rc != 0)
        return numaperf__fail(-rc, rc, "start", "no thread for the stall detector");
    watch->created = true;
    return 0;
}

bool numaperf__stall_is_current(const numaperf_rt_t *rt)
{
    /* Relaxed: only the detector itself could find its own id there, and it wrote it. */
    return rt->stall != NULL && atomic_load_explicit(&rt->stall->thread_id, memory_order_relaxed) ==
                                    (int32_t)syscall(SYS_gettid);
}

uint64_t numaperf__stall_count(const struct numaperf_worker *worker)
{
    const struct numaperf__stall_watch *watch = worker->rt->stall;
    return watch != NULL ? numaperf__counter_read(&watch->seats[worker->index].count) : 0;
}

/* ---- end ---- */

void numaperf__stall_end(numaperf_rt_t *rt)
{
    struct numaperf__stall_watch *watch = rt->stall;
    if (watch == NULL || stall_word(watch) == NUMAPERF__STALL_END)
        return;
    atomic_store_explicit(&watch->end_ns, numaperf__clock_now_ns(), memory_order_relaxed);
    /* seq_cst: the last one; whoever looks from now on finds it. */
    atomic_store_explicit(&watch->word, NUMAPERF__STALL_END, memory_order_seq_cst);
    numaperf__futex_wake_all(&watch->word);
}

bool numaperf__stall_exited(const numaperf_rt_t *rt)
{
    return rt->stall == NULL || !rt->stall->created ||
           atomic_load_explicit(&rt->stall->exited, memory_order_acquire);
}

bool numaperf__stall_is_stuck(const numaperf_rt_t *rt, uint64_t now_ns)
{
    if (numaperf__stall_exited(rt))
        return false;
    uint64_t end_ns = atomic_load_explicit(&rt->stall->end_ns, memory_order_relaxed);
    return end_ns != 0 && now_ns > end_ns && now_ns - end_ns >= STALL_STUCK_NS;
}

void numaperf__stall_join(numaperf_rt_t *rt)
{
    struct numaperf__stall_watch *watch = rt->stall;
    if (watch == NULL || !watch->created || watch->joined)
        return;
    int rc = pthread_join(watch->thread, NULL);
    NUMAPERF_ASSERT(rc == 0);
    watch->joined = true;
    atomic_store_explicit(&watch->thread_id, 0, memory_order_relaxed);
}

void numaperf__stall_stop(numaperf_rt_t *rt)
{
    numaperf__stall_end(rt);
    numaperf__stall_join(rt);
}

void numaperf__stall_destroy(numaperf_rt_t *rt)
{
    struct numaperf__stall_watch *watch = rt->stall;
    if (watch == NULL)
        return;
    NUMAPERF_ASSERT(!watch->created || watch->joined);
    if (watch->has_signal)
        numaperf__callstack_release();
    for (uint32_t i = 0; i < rt->worker_count; i++)
        rt->workers[i].callstack = NULL;
    free(watch->callstacks);
    free(watch);
    rt->stall = NULL;
}
