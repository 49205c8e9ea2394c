/* SPDX-License-Identifier: MIT */
/*
 * Requests of the user's own: numaperf_loop_sqe(), a tenant of the loop.
 *
 * Each has a record from the call to its last completion, in one list while the kernel has it; a
 * few records are kept for the next ones. When the loop closes all are cancelled, and their `done`
 * is called as for any other end; new ones are refused from then on.
 *
 *   free -> (call) in flight -> (last completion) done is called -> free
 *
 * Thread rule: the loop's thread.
 */
#include "base/assert.h"
#include "base/error.h"
#include "base/list.h"
#include "io/loop.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>

#define USER_SQE_SPARE_MAX 64u /* records that are kept */

struct user_sqe {
    struct numaperf__op op;
    struct numaperf__list node; /* of `in_flight`, or of `spare` */
    struct user_sqes *owner;
    numaperf_sqe_done_fn done;
    void *data;
    alignas(uint64_t) unsigned char request[NUMAPERF__RING_REQUEST_SIZE]; /* read when submitted */
};

struct user_sqes {
    struct numaperf__loop_tenant tenant; /* first */
    numaperf_loop_t *loop;
    struct numaperf__list in_flight;
    struct numaperf__list spare;
    uint32_t spare_count;
    bool is_closing;
};

static struct user_sqes *user_sqes_of(struct numaperf__loop_tenant *tenant)
{
    return NUMAPERF_CONTAINER_OF(tenant, struct user_sqes, tenant);
}

/* ---- records ---- */

static struct user_sqe *user_sqe_take(struct user_sqes *sqes)
{
    if (numaperf__list_empty(&sqes->spare))
        return calloc(1, sizeof(struct user_sqe));
    struct user_sqe *sqe = NUMAPERF_CONTAINER_OF(sqes->spare.next, struct user_sqe, node);
    numaperf__list_remove(&sqe->node);
    NUMAPERF_ASSERT(sqes->spare_count > 0);
    sqes->spare_count--;
    return sqe;
}

static void user_sqe_give(struct user_sqes *sqes, struct user_sqe *sqe)
{
    NUMAPERF_ASSERT(!sqe->op.in_flight);
    if (sqes->spare_count == USER_SQE_SPARE_MAX) {
        free(sqe);
        return;
    }
    numaperf__list_push_back(&sqes->spare, &sqe->node);
    sqes->spare_count++;
}

/* ---- the end ---- */

/* What found no room in the SQ is asked again the next time. */
static void user_sqes_cancel_all(struct user_sqes *sqes)
{
    struct numaperf__ring *ring = numaperf__loop_ring(sqes->loop);
    int rc = 0;
    for (struct numaperf__list *at = sqes->in_flight.next; at != &sqes->in_flight && rc == 0;
         at = at->next)
        rc = numaperf__ring_cancel(ring, &NUMAPERF_CONTAINER_OF(at, struct user_sqe, node)->op);
    if (rc < 0)
        numaperf__loop_mark_dirty(sqes->loop, &sqes->tenant);
}

static void user_sqes_turn(struct numaperf__loop_tenant *tenant)
{
    struct user_sqes *sqes = user_sqes_of(tenant);
    if (sqes->is_closing)
        user_sqes_cancel_all(sqes);
}

static void user_sqes_close(struct numaperf__loop_tenant *tenant)
{
    struct user_sqes *sqes = user_sqes_of(tenant);
    sqes->is_closing = true;
    user_sqes_cancel_all(sqes);
}

static bool user_sqes_is_closed(const struct numaperf__loop_tenant *tenant)
{
    const struct user_sqes *sqes = (const struct user_sqes *)(const void *)tenant;
    return numaperf__list_empty(&sqes->in_flight);
}

static bool user_sqes_is_busy(const struct numaperf__loop_tenant *tenant)
{
    return !user_sqes_is_closed(tenant);
}

static void user_sqes_destroy(struct numaperf__loop_tenant *tenant)
{
    struct user_sqes *sqes = user_sqes_of(tenant);
    NUMAPERF_ASSERT(numaperf__list_empty(&sqes->in_flight));
    struct numaperf__list *next = NULL;
    for (struct numaperf__list *node = sqes->spare.next; node != &sqes->spare; node = next) {
        next = node->next;
        free(NUMAPERF_CONTAINER_OF(node, struct user_sqe, node));
    }
    free(sqes);
}

/* ---- the call ---- */

static int user_sqes_of_loop(numaperf_loop_t *loop, struct user_sqes **out)
{
    struct numaperf__loop_tenant *tenant =
        numaperf__loop_get_tenant(loop, NUMAPERF__LOOP_USER_SQES);
    if (tenant != NULL) {
        *out = user_sqes_of(tenant);
        return (*out)->is_closing
                   ? numaperf__fail(NUMAPERF_E_STOPPING, 0, "sqe", "the loop is being closed")
                   : 0;
    }
    struct user_sqes *sqes = calloc(1, sizeof(*sqes));
    if (sqes == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "sqe", "no memory for the loop's requests");
    sqes->tenant = (struct numaperf__loop_tenant){.turn = user_sqes_turn,
                                                  .close = user_sqes_close,
                                                  .is_closed = user_sqes_is_closed,
                                                  .is_busy = user_sqes_is_busy,
                                                  .destroy = user_sqes_destroy};
    sqes->loop = loop;
    numaperf__list_init(&sqes->in_flight);
    numaperf__list_init(&sqes->spare);
    int rc = numaperf__loop_set_tenant(loop, NUMAPERF__LOOP_USER_SQES, &sqes->tenant);
    if (rc < 0) {
        free(sqes);
        return rc;
    }
    *out = sqes;
    return 0;
}

static void user_sqe_done(struct numaperf__op *op)
{
    struct user_sqe *sqe = NUMAPERF_CONTAINER_OF(op, struct user_sqe, op);
    struct user_sqes *sqes = sqe->owner;
    numaperf_sqe_done_fn done = sqe->done;
    void *data = sqe->data;
    int32_t result = op->result;
    uint32_t flags = op->cqe_flags;
    if (!op->more) {
        /* First: `done` may make the next request, and is the last to know of this one. */
        numaperf__list_remove(&sqe->node);
        user_sqe_give(sqes, sqe);
    }
    done(result, flags, data);
}

/* The user's `fill` may make requests by itself: the record is nobody's until it returns. */
static int user_sqe_submit(struct user_sqes *sqes, struct user_sqe *sqe, numaperf_sqe_fill_fn fill,
                           void *data)
{
    int rc = numaperf__ring_request_fill(sqe->request, fill, data);
    if (rc < 0)
        return numaperf__fail(rc, 0, "sqe", "the request has a flag that is not allowed");
    sqe->op = (struct numaperf__op){.kind = NUMAPERF__OP_USER,
                                    .done = user_sqe_done,
                                    .fill = numaperf__ring_request_copy,
                                    .argument = sqe->request,
                                    .fd = -1};
    rc = numaperf__loop_submit(sqes->loop, &sqe->op);
    if (rc < 0)
        return numaperf__fail(rc, rc > -10000 ? -rc : 0, "sqe", "it cannot be submitted: %s",
                              numaperf_strerror(rc));
    numaperf__list_push_back(&sqes->in_flight, &sqe->node);
    return 0;
}

int numaperf_loop_sqe(numaperf_loop_t *loop, numaperf_sqe_fill_fn fill, numaperf_sqe_done_fn done,
                      void *data)
{
    if (loop == NULL || fill == NULL || done == NULL)
        return numaperf__fail(-EINVAL, 0, "sqe", "loop, fill and done must not be NULL");
    if (numaperf__loop_ring(loop) == NULL)
        return numaperf__fail(NUMAPERF_E_UNSUPPORTED, 0, "sqe", "the loop has no ring: %s",
                              numaperf_loop_backend_reason(loop));
    int rc = numaperf__loop_enter(loop);
    if (rc < 0)
        return rc;
    struct user_sqes *sqes = NULL;
    rc = user_sqes_of_loop(loop, &sqes);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(sqes != NULL);
    struct user_sqe *sqe = user_sqe_take(sqes);
    if (sqe == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "sqe", "no memory for a request");
    sqe->owner = sqes;
    sqe->done = done;
    sqe->data = data;
    rc = user_sqe_submit(sqes, sqe, fill, data);
    if (rc < 0)
        user_sqe_give(sqes, sqe);
    return rc;
}
