/* SPDX-License-Identifier: MIT */
/*
 * Hard mode where one system call is denied: to the whole process, or to the workers alone, so that
 * it is the worker's own step that must notice. Filters cannot be taken back, so every scene is a
 * child of its own, and the soft start at its end works under the same filter.
 */
#include "hard_refusals.h"

#include "support/clock.h"
#include "support/refusal.h"
#include "support/sandbox.h"
#include "support/worker_filter.h"

#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include <errno.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define IO_URING_DISABLED "/proc/sys/kernel/io_uring_disabled"
#define RULES_MAX 2

/* Who is under the filter. */
enum denied { DENIED_PROCESS = 0, DENIED_WORKERS, DENIED_LAST_WORKER };

struct denial {
    struct sandbox_rule rules[RULES_MAX];
    enum denied who;
    uint32_t backend;
    const char *operation;
    const char *word;
    bool names_no_node; /* the step knows of none */
};

/* Where a worker is going to be. */
struct seat {
    int node;
    int cpu;
    int worker;
};

/* The last worker's, and the first one's, from a soft start. */
static void seats_find(struct seat *out_first, struct seat *out_last)
{
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(NULL, &rt) == 0);
    int count = (int)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    const numaperf_worker_t *first = numaperf_rt_worker(rt, 0);
    const numaperf_worker_t *last = numaperf_rt_worker(rt, (uint32_t)count - 1);
    *out_first = (struct seat){numaperf_worker_node(first), numaperf_worker_cpu(first), 0};
    *out_last = (struct seat){numaperf_worker_node(last), numaperf_worker_cpu(last), count - 1};
    numaperf_rt_destroy(rt);
}

static void deny(const struct denial *denial, const struct seat *last)
{
    size_t count = 0;
    while (count < RULES_MAX && denial->rules[count].call != 0)
        count++;
    CHECK(count > 0);
    if (denial->who == DENIED_PROCESS)
        sandbox_deny_rules(denial->rules, count);
    else
        worker_filter_set(denial->rules, count,
                          denial->who == DENIED_LAST_WORKER ? last->worker : 0);
}

/* What the reason must name: for a step of the worker itself, whose; else the node. */
static void fill_words(const struct denial *denial, const struct seat *first,
                       const struct seat *last, struct refusal *out)
{
    size_t n = 0;
    out->words[n++] = denial->word;
    if (denial->names_no_node)
        return;
    out->words[n++] = refusal_word("node %d", first->node, 0);
    if (denial->who == DENIED_LAST_WORKER) {
        out->words[1] = refusal_word("node %d", last->node, 0);
        out->words[n++] = refusal_word("worker %d (PU %d,", last->worker, last->cpu);
    } else if (denial->who == DENIED_WORKERS && last->worker == 0) {
        out->words[n++] = refusal_word("worker %d (PU %d,", first->worker, first->cpu);
    } else if (denial->who == DENIED_WORKERS) {
        out->words[1] = "worker "; /* whichever of them was first */
        out->words[n++] = "(PU ";
        out->words[n++] = "node ";
    }
}

static void scene_denied(const void *arg)
{
    const struct denial *denial = arg;
    struct seat first;
    struct seat last;
    refusal_warm_up();
    seats_find(&first, &last);
    struct refusal refusal = {.code = NUMAPERF_E_HARD_MODE,
                              .sys_errno = denial->rules[0].error,
                              .operation = denial->operation};
    fill_words(denial, &first, &last, &refusal);
    numaperf_rt_config_t config = refusal_hard_config();
    config.io_backend = denial->backend;
    if (denial->who == DENIED_PROCESS)
        refusal_hard_start(&config); /* it is the filter that is refused, nothing else */
    deny(denial, &last);
    refusal_check(&config, &refusal);
    CHECK(denial->who == DENIED_PROCESS || worker_filter_hits() > 0);
    refusal_soft_start(config);
    if (denial->who == DENIED_PROCESS)
        return;
    worker_filter_set(NULL, 0, 0); /* and nothing else was refused */
    refusal_hard_start(&config);
}

static void check_denials(const struct denial *denials, size_t count)
{
    if (!refusal_machine_can() || (denials->backend == NUMAPERF_IO_URING && !refusal_has_ring()))
        skip();
    for (size_t i = 0; i < count; i++) {
        print_message("system call %ld, %s\n", denials[i].rules[0].call, denials[i].operation);
        assert_true(sandbox_run(scene_denied, &denials[i]));
    }
}

#define CHECK_DENIALS(denials) check_denials(denials, sizeof(denials) / sizeof((denials)[0]))

/* ---- affinity ---- */

static void affinity_denied_to_one_worker_alone_names_its_pu(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {.rules = {{.call = SYS_sched_setaffinity, .error = EPERM}},
         .who = DENIED_LAST_WORKER,
         .operation = "sched_setaffinity",
         .word = "the kernel refuses: Operation not permitted"},
        {.rules = {{.call = SYS_sched_setaffinity, .error = EACCES}},
         .who = DENIED_WORKERS,
         .operation = "sched_setaffinity",
         .word = "the kernel refuses: Permission denied"},
    };
    CHECK_DENIALS(denials);
}

static void affinity_that_a_worker_cannot_read_back_is_refused(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {.rules = {{.call = SYS_sched_getaffinity, .error = EPERM}},
         .who = DENIED_LAST_WORKER,
         .operation = "sched_setaffinity",
         .word = "cannot be read"},
    };
    CHECK_DENIALS(denials);
}

/* ---- memory policy ---- */

static void denied_mbind_names_the_node(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {.rules = {{.call = SYS_mbind, .error = EPERM}},
         .operation = "mbind",
         .word = "Operation not permitted"},
        {.rules = {{.call = SYS_mbind, .error = ENOSYS}}, /* a kernel without NUMA */
         .operation = "mbind",
         .word = "Function not implemented"},
        {.rules = {{.call = SYS_mbind, .error = EPERM}}, /* its arena: the stack was bound before */
         .who = DENIED_LAST_WORKER,
         .operation = "mbind",
         .word = "Operation not permitted"},
    };
    CHECK_DENIALS(denials);
}

static void denied_memory_policy_of_a_worker_names_it(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {.rules = {{.call = SYS_set_mempolicy, .error = EPERM}},
         .who = DENIED_LAST_WORKER,
         .operation = "set_mempolicy",
         .word = "was refused: Operation not permitted"},
        {.rules = {{.call = SYS_set_mempolicy, .error = EPERM}},
         .operation = "set_mempolicy",
         .word = "was refused: Operation not permitted",
         .names_no_node = true}, /* of whichever worker was first */
    };
    CHECK_DENIALS(denials);
}

static void memory_policy_that_cannot_be_read_back_is_refused(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {.rules = {{.call = SYS_get_mempolicy, .error = EPERM}},
         .operation = "get_mempolicy",
         .word = "cannot be read back: Operation not permitted"},
        {.rules = {{.call = SYS_get_mempolicy, .error = EPERM}},
         .who = DENIED_LAST_WORKER,
         .operation = "set_mempolicy",
         .word = "cannot be read back: Operation not permitted"},
    };
    CHECK_DENIALS(denials);
}

/* ---- pages ---- */

#define STACK_PAGES 512u /* the ring's parts are smaller, and asked about in fewer pages */

static void pages_that_cannot_be_read_back_are_refused(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {.rules = {{.call = SYS_move_pages, .error = EPERM}},
         .operation = "move_pages",
         .word = "does not tell where the pages are: Operation not permitted"},
        {.rules = {{.call = SYS_move_pages, .error = EPERM}},
         .who = DENIED_LAST_WORKER,
         .operation = "stack",
         .word = "cannot be queried: Operation not permitted"},
    };
    CHECK_DENIALS(denials);
}

static void ring_pages_that_cannot_be_read_back_are_refused(void **state)
{
    (void)state;
    if (sysconf(_SC_PAGESIZE) != 4096) {
        print_message("skipped: calls are told apart by their number of pages of 4 KiB\n");
        skip();
    }
    const struct denial denials[] = {
        {.rules = {{.call = SYS_move_pages,
                    .error = EPERM,
                    .when = SANDBOX_BELOW,
                    .argument = 1,
                    .value = STACK_PAGES}},
         .who = DENIED_LAST_WORKER,
         .backend = NUMAPERF_IO_URING,
         .operation = "ring",
         .word = "cannot be queried: Operation not permitted"},
    };
    CHECK_DENIALS(denials);
}

/* ---- io-wq ---- */

static void iowq_affinity_denied_names_the_node(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {.rules = {{.call = SYS_io_uring_register,
                    .error = EPERM,
                    .when = SANDBOX_EQUAL,
                    .argument = 1,
                    .value = IORING_REGISTER_IOWQ_AFF}},
         .who = DENIED_LAST_WORKER,
         .backend = NUMAPERF_IO_URING,
         .operation = "io-wq",
         .word = "cannot be confined: Operation not permitted"},
        {.rules = {{.call = SYS_io_uring_register,
                    .error = EINVAL, /* a kernel that does not know it */
                    .when = SANDBOX_EQUAL,
                    .argument = 1,
                    .value = IORING_REGISTER_IOWQ_MAX_WORKERS}},
         .who = DENIED_LAST_WORKER,
         .backend = NUMAPERF_IO_URING,
         .operation = "io-wq",
         .word = "cannot be confined: Invalid argument"},
        {.rules = {{.call = SYS_sched_getaffinity, /* of another thread: to read it back */
                    .error = EPERM,
                    .when = SANDBOX_ABOVE,
                    .argument = 0,
                    .value = 0}},
         .who = DENIED_LAST_WORKER,
         .backend = NUMAPERF_IO_URING,
         .operation = "io-wq",
         .word = "Operation not permitted"},
    };
    CHECK_DENIALS(denials);
}

/* ---- the auditor ---- */

static void first_look_of_the_auditor_denied_is_refused(void **state)
{
    (void)state;
    if (TEST_SANITIZED) {
        print_message("skipped: a sanitizer asks the same of every thread that begins\n");
        skip();
    }
    const struct denial denials[] = {
        {.rules = {{.call = SYS_sched_getaffinity, /* on epoll nobody else asks about a thread */
                    .error = EPERM,
                    .when = SANDBOX_ABOVE,
                    .argument = 0,
                    .value = 0}},
         .backend = NUMAPERF_IO_EPOLL,
         .operation = "audit",
         .word = "cannot be read again: Operation not permitted"},
    };
    CHECK_DENIALS(denials);
}

/* ---- the ring itself ---- */

struct ring_denial {
    long call; /* 0: the setting refuses */
    int error;
};

/* Asked for by name: the errno in both modes. Left to choose: epoll, as strict as with a ring. */
static void scene_ring_denied(const void *arg)
{
    const struct ring_denial *denial = arg;
    if (denial->call != 0)
        sandbox_deny(denial->error, &denial->call, 1);
    refusal_warm_up();
    const char *operation = denial->call == SYS_io_uring_register ? "io_uring_register"
                            : denial->call == SYS_io_uring_enter  ? "io_uring_enter"
                                                                  : "io_uring_setup";
    const struct refusal refusal = {
        .code = -denial->error,
        .sys_errno = denial->error,
        .operation = operation,
        .words = {"was refused", numaperf_strerror(-denial->error), "(PU ", "node "}};
    numaperf_rt_config_t config = refusal_hard_config();
    config.io_backend = NUMAPERF_IO_URING;
    refusal_check(&config, &refusal);
    config.mode = NUMAPERF_MODE_SOFT;
    refusal_check(&config, &refusal);

    config.io_backend = NUMAPERF_IO_AUTO;
    refusal_soft_start(config);
    config.mode = NUMAPERF_MODE_HARD;
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    CHECK(numaperf_worker_backend(numaperf_rt_worker(rt, 0)) == NUMAPERF_IO_EPOLL);
    numaperf_rt_destroy(rt);
    refusal_hard_start(&config);
}

static void ring_denied_though_asked_for_keeps_its_errno_in_both_modes(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !refusal_has_ring())
        skip();
    const struct ring_denial denials[] = {{SYS_io_uring_setup, EPERM},
                                          {SYS_io_uring_setup, ENOSYS},
                                          {SYS_io_uring_register, EACCES},
                                          {SYS_io_uring_enter, EPERM}};
    size_t step = test_is_guest() ? 2 : 1; /* a start takes long there */
    for (size_t i = 0; i < sizeof(denials) / sizeof(denials[0]); i += step) {
        print_message("system call %ld, error %d\n", denials[i].call, denials[i].error);
        assert_true(sandbox_run(scene_ring_denied, &denials[i]));
    }
}

static bool disable_rings(const char *value)
{
    FILE *file = fopen(IO_URING_DISABLED, "we");
    if (file == NULL)
        return false;
    bool is_written = fputs(value, file) >= 0;
    return fclose(file) == 0 && is_written;
}

static void ring_switched_off_though_asked_for_keeps_its_errno_in_both_modes(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !refusal_has_ring())
        skip();
    if (!test_is_guest() || geteuid() != 0 || !disable_rings("2")) {
        print_message("skipped: only a guest's root sets kernel.io_uring_disabled, where the "
                      "kernel has it\n");
        skip();
    }
    const struct ring_denial denial = {.error = EPERM};
    bool is_right = sandbox_run(scene_ring_denied, &denial);
    assert_true(disable_rings("0"));
    assert_true(is_right);
}

int hard_denials_run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(affinity_denied_to_one_worker_alone_names_its_pu),
        cmocka_unit_test(affinity_that_a_worker_cannot_read_back_is_refused),
        cmocka_unit_test(denied_mbind_names_the_node),
        cmocka_unit_test(denied_memory_policy_of_a_worker_names_it),
        cmocka_unit_test(memory_policy_that_cannot_be_read_back_is_refused),
        cmocka_unit_test(pages_that_cannot_be_read_back_are_refused),
        cmocka_unit_test(ring_pages_that_cannot_be_read_back_are_refused),
        cmocka_unit_test(iowq_affinity_denied_names_the_node),
        cmocka_unit_test(first_look_of_the_auditor_denied_is_refused),
        cmocka_unit_test(ring_denied_though_asked_for_keeps_its_errno_in_both_modes),
        cmocka_unit_test(ring_switched_off_though_asked_for_keeps_its_errno_in_both_modes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
