/* SPDX-License-Identifier: MIT */
/*
 * The runtime: on every node, worker threads pinned to one PU each, every one with a libuv loop,
 * a ring, an arena and a stack on its node. Tasks go in with numaperf_rt_spawn() and run on the
 * node they name, unless the steal policy lets another node take them.
 *
 * Unbound tasks of one submitter to one node start in order when that node has one worker and
 * nothing is stolen; tasks for one given worker are always a FIFO of their own.
 */
#ifndef NUMAPERF_RUNTIME_H
#define NUMAPERF_RUNTIME_H

#include <numaperf/arena.h>
#include <numaperf/cpuset.h>
#include <numaperf/enforce.h>
#include <numaperf/loop.h>
#include <numaperf/region.h>
#include <numaperf/stats.h>
#include <numaperf/topology.h>
#include <numaperf/version.h>

#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

typedef struct numaperf_rt numaperf_rt_t;
typedef struct numaperf_worker numaperf_worker_t;
typedef struct numaperf_group numaperf_group_t; /* tasks that are waited for together: group.h */

/* In place of a node id. */
enum {
    NUMAPERF_NODE_LOCAL = -1, /* the calling worker's node; elsewhere the current PU's, else ANY */
    NUMAPERF_NODE_ANY = -2    /* a node with an idle worker, else any */
};

/* Bits of numaperf_rt_config_t.flags. */
enum {
    NUMAPERF_RT_WAIVE_PRIVILEGES = 1u << 0, /* hard mode without CAP_SYS_ADMIN and CAP_SYS_NICE:
                                               proven by the read-backs alone */
    NUMAPERF_RT_STALL_BACKTRACE = 1u << 1   /* a stall is reported with the worker's call stack, by
                                               way of a signal: see numaperf_stall_cb */
};

/* Who may run an unbound task. Workers of its home node always may. */
typedef enum {
    NUMAPERF_STEAL_DEFAULT = 0,                   /* LOCAL_THEN_SOCKET_THEN_REMOTE */
    NUMAPERF_STEAL_LOCAL_ONLY,                    /* nobody else */
    NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, /* idle workers, the nearest victim first */
    NUMAPERF_STEAL_ANY                            /* idle workers, any victim */
} numaperf_steal_policy_t;

typedef void (*numaperf_task_fn)(numaperf_worker_t *worker, void *arg);
/* A task that was accepted and will not run; `data` is the runtime's config.data. */
typedef void (*numaperf_cancel_fn)(numaperf_task_fn fn, void *arg, void *data);
/* < 0 fails the start with that code. */
typedef int (*numaperf_start_cb)(numaperf_worker_t *worker, void *data);
typedef void (*numaperf_stop_cb)(numaperf_worker_t *worker, void *data);

/* What the auditor found to have drifted. */
enum {
    NUMAPERF_VIOLATION_AFFINITY = 1,  /* a worker's affinity is not the one that was set, or it ran
                                         on another PU */
    NUMAPERF_VIOLATION_MEMPOLICY = 2, /* a worker's memory policy */
    NUMAPERF_VIOLATION_PAGES = 3,     /* pages of a worker's arena, stack or ring, or of its node's
                                         queues, left it, or have another policy */
    NUMAPERF_VIOLATION_BALANCING = 4, /* kernel.numa_balancing was switched on */
    NUMAPERF_VIOLATION_IOWQ = 5,      /* an io-wq thread of a worker's ring may leave the node */
    NUMAPERF_VIOLATION_CPUSET = 6,    /* the cpuset lost a worker's PU or its node's memory */
    NUMAPERF_VIOLATION_OFFLINE = 7    /* a worker's PU is offline */
};

/* What the auditor does about a drift, besides counting and reporting it. */
enum {
    NUMAPERF_AUDIT_REPORT = 0, /* nothing */
    NUMAPERF_AUDIT_REPAIR, /* put it back and read it back: pin, set the policy, move pages; tried
                              again at every look until it is in order */
    NUMAPERF_AUDIT_STOP    /* stop the runtime as numaperf_rt_stop(rt, 0) does, not waiting for
                              it: tasks that wait are cancelled, spawns refused */
};

/* What came of it by the time it is reported. */
enum {
    NUMAPERF_OUTCOME_REPORTED = 0, /* nothing was tried */
    NUMAPERF_OUTCOME_REPAIRED = 1, /* put back, and read back so */
    NUMAPERF_OUTCOME_FAILED = 2,   /* could not be put back yet; `text` says why */
    NUMAPERF_OUTCOME_STOPPING = 3  /* the runtime stops for it */
};

typedef struct numaperf_violation {
    uint32_t size;    /* bytes of this struct the library filled */
    uint32_t kind;    /* NUMAPERF_VIOLATION_* */
    int32_t worker;   /* its index; -1 when it concerns the machine */
    int32_t node;     /* OS node id; -1 */
    int32_t cpu;      /* OS PU id; -1 */
    uint32_t outcome; /* NUMAPERF_OUTCOME_* */
    char text[192];   /* what, where, wanted and found */
} numaperf_violation_t;

/* Called on the auditor's thread, once an episode. */
typedef void (*numaperf_violation_cb)(numaperf_rt_t *rt, const numaperf_violation_t *violation,
                                      void *data);

/*
 * When workers of one node may take unbound tasks of another: a row of rt_config's steal_rules.
 * The first row that names the pair decides; a pair that none names has the defaults, and a field
 * that is 0 has its default, too. The steal policy comes first: what it forbids no rule allows.
 * `victim` is the node a task was spawned to, also when another node has taken it since; the
 * workers of that node itself may take it back at any time.
 *
 * The elements of the array are as large as `size` of the first one says, and all say the same. A
 * bad row fails the start: -EINVAL or -E2BIG, naming row and field; NUMAPERF_E_NO_NODE for a node
 * on which the runtime has no workers, as the rule would silently not hold; -EINVAL for a node that
 * is its own thief.
 *
 * The waiting time by distance: 0 up to 12, 2 us up to 19, 5 us up to 29, 20 us beyond and where
 * the distance is not known; 0 everywhere with NUMAPERF_STEAL_ANY. A thief learns it by looking: a
 * task has waited since it was first seen to wait, so one may have waited somewhat longer.
 */
typedef struct numaperf_steal_rule {
    uint32_t size;         /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;        /* NUMAPERF_STEAL_RULE_*; an unknown bit is -EINVAL */
    int32_t thief;         /* OS node id, or NUMAPERF_NODE_ANY: every node */
    int32_t victim;        /* the same */
    uint32_t backlog_min;  /* tasks that must wait there; 0: 1 */
    uint32_t batch_max;    /* tasks taken at once, at most half of those that wait; 0: 64 */
    uint64_t wait_ns_min;  /* how long the oldest must have waited; 0: by distance; UINT64_MAX: 0 */
    uint64_t budget_per_s; /* tasks that the thief node takes from the victim node in a second, at
                              most 10^9; 0: no limit */
    uint64_t budget_burst; /* of them at once after a pause, at most 10^9; 0: a tenth of
                              budget_per_s; without that -EINVAL */
} numaperf_steal_rule_t;

#define NUMAPERF_STEAL_RULE_INIT                                                              \
    {                                                                                         \
        sizeof(numaperf_steal_rule_t), 0, NUMAPERF_NODE_ANY, NUMAPERF_NODE_ANY, 0, 0, 0, 0, 0 \
    }

/* Bits of numaperf_steal_rule_t.flags. */
enum { NUMAPERF_STEAL_RULE_FORBID = 1u << 0 /* never; the numbers do not count */ };

#define NUMAPERF_STALL_FRAMES_MAX 32

/* A callback or task that holds its worker for longer than stall_ms. */
typedef struct numaperf_stall {
    uint32_t size;        /* bytes of this struct the library filled */
    uint32_t worker;      /* its index */
    int32_t node;         /* OS node id */
    int32_t cpu;          /* OS PU id it is meant to run on */
    uint64_t held_ns;     /* so far, at least */
    numaperf_task_fn fn;  /* the task; NULL: a callback of the loop */
    uint32_t frame_count; /* of the call stack; 0 without NUMAPERF_RT_STALL_BACKTRACE */
    uint32_t reserved;    /* 0 */
    void *frames[NUMAPERF_STALL_FRAMES_MAX]; /* innermost first: where it stands, then return
                                                addresses */
} numaperf_stall_t;

/*
 * Called on a thread of the runtime's own, once a stall; while it runs, no other stall is noticed.
 * numaperf_rt_stop() in it is -EDEADLK. What counts is that the callback holds the worker: it runs,
 * or waits for something. A worker that is ready to run and gets no PU is none. Stalls are looked
 * for a few times in stall_ms: one that lasts less than half as long again may go unnoticed, and
 * while all workers sleep nothing is looked at. Start and stop callbacks are not watched.
 *
 * With NUMAPERF_RT_STALL_BACKTRACE the worker is sent SIGRTMAX - 2 and writes down its own stack: a
 * system call that it waits in may return EINTR once a stall. The library handles that signal from
 * start to destroy, for all runtimes of the process together; a start fails with -EBUSY when the
 * program handles or ignores it already, with NUMAPERF_E_UNSUPPORTED where the C library cannot
 * walk a stack, for which it loads libgcc_s. There are no frames when the worker does not answer in
 * half a second, or meanwhile got on.
 */
typedef void (*numaperf_stall_cb)(numaperf_rt_t *rt, const numaperf_stall_t *stall, void *data);
/*
 * Called on a worker of the node when a spawn to it was refused with -EAGAIN, and fewer than three
 * quarters of task_limit_per_node wait again, with room for the smallest spawn refused: once for
 * all that were refused since the last call, perhaps while others fill the room. Not after a stop
 * has begun, and not for tasks for later, which wait for room by themselves.
 */
typedef void (*numaperf_room_cb)(numaperf_worker_t *worker, int node, void *data);

typedef struct numaperf_rt_config {
    uint32_t size;                       /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;                      /* NUMAPERF_RT_*; an unknown bit is -EINVAL */
    uint32_t mode;                       /* NUMAPERF_MODE_*; 0 is SOFT */
    uint32_t steal_policy;               /* NUMAPERF_STEAL_*; 0 is the default one */
    uint32_t workers_per_node;           /* at most 1024; 0: one per usable core of the node */
    uint32_t huge_pages;                 /* NUMAPERF_HUGE_* for arenas */
    uint32_t io_backend;                 /* NUMAPERF_IO_*; 0 is AUTO */
    uint32_t audit_interval_ms;          /* 0: 5 s in hard mode, off in soft; UINT32_MAX: off */
    numaperf_nodemask_t nodes;           /* OS ids; empty: every node with PUs and memory */
    const numaperf_topology_t *topology; /* NULL: discover; borrowed until destroy */
    uint64_t arena_bytes;                /* limit of each worker's arena; 0: 1 GiB */
    uint64_t spin_ns_max;                /* idle spin; 0: 50 us, adaptive; UINT64_MAX: off */
    uint64_t task_limit_per_node;        /* tasks waiting; 0: 1 Mi; UINT64_MAX: no limit. Threads
                                            that spawn at once may pass it by one task each */
    numaperf_start_cb on_worker_start;   /* on every worker, before any on_node_start */
    numaperf_start_cb on_node_start;     /* on the first worker of every node */
    numaperf_stop_cb on_node_stop;       /* on the first worker of every node */
    numaperf_stop_cb on_worker_stop;     /* on every worker, after all on_node_stop; may uv_close */
    numaperf_violation_cb on_violation;  /* on the auditor's thread */
    numaperf_cancel_fn on_task_cancel;   /* for tasks that brought no on_cancel of their own */
    void *data;                          /* for all of the above */
    uint32_t audit_policy;               /* NUMAPERF_AUDIT_*; 0 is REPORT */
    uint32_t stall_ms;                   /* what holds a worker longer is a stall; 0: 100 with
                                            on_stall, else off; UINT32_MAX: off */
    const numaperf_steal_rule_t *steal_rules; /* read by start only */
    uint64_t steal_rule_count;                /* at most 4096 */
    numaperf_stall_cb on_stall;               /* on a thread of the runtime's own */
    numaperf_room_cb on_room;                 /* on a worker of the node */
    uint32_t io_flags;                        /* NUMAPERF_LOOP_* of every worker's loop */
    uint32_t buffer_bytes; /* of every worker's loop, as in numaperf_loop_config_t */
    uint32_t buffer_count; /* the same */
    uint32_t reserved;     /* 0 */
} numaperf_rt_config_t;

#define NUMAPERF_RT_CONFIG_INIT                                                                    \
    {                                                                                              \
        sizeof(numaperf_rt_config_t), 0, 0, 0, 0, 0, 0, 0, {{0}}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                                           \
    }

/* Bits of numaperf_spawn_options_t.flags. */
enum {
    NUMAPERF_SPAWN_HAS_NODE = 1u << 0,   /* `node` counts; else NUMAPERF_NODE_LOCAL */
    NUMAPERF_SPAWN_HAS_WORKER = 1u << 1, /* `worker` counts: that one alone may run the task */
    NUMAPERF_SPAWN_NEVER_STEAL = 1u << 2 /* only workers of the home node may run the task */
};

/*
 * Classes of tasks. A worker runs tasks of the higher one, LATENCY, first; but of the 64 tasks of a
 * turn, after which it looks at I/O, 8 are THROUGHPUT's if there are any. Each class is a FIFO of
 * its own.
 */
enum { NUMAPERF_PRIORITY_LATENCY = 0, NUMAPERF_PRIORITY_THROUGHPUT };

typedef struct numaperf_spawn_options {
    uint32_t size;                /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;               /* NUMAPERF_SPAWN_*; an unknown bit is -EINVAL */
    int32_t node;                 /* OS node id or NUMAPERF_NODE_*, with HAS_NODE */
    int32_t worker;               /* index within the runtime, with HAS_WORKER */
    numaperf_cancel_fn on_cancel; /* instead of the runtime's on_task_cancel; may be NULL */
    uint32_t priority;            /* NUMAPERF_PRIORITY_*; 0 is LATENCY */
    uint32_t reserved;            /* 0 */
    numaperf_group_t *group;      /* the task belongs to; NULL: none */
} numaperf_spawn_options_t;

#define NUMAPERF_SPAWN_OPTIONS_INIT                           \
    {                                                         \
        sizeof(numaperf_spawn_options_t), 0, 0, 0, 0, 0, 0, 0 \
    }

/* Part of a worker that numaperf_worker_placement() asks about. */
enum { NUMAPERF_WORKER_ARENA = 0, NUMAPERF_WORKER_STACK, NUMAPERF_WORKER_RING };

/**
 * Start a runtime. `config` may be NULL: all defaults.
 *
 * When this returns 0 every worker is pinned, has its memory, has run on_worker_start and, on the
 * first of each node, on_node_start, and tasks run. Otherwise nothing is left: no thread, mapping
 * or descriptor. In hard mode every placement was read back inside the worker's own thread. Until
 * it returns, only the runtime's own threads may use it; a start that fails frees it.
 *
 * Returns:  0; -EINVAL; -E2BIG; -ENOMEM; -EAGAIN no thread; -EMFILE, -ENFILE no descriptor;
 *           -EBUSY the signal of NUMAPERF_RT_STALL_BACKTRACE is taken, NUMAPERF_E_UNSUPPORTED
 *           stacks cannot be walked; NUMAPERF_E_NO_NODE;
 *           NUMAPERF_E_TOPOLOGY; NUMAPERF_E_HARD_MODE; with NUMAPERF_IO_URING the errno that
 *           refused the ring; what a start callback returned.
 * Owner:    caller, until numaperf_rt_destroy().
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_start(const numaperf_rt_config_t *config, numaperf_rt_t **out);

/**
 * Have `fn(worker, arg)` run once on a worker of `node`, an OS node id or NUMAPERF_NODE_*.
 *
 * An accepted task runs, or is cancelled when the runtime stops first; never both, never twice.
 *
 * Returns:  0; -EINVAL; NUMAPERF_E_NO_NODE the runtime has no workers there; -EAGAIN the node's
 *           task limit is reached; NUMAPERF_E_STOPPING; -ENOMEM.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_spawn(numaperf_rt_t *rt, int node, numaperf_task_fn fn, void *arg);

/**
 * The same with options; `options` may be NULL.
 *
 * Returns:  as numaperf_rt_spawn(); -EINVAL also for a worker that does not exist, or `node` or
 *           `worker` set without its HAS flag.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_spawn_with(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                                        numaperf_task_fn fn, void *arg);

/**
 * Spawn `count` tasks fn(worker, args[i]) with the same options, in order: all of them or none.
 *
 * Returns:  0; as numaperf_rt_spawn_with(), and then none was accepted; -EINVAL also for a `count`
 *           above task_limit_per_node, for which there would never be room.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_spawn_batch(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                                         numaperf_task_fn fn, void *const *args, size_t count);

/**
 * Have `fn` run once on every node of the runtime, never stolen; does not wait. All or none.
 *
 * Returns:  the number of nodes; as numaperf_rt_spawn(), and then none was accepted.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_each_node(numaperf_rt_t *rt, numaperf_task_fn fn, void *arg);

/**
 * Stop: outside spawns are refused from now on, workers may still spawn until all tasks are done
 * or `timeout_ns` is over; then what is queued is cancelled. 0 cancels at once, UINT64_MAX waits
 * without limit. Repeating it is allowed, and waits for what is left.
 *
 * A callback still running when the time is over is not interrupted: this then returns
 * -ETIMEDOUT, and the workers finish by themselves as soon as it returns.
 *
 * Units:    nanoseconds.
 * Returns:  0 all workers have ended; -ETIMEDOUT a callback is still running; -EDEADLK called on a
 *           worker of this runtime, or in on_violation or on_stall; -EINVAL; -ENOMEM, and
 *           nothing was done.
 * Threads:  any but the runtime's own.
 */
NUMAPERF_API int numaperf_rt_stop(numaperf_rt_t *rt, uint64_t timeout_ns);

/**
 * numaperf_rt_stop(rt, 0), waiting for running callbacks without limit, then free it; NULL is
 * allowed. Called on one of its own threads it does nothing but record -EDEADLK as the last error.
 *
 * Threads:  any but the runtime's own, with no other call on `rt` under way.
 */
NUMAPERF_API void numaperf_rt_destroy(numaperf_rt_t *rt);

/**
 * How many workers a node has; NUMAPERF_NODE_ANY: all together.
 *
 * Returns:  the count; 0 for a node without workers.
 * Threads:  any.
 */
NUMAPERF_API size_t numaperf_rt_worker_count(const numaperf_rt_t *rt, int node);

/**
 * The nodes that have workers.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_nodes(const numaperf_rt_t *rt, numaperf_nodemask_t *out);

/**
 * The topology in use.
 *
 * Owner:    the runtime, or the caller of start who lent it.
 * Threads:  any.
 */
NUMAPERF_API const numaperf_topology_t *numaperf_rt_topology(const numaperf_rt_t *rt);

/**
 * A worker by its index, 0 .. numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY) - 1; those of one
 * node are neighbours, nodes ascend.
 *
 * Returns:  the worker; NULL when there is none.
 * Owner:    the runtime, until numaperf_rt_destroy().
 * Threads:  any; the worker's functions below say where they may be called.
 */
NUMAPERF_API numaperf_worker_t *numaperf_rt_worker(const numaperf_rt_t *rt, uint32_t index);

/**
 * The lowest level of all workers, with the reason of that worker.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_enforcement(const numaperf_rt_t *rt, numaperf_enforcement_t *out);

/**
 * Figures of the whole runtime, without stopping anything; exact once it has stopped: then every
 * task that was accepted is one that ran or one that was cancelled. While it works they are a
 * recent picture, each number true by itself.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_stats(const numaperf_rt_t *rt, numaperf_rt_stats_t *out);

/**
 * The same of one node: tasks homed there, and its workers.
 *
 * Returns:  0; -EINVAL; NUMAPERF_E_NO_NODE the runtime has no workers there.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_node_stats(const numaperf_rt_t *rt, int node,
                                        numaperf_rt_stats_t *out);

/**
 * How many tasks homed on node `home` ran on workers of node `node`. Over all homes these sum up
 * to what the node ran, over all nodes to what was homed there and ran.
 *
 * Returns:  0; -EINVAL; NUMAPERF_E_NO_NODE the runtime has no workers on one of them.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_matrix(const numaperf_rt_t *rt, int home, int node, uint64_t *out);

/**
 * All figures, of the runtime, its nodes and its workers, as text for people.
 *
 * Returns:  0; -EINVAL; -ENOMEM.
 * Owner:    `*out_text` is the caller's, for free(3).
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_stats_text(const numaperf_rt_t *rt, char **out_text);

/**
 * The same as a JSON document; `schema` in it names the version. Times are nanoseconds; a
 * histogram lists those of its buckets that hold something, by their smallest value.
 *
 * Returns:  0; -EINVAL; -ENOMEM.
 * Owner:    `*out_json` is the caller's, for free(3).
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_stats_json(const numaperf_rt_t *rt, char **out_json);

/**
 * The same for Prometheus to scrape, in its text format; every name begins numaperf_.
 *
 * Returns:  0; -EINVAL; -ENOMEM.
 * Owner:    `*out_text` is the caller's, for free(3).
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_stats_prometheus(const numaperf_rt_t *rt, char **out_text);

/**
 * Counters of one worker, without stopping it; exact once the runtime has stopped.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_worker_stats(const numaperf_rt_t *rt, uint32_t index,
                                          numaperf_worker_stats_t *out);

/**
 * How often the auditor found a drift; an episode counts once.
 *
 * Threads:  any.
 */
NUMAPERF_API uint64_t numaperf_rt_violation_count(const numaperf_rt_t *rt);

/**
 * Where everything is and what proves it: one JSON document about machine, kernel, settings and,
 * for every worker's thread, arena, stack, ring and io-wq, what was asked, what the kernel said at
 * start and what it says now, with times and reasons. Everything is read back for it, every page
 * included, whether the auditor is on or not. Its schema is described in README.md; `schema` in it
 * names the version.
 *
 * Returns:  0; -EINVAL; -ENOMEM; NUMAPERF_E_STOPPING the workers have begun to end.
 * Owner:    `*out_json` is the caller's, for free(3).
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_attest(numaperf_rt_t *rt, char **out_json);

/**
 * The worker that the calling thread is.
 *
 * Returns:  NULL outside a worker.
 * Owner:    its runtime.
 * Threads:  any.
 */
NUMAPERF_API numaperf_worker_t *numaperf_worker_current(void);

/**
 * The runtime of a worker.
 *
 * Owner:    caller of start.
 * Threads:  any.
 */
NUMAPERF_API numaperf_rt_t *numaperf_worker_rt(const numaperf_worker_t *worker);

/**
 * Index of a worker within its runtime.
 *
 * Threads:  any.
 */
NUMAPERF_API uint32_t numaperf_worker_index(const numaperf_worker_t *worker);

/**
 * Node of a worker.
 *
 * Returns:  the OS node id.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_worker_node(const numaperf_worker_t *worker);

/**
 * PU of a worker: where it is meant to run; its enforcement says whether that holds.
 *
 * Returns:  the OS PU id.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_worker_cpu(const numaperf_worker_t *worker);

/**
 * Kernel thread id of a worker, as in /proc/PID/task.
 *
 * Returns:  the id.
 * Threads:  any.
 * Source:   gettid(2).
 */
NUMAPERF_API int numaperf_worker_thread_id(const numaperf_worker_t *worker);

/**
 * The libuv loop of a worker: any handle works on it. It is always alive, and uv_stop() and
 * uv_run() are not for it.
 *
 * Timers count from the loop's own time. That is brought up to date by this call, before tasks for
 * a given worker or for the workers of one node alone, and every few tasks before the others: one
 * of those that starts a timer asks for the loop first, or calls uv_update_time().
 *
 * Owner:    the worker.
 * Threads:  owner.
 */
NUMAPERF_API struct uv_loop_s *numaperf_worker_loop(numaperf_worker_t *worker);

/**
 * The loop of a worker as sockets and files take it, see <numaperf/net.h> and <numaperf/file.h>.
 *
 * Owner:    the worker.
 * Threads:  owner.
 */
NUMAPERF_API numaperf_loop_t *numaperf_worker_io(numaperf_worker_t *worker);

/**
 * The arena of a worker, on its node.
 *
 * Owner:    the worker, until numaperf_rt_destroy().
 * Threads:  owner to allocate, any to free.
 */
NUMAPERF_API numaperf_arena_t *numaperf_worker_arena(numaperf_worker_t *worker);

/**
 * The lowest level of everything the worker has: pin, memory policy, stack, arena, ring, io-wq.
 *
 * Owner:    the worker.
 * Threads:  any.
 */
NUMAPERF_API const numaperf_enforcement_t *
numaperf_worker_enforcement(const numaperf_worker_t *worker);

/**
 * What a worker waits in, NUMAPERF_IO_URING or NUMAPERF_IO_EPOLL.
 *
 * Threads:  any.
 */
NUMAPERF_API int numaperf_worker_backend(const numaperf_worker_t *worker);

/**
 * Why a worker does not wait in io_uring.
 *
 * Returns:  the reason; NULL when it does.
 * Owner:    the worker.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_worker_backend_reason(const numaperf_worker_t *worker);

/**
 * Ask the kernel where the pages of a worker's arena, stack or ring are.
 *
 * Returns:  0; -EINVAL; NUMAPERF_E_UNSUPPORTED a ring where there is none; NUMAPERF_E_STOPPING
 *           after the worker has ended; -errno when the query is refused.
 * Threads:  any.
 * Source:   move_pages(2).
 */
NUMAPERF_API int numaperf_worker_placement(const numaperf_worker_t *worker, uint32_t part,
                                           numaperf_placement_t *out);

/**
 * Keep a pointer with the worker.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_worker_set_data(numaperf_worker_t *worker, void *data);

/**
 * The pointer kept with the worker; NULL at first.
 *
 * Owner:    caller of numaperf_worker_set_data().
 * Threads:  owner.
 */
NUMAPERF_API void *numaperf_worker_data(const numaperf_worker_t *worker);

NUMAPERF_END_DECLS
#endif
