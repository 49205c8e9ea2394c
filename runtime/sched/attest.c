/* SPDX-License-Identifier: MIT */
/*
 * The attestation: look at every part of every worker, then write down what was asked, what was
 * found when it started and what is found now.
 *
 * A look goes by a worker's stack, lock, addresses and thread id. The first two last until the
 * worker is joined. Whoever looks says so in looker_count first, and only then asks whether workers
 * may have begun to end; whoever joins does so after they may have, and then waits for the count to
 * be 0. Of two that say and ask in this order, seq_cst, at least one sees the other. So a stop
 * waits for one look at most, and nobody here waits for a stop: a worker or on_violation may ask,
 * too.
 *
 * Addresses and ids may be somebody else's already when the worker's thread has ended, joined or
 * not. It leaves its loop only after it has read CLOSING, and in a start that fails only after the
 * start latch was aborted; neither is ever taken back. So looks count when after the last of them
 * neither was so: then every worker still had its thread, stack and ring when it was looked at.
 * Otherwise they are dropped, and nothing is known by them; to the kernel a stale address is only a
 * question. Arenas, evidence, and everything else that is read here last until destroy, which no
 * other call may run beside.
 *
 * Thread rule: any thread; calls at once share nothing but the count and the evidence, which has a
 * lock of its own.
 */
#include "sched/attest.h"

#include "base/assert.h"
#include "base/error.h"
#include "place/capability.h"
#include "place/enforce.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define ATTEST_POLL_NS 200000 /* between two looks of a join at who still looks */

int64_t numaperf__attest_now_ns(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    NUMAPERF_ASSERT(rc == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- looking ---- */

/* Whether a worker may have begun to end. */
static bool attest_is_late(numaperf_rt_t *rt)
{
    return numaperf__rt_state(rt) >= NUMAPERF__RT_CLOSING ||
           numaperf__latch_aborted(&rt->start_latch, NULL);
}

/* False when it is too late for that. */
static bool attest_look_once(const struct numaperf__attest *attest, uint32_t worker, uint32_t part)
{
    numaperf_rt_t *rt = attest->rt;
    /* seq_cst: before the state is asked for; pairs with numaperf__attest_await_looks(). */
    (void)atomic_fetch_add_explicit(&rt->looker_count, 1, memory_order_seq_cst);
    bool late = attest_is_late(rt);
    if (!late)
        numaperf__look_at(&rt->workers[worker], (enum numaperf__part)part,
                          numaperf__attest_look(attest, worker, part));
    /* Release pairs with the same: what was looked by is let go of. */
    (void)atomic_fetch_sub_explicit(&rt->looker_count, 1, memory_order_release);
    return !late;
}

void numaperf__attest_await_looks(const numaperf_rt_t *rt)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = ATTEST_POLL_NS};
    /* seq_cst: the state was moved on before, or the latch aborted. */
    while (atomic_load_explicit(&rt->looker_count, memory_order_seq_cst) > 0)
        (void)nanosleep(&pause, NULL); /* shorter when a signal comes, which is as well */
}

static bool attest_look_at_all(const struct numaperf__attest *attest)
{
    for (uint32_t i = 0; i < attest->rt->worker_count; i++) {
        for (uint32_t part = 0; part < NUMAPERF__PART_COUNT; part++) {
            if (!attest_look_once(attest, i, part))
                return false;
        }
    }
    return !attest_is_late(attest->rt);
}

static int attest_take_looks(const struct numaperf__attest *attest)
{
    numaperf_rt_t *rt = attest->rt;
    if (!attest_look_at_all(attest))
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, "attest", "the workers have begun to end");
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        for (uint32_t part = 0; part < NUMAPERF__PART_COUNT; part++)
            numaperf__evidence_add(rt->evidence, i, (enum numaperf__part)part,
                                   numaperf__attest_look(attest, i, part));
    }
    return 0;
}

/* ---- verdict ---- */

static void attest_judge_part(struct numaperf__attest *attest, uint32_t worker,
                              enum numaperf__part part, const struct numaperf__look *look)
{
    numaperf_enforcement_t found;
    const char *name = numaperf__part_name(part);
    if (look->verdict == NUMAPERF__LOOK_HOME || look->verdict == NUMAPERF__LOOK_NO_PART)
        return;
    if (look->verdict == NUMAPERF__LOOK_UNREADABLE)
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "worker %u: %s cannot be read back: %s", worker, name,
                              numaperf_strerror(-look->sys_errno));
    else
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "worker %u: %s: wanted %s, found %s", worker, name, look->wanted,
                              look->found);
    numaperf__enforce_lower(&attest->verdict, &found);
}

/* Hard mode has promised that nobody moves heaps and stacks, either. */
static void attest_judge_balancing(struct numaperf__attest *attest)
{
    if (attest->rt->config.mode != NUMAPERF_MODE_HARD)
        return;
    int value = numaperf__numa_balancing();
    numaperf_enforcement_t found;
    if (value == 0)
        return;
    numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                          value < 0 ? "kernel.numa_balancing cannot be read: %s"
                                    : "kernel.numa_balancing was switched on%s",
                          value < 0 ? numaperf_strerror(value) : "");
    numaperf__enforce_lower(&attest->verdict, &found);
}

static void attest_judge(struct numaperf__attest *attest)
{
    numaperf__enforce_set(&attest->verdict, NUMAPERF_ENFORCE_STRICT, "%s", "");
    for (uint32_t i = 0; i < attest->rt->worker_count; i++) {
        numaperf__enforce_lower(&attest->verdict, &attest->rt->workers[i].enforcement);
        for (uint32_t part = 0; part < NUMAPERF__PART_COUNT; part++)
            attest_judge_part(attest, i, (enum numaperf__part)part,
                              numaperf__attest_look(attest, i, part));
    }
    attest_judge_balancing(attest);
}

/* ---- the call ---- */

static int attest_write(struct numaperf__attest *attest, char **out_json)
{
    json_t *root = numaperf__attest_document(attest);
    int rc = attest->json.failed ? -ENOMEM : numaperf__json_write(root, out_json);
    json_decref(root);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "attest", "no memory for the document");
    return 0;
}

int numaperf_rt_attest(numaperf_rt_t *rt, char **out_json)
{
    if (rt == NULL || out_json == NULL)
        return numaperf__fail(-EINVAL, 0, "attest", "rt and out_json must not be NULL");
    struct numaperf__attest attest = {.rt = rt, .began_ns = numaperf__attest_now_ns()};
    attest.looks = calloc((size_t)rt->worker_count * NUMAPERF__PART_COUNT, sizeof(*attest.looks));
    if (attest.looks == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "attest", "no memory for looks at %u workers",
                              rt->worker_count);
    int rc = attest_take_looks(&attest);
    if (rc == 0) {
        attest_judge(&attest);
        rc = attest_write(&attest, out_json);
    }
    free(attest.looks);
    return rc;
}
