/* SPDX-License-Identifier: MIT */
/*
 * The runtime's shared objects: the runtime, its nodes, its workers. Every field says who writes
 * it; what is not atomic and not said otherwise is written before the worker threads exist.
 */
#ifndef NUMAPERF_SCHED_SCHED_H
#define NUMAPERF_SCHED_SCHED_H

#include "base/atomic.h"
#include "base/list.h"
#include "io/iowq.h"
#include "io/loop.h"
#include "io/wake.h"
#include "place/audit.h"
#include "sched/deque.h"
#include "sched/inbox.h"
#include "sched/latch.h"
#include "stat/stats.h"
#include "stat/tally.h"

#include <numaperf/runtime.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Life of a runtime:
 *
 *   STARTING -> RUNNING -> DRAINING -> CANCELLING -> CLOSING
 *       |                                  ^            ^
 *       +-- a failed start ----------------|------------+
 *
 * STARTING and RUNNING accept every spawn, DRAINING those of own workers, the others none. From
 * CANCELLING on a queued task is cancelled instead of run; in CLOSING nothing is queued any more
 * and the workers end.
 */
enum numaperf__rt_state {
    NUMAPERF__RT_STARTING = 0,
    NUMAPERF__RT_RUNNING,
    NUMAPERF__RT_DRAINING,
    NUMAPERF__RT_CANCELLING,
    NUMAPERF__RT_CLOSING
};

/* What a worker does; the edges are in idle.c. */
enum numaperf__worker_state {
    NUMAPERF__WORKER_RUNNING = 0,
    NUMAPERF__WORKER_SEARCHING,
    NUMAPERF__WORKER_SLEEPING
};

/* Priorities of tasks, NUMAPERF_PRIORITY_*: each has queues of its own. */
#define NUMAPERF__PRIORITIES 2u

struct numaperf__acceptor;

struct numaperf__node {
    struct numaperf__inbox unbound[NUMAPERF__PRIORITIES]; /* by the steal policy */
    struct numaperf__inbox fixed[NUMAPERF__PRIORITIES];   /* this node's workers only */

    /* Workers of this node in that state; both may be off by one for a moment, see idle.c. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic int32_t searching;
    _Atomic int32_t sleeping;
    /* Sleeping workers that soon look again by themselves at tasks of this node that they may not
     * take yet: its own, and those of other nodes. */
    _Atomic int32_t napping;
    _Atomic int32_t watched;

    alignas(NUMAPERF_CACHE_LINE) numaperf_rt_t *rt;
    int32_t id; /* OS node id */
    uint32_t index;
    uint32_t first_worker;
    uint32_t worker_count;
    uint32_t victim_count;
    uint32_t
        other_count; /* nodes whose workers may have some of its own; those in `victims`, too */
    uint32_t thief_count;
    numaperf_region_t *places; /* memory of the rings of its inboxes and its workers' */
    numaperf_region_t *timers; /* memory of its workers' timers */
    struct numaperf__records *records;
    bool limit_is_tight; /* the rings alone may hold more than the limit */
    uint32_t *victims;   /* indexes of the nodes it may steal from, in order; in rt->victim_table */
    uint32_t *thieves;   /* of those that may steal from it, the nearest first; the same */
    _Atomic uint64_t room_wanted; /* of a refused spawn; written by room.c, rarely */
};

struct numaperf_worker {
    struct numaperf__inbox bound[NUMAPERF__PRIORITIES];  /* tasks for this worker alone */
    struct numaperf__deque local[NUMAPERF__PRIORITIES];  /* unbound ones that it pushed or took */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint32_t state; /* enum numaperf__worker_state */

    /* Written by the worker itself. */
    alignas(NUMAPERF_CACHE_LINE) struct numaperf__worker_counters counters;
    /* Of tasks; made by itself, before the first callback. */
    struct numaperf__tally *tally;
    /* The task it is in; NULL in a callback of its loop. */
    _Atomic(numaperf_task_fn) running;
    bool task_cancelled;   /* the task that just ran was, by its wrapper: counts as cancelled */
    atomic_bool at_latch;  /* waits for the other workers, not in a callback */
    _Atomic uint64_t turn; /* rounds of its loop: standing still means a callback runs */
    struct numaperf__observation *views; /* of every queue that it may take from */
    uint64_t nap_end_ns;                 /* of the last nap */
    uint32_t nap_shift;                  /* naps get longer while those it watches make progress */
    uint32_t spin_penalty;               /* grows with every spin in vain */
    uint32_t spin_skip;                  /* idle times to go without a spin */
    uint32_t lingered;                   /* looks that it took to find the last ones */
    uint32_t alone;                      /* batches in a row that were of one task */
    uint32_t gather_pauses;              /* before it looks for the next tasks */
    uint64_t idle_gap_ns;                /* how long it usually waits for work, moving average */
    _Atomic uint64_t spawned;            /* tasks it pushed to its own deques */
    /* Its own tasks that found a deque full are in the node's inbox, before this place: until they
       are taken, later ones follow them there. 0: none; UINT64_MAX: in the spill. */
    uint64_t overflow_at[NUMAPERF__PRIORITIES];
    uint64_t allowance;  /* tasks it may push before it looks at the limit again */
    uint32_t barren;     /* rounds with work announced but none to be had */
    bool worker_started; /* on_worker_start succeeded */
    bool node_started;   /* on_node_start succeeded */
    void *data;          /* the user's */
    numaperf_loop_t *loop;
    struct numaperf__loop_cells net_cells; /* of its sockets: written by it, read by any thread */
    numaperf_arena_t *arena;
    int32_t thread_id;
    numaperf_enforcement_t enforcement;       /* final before the first callback */
    char backend_reason[160];                 /* the same; empty with a ring */
    int32_t backend;                          /* the same */
    numaperf_loop_features_t features;        /* the same */
    const void *ring_base[2];                 /* the same; parts of the ring's memory */
    size_t ring_length[2];                    /* the same; 0 without a ring */
    bool ring_is_bound;                       /* the same; its memory is ours, and bound */
    char iowq_name[NUMAPERF__IOWQ_NAME_SIZE]; /* the same; of its ring's io-wq threads, or empty */
    const void *stack_base; /* written by start; addresses, to be asked about only */
    size_t stack_length;

    /* Written by start. */
    numaperf_rt_t *rt;
    struct numaperf__node *node;
    struct numaperf__timers *timers; /* on its node */
    uint32_t index;
    int32_t cpu;
    int32_t sqpoll_cpu; /* of its ring's poller, when there is to be one */
    bool cpu_shared;    /* another worker has the same PU */
    bool thread_created;
    struct numaperf__wake wake; /* open until destroy: a waker may be late */
    /* Held while its thread has the placement of a child to be made, and while another thread reads
       or sets its affinity and policy: what is read is never the child's. */
    pthread_mutex_t state_mutex;
    /* Its call stack, when that is asked for; NULL when it never is. */
    struct numaperf__callstack *callstack;
    /* What the auditor asks the worker to put back: bits, set by the one, cleared by the other. */
    _Atomic uint32_t repair_wanted;
    _Atomic int32_t repair_errno; /* written by the worker: what it met, 0 nothing */
    /* What listeners ask of it, see listen.c: set by any thread, cleared by the worker. */
    _Atomic bool listen_poked;
    struct numaperf__acceptor *_Atomic listen_requests; /* a stack, taken whole */
    numaperf_region_t *stack;
    pthread_t thread;
};

struct numaperf_rt {
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint32_t state; /* enum numaperf__rt_state */
    _Atomic uint32_t exited_count;                       /* worker threads past their last act */
    _Atomic uint64_t finished_outside; /* tasks cancelled by a thread that is no worker */
    _Atomic uint64_t violation_count;
    _Atomic uint64_t group_cancels;  /* cancels of groups with members that wait for their time */
    _Atomic uint32_t acceptor_count; /* of its listeners; listen.c */
    _Atomic uint32_t looker_count; /* attestations in the middle of a look: a join waits for them */
    /* Workers asleep: what most submitters look at, to find that there is nobody to be woken. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic int32_t sleeping;
    /* Where a search for NODE_ANY begins: written by every such spawn, apart from what all read. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint32_t next_node;

    alignas(NUMAPERF_CACHE_LINE) numaperf_rt_config_t config; /* defaults filled in */
    const numaperf_topology_t *topology;
    numaperf_topology_t *own_topology; /* NULL when it was lent */
    bool placed;                       /* the topology is this machine's: policies are enforced */
    struct numaperf__node *nodes;
    uint32_t node_count;
    struct numaperf_worker *workers;
    uint32_t worker_count;
    uint32_t *victim_table;
    struct numaperf__pair *pairs;          /* [thief * node_count + victim]; pair.c */
    struct numaperf__budget *budgets;      /* of the pairs that have one */
    int16_t node_index[NUMAPERF_NODE_MAX]; /* OS id to index; -1 */

    struct numaperf__latch start_latch; /* workers and the starter */
    struct numaperf__latch stop_latch;  /* worker threads that exist */

    pthread_mutex_t listen_mutex;    /* guards `listeners` */
    struct numaperf__list listeners; /* those that the user has not closed, by host_link */

    pthread_mutex_t stop_mutex;          /* guards `joined` and the joins */
    bool joined;                         /* all threads are joined */
    struct numaperf__auditor *auditor;   /* written by start; NULL when auditing is off */
    struct numaperf__evidence *evidence; /* written by start */
    struct numaperf__tally *outside;     /* tasks taken by threads that are no workers */
    struct numaperf__stall_watch *stall; /* written by start; NULL when stalls are not looked for */
};

/* ---- idle.c: who sleeps, who is woken ---- */

/* A task was pushed for the node: wake a worker that may run it unless one is searching. */
void numaperf__wake_for_node_now(struct numaperf__node *node, bool stealable);
static inline void numaperf__wake_for_node(struct numaperf__node *node, bool stealable)
{
    /* seq_cst, all: after the announcement; see idle.c. */
    if (atomic_load_explicit(&node->searching, memory_order_seq_cst) > 0 ||
        (stealable && atomic_load_explicit(&node->napping, memory_order_seq_cst) > 0))
        return;
    if (atomic_load_explicit(&node->rt->sleeping, memory_order_seq_cst) > 0)
        numaperf__wake_for_node_now(node, stealable);
}
/* A task was pushed for this worker alone. */
void numaperf__wake_worker(struct numaperf_worker *worker);
/* Whatever they do: the runtime's state has changed. */
void numaperf__wake_all(numaperf_rt_t *rt);
/* Search, spin, sleep; whether there is a task to run, else there may be I/O. */
bool numaperf__worker_idle(struct numaperf_worker *worker, struct numaperf__task *out);

/* ---- take.c: where a worker's next task comes from ---- */

/* Where tasks of the worker's own node wait; it asks them in turn. */
enum numaperf__source {
    NUMAPERF__SOURCE_BOUND = 0,
    NUMAPERF__SOURCE_UNBOUND,
    NUMAPERF__SOURCE_FIXED,
    NUMAPERF__SOURCES
};
bool numaperf__take_own(struct numaperf_worker *worker, uint32_t priority,
                        enum numaperf__source source, struct numaperf__task *out);
/* Bring over what waits in the node's inbox, behind the worker's own tasks. */
void numaperf__take_in(struct numaperf_worker *worker, uint32_t priority);
/* What it remembers of the queues of others. 0 or -ENOMEM. */
int numaperf__take_init(struct numaperf_worker *worker);
void numaperf__take_fini(struct numaperf_worker *worker);
/* Whatever the worker may run, own tasks first, then those of siblings, then of other nodes. */
bool numaperf__take_any(struct numaperf_worker *worker, struct numaperf__task *out);
/* Whether its own node has anything for it to do, announced tasks included; sequentially
 * consistent. */
bool numaperf__take_has_own(const struct numaperf_worker *worker);
/* Nodes with tasks that a worker may not take yet, by their index. */
struct numaperf__watched {
    uint64_t nodes[NUMAPERF_NODE_MAX / 64];
};
static inline void numaperf__watched_add(struct numaperf__watched *watched, uint32_t node)
{
    watched->nodes[node / 64] |= UINT64_C(1) << node % 64;
}
/* When the worker has to look again, by itself, sequentially consistent: 0 now, UINT64_MAX only
 * when it is woken. */
uint64_t numaperf__take_deadline_ns(struct numaperf_worker *worker,
                                    struct numaperf__watched *out_watched);
/* Whether a node has unbound tasks, or ones for its workers only. */
bool numaperf__node_has_unbound(const struct numaperf__node *node);
bool numaperf__node_has_fixed(const struct numaperf__node *node);

/* ---- submit.c: the way in ---- */

struct numaperf__submission {
    struct numaperf__node *node;
    struct numaperf_worker *worker; /* NULL: any of the node */
    bool stealable;
    bool tries_again;  /* by itself, when there is no room: nobody needs to be told of it */
    uint32_t priority; /* NUMAPERF_PRIORITY_* */
    numaperf_cancel_fn on_cancel;
};
/* All `count` tasks fn(args[i]) or none. */
int numaperf__submit(numaperf_rt_t *rt, const struct numaperf__submission *to, numaperf_task_fn fn,
                     void *const *args, size_t count);
/* One unbound task of the first priority to the own node of the calling worker. */
int numaperf__submit_inside(struct numaperf_worker *worker, numaperf_task_fn fn, void *arg);
/* One fixed task on every node, or none; the number of nodes. */
int numaperf__submit_each_node(numaperf_rt_t *rt, numaperf_task_fn fn, void *arg);
/* How many tasks of a node wait, all told; a recent picture. */
uint64_t numaperf__submit_waiting(const struct numaperf__node *node);
/* The node that an OS id or NUMAPERF_NODE_* means now; NULL and the error recorded. */
struct numaperf__node *numaperf__submit_node(numaperf_rt_t *rt, int node);

/* ---- drain.c: the way out ---- */

enum numaperf__rt_state numaperf__rt_state(const numaperf_rt_t *rt);
/* Move on to `to`, unless the runtime is that far already; wakes everybody. */
void numaperf__rt_advance(numaperf_rt_t *rt, enum numaperf__rt_state to);
/* Tasks announced to the queues of a node so far; a retracted one apart, exact once stopped. */
uint64_t numaperf__node_accepted(const struct numaperf__node *node);
/* Whether everything that was accepted has run or was cancelled. */
bool numaperf__rt_drained(const numaperf_rt_t *rt);
/* In CANCELLING with nothing left: on to CLOSING. */
void numaperf__rt_close_if_drained(numaperf_rt_t *rt);
/* Cancel a popped task; the caller counts it as finished. */
void numaperf__task_cancel(const numaperf_rt_t *rt, const struct numaperf__task *task);
/* Cancel what is queued, on this thread, which is no worker. */
void numaperf__rt_cancel_queued(numaperf_rt_t *rt);
/* A worker that has left its loop: cancel what its last callbacks pushed to its own deques. */
void numaperf__worker_cancel_local(struct numaperf_worker *worker);

/* ---- layout.c: which nodes, which workers ---- */

/*
 * Choose the nodes and the PUs of their workers from rt->config and rt->topology, and make both
 * arrays. On failure nothing is left of them.
 */
int numaperf__layout_create(numaperf_rt_t *rt);
/* Memory for the tasks, on their nodes; after all that hard mode refuses without any. */
int numaperf__layout_inboxes(numaperf_rt_t *rt);
/* How much that is for one node. */
uint64_t numaperf__layout_inbox_bytes(const struct numaperf__node *node);
void numaperf__layout_destroy(numaperf_rt_t *rt);

/* ---- pair.c: what one node may take from another ---- */

/* The pairs, victims and thieves of the nodes, from policy, distances and the user's rules. */
int numaperf__pairs_create(numaperf_rt_t *rt);
void numaperf__pairs_destroy(numaperf_rt_t *rt);

/* ---- snapshot.c: what was counted ---- */

/* The tally of all threads that are no workers, before any thread exists. 0 or -ENOMEM. */
int numaperf__tallies_create(numaperf_rt_t *rt);
/* It, and those of the workers. */
void numaperf__tallies_destroy(numaperf_rt_t *rt);
/* A thread that is no worker took this task out of its queue, and cancelled it if it was one. */
void numaperf__tally_outside(numaperf_rt_t *rt, const struct numaperf__task *task);
/* These places of a queue were announced, and count as if they never were. */
void numaperf__tally_retracted(numaperf_rt_t *rt, uint32_t home,
                               const struct numaperf__ticket *ticket);

/* ---- worker.c ---- */

/* Create the thread of a worker, on a stack of its node. */
int numaperf__worker_thread_create(struct numaperf_worker *worker);
/* Join it, if it was created, and unmap its stack. */
void numaperf__worker_thread_join(struct numaperf_worker *worker);
/* A number that changes with every turn, task and sleep of it; any thread, and in a handler. */
static inline uint64_t numaperf__worker_progress(const struct numaperf_worker *worker)
{
    /* Each only grows, so the sum stands still only when all of them do. */
    return atomic_load_explicit(&worker->turn, memory_order_relaxed) +
           numaperf__tally_finished(worker->tally) +
           atomic_load_explicit(&worker->counters.parks, memory_order_relaxed) +
           atomic_load_explicit(&worker->counters.spins, memory_order_relaxed);
}
/* The worker that the calling thread is, or NULL. Initial-exec: read at every spawn, where a call
 * to find the variable would show. Written by the worker's thread at its beginning and end. */
extern _Thread_local struct numaperf_worker *numaperf__worker_self
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* Whether the calling thread is a worker of this runtime. */
static inline bool numaperf__worker_is_of(const numaperf_rt_t *rt)
{
    return numaperf__worker_self != NULL && numaperf__worker_self->rt == rt;
}

/* ---- auditor.c: whether it still is ---- */

/* Time between two looks, with the default filled in; 0 when auditing is off. */
uint32_t numaperf__auditor_interval_ms(const numaperf_rt_config_t *config);
/* After the workers are placed; 0 also when auditing is off. In hard mode a first look must work.
 */
int numaperf__auditor_start(numaperf_rt_t *rt);
/* Whether the calling thread is this runtime's auditor. */
bool numaperf__auditor_is_current(const numaperf_rt_t *rt);
/* Ask its thread to end, once it is out of on_violation; reports nothing more. */
void numaperf__auditor_end(numaperf_rt_t *rt);
/* Whether it has, or there is none. */
bool numaperf__auditor_exited(const numaperf_rt_t *rt);
/* Join it; under stop_mutex. */
void numaperf__auditor_join(numaperf_rt_t *rt);
void numaperf__auditor_destroy(numaperf_rt_t *rt);

/* ---- child.c: while a worker makes a child ---- */

/* Lock state_mutex, or give up after a while: a child may take long to be made. 0 or -EBUSY. */
int numaperf__worker_lock_state(const struct numaperf_worker *worker);
void numaperf__worker_unlock_state(const struct numaperf_worker *worker);

/* ---- repair.c: what the auditor has the worker put back ---- */

/* Bits of repair_wanted. */
enum { NUMAPERF__REPAIR_MEMPOLICY = 1u << 0, NUMAPERF__REPAIR_IOWQ = 1u << 1 };
/* On the worker, between two callbacks: do what is asked for. */
void numaperf__worker_put_back(struct numaperf_worker *worker);

/* ---- attest.c: looks that a join waits for ---- */

/* Wait for looks under way; after a worker could begin to end there are no new ones. */
void numaperf__attest_await_looks(const numaperf_rt_t *rt);

/* ---- placement.c: what a worker has, and whether it is where it should be ---- */

/* Pin, policy, arena, loop, io-wq, each set and read back on the worker's own thread. */
int numaperf__worker_place(struct numaperf_worker *worker);
/* Why nothing is placed when the topology was lent: it is not this machine's. */
extern const char numaperf__unplaced_reason[];
/* Whether the memory cgroups have room for all workers together, before any of them exists. */
int numaperf__workers_check_room(const numaperf_rt_t *rt);
/* The stack of a worker's thread, guarded and placed, before the thread exists. */
int numaperf__worker_stack_create(struct numaperf_worker *worker);
/* The mappings of its stack, and of its ring: up to two, 0 without a ring. Any thread, while the
   worker's thread exists. */
void numaperf__worker_stack_range(const struct numaperf_worker *worker,
                                  struct numaperf__audit_range *out);
/* Of a node's tasks: its queues, its workers' timers, and the first chunks of its records, which is
   more than a node's default limit asks for. How many; 0 but for the first worker of a node. */
#define NUMAPERF__QUEUE_RANGES_MAX 64u
size_t numaperf__worker_queue_ranges(const struct numaperf_worker *worker,
                                     struct numaperf__audit_range out[NUMAPERF__QUEUE_RANGES_MAX]);
size_t numaperf__worker_ring_ranges(const struct numaperf_worker *worker,
                                    struct numaperf__audit_range out[2]);
/* Undo numaperf__worker_place(), on the same thread; the arena stays until destroy. */
void numaperf__worker_unplace(struct numaperf_worker *worker);

#endif
