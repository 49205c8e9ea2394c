/* SPDX-License-Identifier: MIT */
/*
 * oneTBB: an arena for every node, with as many slots as it has workers and none for threads from
 * outside; an observer pins whoever enters a slot to that slot's PU. On two real nodes the arenas
 * have the node as their constraint, too; synthetic ones oneTBB does not know.
 *
 * In two forms: task_arena::enqueue(), which a runtime of tasks is closest to, and a task_group,
 * whose tasks are spawned to the thread's own deque.
 */
#include "fib.h"
#include "peers/peer.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>
#include <oneapi/tbb/task_scheduler_observer.h>
#include <pthread.h>
#include <vector>

namespace
{

/* Pins a thread that enters the arena to a PU of the arena that no other thread has, the one it had
 * before if it can be. (The slot of the arena would not do: it has more of them than threads.) A
 * thread that is pinned there already is left alone, unless the constraint had oneTBB unpin it when
 * it left. */
class pinner : public tbb::task_scheduler_observer
{
  public:
    pinner(tbb::task_arena &arena, const int32_t *cpus, uint32_t cpu_count, bool always)
        : tbb::task_scheduler_observer(arena), cpus_(cpus), cpu_count_(cpu_count), always_(always),
          taken_(cpu_count)
    {
    }

    void on_scheduler_entry(bool is_worker) override
    {
        if (!is_worker)
            return;
        uint32_t at = take();
        if (!always_ && pinned == cpus_[at])
            return;
        pinned = cpus_[at];
        if (bench_pin(pinned) < 0)
            std::abort(); /* numaperf was here before: the PU exists */
    }

    void on_scheduler_exit(bool is_worker) override
    {
        for (uint32_t i = 0; is_worker && i < cpu_count_; i++) {
            if (cpus_[i] == pinned)
                taken_[i].store(false, std::memory_order_release);
        }
    }

  private:
    bool take_at(uint32_t at)
    {
        return !taken_[at].exchange(true, std::memory_order_acquire);
    }

    uint32_t take()
    {
        for (uint32_t i = 0; i < cpu_count_; i++) {
            if (cpus_[i] == pinned && take_at(i))
                return i;
        }
        /* One that leaves may still have its PU: it gives it back in a moment. */
        uint32_t at = 0;
        while (!take_at(at))
            at = (at + 1) % cpu_count_;
        return at;
    }

    static thread_local int32_t pinned;
    const int32_t *cpus_;
    uint32_t cpu_count_;
    bool always_;
    std::vector<std::atomic<bool>> taken_;
};

thread_local int32_t pinner::pinned = -1;

/* What a task of the peer gets as its worker. */
struct place {
    std::unique_ptr<tbb::task_arena> arena;
    std::unique_ptr<pinner> observer;
    std::unique_ptr<tbb::task_group> group;
};

struct state {
    explicit state(const bench_setup &setup)
        : limit(tbb::global_control::max_allowed_parallelism,
                setup.node_count * setup.workers_per_node + 1)
    {
    }

    /* The thread that enqueues counts as one of them, though it never enters an arena. */
    tbb::global_control limit;
    int32_t cpus[BENCH_WORKERS_MAX];
    std::vector<place> places;
};

void place_init(place &it, const bench_setup &setup, uint32_t node, const int32_t *cpus)
{
    std::vector<tbb::numa_node_id> nodes = tbb::info::numa_nodes();
    bool is_real = setup.node_count > 1 && nodes.size() >= setup.node_count;
    tbb::task_arena::constraints limits;
    limits.set_max_concurrency(static_cast<int>(setup.workers_per_node));
    if (is_real)
        limits.set_numa_id(nodes[node]);
    it.arena.reset(new tbb::task_arena(limits, 0));
    it.arena->initialize();
    it.observer.reset(new pinner(*it.arena, cpus, setup.workers_per_node, is_real));
    it.observer->observe(true);
    it.group.reset(new tbb::task_group);
}

int peer_start(const bench_peer *, const bench_setup *setup, void **out_state)
{
    std::unique_ptr<state> it(new state(*setup));
    uint32_t per_node = setup->workers_per_node;
    for (uint32_t i = 0; i < setup->node_count * per_node; i++)
        it->cpus[i] = setup->cpus[i];
    it->places.resize(setup->node_count);
    for (uint32_t i = 0; i < setup->node_count; i++)
        place_init(it->places[i], *setup, i, it->cpus + i * per_node);
    *out_state = it.release();
    return 0;
}

void peer_stop(void *arg)
{
    state *it = static_cast<state *>(arg);
    for (place &each : it->places) {
        each.arena->execute([&each] { each.group->wait(); });
        each.observer->observe(false);
        each.arena->terminate();
    }
    delete it;
}

void enqueue(place &to, numaperf_task_fn fn, void *arg)
{
    to.arena->enqueue([&to, fn, arg] { fn(reinterpret_cast<numaperf_worker_t *>(&to), arg); });
}

int enqueue_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    state *it = static_cast<state *>(arg);
    enqueue(it->places[lane % it->places.size()], fn, task_arg);
    return 0;
}

int enqueue_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    enqueue(*reinterpret_cast<place *>(worker), fn, arg);
    return 0;
}

int group_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    state *it = static_cast<state *>(arg);
    place &to = it->places[lane % it->places.size()];
    to.arena->enqueue(to.group->defer(
        [&to, fn, task_arg] { fn(reinterpret_cast<numaperf_worker_t *>(&to), task_arg); }));
    return 0;
}

int group_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    place &here = *reinterpret_cast<place *>(worker);
    here.group->run([worker, fn, arg] { fn(worker, arg); });
    return 0;
}

/* The recursion is what is measured; it is as deep as n. */
uint64_t tree(uint32_t n, uint32_t cutoff)
{
    if (n < cutoff)
        return bench_fib(n);
    uint64_t left = 0;
    tbb::task_group both;
    both.run([&left, n, cutoff] { left = tree(n - 1, cutoff); });
    uint64_t right = tree(n - 2, cutoff);
    both.wait();
    return left + right;
}

/* What the thread that asked waits on: it sleeps, and its PU is a worker's. */
struct answer {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_there;
    uint64_t value;
};

int group_fork_join(void *arg, uint32_t n, uint32_t cutoff, uint64_t *out_value)
{
    state *it = static_cast<state *>(arg);
    answer result = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};
    it->places[0].arena->enqueue([&result, n, cutoff] {
        uint64_t value = tree(n, cutoff);
        pthread_mutex_lock(&result.mutex);
        result.value = value;
        result.is_there = true;
        pthread_cond_signal(&result.changed);
        pthread_mutex_unlock(&result.mutex);
    });
    pthread_mutex_lock(&result.mutex);
    while (!result.is_there)
        pthread_cond_wait(&result.changed, &result.mutex);
    pthread_mutex_unlock(&result.mutex);
    *out_value = result.value;
    return 0;
}

bench_peer make(const char *name)
{
    bench_peer peer = bench_peer();
    peer.name = name;
    peer.start = peer_start;
    peer.stop = peer_stop;
    return peer;
}

bench_peer make_enqueue()
{
    bench_peer peer = make("tbb-enqueue");
    peer.spawn = enqueue_spawn;
    peer.spawn_inside = enqueue_spawn_inside;
    return peer;
}

bench_peer make_group()
{
    bench_peer peer = make("tbb-group");
    peer.spawn = group_spawn;
    peer.spawn_inside = group_spawn_inside;
    peer.fork_join = group_fork_join;
    return peer;
}

} /* namespace */

const bench_peer bench_tbb_enqueue = make_enqueue();
const bench_peer bench_tbb_group = make_group();
