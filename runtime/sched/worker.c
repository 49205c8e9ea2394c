/* SPDX-License-Identifier: MIT */
/*
 * The worker thread: place itself, start together with the others, turn until the runtime closes,
 * stop together with the others.
 *
 *   turn: I/O -> up to a budget of tasks -> I/O ...; with nothing to do: idle.c
 *
 * Only the worker touches its loop, its arena and its plain fields. While it runs a callback it is
 * RUNNING, never SEARCHING: nobody relies on a worker that is busy. What others touch after the
 * thread has ended (states, counters, inboxes, the wake) lives until the runtime is destroyed.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "io/loop.h"
#include "sched/callstack.h"
#include "sched/listen.h"
#include "sched/room.h"
#include "sched/sched.h"
#include "sched/timer.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORKER_TASK_BUDGET 64u  /* tasks of a turn, between two looks at I/O */
#define WORKER_TASK_SHARE 8u    /* of these, what the lower priority has to itself */
#define WORKER_TASK_QUANTUM 8u  /* tasks of one source before the next one has its turn */
#define WORKER_LINGER_LOOKS 20u /* with nothing to do, before anybody is told */
#define WORKER_LINGER_PAUSES 8u /* between two of them, at most */

/* Initial-exec: read at every spawn, where a call to find the variable would show. */
_Thread_local struct numaperf_worker *numaperf__worker_self
    __attribute__((tls_model("initial-exec")));

numaperf_worker_t *numaperf_worker_current(void)
{
    return numaperf__worker_self;
}

/* ---- run ---- */

static void worker_call_timed(struct numaperf_worker *worker, const struct numaperf__task *task)
{
    uint64_t start_ns = numaperf__clock_now_ns();
    numaperf__histogram_record_owner(&worker->tally->wait,
                                     numaperf__stamp_age_ns(task->stamp, start_ns));
    task->fn(worker, task->arg);
    numaperf__histogram_record_owner(&worker->tally->run, numaperf__clock_now_ns() - start_ns);
}

/* Whatever becomes of it, it is counted, once, after it is over. */
static void worker_run_task(struct numaperf_worker *worker, const struct numaperf__task *task)
{
    struct numaperf__tally_home *home = &worker->tally->homes[task->home];
    if (task->fn == NULL) { /* a place that its submitter took back */
        numaperf__tally_finish_owner(&home->retracted);
        return;
    }
    if (numaperf__rt_state(worker->rt) >= NUMAPERF__RT_CANCELLING) {
        atomic_store_explicit(&worker->running, NULL, memory_order_relaxed); /* not this one */
        numaperf__task_cancel(worker->rt, task);
        numaperf__tally_finish_owner(&home->cancelled);
        return;
    }
    /* Relaxed: who asks about a stall looks again and again before it believes it. A wrapper of
     * ours puts the user's function there itself. */
    atomic_store_explicit(&worker->running, task->fn, memory_order_relaxed);
    if (numaperf__task_is_sampled(task))
        worker_call_timed(worker, task);
    else
        task->fn(worker, task->arg);
    if (!worker->task_cancelled) {
        numaperf__tally_finish_owner(&home->ran);
        return;
    }
    worker->task_cancelled = false;
    numaperf__tally_finish_owner(&home->cancelled);
}

static void worker_publish_ring(struct numaperf_worker *worker)
{
    struct numaperf__ring *ring = numaperf__loop_ring(worker->loop);
    if (ring == NULL)
        return;
    struct numaperf__ring_counters now;
    numaperf__ring_get_counters(ring, &now);
    numaperf__counter_set_owner(&worker->counters.ring_enters, now.enters);
    numaperf__counter_set_owner(&worker->counters.ring_completions, now.completions);
    numaperf__counter_set_owner(&worker->counters.ring_overflows, now.overflows);
}

/* The next task of a source; what is in the worker's own deque without a call. */
static bool worker_next(struct numaperf_worker *worker, uint32_t priority,
                        enum numaperf__source source, struct numaperf__task *out)
{
    if (source == NUMAPERF__SOURCE_UNBOUND &&
        numaperf__deque_pop_owner(&worker->local[priority], out))
        return true;
    return numaperf__take_own(worker, priority, source, out);
}

/* Up to a quantum of tasks from one source; how many. */
static uint32_t worker_run_source(struct numaperf_worker *worker, uint32_t priority,
                                  enum numaperf__source source)
{
    uint32_t ran = 0;
    struct numaperf__task task;
    while (ran < WORKER_TASK_QUANTUM && worker_next(worker, priority, source, &task)) {
        /* A task for this worker may know handles of its loop; any other has to ask for the loop,
         * which refreshes the time as well. */
        if (ran == 0 || source != NUMAPERF__SOURCE_UNBOUND)
            numaperf__loop_refresh_time(worker->loop);
        worker_run_task(worker, &task);
        ran++;
    }
    if (ran > 0)
        atomic_store_explicit(&worker->running, NULL, memory_order_relaxed);
    return ran;
}

/* Tasks of one priority, its sources in turn, until `budget` is used up, there are none, or I/O
 * waits; a quantum may pass the budget by what it is long. */
static uint32_t worker_run_priority(struct numaperf_worker *worker, uint32_t priority,
                                    uint32_t budget)
{
    numaperf__take_in(worker, priority);
    uint32_t ran = 0;
    uint32_t before = UINT32_MAX;
    while (ran < budget && ran != before) {
        before = ran;
        for (uint32_t source = 0; source < NUMAPERF__SOURCES; source++)
            ran += worker_run_source(worker, priority, (enum numaperf__source)source);
        if (ran > 0 && numaperf__loop_ready(worker->loop))
            break;
    }
    return ran;
}

/* The tasks of one turn; whether there were any. */
static bool worker_round(struct numaperf_worker *worker)
{
    uint32_t ran = worker_run_priority(worker, NUMAPERF_PRIORITY_LATENCY,
                                       WORKER_TASK_BUDGET - WORKER_TASK_SHARE);
    uint32_t left =
        ran < WORKER_TASK_BUDGET - WORKER_TASK_SHARE ? WORKER_TASK_BUDGET - ran : WORKER_TASK_SHARE;
    ran += worker_run_priority(worker, NUMAPERF_PRIORITY_THROUGHPUT, left);
    return ran > 0;
}

static void worker_pause(uint32_t pauses)
{
    for (uint32_t i = 0; i < pauses; i++)
        numaperf__cpu_relax();
}

/* A pause between two tasks is short, mostly: look around for it before anybody is told. First for
 * as long as it takes until there are enough of them, if they come that fast. */
static bool worker_linger(struct numaperf_worker *worker)
{
    if (worker->spin_penalty > 0 || worker->rt->config.spin_ns_max == 0)
        return false; /* what it waits for may need this PU */
    worker_pause(worker->gather_pauses);
    for (uint32_t look = 0; look < WORKER_LINGER_LOOKS; look++) {
        worker_pause(look < WORKER_LINGER_PAUSES ? look + 1 : WORKER_LINGER_PAUSES);
        worker->lingered = look;
        if (numaperf__take_has_own(worker) || numaperf__loop_ready(worker->loop))
            return true;
    }
    worker->gather_pauses = 0;
    return false;
}

static void worker_loop(struct numaperf_worker *worker)
{
    while (numaperf__rt_state(worker->rt) < NUMAPERF__RT_CLOSING) {
        numaperf__counter_add_owner(&worker->turn, 1);
        numaperf__loop_turn(worker->loop);
        worker_publish_ring(worker); /* here: one that is never idle has counters, too */
        /* After the turn, which may have taken in the wake that came with it. */
        if (atomic_load_explicit(&worker->repair_wanted, memory_order_relaxed) != 0)
            numaperf__worker_put_back(worker);
        numaperf__listen_look(worker);
        numaperf__timers_run(worker);
        numaperf__room_tell(worker);
        if (worker_round(worker) || worker_linger(worker))
            continue;
        numaperf__rt_close_if_drained(worker->rt);
        struct numaperf__task task;
        if (numaperf__worker_idle(worker, &task)) {
            numaperf__loop_refresh_time(worker->loop);
            worker_run_task(worker, &task);
            atomic_store_explicit(&worker->running, NULL, memory_order_relaxed);
        }
    }
}

/* ---- start and stop ---- */

static int worker_callback(struct numaperf_worker *worker, numaperf_start_cb callback,
                           const char *name)
{
    if (callback == NULL)
        return 0;
    int rc = callback(worker, worker->rt->config.data);
    if (rc >= 0)
        return 0;
    return numaperf__fail(rc, rc > -10000 ? -rc : 0, name,
                          "the callback failed on worker %u of node %d", worker->index,
                          worker->node->id);
}

static bool worker_is_first(const struct numaperf_worker *worker)
{
    return worker->index == worker->node->first_worker;
}

static int worker_start_callback(struct numaperf_worker *worker)
{
    int rc = worker_callback(worker, worker->rt->config.on_worker_start, "on_worker_start");
    worker->worker_started = rc == 0;
    return rc;
}

static int worker_start_node_callback(struct numaperf_worker *worker)
{
    if (!worker_is_first(worker))
        return 0;
    int rc = worker_callback(worker, worker->rt->config.on_node_start, "on_node_start");
    worker->node_started = rc == 0;
    return rc;
}

/* The tally is made here so that its pages are near: first touched by a thread that is placed. */
static int worker_make(struct numaperf_worker *worker)
{
    int rc = numaperf__worker_place(worker);
    if (rc < 0)
        return rc;
    worker->tally = numaperf__tally_create(worker->rt->node_count);
    if (worker->tally == NULL || numaperf__take_init(worker) < 0)
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for the counters of worker %u",
                              worker->index);
    return 0;
}

/* Every phase, together with the others; false when the start was aborted, here or elsewhere. */
static bool worker_start(struct numaperf_worker *worker)
{
    static int (*const phases[])(struct numaperf_worker *) = {worker_make, worker_start_callback,
                                                              worker_start_node_callback};
    struct numaperf__latch *latch = &worker->rt->start_latch;
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
        if (phases[i](worker) < 0) {
            numaperf__latch_abort(latch);
            return false;
        }
        if (!numaperf__latch_arrive(latch))
            return false;
    }
    return numaperf__latch_arrive(latch); /* the starter says RUNNING */
}

static void worker_stop(struct numaperf_worker *worker)
{
    numaperf_rt_t *rt = worker->rt;
    numaperf__timers_end(worker);
    if (worker->node_started && rt->config.on_node_stop != NULL)
        rt->config.on_node_stop(worker, rt->config.data);
    atomic_store_explicit(&worker->at_latch, true, memory_order_relaxed);
    (void)numaperf__latch_arrive(&rt->stop_latch); /* is never aborted */
    atomic_store_explicit(&worker->at_latch, false, memory_order_relaxed);
    if (worker->worker_started && rt->config.on_worker_stop != NULL)
        rt->config.on_worker_stop(worker, rt->config.data);
    if (worker->loop != NULL)
        worker_publish_ring(worker);
    numaperf__worker_unplace(worker);
}

static void *worker_main(void *arg)
{
    struct numaperf_worker *worker = arg;
    numaperf_rt_t *rt = worker->rt;
    numaperf__worker_self = worker;
    worker->thread_id = (int32_t)syscall(SYS_gettid);
    if (worker_start(worker)) {
        worker_loop(worker);
        numaperf__worker_cancel_local(worker);
    }
    worker_stop(worker);
    numaperf__worker_self = NULL;
    /* Release pairs with the acquire of who waits for the end. */
    (void)atomic_fetch_add_explicit(&rt->exited_count, 1, memory_order_release);
    return NULL;
}

/* ---- thread ---- */

/*
 * All signals blocked, so that they go to the user's threads; but not those of a fault, nor the one
 * that asks for its call stack.
 */
static void worker_block_signals(const struct numaperf_worker *worker, sigset_t *out_previous)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked;
    (void)sigfillset(&blocked); /* these two fail for bad signal numbers only */
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        (void)sigdelset(&blocked, faults[i]);
    if (worker->callstack != NULL)
        (void)sigdelset(&blocked, numaperf__callstack_signal());
    int rc = pthread_sigmask(SIG_SETMASK, &blocked, out_previous);
    NUMAPERF_ASSERT(rc == 0);
}

int numaperf__worker_thread_create(struct numaperf_worker *worker)
{
    int rc = numaperf__worker_stack_create(worker);
    if (rc < 0)
        return rc;
    pthread_attr_t attr;
    rc = pthread_attr_init(&attr);
    NUMAPERF_ASSERT(rc == 0);
    (void)pthread_mutex_init(&worker->state_mutex, NULL); /* cannot fail on Linux */
    rc = pthread_attr_setstack(&attr, (void *)worker->stack_base, worker->stack_length);
    sigset_t previous;
    worker_block_signals(worker, &previous); /* the thread inherits it */
    if (rc == 0)
        rc = pthread_create(&worker->thread, &attr, worker_main, worker);
    (void)pthread_sigmask(SIG_SETMASK, &previous, NULL); /* was this thread's own */
    (void)pthread_attr_destroy(&attr);
    if (rc != 0) {
        (void)pthread_mutex_destroy(&worker->state_mutex); /* nobody has it */
        numaperf_region_destroy(worker->stack);
        worker->stack = NULL;
        return numaperf__fail(-rc, rc, "pthread_create", "no thread for worker %u of node %d",
                              worker->index, worker->node->id);
    }
    worker->thread_created = true;
    return 0;
}

void numaperf__worker_thread_join(struct numaperf_worker *worker)
{
    if (!worker->thread_created)
        return;
    int rc = pthread_join(worker->thread, NULL);
    NUMAPERF_ASSERT(rc == 0);
    worker->thread_created = false;
    /* Looks go by the lock and the stack. */
    numaperf__attest_await_looks(worker->rt);
    (void)pthread_mutex_destroy(&worker->state_mutex); /* nobody has it */
    numaperf_region_destroy(worker->stack);
    worker->stack = NULL;
}

/* ---- what a worker tells ---- */

numaperf_rt_t *numaperf_worker_rt(const numaperf_worker_t *worker)
{
    return worker->rt;
}

uint32_t numaperf_worker_index(const numaperf_worker_t *worker)
{
    return worker->index;
}

int numaperf_worker_node(const numaperf_worker_t *worker)
{
    return worker->node->id;
}

int numaperf_worker_cpu(const numaperf_worker_t *worker)
{
    return worker->cpu;
}

int numaperf_worker_thread_id(const numaperf_worker_t *worker)
{
    return worker->thread_id;
}

struct uv_loop_s *numaperf_worker_loop(numaperf_worker_t *worker)
{
    if (worker->loop != NULL && numaperf__worker_self == worker)
        numaperf__loop_refresh_time(worker->loop); /* timers count from it */
    return numaperf_loop_uv(worker->loop);
}

numaperf_loop_t *numaperf_worker_io(numaperf_worker_t *worker)
{
    return worker->loop;
}

numaperf_arena_t *numaperf_worker_arena(numaperf_worker_t *worker)
{
    return worker->arena;
}

const numaperf_enforcement_t *numaperf_worker_enforcement(const numaperf_worker_t *worker)
{
    return &worker->enforcement;
}

int numaperf_worker_backend(const numaperf_worker_t *worker)
{
    return worker->backend;
}

const char *numaperf_worker_backend_reason(const numaperf_worker_t *worker)
{
    return worker->backend_reason[0] != '\0' ? worker->backend_reason : NULL;
}

void numaperf_worker_set_data(numaperf_worker_t *worker, void *data)
{
    worker->data = data;
}

void *numaperf_worker_data(const numaperf_worker_t *worker)
{
    return worker->data;
}
