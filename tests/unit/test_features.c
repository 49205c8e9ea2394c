/* SPDX-License-Identifier: MIT */
/* What of io_uring works: the probe leaves nothing, says what is so, and every step can be hidden.
 */
#include "io/features.h"

#include "io/loop.h"
#include "io/ring.h"
#include "place/pin.h"

#include <numaperf/capabilities.h>
#include <numaperf/error.h>
#include <numaperf/loop.h>

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Set by main(): whether there are rings here. */
static int ring_refusal;

#define SKIP_WITHOUT_RING()                                          \
    do {                                                             \
        if (ring_refusal < 0) {                                      \
            print_message("skipped: io_uring is refused here: %s\n", \
                          numaperf_strerror(ring_refusal));          \
            skip();                                                  \
        }                                                            \
    } while (0)

static numaperf_loop_t *loop_open(uint32_t backend)
{
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = backend;
    numaperf_loop_t *loop = NULL;
    assert_int_equal(numaperf_loop_create(&config, &loop), 0);
    return loop;
}

/* A loop as a worker has one, on the node of this thread. */
struct host {
    struct numaperf__wake wake;
    numaperf_loop_t *loop;
};

static void host_open(struct host *host, uint32_t hidden)
{
    int node = -1;
    assert_int_equal(numaperf__wake_init(&host->wake), 0);
    assert_int_equal(numaperf__current_cpu(NULL, &node), 0);
    const struct numaperf__loop_setup setup = {
        .backend = NUMAPERF_IO_URING, .wake = &host->wake, .node = node, .has_node = true};
    numaperf__features_disable(hidden);
    assert_int_equal(numaperf__loop_create_hosted(&setup, &host->loop), 0);
    numaperf__features_disable(0);
}

static void host_close(struct host *host)
{
    numaperf__loop_close_hosted(host->loop);
    numaperf__wake_fini(&host->wake);
}

static numaperf_loop_features_t features_of(const numaperf_loop_t *loop)
{
    numaperf_loop_features_t found = NUMAPERF_LOOP_FEATURES_INIT;
    assert_int_equal(numaperf_loop_features(loop, &found), 0);
    assert_int_equal(found.size, sizeof(found));
    return found;
}

/* Every field but the size. */
static void assert_all_are(const numaperf_loop_features_t *found, uint32_t outcome)
{
    const uint32_t *fields = &found->ring;
    for (size_t i = 0; i < sizeof(*found) / sizeof(uint32_t) - 1; i++)
        assert_int_equal(fields[i], outcome);
}

static void features_of_bad_arguments_are_refused(void **state)
{
    (void)state;
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_EPOLL);
    numaperf_loop_features_t found = NUMAPERF_LOOP_FEATURES_INIT;
    found.ring = 77;
    assert_int_equal(numaperf_loop_features(NULL, &found), -EINVAL);
    assert_int_equal(numaperf_loop_features(loop, NULL), -EINVAL);
    found.size = 4; /* no room for the first */
    assert_int_equal(numaperf_loop_features(loop, &found), -EINVAL);
    assert_int_equal(found.ring, 77);
    found.size = 8; /* one field, and no byte behind it */
    found.defer_taskrun = 78;
    assert_int_equal(numaperf_loop_features(loop, &found), 0);
    assert_int_equal(found.ring, NUMAPERF_PROBE_NOT_ASKED);
    assert_int_equal(found.defer_taskrun, 78);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void features_of_epoll_that_was_asked_for_are_not_asked(void **state)
{
    (void)state;
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_EPOLL);
    numaperf_loop_features_t found = features_of(loop);
    assert_all_are(&found, NUMAPERF_PROBE_NOT_ASKED);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int count = 0;
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static void features_tried_leave_nothing_open(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    int results[NUMAPERF__FEATURES] = {0};
    assert_int_equal(numaperf__ring_try_features(results), 0); /* what libraries make for good */
    int before = count_entries("/proc/self/fd");
    int threads = count_entries("/proc/self/task");
    for (int i = 0; i < 8; i++) {
        assert_int_equal(numaperf__ring_try_features(results), 0);
        assert_int_equal(count_entries("/proc/self/fd"), before);
        assert_int_equal(count_entries("/proc/self/task"), threads); /* of io-wq none */
    }
}

/* Kernels only ever learn: what came with or before a known step is there when that step is. */
static void features_found_fit_together(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    struct host host;
    host_open(&host, 0);
    numaperf_loop_features_t found = features_of(host.loop);
    const uint32_t *fields = &found.ring;
    for (size_t i = 0; i < sizeof(found) / sizeof(uint32_t) - 1; i++)
        print_message("feature %zu: %s\n", i, numaperf_probe_name(fields[i]));
    assert_int_equal(found.ring, NUMAPERF_PROBE_OK);
    if (found.defer_taskrun == NUMAPERF_PROBE_OK) { /* 6.1 */
        assert_int_equal(found.buffer_ring, NUMAPERF_PROBE_OK);
        assert_int_equal(found.accept_multishot, NUMAPERF_PROBE_OK);
        assert_int_equal(found.receive_multishot, NUMAPERF_PROBE_OK);
        assert_int_equal(found.send_zero_copy, NUMAPERF_PROBE_OK);
        assert_int_equal(found.direct_descriptors, NUMAPERF_PROBE_OK);
        assert_int_equal(found.message_ring, NUMAPERF_PROBE_OK);
    }
    if (found.buffer_incremental == NUMAPERF_PROBE_OK) {                                /* 6.12 */
        assert_true(numaperf__loop_has(host.loop, NUMAPERF__FEATURE_ZERO_COPY_REPORT)); /* 6.2 */
        assert_int_equal(found.own_memory, NUMAPERF_PROBE_OK);                          /* 6.6 */
    }
    assert_int_equal(found.sqpoll, NUMAPERF_PROBE_NOT_ASKED);
    assert_int_equal(found.busy_poll, NUMAPERF_PROBE_NOT_ASKED);
    host_close(&host);
}

static void features_of_a_loop_of_the_user_ask_for_no_node(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    numaperf_loop_features_t found = features_of(loop);
    assert_int_equal(found.ring, NUMAPERF_PROBE_OK);
    assert_int_equal(found.own_memory, NUMAPERF_PROBE_NOT_ASKED);
    assert_int_equal(found.iowq_affinity, NUMAPERF_PROBE_NOT_ASKED);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void features_are_the_same_at_every_question(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    numaperf_loop_features_t first = features_of(loop);
    numaperf_loop_features_t second = features_of(loop);
    assert_memory_equal(&first, &second, sizeof(first));
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

/* Of each: the field of the public struct that says so; one past it is none. */
static const struct {
    enum numaperf__feature feature;
    size_t field;
} hideable[] = {
    {NUMAPERF__FEATURE_DEFER_TASKRUN, offsetof(numaperf_loop_features_t, defer_taskrun)},
    {NUMAPERF__FEATURE_OWN_MEMORY, offsetof(numaperf_loop_features_t, own_memory)},
    {NUMAPERF__FEATURE_BUFFER_RING, offsetof(numaperf_loop_features_t, buffer_ring)},
    {NUMAPERF__FEATURE_BUFFER_INCREMENTAL, offsetof(numaperf_loop_features_t, buffer_incremental)},
    {NUMAPERF__FEATURE_ACCEPT_MULTISHOT, offsetof(numaperf_loop_features_t, accept_multishot)},
    {NUMAPERF__FEATURE_RECEIVE_MULTISHOT, offsetof(numaperf_loop_features_t, receive_multishot)},
    {NUMAPERF__FEATURE_SEND_ZERO_COPY, offsetof(numaperf_loop_features_t, send_zero_copy)},
    {NUMAPERF__FEATURE_DIRECT_DESCRIPTORS, offsetof(numaperf_loop_features_t, direct_descriptors)},
    {NUMAPERF__FEATURE_MESSAGE_RING, offsetof(numaperf_loop_features_t, message_ring)},
};

static uint32_t field_of(const numaperf_loop_features_t *found, size_t offset)
{
    uint32_t value = 0;
    memcpy(&value, (const char *)found + offset, sizeof(value));
    return value;
}

/* Each by itself, on loops made while it is hidden; the others are what they were. */
static void hidden_feature_is_missing_alone(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    struct host plain;
    host_open(&plain, 0);
    numaperf_loop_features_t all = features_of(plain.loop);
    for (size_t i = 0; i < sizeof(hideable) / sizeof(hideable[0]); i++) {
        struct host host;
        host_open(&host, 1u << hideable[i].feature);
        numaperf_loop_features_t found = features_of(host.loop);
        assert_int_equal(field_of(&found, hideable[i].field), NUMAPERF_PROBE_TOO_OLD);
        assert_false(numaperf__loop_has(host.loop, hideable[i].feature));
        for (size_t k = 0; k < sizeof(hideable) / sizeof(hideable[0]); k++) {
            /* Memory of our own came after deferred completions: the steps before have none. */
            if (k == i || hideable[i].feature == NUMAPERF__FEATURE_DEFER_TASKRUN)
                continue;
            assert_int_equal(field_of(&found, hideable[k].field),
                             field_of(&all, hideable[k].field));
        }
        numaperf__wake_signal(&host.wake); /* it works without */
        numaperf__loop_wait(host.loop, UINT64_MAX);
        numaperf__loop_turn(host.loop);
        host_close(&host);
    }
    numaperf_loop_features_t still = features_of(plain.loop);
    assert_memory_equal(&all, &still, sizeof(all));
    host_close(&plain);
}

static void hidden_ring_is_epoll_with_the_cause(void **state)
{
    (void)state;
    numaperf__features_disable(1u << NUMAPERF__FEATURE_RING);
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_AUTO);
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_URING;
    numaperf_loop_t *refused = NULL;
    assert_int_equal(numaperf_loop_create(&config, &refused), -ENOSYS);
    numaperf__features_disable(0);
    assert_int_equal(numaperf_loop_backend(loop), NUMAPERF_IO_EPOLL);
    assert_non_null(numaperf_loop_backend_reason(loop));
    numaperf_loop_features_t found = features_of(loop);
    assert_int_not_equal(found.ring, NUMAPERF_PROBE_OK);
    assert_int_not_equal(found.ring, NUMAPERF_PROBE_NOT_ASKED);
    assert_all_are(&found, found.ring);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void features_are_listed_each_once_by_name(void **state)
{
    (void)state;
    numaperf_loop_features_t features = NUMAPERF_LOOP_FEATURES_INIT;
    uint32_t *fields = &features.ring;
    size_t count = (sizeof(features) - offsetof(numaperf_loop_features_t, ring)) / sizeof(*fields);
    for (size_t i = 0; i < count; i++)
        fields[i] = 100 + (uint32_t)i;
    uint32_t outcome = 0;
    /* A field that was appended and not listed, or listed twice, breaks the sequence. */
    for (size_t i = 0; i < count; i++) {
        assert_non_null(numaperf_loop_feature(&features, i, &outcome));
        assert_int_equal(outcome, 100 + i);
    }
    assert_null(numaperf_loop_feature(&features, count, &outcome));
    assert_null(numaperf_loop_feature(NULL, 0, &outcome));
    assert_null(numaperf_loop_feature(&features, 0, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_listed_each_once_by_name),
        cmocka_unit_test(features_of_bad_arguments_are_refused),
        cmocka_unit_test(features_of_epoll_that_was_asked_for_are_not_asked),
        cmocka_unit_test(features_tried_leave_nothing_open),
        cmocka_unit_test(features_found_fit_together),
        cmocka_unit_test(features_of_a_loop_of_the_user_ask_for_no_node),
        cmocka_unit_test(features_are_the_same_at_every_question),
        cmocka_unit_test(hidden_feature_is_missing_alone),
        cmocka_unit_test(hidden_ring_is_epoll_with_the_cause),
    };
    struct numaperf__ring *ring = NULL;
    ring_refusal = numaperf__ring_create(4, &ring);
    numaperf__ring_destroy(ring);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
