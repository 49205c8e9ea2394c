/* SPDX-License-Identifier: MIT */
/*
 * numaperf_loop_*: exactly uv_run(), compared with a plain libuv loop scene by scene, own and
 * adopted, in both backends; ring operations in every mode; who may run and destroy it.
 */
#include "base/list.h"
#include "io/loop.h"

#include "support/census.h"
#include "support/clock.h"
#include "support/run_scenes.h"

#include <numaperf/error.h>
#include <numaperf/loop.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

static int ring_refusal; /* set by main() */

#define SKIP_WITHOUT_RING()                                                                       \
    do {                                                                                          \
        if (ring_refusal < 0) {                                                                   \
            print_message("skipped: io_uring is refused: %s\n", numaperf_strerror(ring_refusal)); \
            skip();                                                                               \
        }                                                                                         \
    } while (0)

static numaperf_loop_t *open_loop(uint32_t backend, uv_loop_t *adopted, uint32_t entries)
{
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = backend;
    config.uv_loop = adopted;
    config.ring_entries = entries;
    numaperf_loop_t *loop = NULL;
    assert_int_equal(numaperf_loop_create(&config, &loop), 0);
    assert_non_null(loop);
    return loop;
}

/* ---- compared with libuv ---- */

static int run_plain(struct run_stage *stage, int mode)
{
    return uv_run(stage->uv, (uv_run_mode)mode);
}

static int run_ours(struct run_stage *stage, int mode)
{
    return numaperf_loop_run(stage->runner, mode);
}

static void play_plain(const struct run_scene *scene, struct run_trace *trace)
{
    uv_loop_t uv;
    struct run_stage stage = {.uv = &uv, .run = run_plain, .trace = trace};
    assert_int_equal(uv_loop_init(&uv), 0);
    scene->play(&stage);
    assert_int_equal(uv_loop_close(&uv), 0);
}

static void play_ours(const struct run_scene *scene, uint32_t backend, bool adopt,
                      struct run_trace *trace)
{
    uv_loop_t uv;
    int mark = 0;
    if (adopt) {
        assert_int_equal(uv_loop_init(&uv), 0);
        uv.data = &mark;
    }
    numaperf_loop_t *loop = open_loop(backend, adopt ? &uv : NULL, 0);
    struct run_stage stage = {
        .uv = numaperf_loop_uv(loop), .run = run_ours, .runner = loop, .trace = trace};
    assert_true(!adopt || stage.uv == &uv);
    scene->play(&stage);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
    if (adopt) {
        assert_ptr_equal(uv.data, &mark);
        assert_int_equal(uv_loop_close(&uv), 0);
    }
}

static bool plays_alike(const struct run_scene *scene, uint32_t backend, bool adopt)
{
    static struct run_trace plain;
    static struct run_trace ours;
    memset(&plain, 0, sizeof(plain));
    memset(&ours, 0, sizeof(ours));
    play_plain(scene, &plain);
    play_ours(scene, backend, adopt, &ours);
    assert_true(plain.length > 0 && plain.length + 1 < sizeof(plain.text));
    if (strcmp(ours.text, plain.text) == 0)
        return true;
    print_message("backend %u, %s loop:\n%sinstead of:\n%s", backend, adopt ? "adopted" : "own",
                  ours.text, plain.text);
    return false;
}

/*
 * The kernel interrupts the thread a moment after a ring was closed, and libuv 1.44 counts an
 * interrupted wait twice: its UV_RUN_ONCE then returns before the timer. So a difference counts
 * only when it is there again and again.
 */
static void run_equals_uv_run(void **state)
{
    const struct run_scene *scene = *state;
    for (uint32_t backend = NUMAPERF_IO_AUTO; backend <= NUMAPERF_IO_EPOLL; backend++) {
        if (backend == NUMAPERF_IO_URING && ring_refusal < 0)
            continue;
        for (int adopt = 0; adopt < 2; adopt++) {
            bool alike = false;
            for (int i = 0; i < 5 && !alike; i++) {
                test_sleep_ms(i == 0 ? 10 : 100);
                alike = plays_alike(scene, backend, adopt != 0);
            }
            assert_true(alike);
        }
    }
}

/* ---- ring operations ---- */

struct counted {
    struct numaperf__op op;
    numaperf_loop_t *loop;
    int done;
    int again; /* so often it is submitted again */
};

static void count_done(struct numaperf__op *op)
{
    struct counted *counted = NUMAPERF_CONTAINER_OF(op, struct counted, op);
    counted->done++;
    if (counted->again-- > 0)
        assert_int_equal(numaperf__loop_submit(counted->loop, op), 0);
}

static void submit_nop(numaperf_loop_t *loop, struct counted *counted, int again)
{
    memset(counted, 0, sizeof(*counted));
    counted->op.kind = NUMAPERF__OP_NOP;
    counted->op.done = count_done;
    counted->loop = loop;
    counted->again = again;
    assert_int_equal(numaperf__loop_submit(loop, &counted->op), 0);
}

static void submit_poll(numaperf_loop_t *loop, struct counted *counted, int fd)
{
    memset(counted, 0, sizeof(*counted));
    counted->op.kind = NUMAPERF__OP_POLL;
    counted->op.done = count_done;
    counted->op.fd = fd;
    counted->op.poll_events = 1; /* POLLIN */
    counted->loop = loop;
    assert_int_equal(numaperf__loop_submit(loop, &counted->op), 0);
}

static void completions_come_in_every_mode(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = open_loop(NUMAPERF_IO_URING, NULL, 0);
    const int modes[] = {UV_RUN_NOWAIT, UV_RUN_ONCE, UV_RUN_DEFAULT};
    for (size_t i = 0; i < 30; i++) {
        struct counted nop;
        submit_nop(loop, &nop, 0);
        assert_int_equal(uv_loop_alive(numaperf_loop_uv(loop)), 1);
        assert_int_equal(numaperf_loop_run(loop, modes[i % 3]), 0);
        assert_int_equal(nop.done, 1);
        assert_int_equal(uv_loop_alive(numaperf_loop_uv(loop)), 0);
    }
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void *write_later(void *fd)
{
    test_sleep_ms(20);
    return write(*(const int *)fd, "x", 1) == 1 ? fd : NULL;
}

static void operations_keep_the_loop_alive(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = open_loop(NUMAPERF_IO_URING, NULL, 0);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < 20; i++) {
        int mode = i % 2 == 0 ? UV_RUN_DEFAULT : UV_RUN_ONCE;
        struct counted poll;
        pthread_t thread;
        char byte = 0;
        submit_poll(loop, &poll, ends[0]);
        assert_int_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT), 1);
        assert_int_equal(numaperf_loop_destroy(loop), -EBUSY);
        assert_int_equal(poll.done, 0);
        assert_int_equal(pthread_create(&thread, NULL, write_later, &ends[1]), 0);
        assert_int_equal(numaperf_loop_run(loop, mode), 0); /* waits for it */
        assert_int_equal(poll.done, 1);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(read(ends[0], &byte, 1), 1);
    }
    assert_int_equal(numaperf_loop_destroy(loop), 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void many_completions(uint32_t entries, int count)
{
    static struct counted nops[5000];
    numaperf_loop_t *loop = open_loop(NUMAPERF_IO_URING, NULL, entries);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < count; i++)
            submit_nop(loop, &nops[i], 0);
        assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
        for (int i = 0; i < count; i++)
            assert_int_equal(nops[i].done, 1);
    }
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void more_completions_than_a_turn_takes_all_come(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    many_completions(8, 5000);   /* overflow: the kernel signals again and again */
    many_completions(256, 2000); /* all of them in the CQ, signalled once */
}

static void timer_counts(uv_timer_t *timer)
{
    if (++*(int *)timer->data == 20)
        (void)uv_timer_stop(timer);
}

static void operations_and_handles_share_the_loop(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = open_loop(NUMAPERF_IO_URING, NULL, 0);
    int fired = 0;
    uv_timer_t timer;
    struct counted nops[64];
    assert_int_equal(uv_timer_init(numaperf_loop_uv(loop), &timer), 0);
    timer.data = &fired;
    assert_int_equal(uv_timer_start(&timer, timer_counts, 1, 1), 0);
    for (int i = 0; i < 64; i++)
        submit_nop(loop, &nops[i], 1000000000); /* for ever */
    while (fired < 20)
        assert_int_equal(numaperf_loop_run(loop, UV_RUN_ONCE), 1);
    for (int i = 0; i < 64; i++)
        nops[i].again = 0;
    uv_close((uv_handle_t *)&timer, NULL);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void operations_without_a_ring_are_refused(void **state)
{
    (void)state;
    numaperf_loop_t *loop = open_loop(NUMAPERF_IO_EPOLL, NULL, 0);
    struct counted nop = {.op = {.kind = NUMAPERF__OP_NOP, .done = count_done}};
    assert_int_equal(numaperf__loop_submit(loop, &nop.op), NUMAPERF_E_UNSUPPORTED);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

/* ---- who may run it, and destroy it ---- */

struct foreign {
    numaperf_loop_t *loop;
    int run;
    int destroy;
};

static void *run_foreign(void *arg)
{
    struct foreign *foreign = arg;
    foreign->run = numaperf_loop_run(foreign->loop, UV_RUN_NOWAIT);
    return NULL;
}

static void *destroy_foreign(void *arg)
{
    struct foreign *foreign = arg;
    foreign->destroy = numaperf_loop_destroy(foreign->loop);
    return NULL;
}

static void in_thread(void *(*function)(void *), void *arg)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, function, arg), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static uint32_t backend_of(void **state)
{
    return *(const uint32_t *)*state;
}

#define SKIP_REFUSED(state)                         \
    do {                                            \
        if (backend_of(state) == NUMAPERF_IO_URING) \
            SKIP_WITHOUT_RING();                    \
    } while (0)

static void another_thread_is_busy(void **state)
{
    SKIP_REFUSED(state);
    numaperf_loop_t *loop = open_loop(backend_of(state), NULL, 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT), 0);
    struct foreign foreign = {.loop = loop};
    in_thread(run_foreign, &foreign);
    assert_int_equal(foreign.run, -EBUSY);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT), 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void first_run_binds_not_create(void **state)
{
    SKIP_REFUSED(state);
    struct foreign foreign = {.loop = open_loop(backend_of(state), NULL, 0)};
    in_thread(run_foreign, &foreign);
    assert_int_equal(foreign.run, 0);
    assert_int_equal(numaperf_loop_run(foreign.loop, UV_RUN_NOWAIT), -EBUSY);
    assert_int_equal(numaperf_last_error()->code, -EBUSY);
    in_thread(run_foreign, &foreign); /* another one, which may have got the same pthread_t */
    assert_int_equal(foreign.run, -EBUSY);
    /* Its thread has ended: what is left of it must not leak. */
    assert_int_equal(numaperf_loop_destroy(foreign.loop), 0);
}

struct nested {
    uv_timer_t timer;
    numaperf_loop_t *loop;
    int run;
    int destroy;
    int destroy_foreign;
};

static void nested_fired(uv_timer_t *timer)
{
    struct nested *nested = timer->data;
    nested->run = numaperf_loop_run(nested->loop, UV_RUN_NOWAIT);
    nested->destroy = numaperf_loop_destroy(nested->loop);
    struct foreign foreign = {.loop = nested->loop};
    in_thread(destroy_foreign, &foreign);
    nested->destroy_foreign = foreign.destroy;
    uv_close((uv_handle_t *)timer, NULL);
}

static void nested_init(struct nested *nested, numaperf_loop_t *loop, uv_loop_t *uv)
{
    memset(nested, 0, sizeof(*nested));
    nested->loop = loop;
    assert_int_equal(uv_timer_init(uv, &nested->timer), 0);
    nested->timer.data = nested;
    assert_int_equal(uv_timer_start(&nested->timer, nested_fired, 0, 0), 0);
}

static void nested_calls_are_busy(void **state)
{
    SKIP_REFUSED(state);
    numaperf_loop_t *loop = open_loop(backend_of(state), NULL, 0);
    struct nested nested;
    nested_init(&nested, loop, numaperf_loop_uv(loop));
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(nested.run, -EBUSY);
    assert_int_equal(nested.destroy, -EBUSY);
    assert_int_equal(nested.destroy_foreign, -EBUSY);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

/* Closing our handles takes turns of an adopted loop, whose callbacks find the loop busy. */
static void callbacks_during_destroy_are_busy(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    uv_loop_t uv;
    assert_int_equal(uv_loop_init(&uv), 0);
    numaperf_loop_t *loop = open_loop(NUMAPERF_IO_URING, &uv, 0);
    struct nested nested;
    nested_init(&nested, loop, &uv);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
    assert_int_equal(nested.run, -EBUSY);
    assert_int_equal(nested.destroy, -EBUSY);
    assert_int_equal(nested.destroy_foreign, -EBUSY);
    (void)uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
}

static void timer_never(uv_timer_t *timer)
{
    (void)timer;
    fail();
}

static void handle_closed(uv_handle_t *handle)
{
    handle->data = NULL;
}

static void destroy_with_open_handles_does_nothing(void **state)
{
    SKIP_REFUSED(state);
    numaperf_loop_t *loop = open_loop(backend_of(state), NULL, 0);
    uv_loop_t *uv = numaperf_loop_uv(loop);
    uv_timer_t inactive;
    uv_timer_t timer;
    assert_int_equal(uv_timer_init(uv, &inactive), 0);
    assert_int_equal(uv_timer_init(uv, &timer), 0);
    assert_int_equal(uv_timer_start(&timer, timer_never, 100000, 0), 0);
    inactive.data = &inactive;
    timer.data = &timer;
    assert_int_equal(numaperf_loop_destroy(loop), -EBUSY);
    assert_true(uv_is_active((uv_handle_t *)&timer));
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT), 1);
    uv_close((uv_handle_t *)&timer, handle_closed);
    assert_int_equal(numaperf_loop_destroy(loop), -EBUSY); /* closing is not closed */
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_null(timer.data);
    assert_int_equal(numaperf_loop_destroy(loop), -EBUSY); /* inactive is open */
    uv_close((uv_handle_t *)&inactive, handle_closed);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void work_slow(uv_work_t *work)
{
    (void)work;
    test_sleep_ms(50);
}

static void destroy_with_open_requests_does_nothing(void **state)
{
    SKIP_REFUSED(state);
    numaperf_loop_t *loop = open_loop(backend_of(state), NULL, 0);
    uv_work_t work;
    assert_int_equal(uv_queue_work(numaperf_loop_uv(loop), &work, work_slow, NULL), 0);
    assert_int_equal(numaperf_loop_destroy(loop), -EBUSY);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void count_handles(uv_handle_t *handle, void *data)
{
    int *counts = data;
    counts[numaperf_loop_owns(handle) ? 1 : 0]++;
}

static void adopted_loop_is_left_as_it_was(void **state)
{
    SKIP_REFUSED(state);
    uv_loop_t uv;
    int mark = 0;
    int fired = 0;
    uv_timer_t timer;
    assert_int_equal(uv_loop_init(&uv), 0);
    uv.data = &mark;
    assert_int_equal(uv_timer_init(&uv, &timer), 0);
    timer.data = &fired;
    assert_int_equal(uv_timer_start(&timer, timer_counts, 20, 1), 0);
    for (int runs = 0; runs < 3; runs++) { /* adopted again and again, run or not */
        numaperf_loop_t *loop = open_loop(backend_of(state), &uv, 0);
        assert_ptr_equal(numaperf_loop_uv(loop), &uv);
        int counts[2] = {0, 0};
        uv_walk(&uv, count_handles, counts);
        assert_int_equal(counts[0], 1);
        assert_int_equal(counts[1], 2); /* sockets and files need them on either backend */
        for (int i = 0; i < runs; i++)
            assert_int_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT), 1);
        assert_int_equal(numaperf_loop_destroy(loop), 0);
        counts[1] = 0;
        uv_walk(&uv, count_handles, counts);
        assert_int_equal(counts[1], 0);
        assert_ptr_equal(uv.data, &mark);
        assert_true(uv_is_active((uv_handle_t *)&timer));
    }
    assert_int_equal(uv_run(&uv, UV_RUN_DEFAULT), 0);
    assert_int_equal(fired, 20);
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
}

static void nothing_is_left_behind(void **state)
{
    SKIP_REFUSED(state);
    struct census before = {0};
    for (int i = 0; i < 40; i++) {
        numaperf_loop_t *loop = open_loop(backend_of(state), NULL, 1u << (i % 10));
        if (i % 2 == 0)
            assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(numaperf_loop_destroy(loop), 0);
        if (i == 9) /* after a warm-up of every size */
            before = census_take();
    }
    assert_true(census_returns_to(&before));
}

static void every_ring_size_works(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    const uint32_t sizes[] = {1, 2, 3, 100, 4096, 32768};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        numaperf_loop_t *loop = open_loop(NUMAPERF_IO_URING, NULL, sizes[i]);
        struct counted nops[64];
        for (int n = 0; n < 64; n++)
            submit_nop(loop, &nops[n], 1);
        assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
        for (int n = 0; n < 64; n++)
            assert_int_equal(nops[n].done, 2);
        assert_int_equal(numaperf_loop_destroy(loop), 0);
    }
}

/* ---- main ---- */

#define BOTH(test)                                                                           \
    (struct CMUnitTest){#test "_in_io_uring", test, NULL, NULL, &uring}, (struct CMUnitTest) \
    {                                                                                        \
#test "_in_epoll", test, NULL, NULL, &epoll                                          \
    }

int main(void)
{
    static uint32_t uring = NUMAPERF_IO_URING;
    static uint32_t epoll = NUMAPERF_IO_EPOLL;
    static char names[32][64];
    struct CMUnitTest tests[64] = {
        BOTH(nothing_is_left_behind),
        cmocka_unit_test(completions_come_in_every_mode),
        cmocka_unit_test(operations_keep_the_loop_alive),
        cmocka_unit_test(more_completions_than_a_turn_takes_all_come),
        cmocka_unit_test(operations_and_handles_share_the_loop),
        cmocka_unit_test(operations_without_a_ring_are_refused),
        BOTH(another_thread_is_busy),
        BOTH(first_run_binds_not_create),
        BOTH(nested_calls_are_busy),
        cmocka_unit_test(callbacks_during_destroy_are_busy),
        BOTH(destroy_with_open_handles_does_nothing),
        BOTH(destroy_with_open_requests_does_nothing),
        BOTH(adopted_loop_is_left_as_it_was),
        cmocka_unit_test(every_ring_size_works),
    };
    size_t count = 0;
    while (tests[count].name != NULL)
        count++;
    for (size_t i = 0; i < run_scene_count; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "run_equals_uv_run_in_%s", run_scenes[i].name);
        tests[count++] = (struct CMUnitTest){.name = names[i],
                                             .test_func = run_equals_uv_run,
                                             .initial_state = (void *)&run_scenes[i]};
    }
    census_prepare();
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_URING;
    numaperf_loop_t *loop = NULL;
    ring_refusal = numaperf_loop_create(&config, &loop);
    (void)numaperf_loop_destroy(loop);
    return _cmocka_run_group_tests("loop_run", tests, count, NULL, NULL);
}
