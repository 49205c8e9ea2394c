/* SPDX-License-Identifier: MIT */
/*
 * Listeners of a runtime. net/ knows loops, not workers: here each acceptor gets a worker's loop.
 *
 * A worker is asked by a poke, a flag and its wake, not by a task: that cannot fail for want of
 * room, and works while the runtime stops. It then prepares acceptors that were handed to it, and
 * has its acceptors follow their listeners. A stop needs no poke: every worker looks at the state.
 *
 *   listen: sockets bound -> every worker prepares -> sockets steer and listen -> open, poke
 *   stop:   DRAINING: accept no more, connections end | CANCELLING: what is left is reset
 *
 * Invariant: `acceptor_count` counts acceptors from before they are handed to workers until they
 * are gone; a runtime with any is not drained, so no worker ends before it has answered. Who
 * announces looks at the state afterwards, as with tasks (drain.c).
 *
 * Connections that change the worker travel as tasks, which a stop runs or cancels like any other.
 *
 * Thread rule: said of each function in the headers.
 */
#include "sched/listen.h"

#include "base/assert.h"
#include "base/error.h"
#include "base/futex.h"
#include "io/loop.h"
#include "net/listener.h"

#include <numaperf/net.h>

#include <errno.h>
#include <stdlib.h>

/* ---- worker ---- */

static void listen_poke_worker(struct numaperf_worker *worker)
{
    /* Release pairs with the acquire in numaperf__listen_follow(). */
    atomic_store_explicit(&worker->listen_poked, true, memory_order_release);
    numaperf__wake_signal(&worker->wake);
}

static void listen_prepare(struct numaperf_worker *worker, struct numaperf__acceptor *acceptor)
{
    struct numaperf_listener *listener = acceptor->listener;
    if (numaperf__acceptor_prepare(acceptor, worker->loop) < 0)
        acceptor->start_error = *numaperf_last_error();
    _Atomic uint32_t *answered = &listener->answered;
    /* Release pairs with the acquire of who waits, and may free it right after, when none of the
     * workers could prepare: waking an address that nobody waits at harms nobody. */
    (void)atomic_fetch_add_explicit(answered, 1, memory_order_release);
    numaperf__futex_wake_all(answered);
}

void numaperf__listen_follow(struct numaperf_worker *worker, enum numaperf__rt_state state)
{
    /* Acquire pairs with the release of who poked: what it wants was written before. */
    (void)atomic_exchange_explicit(&worker->listen_poked, false, memory_order_acquire);
    /* Acquire pairs with the release in listen_request(). */
    struct numaperf__acceptor *next =
        atomic_exchange_explicit(&worker->listen_requests, NULL, memory_order_acquire);
    while (next != NULL) {
        struct numaperf__acceptor *acceptor = next;
        next = acceptor->next_request;
        listen_prepare(worker, acceptor);
    }
    enum numaperf__follow how = NUMAPERF__FOLLOW_LISTENER;
    if (state >= NUMAPERF__RT_DRAINING)
        how = state >= NUMAPERF__RT_CANCELLING ? NUMAPERF__FOLLOW_RESET : NUMAPERF__FOLLOW_DRAIN;
    numaperf__acceptors_follow(worker->loop, how);
}

/* ---- what listeners ask for ---- */

static struct numaperf_worker *listen_worker(const struct numaperf__acceptor *acceptor)
{
    numaperf_rt_t *rt = acceptor->listener->host_data;
    return &rt->workers[acceptor->host_index];
}

static void listen_poke(struct numaperf_listener *listener, uint32_t index)
{
    listen_poke_worker(listen_worker(&listener->acceptors[index]));
}

struct listen_parcel {
    struct numaperf__acceptor *to;
    struct numaperf__handoff handoff;
};

static void listen_arrived(numaperf_worker_t *worker, void *arg)
{
    struct listen_parcel *parcel = arg;
    (void)worker; /* the acceptor's, as the task is bound to it */
    numaperf__acceptor_arrive(parcel->to, &parcel->handoff);
    free(parcel);
}

static void listen_dropped(numaperf_task_fn fn, void *arg, void *data)
{
    struct listen_parcel *parcel = arg;
    (void)fn;
    (void)data;
    numaperf__acceptor_dropped(parcel->to, &parcel->handoff);
    free(parcel);
}

static int listen_hand_over(struct numaperf__acceptor *to, const struct numaperf__handoff *handoff)
{
    struct listen_parcel *parcel = malloc(sizeof(*parcel));
    if (parcel == NULL)
        return -ENOMEM;
    *parcel = (struct listen_parcel){.to = to, .handoff = *handoff};
    struct numaperf_worker *worker = listen_worker(to);
    const struct numaperf__submission submission = {.node = worker->node,
                                                    .worker = worker,
                                                    .tries_again = true,
                                                    .priority = NUMAPERF_PRIORITY_LATENCY,
                                                    .on_cancel = listen_dropped};
    void *arg = parcel;
    int rc = numaperf__submit(worker->rt, &submission, listen_arrived, &arg, 1);
    if (rc < 0)
        free(parcel);
    return rc;
}

static void listen_forget(struct numaperf_listener *listener)
{
    numaperf_rt_t *rt = listener->host_data;
    (void)pthread_mutex_lock(&rt->listen_mutex);
    numaperf__list_remove(&listener->host_link);
    (void)pthread_mutex_unlock(&rt->listen_mutex);
}

static void listen_left(void *host_data)
{
    numaperf_rt_t *rt = host_data;
    /* Release pairs with the acquire in numaperf__listen_drained(). */
    uint32_t before = atomic_fetch_sub_explicit(&rt->acceptor_count, 1, memory_order_release);
    NUMAPERF_ASSERT(before > 0);
}

static const struct numaperf__listener_host listen_host = {
    .poke = listen_poke,
    .hand_over = listen_hand_over,
    .forget = listen_forget,
    .left = listen_left,
};

/* ---- listen ---- */

static int listen_check_nodes(const numaperf_rt_t *rt, const numaperf_nodemask_t *nodes,
                              uint32_t *out_count)
{
    uint32_t count = 0;
    for (int node = numaperf_nodemask_next(nodes, -1); node >= 0;
         node = numaperf_nodemask_next(nodes, node)) {
        if (numaperf_rt_worker_count(rt, node) == 0)
            return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "listen",
                                  "the runtime has no workers on node %d", node);
        count += (uint32_t)numaperf_rt_worker_count(rt, node);
    }
    *out_count = count != 0 ? count : rt->worker_count;
    return 0;
}

/* Which worker each acceptor is on, which are of one node, and where they run. */
static void listen_assign(numaperf_rt_t *rt, struct numaperf_listener *listener,
                          const numaperf_nodemask_t *nodes, struct numaperf__seat *seats)
{
    bool all = numaperf_nodemask_count(nodes) == 0;
    uint32_t index = 0;
    for (uint32_t n = 0; n < rt->node_count; n++) {
        const struct numaperf__node *node = &rt->nodes[n];
        if (!all && !numaperf_nodemask_contains(nodes, node->id))
            continue;
        uint32_t first = index;
        for (uint32_t i = 0; i < node->worker_count; i++, index++) {
            struct numaperf__acceptor *acceptor = &listener->acceptors[index];
            acceptor->host_index = node->first_worker + i;
            acceptor->first_sibling = first;
            acceptor->sibling_count = node->worker_count;
            seats[index] = (struct numaperf__seat){.cpu = rt->workers[acceptor->host_index].cpu,
                                                   .node = node->id};
        }
    }
    NUMAPERF_ASSERT(index == listener->acceptor_count);
    listener->host = &listen_host;
    listener->host_data = rt;
}

/* Before any worker hears of them; false: the runtime is stopping. */
static bool listen_announce(numaperf_rt_t *rt, uint32_t count)
{
    /* seq_cst, like the announcement of a task: whoever changes the state sees this, or this sees
     * the new state. */
    (void)atomic_fetch_add_explicit(&rt->acceptor_count, count, memory_order_seq_cst);
    if (numaperf__rt_state(rt) < NUMAPERF__RT_DRAINING)
        return true;
    (void)atomic_fetch_sub_explicit(&rt->acceptor_count, count, memory_order_release);
    return false;
}

static void listen_request(struct numaperf__acceptor *acceptor)
{
    struct numaperf_worker *worker = listen_worker(acceptor);
    acceptor->next_request = atomic_load_explicit(&worker->listen_requests, memory_order_relaxed);
    /* Release pairs with the acquire in numaperf__listen_follow(). */
    while (!atomic_compare_exchange_weak_explicit(&worker->listen_requests, &acceptor->next_request,
                                                  acceptor, memory_order_release,
                                                  memory_order_relaxed))
        continue;
    listen_poke_worker(worker);
}

/* Every worker prepares; 0, or what the first of them failed with, recorded. */
static int listen_prepare_all(struct numaperf_listener *listener)
{
    for (uint32_t i = 0; i < listener->acceptor_count; i++)
        listen_request(&listener->acceptors[i]);
    uint32_t answered = 0;
    /* Acquire pairs with the release in listen_prepare(). */
    while ((answered = atomic_load_explicit(&listener->answered, memory_order_acquire)) !=
           listener->acceptor_count)
        numaperf__futex_wait(&listener->answered, answered, UINT64_MAX);
    for (uint32_t i = 0; i < listener->acceptor_count; i++) {
        if (listener->acceptors[i].start_error.code < 0)
            return numaperf__fail_copy(&listener->acceptors[i].start_error);
    }
    return 0;
}

/* Have all acceptors leave, and wait for it; the listener is gone afterwards. */
static void listen_undo(numaperf_rt_t *rt, struct numaperf_listener *listener)
{
    _Atomic uint32_t done;
    atomic_init(&done, 0);
    /* One more that is present: this thread, so that it is not freed under our hands; and those
     * that could not be prepared, which no worker will see leave. */
    (void)atomic_fetch_add_explicit(&rt->acceptor_count, 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&listener->present, 1, memory_order_relaxed);
    uint32_t absent = 1;
    numaperf__listener_fail(listener, &done);
    for (uint32_t i = 0; i < listener->acceptor_count; i++) {
        if (listener->acceptors[i].net == NULL)
            absent++;
        else
            listen_poke(listener, i);
    }
    while (absent-- > 0)
        numaperf__listener_left(listener);
    /* Acquire pairs with the release of who was the last. */
    while (atomic_load_explicit(&done, memory_order_acquire) == 0)
        numaperf__futex_wait(&done, 0, UINT64_MAX);
}

static int listen_start(numaperf_rt_t *rt, struct numaperf_listener *listener,
                        const struct numaperf__seat *seats)
{
    if (!listen_announce(rt, listener->acceptor_count)) {
        numaperf__listener_free(listener);
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, "listen", "the runtime is stopping");
    }
    int rc = listen_prepare_all(listener);
    if (rc == 0)
        rc = numaperf__listener_begin(listener, seats, rt->placed ? rt->topology : NULL);
    if (rc == 0)
        return 0;
    numaperf_error_t error = *numaperf_last_error();
    listen_undo(rt, listener);
    return numaperf__fail_copy(&error);
}

/* Of a config that is checked, with its defaults in place. */
static int listen_make(numaperf_rt_t *rt, const numaperf_listen_config_t *config,
                       struct numaperf_listener **out)
{
    uint32_t count = 0;
    int rc = listen_check_nodes(rt, &config->nodes, &count);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(count > 0); /* a runtime has workers */
    struct numaperf__seat *seats = calloc(count, sizeof(*seats));
    if (seats == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "listen", "no memory for %u workers", count);
    struct numaperf_listener *listener = NULL;
    rc = numaperf__listener_make(config, count, &listener);
    if (rc == 0) {
        listen_assign(rt, listener, &config->nodes, seats);
        rc = listen_start(rt, listener, seats);
    }
    free(seats);
    if (rc == 0)
        *out = listener;
    return rc;
}

int numaperf_rt_listen(struct numaperf_rt *rt, const numaperf_listen_config_t *config,
                       numaperf_listener_t **out)
{
    if (rt == NULL || config == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "listen", "rt, config and out must not be NULL");
    if (numaperf__worker_self != NULL)
        return numaperf__fail(-EDEADLK, 0, "listen", "called on a worker, which it would wait for");
    numaperf_listen_config_t cfg;
    numaperf_conn_config_t conn;
    int rc = numaperf__listen_config(config, &cfg, &conn);
    if (rc < 0)
        return rc;
    struct numaperf_listener *listener = NULL;
    rc = listen_make(rt, &cfg, &listener);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(listener != NULL);
    (void)pthread_mutex_lock(&rt->listen_mutex);
    numaperf__list_push_back(&rt->listeners, &listener->host_link);
    (void)pthread_mutex_unlock(&rt->listen_mutex);
    *out = listener; /* first: a callback may look at it */
    numaperf__listener_open(listener);
    return 0;
}

/* ---- life of the runtime ---- */

void numaperf__listen_init(numaperf_rt_t *rt)
{
    numaperf__list_init(&rt->listeners);
    (void)pthread_mutex_init(&rt->listen_mutex, NULL); /* cannot fail on Linux */
}

void numaperf__listen_fini(numaperf_rt_t *rt)
{
    while (!numaperf__list_empty(&rt->listeners)) {
        struct numaperf_listener *listener =
            NUMAPERF_CONTAINER_OF(rt->listeners.next, struct numaperf_listener, host_link);
        numaperf__list_remove(&listener->host_link);
        numaperf__listener_free(listener);
    }
    (void)pthread_mutex_destroy(&rt->listen_mutex); /* nobody has it */
}
