/* SPDX-License-Identifier: MIT */
/*
 * What of io_uring a loop uses: what its ring was made of, and what rings can do in this process,
 * which is tried once, at the first question.
 *
 * The results are the process's, since so are kernel, settings and filters; a try that failed for
 * want of memory or descriptors is not kept. Filters that come later are met by the requests
 * themselves.
 *
 * Thread rule: any; a lock makes the first one try and the others wait for it.
 */
#include "io/features.h"

#include "base/config.h"
#include "base/error.h"
#include "io/loop_state.h"
#include "place/capability.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(numaperf_loop_features_t) == 56, "public struct: append only");
_Static_assert(offsetof(numaperf_loop_features_t, sqpoll) == 52, "public struct: append only");

#define FEATURES_MIN_SIZE offsetof(numaperf_loop_features_t, ring) + sizeof(uint32_t)

/* Global on purpose, as is what they describe. */
static pthread_mutex_t features_lock = PTHREAD_MUTEX_INITIALIZER;
static bool features_are_known;                  /* under the lock */
static int features_results[NUMAPERF__FEATURES]; /* the same; 0 or -errno */
static _Atomic uint32_t features_hidden;         /* by tests */

void numaperf__features_disable(uint32_t mask)
{
    atomic_store_explicit(&features_hidden, mask, memory_order_relaxed);
}

uint32_t numaperf__features_disabled(void)
{
    return atomic_load_explicit(&features_hidden, memory_order_relaxed);
}

static bool features_are_short(int rc)
{
    return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -EAGAIN || rc == -ENOBUFS;
}

/* Whether what was found may be kept. */
static bool features_try(int results[NUMAPERF__FEATURES])
{
    memset(results, 0, NUMAPERF__FEATURES * sizeof(results[0]));
    int rc = numaperf__ring_try_features(results);
    bool is_final = !features_are_short(rc);
    for (size_t i = NUMAPERF__FEATURE_BUFFER_RING; i < NUMAPERF__FEATURES; i++) {
        if (rc < 0)
            results[i] = rc;
        is_final = is_final && !features_are_short(results[i]);
    }
    return is_final;
}

static void features_ask(int out_results[NUMAPERF__FEATURES])
{
    (void)pthread_mutex_lock(&features_lock); /* a plain mutex: neither call can fail */
    if (!features_are_known)
        features_are_known = features_try(features_results);
    memcpy(out_results, features_results, sizeof(features_results));
    (void)pthread_mutex_unlock(&features_lock);
}

/* ---- of a loop ---- */

/* A request, flag or setting that the kernel does not know is -EINVAL to it. */
static uint32_t features_outcome(int rc)
{
    if (rc == -EINVAL)
        return NUMAPERF_PROBE_TOO_OLD;
    return rc < 0 ? numaperf__io_uring_probe_outcome(-rc) : NUMAPERF_PROBE_OK;
}

static uint32_t features_of_step(int rc)
{
    return rc == NUMAPERF__RING_NOT_ASKED ? NUMAPERF_PROBE_NOT_ASKED : features_outcome(rc);
}

/* Without a ring there is nothing of it, for one cause. */
static void features_of_none(const numaperf_loop_t *loop, struct numaperf__features *out)
{
    uint32_t cause =
        loop->ring_rc == 0 ? NUMAPERF_PROBE_NOT_ASKED : features_outcome(loop->ring_rc);
    uint32_t fields[sizeof(numaperf_loop_features_t) / sizeof(uint32_t)];
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        fields[i] = cause;
    memcpy(&out->known, fields, sizeof(out->known));
    out->known.size = sizeof(out->known);
    out->zero_copy_report = cause;
}

static void features_of_ring(const numaperf_loop_t *loop, struct numaperf__features *out)
{
    struct numaperf__ring_outcome made;
    numaperf__ring_get_outcome(loop->ring, &made);
    out->known.ring = NUMAPERF_PROBE_OK;
    if (numaperf__ring_has_sqpoll(loop->ring))
        out->known.defer_taskrun = NUMAPERF_PROBE_NOT_ASKED; /* the poller has that work */
    else
        out->known.defer_taskrun =
            numaperf__ring_defers(loop->ring) ? NUMAPERF_PROBE_OK : NUMAPERF_PROBE_TOO_OLD;
    out->known.own_memory = features_of_step(made.own_memory);
    out->known.iowq_affinity = features_of_step(made.iowq_affinity);
    out->known.busy_poll = features_of_step(made.busy_poll);
    out->known.sqpoll = features_of_step(made.sqpoll);
}

void numaperf__loop_features_get(const numaperf_loop_t *loop, struct numaperf__features *out)
{
    *out = (struct numaperf__features){.known = NUMAPERF_LOOP_FEATURES_INIT};
    if (loop->ring == NULL) {
        features_of_none(loop, out);
        return;
    }
    int results[NUMAPERF__FEATURES];
    features_ask(results);
    for (size_t i = NUMAPERF__FEATURE_BUFFER_RING; i < NUMAPERF__FEATURES; i++) {
        if ((loop->hidden_features & 1u << i) != 0)
            results[i] = -EINVAL;
    }
    features_of_ring(loop, out);
    const struct {
        uint32_t *field;
        enum numaperf__feature feature;
    } tried[] = {
        {&out->known.buffer_ring, NUMAPERF__FEATURE_BUFFER_RING},
        {&out->known.buffer_incremental, NUMAPERF__FEATURE_BUFFER_INCREMENTAL},
        {&out->known.accept_multishot, NUMAPERF__FEATURE_ACCEPT_MULTISHOT},
        {&out->known.receive_multishot, NUMAPERF__FEATURE_RECEIVE_MULTISHOT},
        {&out->known.send_zero_copy, NUMAPERF__FEATURE_SEND_ZERO_COPY},
        {&out->known.direct_descriptors, NUMAPERF__FEATURE_DIRECT_DESCRIPTORS},
        {&out->known.message_ring, NUMAPERF__FEATURE_MESSAGE_RING},
        {&out->zero_copy_report, NUMAPERF__FEATURE_ZERO_COPY_REPORT},
    };
    for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++)
        *tried[i].field = features_outcome(results[tried[i].feature]);
}

bool numaperf__loop_has(const numaperf_loop_t *loop, enum numaperf__feature feature)
{
    struct numaperf__features found;
    numaperf__loop_features_get(loop, &found);
    switch (feature) {
    case NUMAPERF__FEATURE_DEFER_TASKRUN:
        return found.known.defer_taskrun == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_OWN_MEMORY:
        return found.known.own_memory == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_BUFFER_RING:
        return found.known.buffer_ring == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_BUFFER_INCREMENTAL:
        return found.known.buffer_incremental == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_ACCEPT_MULTISHOT:
        return found.known.accept_multishot == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_RECEIVE_MULTISHOT:
        return found.known.receive_multishot == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_SEND_ZERO_COPY:
        return found.known.send_zero_copy == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_ZERO_COPY_REPORT:
        return found.zero_copy_report == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_DIRECT_DESCRIPTORS:
        return found.known.direct_descriptors == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_MESSAGE_RING:
        return found.known.message_ring == NUMAPERF_PROBE_OK;
    case NUMAPERF__FEATURE_RING:
    default:
        return found.known.ring == NUMAPERF_PROBE_OK;
    }
}

int numaperf_loop_features(const numaperf_loop_t *loop, numaperf_loop_features_t *out)
{
    if (loop == NULL)
        return numaperf__fail(-EINVAL, 0, "features", "loop must not be NULL");
    struct numaperf__features found;
    numaperf__loop_features_get(loop, &found);
    return numaperf__result_store(out, FEATURES_MIN_SIZE, &found.known, sizeof(found.known),
                                  "features");
}

/* ---- names ---- */

const char *numaperf_loop_feature(const numaperf_loop_features_t *features, size_t index,
                                  uint32_t *out_outcome)
{
    if (features == NULL || out_outcome == NULL)
        return NULL;
    const struct {
        const char *name;
        uint32_t outcome;
    } rows[] = {
        {"ring", features->ring},
        {"defer_taskrun", features->defer_taskrun},
        {"own_memory", features->own_memory},
        {"buffer_ring", features->buffer_ring},
        {"buffer_incremental", features->buffer_incremental},
        {"accept_multishot", features->accept_multishot},
        {"receive_multishot", features->receive_multishot},
        {"send_zero_copy", features->send_zero_copy},
        {"direct_descriptors", features->direct_descriptors},
        {"message_ring", features->message_ring},
        {"iowq_affinity", features->iowq_affinity},
        {"busy_poll", features->busy_poll},
        {"sqpoll", features->sqpoll},
    };
    if (index >= sizeof(rows) / sizeof(rows[0]))
        return NULL;
    *out_outcome = rows[index].outcome;
    return rows[index].name;
}
