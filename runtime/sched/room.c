/* SPDX-License-Identifier: MIT */
/*
 * Room: who was refused with -EAGAIN is told by on_room, on a worker of that node, once fewer than
 * three quarters of the limit wait and there is room for the smallest spawn refused since the last
 * notice. `room_wanted` of a node is that smallest count, 0 when nobody was refused.
 *
 *   refused: wanted = min(wanted, count), then wake a worker if that changed it
 *   a worker, between callbacks and before it sleeps: wanted != 0 and room -> wanted = 0, on_room
 *
 * No notice without a refusal: one exchange takes `wanted` away, and only who got it calls.
 *
 * No notice is lost. A refusal that finds `wanted` set comes before the exchange that takes it, so
 * that notice is its own, too. One that sets it then looks for a sleeper: a worker stores SLEEPING
 * before it looks at `wanted` for the last time, the refused stores `wanted` before it looks at the
 * worker's state, all sequentially consistent, so one sees the other. A worker that is awake, or
 * was woken and found no room yet, is not needed any more: while no room is there tasks wait, and
 * some worker of the node will take the last of those that fill it, and look again after that.
 * Tasks that a thief takes are ones that the node's workers see, too: none of them sleeps over
 * them.
 *
 * Any thread refuses; workers of the node tell.
 */
#include "sched/room.h"

#include "base/assert.h"
#include "io/loop.h"

#include <errno.h>

int numaperf__room_refuse(struct numaperf__node *node, uint64_t count)
{
    NUMAPERF_ASSERT(count > 0);

    if (node->rt->config.on_room == NULL)
        return -EAGAIN;
    uint64_t wanted = atomic_load_explicit(&node->room_wanted, memory_order_seq_cst);
    while (wanted == 0 || count < wanted) {
        /* seq_cst: before the look at the workers' states; see the file comment. */
        if (!atomic_compare_exchange_weak_explicit(&node->room_wanted, &wanted, count,
                                                   memory_order_seq_cst, memory_order_seq_cst))
            continue;
        numaperf__wake_for_node(node, false);
        break;
    }
    return -EAGAIN;
}

bool numaperf__room_pending(const struct numaperf__node *node)
{
    /* seq_cst: after the store of SLEEPING; see the file comment. */
    uint64_t wanted = atomic_load_explicit(&node->room_wanted, memory_order_seq_cst);
    if (wanted == 0 || numaperf__rt_state(node->rt) > NUMAPERF__RT_RUNNING)
        return false;
    uint64_t limit = node->rt->config.task_limit_per_node;
    uint64_t waiting = numaperf__submit_waiting(node);
    return waiting < limit - limit / 4 && wanted <= limit - waiting;
}

void numaperf__room_tell_now(struct numaperf_worker *worker)
{
    struct numaperf__node *node = worker->node;
    if (!numaperf__room_pending(node))
        return;
    /* seq_cst, with the loads in numaperf__room_refuse(): what was refused before is told now. */
    if (atomic_exchange_explicit(&node->room_wanted, 0, memory_order_seq_cst) == 0)
        return; /* a sibling tells */
    numaperf__loop_refresh_time(worker->loop);
    node->rt->config.on_room(worker, node->id, node->rt->config.data);
}
