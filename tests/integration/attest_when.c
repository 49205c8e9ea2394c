/* SPDX-License-Identifier: MIT */
/* When and where an attestation may be asked for: callbacks, stops, starts that fail, all at once.
 */
#include "attest_when.h"

#include <numaperf.h>

#include "support/attest_view.h"
#include "support/clock.h"

#include "sched/look.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define ASKERS 4

/* ---- when and where ---- */

void bad_arguments_are_refused(void **state)
{
    (void)state;
    char untouched = 0;
    char *text = &untouched;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    assert_int_equal(numaperf_rt_attest(NULL, &text), -EINVAL);
    box_open(&box, NULL);
    assert_int_equal(numaperf_rt_attest(box.rt, NULL), -EINVAL);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(numaperf_rt_attest(box.rt, &text), NUMAPERF_E_STOPPING);
    assert_string_equal(numaperf_last_error()->operation, "attest");
    assert_ptr_equal(text, &untouched);
    runtime_box_close(&box);
}

/* What a callback got; `text` is for free(). */
struct answer {
    numaperf_rt_t *rt;
    atomic_int count;
    int rc;
    char *text;
};

static void ask(numaperf_rt_t *rt, struct answer *answer)
{
    free(answer->text);
    answer->text = NULL;
    answer->rc = numaperf_rt_attest(rt, &answer->text);
    (void)atomic_fetch_add(&answer->count, 1);
}

static void ask_task(numaperf_worker_t *worker, void *answer)
{
    ask(numaperf_worker_rt(worker), answer);
}

static int ask_at_start(numaperf_worker_t *worker, void *answer)
{
    if (numaperf_worker_index(worker) == 0)
        ask(numaperf_worker_rt(worker), answer);
    return 0;
}

static void ask_at_stop(numaperf_worker_t *worker, void *answer)
{
    if (numaperf_worker_index(worker) == 0)
        ask(numaperf_worker_rt(worker), answer);
}

static void check_answer(struct answer *answer)
{
    assert_int_equal(answer->rc, 0);
    json_t *root = json_loads(answer->text, 0, NULL);
    assert_non_null(root);
    assert_true(verdict_is(root, 0, "affinity", "last", "home"));
    json_decref(root);
}

void it_may_be_asked_for_on_a_worker_at_start_and_in_a_task(void **state)
{
    (void)state;
    struct answer answer = {.rc = 1};
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.on_worker_start = ask_at_start;
    box.config.on_worker_stop = ask_at_stop;
    box.config.data = &answer;
    box_open(&box, NULL);
    assert_int_equal(atomic_load(&answer.count), 1);
    check_answer(&answer);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, ask_task, &answer), 0);
    assert_true(runtime_reaches(&answer.count, 2));
    check_answer(&answer);
    runtime_box_close(&box);
    assert_int_equal(atomic_load(&answer.count), 3);
    assert_int_equal(answer.rc, NUMAPERF_E_STOPPING);
    assert_null(answer.text);
}

static void ask_in_violation(numaperf_rt_t *rt, const numaperf_violation_t *violation, void *answer)
{
    if (violation->kind == NUMAPERF_VIOLATION_AFFINITY && violation->worker == 0)
        ask(rt, answer);
}

void it_may_be_asked_for_in_on_violation(void **state)
{
    (void)state;
    if (has_one_pu())
        skip();
    struct answer answer = {.rc = 1};
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.audit_interval_ms = 5;
    box.config.on_violation = ask_in_violation;
    box.config.data = &answer;
    box_open(&box, NULL);
    set_affinity(numaperf_worker_thread_id(numaperf_rt_worker(box.rt, 0)), -1);
    assert_true(runtime_reaches(&answer.count, 1));
    runtime_box_close(&box);
    assert_int_equal(answer.rc, 0);
    json_t *root = json_loads(answer.text, 0, NULL);
    assert_true(verdict_is(root, 0, "affinity", "last", "drifted"));
    assert_true(number_of(at_path(root, "audit/violations")) >= 1); /* balancing is one, too */
    json_decref(root);
    free(answer.text);
}

static void *stop_thread(void *rt)
{
    (void)numaperf_rt_stop(rt, UINT64_MAX);
    return NULL;
}

void it_is_answered_until_the_workers_begin_to_end(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    struct runtime_gate gate = {.entered = 0};
    pthread_t thread;
    box_open(&box, NULL);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    assert_int_equal(pthread_create(&thread, NULL, stop_thread, box.rt), 0);
    while (numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_gate_task, &gate) == 0)
        test_sleep_ms(1); /* until it drains, which the first task keeps up */
    json_decref(attest(box.rt));
    atomic_store(&gate.open, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    char *text = NULL;
    assert_int_equal(numaperf_rt_attest(box.rt, &text), NUMAPERF_E_STOPPING);
    runtime_box_close(&box);
}

/* ---- workers that end meanwhile ---- */

/* Done once, right before a look of this number, 0 the first. */
static struct {
    void (*fn)(void *arg);
    void *arg;
    int looks_before;
} before_look;

void __real_numaperf__look_at(const struct numaperf_worker *worker, enum numaperf__part part,
                              struct numaperf__look *out);
void __wrap_numaperf__look_at(const struct numaperf_worker *worker, enum numaperf__part part,
                              struct numaperf__look *out);

/* Every look of an attestation comes by here. */
void __wrap_numaperf__look_at(const struct numaperf_worker *worker, enum numaperf__part part,
                              struct numaperf__look *out)
{
    if (before_look.fn != NULL && before_look.looks_before-- == 0)
        before_look.fn(before_look.arg);
    __real_numaperf__look_at(worker, part, out);
}

struct ending {
    struct runtime_gate gate;
    numaperf_rt_t *rt;
    atomic_bool stopped;
    atomic_bool stopped_early; /* while somebody looked */
};

static void *stop_and_tell(void *arg)
{
    struct ending *ending = arg;
    (void)numaperf_rt_stop(ending->rt, UINT64_MAX);
    atomic_store(&ending->stopped, true);
    return NULL;
}

/* Lets the one task go that keeps the stop waiting, and sees the workers end. */
static void end_workers(void *arg)
{
    struct ending *ending = arg;
    atomic_store(&ending->gate.open, true);
    uint32_t count = (uint32_t)numaperf_rt_worker_count(ending->rt, NUMAPERF_NODE_ANY);
    for (uint32_t i = 0; i < count; i++) {
        int thread_id = numaperf_worker_thread_id(numaperf_rt_worker(ending->rt, i));
        while (syscall(SYS_tgkill, getpid(), thread_id, 0) == 0)
            test_sleep_ms(1);
    }
    test_sleep_ms(20); /* a stop takes as long to see that they have ended */
    atomic_store(&ending->stopped_early, atomic_load(&ending->stopped));
}

static int looks_of(numaperf_rt_t *rt)
{
    return (int)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY) * NUMAPERF__PART_COUNT;
}

static void ask_while_ending(bool at_last_look)
{
    struct ending ending = {.rt = NULL};
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    pthread_t thread;
    box_open(&box, NULL);
    ending.rt = box.rt;
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_gate_task, &ending.gate),
                     0);
    assert_true(runtime_reaches(&ending.gate.entered, 1));
    assert_int_equal(pthread_create(&thread, NULL, stop_and_tell, &ending), 0);
    while (numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_gate_task, &ending.gate) == 0)
        test_sleep_ms(1);
    before_look.fn = end_workers;
    before_look.arg = &ending;
    before_look.looks_before = at_last_look ? looks_of(box.rt) - 1 : 1;
    char *text = NULL;
    int rc = numaperf_rt_attest(box.rt, &text);
    before_look.fn = NULL;
    assert_int_equal(rc, NUMAPERF_E_STOPPING);
    assert_null(text);
    assert_false(atomic_load(&ending.stopped_early)); /* what is looked by was still there */
    assert_int_equal(pthread_join(thread, NULL), 0);
    runtime_box_close(&box);
}

void looks_at_workers_that_ended_meanwhile_do_not_count(void **state)
{
    (void)state;
    ask_while_ending(false);
    ask_while_ending(true);
}

/* ---- at once ---- */

struct askers {
    numaperf_rt_t *rt;
    atomic_int answered;
    atomic_int wrong;
};

static void *asker_main(void *arg)
{
    struct askers *askers = arg;
    for (;;) {
        char *text = NULL;
        int rc = numaperf_rt_attest(askers->rt, &text);
        if (rc < 0) {
            char *again = NULL;
            bool right = rc == NUMAPERF_E_STOPPING &&
                         numaperf_rt_attest(askers->rt, &again) == NUMAPERF_E_STOPPING;
            (void)atomic_fetch_add(&askers->wrong, right ? 0 : 1);
            return NULL;
        }
        json_t *root = json_loads(text, 0, NULL);
        json_t *workers = json_object_get(root, "workers");
        bool right =
            json_array_size(workers) == numaperf_rt_worker_count(askers->rt, NUMAPERF_NODE_ANY);
        (void)atomic_fetch_add(&askers->wrong, right ? 0 : 1);
        json_decref(root);
        free(text);
        (void)atomic_fetch_add(&askers->answered, 1);
    }
}

static void askers_play(struct runtime_box *box, uint64_t ms)
{
    struct askers askers = {.rt = NULL};
    pthread_t threads[ASKERS];
    box_open(box, NULL);
    askers.rt = box->rt;
    for (int i = 0; i < ASKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, asker_main, &askers), 0);
    /* Something for the auditor to tell, whose callback asks as well. */
    set_affinity(numaperf_worker_thread_id(numaperf_rt_worker(box->rt, 0)), -1);
    if (ms > 0)
        while (atomic_load(&askers.answered) == 0)
            test_sleep_ms(1);
    test_sleep_ms(ms);
    assert_int_equal(numaperf_rt_stop(box->rt, UINT64_MAX), 0);
    for (int i = 0; i < ASKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&askers.wrong), 0);
    runtime_box_close(box);
}

void many_may_ask_while_it_is_audited_and_stopped(void **state)
{
    (void)state;
    struct answer answer = {.rc = 1};
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.audit_interval_ms = 1;
    box.config.on_violation = ask_in_violation;
    box.config.data = &answer;
    for (uint64_t i = 0; i < (test_is_slow() ? 6 : 30); i++)
        askers_play(&box, i % 6);
    free(answer.text);
}

/* Worker 1's callback fails while worker 0 asks, again and again. */
struct failing {
    atomic_int asking;
    atomic_int wrong;
    atomic_int stops;
};

static int fail_beside_asker(numaperf_worker_t *worker, void *data)
{
    struct failing *failing = data;
    uint32_t index = numaperf_worker_index(worker);
    if (index == 1) {
        while (atomic_load(&failing->asking) < 2)
            test_sleep_ms(1);
        return -ECANCELED;
    }
    for (int i = 0; index == 0 && i < 8; i++) {
        char *text = NULL;
        int rc = numaperf_rt_attest(numaperf_worker_rt(worker), &text);
        bool right = rc == 0 ? text != NULL : rc == NUMAPERF_E_STOPPING && text == NULL;
        (void)atomic_fetch_add(&failing->wrong, right ? 0 : 1);
        free(text);
        (void)atomic_fetch_add(&failing->asking, 1);
    }
    return 0;
}

/* Others may have ended already, whatever the runtime's state says. */
static void ask_too_late(numaperf_worker_t *worker, void *data)
{
    struct failing *failing = data;
    char *text = NULL;
    int rc = numaperf_rt_attest(numaperf_worker_rt(worker), &text);
    (void)atomic_fetch_add(&failing->wrong, rc == NUMAPERF_E_STOPPING ? 0 : 1);
    (void)atomic_fetch_add(&failing->stops, 1);
    free(text);
}

void a_start_that_fails_meanwhile_is_told_or_too_late(void **state)
{
    (void)state;
    struct failing failing = {.asking = 0};
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.workers_per_node = 1;
    box.config.on_worker_start = fail_beside_asker;
    box.config.on_worker_stop = ask_too_late;
    box.config.data = &failing;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), -ECANCELED);
    assert_int_equal(atomic_load(&failing.asking), 8);
    assert_int_equal(atomic_load(&failing.stops), 1);
    assert_int_equal(atomic_load(&failing.wrong), 0);
}
