/* SPDX-License-Identifier: MIT */
/*
 * The auditor: a thread that wakes once an interval and reads back what start had proven. Each
 * worker's affinity, memory policy, stack and ring pages and a part of its arena's; and
 * kernel.numa_balancing. A drift is counted and reported once an episode: again only after it was
 * gone in between.
 *
 * Thread rule: it reads what workers wrote before the start ended, and asks the kernel about other
 * threads by id; workers take no part. A stop asks it to end first, so that it does not ask about
 * threads that are gone: what it finds after that is not reported. It is joined when it has ended,
 * so that an on_violation that takes long keeps no stop beyond its time.
 *
 * Source: sched_getaffinity(2); numa_maps in proc(5), whose policy is that of the thread whose
 * directory it is read from; move_pages(2).
 */
#include "base/assert.h"
#include "base/error.h"
#include "place/capability.h"
#include "place/pin.h"
#include "place/region.h"
#include "sched/sched.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define AUDITOR_INTERVAL_MS_DEFAULT 5000u
#define AUDITOR_LOOKS_MAX 1000 /* more, at what may be over in a moment: a second of them */
#define AUDITOR_LOOK_PAUSE_NS 1000000

struct numaperf__auditor {
    numaperf_rt_t *rt;
    uint32_t interval_ms;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;       /* on CLOCK_MONOTONIC */
    atomic_bool stopping;      /* written under mutex */
    atomic_bool exited;        /* written by the auditor, last */
    bool joined;               /* under the runtime's stop_mutex */
    _Atomic int32_t thread_id; /* written by the auditor, and 0 again by who joins it */
    bool refused;              /* by the starter: the first look recorded a failure */
    uint8_t *open_episodes;    /* the auditor's: a bit a kind, by worker; last the machine's */
};

/* What one look found: 0 in order, 1 a drift described in `text`, -errno cannot be read. */
struct auditor_finding {
    uint32_t kind;
    int32_t worker; /* index; -1 the machine */
    int found;
    char text[192];
};

typedef void (*auditor_look_fn)(const struct numaperf_worker *, struct auditor_finding *);

/* ---- looks ---- */

static void auditor_look_balancing(struct auditor_finding *out)
{
    int value = numaperf__numa_balancing();
    out->found = value < 0 ? value : value != 0;
    (void)snprintf(out->text, sizeof(out->text),
                   "kernel.numa_balancing: wanted 0, found %d: pages of heaps and stacks move",
                   value);
}

static void auditor_look_affinity(const struct numaperf_worker *worker, struct auditor_finding *out)
{
    numaperf_cpuset_t cpus;
    out->found = numaperf__affinity_get(worker->thread_id, &cpus);
    if (out->found < 0)
        return;
    if (numaperf_cpuset_count(&cpus) == 1 && numaperf_cpuset_contains(&cpus, worker->cpu))
        return;
    char list[96];
    (void)numaperf_cpuset_format(&cpus, list, sizeof(list)); /* cut when too long */
    out->found = 1;
    (void)snprintf(out->text, sizeof(out->text),
                   "worker %u, thread %d, node %d: wanted PU %d alone, found affinity %s",
                   worker->index, worker->thread_id, worker->node->id, worker->cpu, list);
}

/* The second word of the first line of numa_maps: a mapping without a policy of its own. */
static int auditor_read_policy(int thread_id, char *out, size_t size)
{
    char path[64];
    char line[512];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/numa_maps", thread_id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, line, sizeof(line) - 1); /* a short read, so that few lines are made */
    int rc = n < 0 ? -errno : 0;
    (void)close(fd); /* was only read */
    if (rc < 0)
        return rc;
    line[n] = '\0';
    const char *word = strchr(line, ' ');
    if (word == NULL)
        return -EIO;
    size_t length = strcspn(word + 1, " \n");
    (void)snprintf(out, size, "%.*s", (int)length, word + 1);
    return 0;
}

static void auditor_look_policy(const struct numaperf_worker *worker, struct auditor_finding *out)
{
    char found[64] = "";
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), "prefer:%d", worker->node->id);
    out->found = auditor_read_policy(worker->thread_id, found, sizeof(found));
    if (out->found < 0 || strcmp(found, wanted) == 0)
        return;
    out->found = 1;
    (void)snprintf(out->text, sizeof(out->text),
                   "worker %u, thread %d: wanted memory policy %s, found %s", worker->index,
                   worker->thread_id, wanted, found);
}

static int auditor_query_worker(const struct numaperf_worker *worker,
                                numaperf_placement_t *io_placement)
{
    int rc = numaperf__pages_query(worker->stack_base, worker->stack_length, io_placement);
    for (int part = 0; part < 2 && rc == 0; part++) {
        if (worker->ring_length[part] > 0)
            rc = numaperf__pages_query(worker->ring_base[part], worker->ring_length[part],
                                       io_placement);
    }
    return rc;
}

static void auditor_look_pages(const struct numaperf_worker *worker, struct auditor_finding *out)
{
    numaperf_placement_t placement = NUMAPERF_PLACEMENT_INIT;
    out->found = numaperf_arena_audit(worker->arena, &placement);
    if (out->found < 0)
        return;
    uint64_t arena_away = placement.pages - placement.absent - placement.on_node[worker->node->id];
    memset(&placement, 0, sizeof(placement));
    out->found = auditor_query_worker(worker, &placement);
    if (out->found < 0)
        return;
    uint64_t other_away = placement.pages - placement.on_node[worker->node->id];
    if (arena_away == 0 && other_away == 0)
        return;
    out->found = 1;
    (void)snprintf(out->text, sizeof(out->text),
                   "worker %u: wanted all pages on node %d, found %llu of its arena and %llu of "
                   "its stack and ring elsewhere",
                   worker->index, worker->node->id, (unsigned long long)arena_away,
                   (unsigned long long)other_away);
}

/* ---- episodes ---- */

static bool auditor_stopping(const struct numaperf__auditor *auditor)
{
    /* Acquire pairs with the release of the request: no worker had ended before it. */
    return atomic_load_explicit(&auditor->stopping, memory_order_acquire);
}

static void auditor_report(struct numaperf__auditor *auditor, const struct auditor_finding *finding)
{
    numaperf_rt_t *rt = auditor->rt;
    if (auditor_stopping(auditor))
        return;
    uint32_t slot = finding->worker < 0 ? rt->worker_count : (uint32_t)finding->worker;
    uint8_t bit = (uint8_t)(1u << finding->kind);
    if (finding->found <= 0) {
        if (finding->found == 0)
            auditor->open_episodes[slot] &= (uint8_t)~bit;
        return; /* what cannot be read now is not a drift; start has proven that it can be */
    }
    if ((auditor->open_episodes[slot] & bit) != 0)
        return;
    auditor->open_episodes[slot] |= bit;
    (void)atomic_fetch_add_explicit(&rt->violation_count, 1, memory_order_relaxed);
    numaperf__log(NUMAPERF_LOG_WARN, "audit: %s", finding->text);
    if (rt->config.on_violation == NULL)
        return;
    numaperf_violation_t violation = {
        .size = sizeof(violation), .kind = finding->kind, .worker = -1, .node = -1, .cpu = -1};
    if (finding->worker >= 0) {
        violation.worker = finding->worker;
        violation.node = rt->workers[finding->worker].node->id;
        violation.cpu = rt->workers[finding->worker].cpu;
    }
    (void)snprintf(violation.text, sizeof(violation.text), "%s", finding->text);
    rt->config.on_violation(rt, &violation, rt->config.data);
}

static bool auditor_worker_runs(const struct numaperf_worker *worker)
{
    /* Acquire: the look is between two of these. */
    return atomic_load_explicit(&worker->state, memory_order_acquire) == NUMAPERF__WORKER_RUNNING;
}

/*
 * While numaperf_uv_spawn() runs, its thread has what the process was started with. So what is
 * found counts when it is found at a worker that is in no callback: one that does not run before
 * the look nor after it, in the same turn. At one that always runs it must be there every time.
 */
static void auditor_look_again(const struct numaperf__auditor *auditor, auditor_look_fn look,
                               struct auditor_finding *io_finding)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = AUDITOR_LOOK_PAUSE_NS};
    const struct numaperf_worker *worker = &auditor->rt->workers[io_finding->worker];
    if (numaperf__rt_state(auditor->rt) < NUMAPERF__RT_RUNNING)
        return; /* the first look: no callback runs */
    for (int i = 0; i < AUDITOR_LOOKS_MAX && !auditor_stopping(auditor); i++) {
        uint64_t turn = atomic_load_explicit(&worker->turn, memory_order_acquire);
        bool ran = auditor_worker_runs(worker);
        io_finding->found = 0;
        look(worker, io_finding);
        if (io_finding->found <= 0)
            return;
        if (!ran && !auditor_worker_runs(worker) &&
            atomic_load_explicit(&worker->turn, memory_order_acquire) == turn)
            return;
        (void)nanosleep(&pause, NULL); /* all signals are blocked */
    }
}

typedef void (*auditor_take_fn)(struct numaperf__auditor *, const struct auditor_finding *);

/* One look at everything; each finding goes to `take`. */
static void auditor_pass(struct numaperf__auditor *auditor, auditor_take_fn take)
{
    numaperf_rt_t *rt = auditor->rt;
    static const struct {
        uint32_t kind;
        auditor_look_fn look;
    } looks[] = {{NUMAPERF_VIOLATION_AFFINITY, auditor_look_affinity},
                 {NUMAPERF_VIOLATION_MEMPOLICY, auditor_look_policy},
                 {NUMAPERF_VIOLATION_PAGES, auditor_look_pages}};
    struct auditor_finding finding = {.kind = NUMAPERF_VIOLATION_BALANCING, .worker = -1};
    auditor_look_balancing(&finding);
    take(auditor, &finding);
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        for (size_t k = 0; k < sizeof(looks) / sizeof(looks[0]); k++) {
            if (!rt->placed && looks[k].kind != NUMAPERF_VIOLATION_AFFINITY)
                continue;
            finding = (struct auditor_finding){.kind = looks[k].kind, .worker = (int32_t)i};
            looks[k].look(&rt->workers[i], &finding);
            if (finding.found > 0 && looks[k].kind != NUMAPERF_VIOLATION_PAGES)
                auditor_look_again(auditor, looks[k].look, &finding);
            take(auditor, &finding);
        }
    }
}

/* The first look: hard mode promises nothing that it cannot watch, or that is not so already. */
static void auditor_refuse(struct numaperf__auditor *auditor, const struct auditor_finding *finding)
{
    if (finding->found == 0 || auditor->refused)
        return;
    auditor->refused = true;
    if (finding->found > 0)
        (void)numaperf__fail(NUMAPERF_E_HARD_MODE, 0, "audit", "%s", finding->text);
    else
        (void)numaperf__fail(NUMAPERF_E_HARD_MODE, -finding->found, "audit",
                             "what start has proven cannot be read again: %s",
                             numaperf_strerror(finding->found));
}

/* ---- thread ---- */

static bool auditor_wait(struct numaperf__auditor *auditor)
{
    struct timespec until;
    int rc = clock_gettime(CLOCK_MONOTONIC, &until);
    NUMAPERF_ASSERT(rc == 0);
    until.tv_sec += auditor->interval_ms / 1000u;
    until.tv_nsec += (long)(auditor->interval_ms % 1000u) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    (void)pthread_mutex_lock(&auditor->mutex);
    rc = 0;
    while (!auditor_stopping(auditor) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&auditor->cond, &auditor->mutex, &until);
    bool go_on = !auditor_stopping(auditor);
    (void)pthread_mutex_unlock(&auditor->mutex);
    return go_on;
}

static void *auditor_main(void *arg)
{
    struct numaperf__auditor *auditor = arg;
    atomic_store_explicit(&auditor->thread_id, (int32_t)syscall(SYS_gettid), memory_order_relaxed);
    while (auditor_wait(auditor))
        auditor_pass(auditor, auditor_report);
    /* Release pairs with the acquire of who waits for the end. */
    atomic_store_explicit(&auditor->exited, true, memory_order_release);
    return NULL;
}

static void auditor_free(struct numaperf__auditor *auditor)
{
    free(auditor->open_episodes);
    free(auditor);
}

static struct numaperf__auditor *auditor_alloc(numaperf_rt_t *rt, uint32_t interval_ms)
{
    struct numaperf__auditor *auditor = calloc(1, sizeof(*auditor));
    if (auditor == NULL)
        return NULL;
    auditor->rt = rt;
    auditor->interval_ms = interval_ms;
    auditor->open_episodes = calloc((size_t)rt->worker_count + 1, 1);
    if (auditor->open_episodes == NULL) {
        free(auditor);
        return NULL;
    }
    return auditor;
}

static int auditor_thread_create(struct numaperf__auditor *auditor)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    if (rc == 0) {
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* a clock that Linux has */
        rc = pthread_cond_init(&auditor->cond, &attr);
        (void)pthread_condattr_destroy(&attr);
    }
    if (rc != 0)
        return -rc;
    (void)pthread_mutex_init(&auditor->mutex, NULL); /* cannot fail on Linux */
    sigset_t all;
    sigset_t previous;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &previous); /* signals go to the user's threads */
    rc = pthread_create(&auditor->thread, NULL, auditor_main, auditor);
    (void)pthread_sigmask(SIG_SETMASK, &previous, NULL);
    if (rc != 0) {
        (void)pthread_mutex_destroy(&auditor->mutex);
        (void)pthread_cond_destroy(&auditor->cond);
    }
    return -rc;
}

int numaperf__auditor_start(numaperf_rt_t *rt)
{
    uint32_t interval_ms = rt->config.audit_interval_ms;
    bool hard = rt->config.mode == NUMAPERF_MODE_HARD;
    if (interval_ms == UINT32_MAX || (interval_ms == 0 && !hard))
        return 0;
    if (interval_ms == 0)
        interval_ms = AUDITOR_INTERVAL_MS_DEFAULT;

    struct numaperf__auditor *auditor = auditor_alloc(rt, interval_ms);
    if (auditor == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "audit", "no memory for the auditor");
    if (hard)
        auditor_pass(auditor, auditor_refuse);
    if (auditor->refused) {
        auditor_free(auditor);
        return NUMAPERF_E_HARD_MODE;
    }
    int rc = auditor_thread_create(auditor);
    if (rc < 0) {
        auditor_free(auditor);
        return numaperf__fail(rc, -rc, "audit", "no thread for the auditor");
    }
    rt->auditor = auditor;
    return 0;
}

bool numaperf__auditor_is_current(const numaperf_rt_t *rt)
{
    /* Relaxed: only the auditor itself could find its own id there, and it wrote it. */
    return rt->auditor != NULL &&
           atomic_load_explicit(&rt->auditor->thread_id, memory_order_relaxed) ==
               (int32_t)syscall(SYS_gettid);
}

void numaperf__auditor_end(numaperf_rt_t *rt)
{
    struct numaperf__auditor *auditor = rt->auditor;
    if (auditor == NULL)
        return;
    (void)pthread_mutex_lock(&auditor->mutex);
    atomic_store_explicit(&auditor->stopping, true, memory_order_release);
    (void)pthread_cond_signal(&auditor->cond);
    (void)pthread_mutex_unlock(&auditor->mutex);
}

bool numaperf__auditor_exited(const numaperf_rt_t *rt)
{
    return rt->auditor == NULL || atomic_load_explicit(&rt->auditor->exited, memory_order_acquire);
}

void numaperf__auditor_join(numaperf_rt_t *rt)
{
    struct numaperf__auditor *auditor = rt->auditor;
    if (auditor == NULL || auditor->joined)
        return;
    int rc = pthread_join(auditor->thread, NULL);
    NUMAPERF_ASSERT(rc == 0);
    auditor->joined = true;
    atomic_store_explicit(&auditor->thread_id, 0, memory_order_relaxed);
}

void numaperf__auditor_destroy(numaperf_rt_t *rt)
{
    struct numaperf__auditor *auditor = rt->auditor;
    if (auditor == NULL)
        return;
    NUMAPERF_ASSERT(auditor->joined);
    (void)pthread_mutex_destroy(&auditor->mutex); /* nobody has either */
    (void)pthread_cond_destroy(&auditor->cond);
    auditor_free(auditor);
    rt->auditor = NULL;
}
