/* SPDX-License-Identifier: MIT */
/*
 * The way of operations: outbox, shard, back. An operation is in one list at a time and belongs to
 * one thread at a time; the runtime's queues order the hand-over.
 *
 * Nothing is lost: a batch that cannot be sent fails its operations at once; one that cannot be
 * sent back is kept and tried again. Tasks for one worker are a FIFO, so operations of one
 * connection on one key run in the order they came in.
 */
#include "conn.h"
#include "kv.h"

#include "siphash.h"

#include <errno.h>

#define RETRY_MS 1

static void list_push(struct op_list *list, struct op *op)
{
    op->next = NULL;
    if (list->first == NULL)
        list->first = op;
    else
        list->last->next = op;
    list->last = op;
    list->count++;
}

static struct op_list list_take(struct op_list *list)
{
    struct op_list taken = *list;
    *list = (struct op_list){0};
    return taken;
}

static void shard_run_op(struct store *store, struct op *op)
{
    switch (op->kind) {
    case OP_GET:
        op->found = store_get(store, op->key, op->hash);
        break;
    case OP_SET:
        op->status = store_set(store, op->key, op->hash, op->value);
        break;
    case OP_DELETE:
        op->number = store_delete(store, op->key, op->hash);
        break;
    case OP_EXISTS:
        op->number = store_exists(store, op->key, op->hash);
        break;
    case OP_INCREMENT:
        op->status = store_increment(store, op->key, op->hash, &op->number);
        break;
    }
}

/* The top half of the hash picks the shard, the bottom half the bucket within it. */
static uint32_t shard_of(const struct kv *kv, struct op *op)
{
    op->hash = siphash13(op->key.data, op->key.length, kv->hash_key);
    return (uint32_t)(((op->hash >> 32) * kv->shard_count) >> 32);
}

bool kv_run_here(struct kv_worker *worker, struct op *op)
{
    struct shard *shard = worker->kv->shards[shard_of(worker->kv, op)];
    if (shard->owner != worker)
        return false;
    shard_run_op(&shard->store, op);
    kv_count(&worker->counters.ops_local, 1);
    return true;
}

static void flush_task(numaperf_worker_t *rt_worker, void *arg)
{
    (void)rt_worker; /* it is the one that spawned this */
    struct kv_worker *worker = arg;
    worker->flush_spawned = false;
    kv_turn(worker);
}

/* Tasks run after all callbacks of this turn, so many connections share a batch. Without a place
 * for one, whoever filled the outboxes empties them. */
static void flush_soon(struct kv_worker *worker)
{
    if (worker->flush_spawned || !worker->flush_wanted)
        return;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)worker->index;
    worker->flush_spawned = numaperf_rt_spawn_with(numaperf_worker_rt(worker->rt_worker), &options,
                                                   flush_task, worker) == 0;
}

void kv_route(struct kv_worker *worker, struct request *request)
{
    for (uint32_t i = 0; i < request->op_count; i++) {
        struct op *op = &request->ops[i];
        if (kv_run_here(worker, op)) {
            conn_op_done(request->conn, op);
            continue;
        }
        list_push(&worker->outboxes[shard_of(worker->kv, op)], op);
        worker->flush_wanted = true;
    }
    flush_soon(worker);
}

static void shard_run(struct shard *shard, const struct op_list *ops)
{
    for (struct op *op = ops->first; op != NULL; op = op->next)
        shard_run_op(&shard->store, op);
}

/* Back on the connections' worker. The connection may free an operation: its next is read first. */
static void ops_done(const struct op_list *ops)
{
    for (struct op *op = ops->first, *next = NULL; op != NULL; op = next) {
        next = op->next;
        conn_op_done(op->request->conn, op);
    }
}

static void ops_fail(const struct op_list *ops, int status)
{
    for (struct op *op = ops->first; op != NULL; op = op->next)
        op->status = status;
    ops_done(ops);
}

static int batch_spawn(struct kv_worker *to, numaperf_task_fn fn, struct batch *batch)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)to->index;
    return numaperf_rt_spawn_with(numaperf_worker_rt(to->rt_worker), &options, fn, batch);
}

static void batch_returned(numaperf_worker_t *rt_worker, void *arg)
{
    (void)rt_worker; /* it is the one of batch->from */
    struct batch *batch = arg;
    struct kv_worker *worker = batch->from;
    struct op_list ops = batch->ops;
    numaperf_arena_free(worker->arena, batch);
    ops_done(&ops);
    kv_turn(worker);
}

/* In order behind those that wait already. */
static void batch_send_back(struct kv_worker *owner, struct batch *batch)
{
    if (owner->late == NULL && batch_spawn(batch->from, batch_returned, batch) == 0)
        return;
    kv_count(&owner->counters.batches_late, 1);
    batch->next = NULL;
    if (owner->late == NULL)
        owner->late = batch;
    else
        owner->late_last->next = batch;
    owner->late_last = batch;
    if (!uv_is_active((uv_handle_t *)&owner->retry))
        (void)uv_timer_start(&owner->retry, kv_retry, RETRY_MS, RETRY_MS); /* has a callback */
}

void kv_retry(uv_timer_t *timer)
{
    struct kv_worker *owner = timer->data;
    while (owner->late != NULL) {
        /* Once sent it is the other worker's: read the link before. */
        struct batch *batch = owner->late;
        struct batch *next = batch->next;
        if (batch_spawn(batch->from, batch_returned, batch) < 0)
            return;
        owner->late = next;
    }
    (void)uv_timer_stop(timer); /* never fails */
}

static void batch_run(numaperf_worker_t *rt_worker, void *arg)
{
    (void)rt_worker; /* it is the shard's owner */
    struct batch *batch = arg;
    shard_run(batch->shard, &batch->ops);
    batch_send_back(batch->shard->owner, batch);
}

static void outbox_send(struct kv_worker *worker, struct shard *shard, struct op_list ops)
{
    struct batch *batch = numaperf_arena_alloc(worker->arena, sizeof(*batch), 64);
    if (batch == NULL) {
        ops_fail(&ops, -ENOMEM);
        return;
    }
    *batch = (struct batch){.from = worker, .shard = shard, .ops = ops};
    int rc = batch_spawn(shard->owner, batch_run, batch);
    if (rc < 0) {
        numaperf_arena_free(worker->arena, batch);
        kv_count(&worker->counters.batches_refused, 1);
        ops_fail(&ops, rc);
        return;
    }
    kv_count(&worker->counters.batches_sent, 1);
    kv_count(&worker->counters.ops_remote, ops.count);
}

static void outboxes_flush(struct kv_worker *worker)
{
    worker->flush_wanted = false;
    for (uint32_t i = 0; i < worker->kv->shard_count; i++) {
        if (worker->outboxes[i].first != NULL)
            outbox_send(worker, worker->kv->shards[i], list_take(&worker->outboxes[i]));
    }
}

void kv_turn(struct kv_worker *worker)
{
    /* It ends: a round runs only for input that is in the buffers already, and that gets less. */
    do {
        outboxes_flush(worker);
        conn_look_after_changed(worker);
    } while (worker->changed != NULL);
}
