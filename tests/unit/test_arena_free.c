/* SPDX-License-Identifier: MIT */
/*
 * Giving blocks back: from other threads, and wrongly. Who frees a block twice, or one that is
 * none, must be stopped by an assertion before it corrupts anything.
 */
#include "place/arena.h"
#include "place/poison.h"

#include <numaperf/error.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/arena_case.h"

#define MIB ((uint64_t)1 << 20)
#define OTHERS 400 /* blocks: more than wait anywhere before they go back to their span */

/* ---- other threads ---- */

struct remote_task {
    numaperf_arena_t *arena;
    void *chain;
    int code;
    void *got;
};

static void *remote_free_thread(void *arg)
{
    struct remote_task *task = arg;
    arena_empty(task->arena, task->chain);
    return NULL;
}

static void *remote_alloc_thread(void *arg)
{
    struct remote_task *task = arg;
    task->got = numaperf_arena_alloc(task->arena, 64, 0);
    task->code = numaperf_last_error()->code;
    return NULL;
}

struct mapped_look {
    const numaperf_arena_t *arena;
    numaperf_arena_stats_t stats;
};

static void *mapped_look_thread(void *arg)
{
    struct mapped_look *look = arg;
    look->stats = arena_look(look->arena);
    return NULL;
}

static void run_thread(void *(*fn)(void *), struct remote_task *task)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fn, task), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void arena_blocks_freed_by_another_thread_come_back_before_it_grows(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(256 * 1024, 512 * 1024);
    for (int round = 0; round < 5; round++) {
        struct remote_task task = {.arena = arena};
        size_t count = arena_fill(arena, 200, &task.chain);
        run_thread(remote_free_thread, &task);
        void *block = numaperf_arena_alloc(arena, 200, 0);
        assert_non_null(block);
        numaperf_arena_free(arena, block);
        void *chain = NULL;
        assert_int_equal(arena_fill(arena, 200, &chain), count);
        arena_empty(arena, chain);
    }
    numaperf_arena_stats_t stats = arena_look(arena);
    assert_int_equal(stats.used_bytes, 0);
    assert_true(stats.remote_free_count > 5 * 2000);
    assert_int_equal(stats.alloc_count, stats.free_count);
    numaperf__arena_validate(arena);
    numaperf_arena_destroy(arena);
}

static void arena_large_block_freed_by_another_thread_is_unmapped_by_the_owner(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(0, 0);
    struct remote_task task = {.arena = arena, .chain = numaperf_arena_alloc(arena, 2 * MIB, 4096)};
    assert_non_null(task.chain);
    *(void **)task.chain = NULL;
    uint64_t mapped = arena_look(arena).mapped_bytes;
    run_thread(remote_free_thread, &task);
    numaperf_arena_stats_t stats = arena_look(arena);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.remote_free_count, 1);
    assert_true(stats.mapped_bytes + 2 * MIB <= mapped);
    numaperf_arena_destroy(arena);
}

static void arena_large_block_freed_elsewhere_is_unmapped_while_the_owner_needs_little(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(0, 0);
    numaperf_arena_free(arena, numaperf_arena_alloc(arena, 64, 0)); /* the class has its span */
    struct remote_task task = {.arena = arena, .chain = numaperf_arena_alloc(arena, 2 * MIB, 0)};
    assert_non_null(task.chain);
    *(void **)task.chain = NULL;
    run_thread(remote_free_thread, &task);
    for (int i = 0; i < 5000; i++) { /* always the same block: its class never runs short */
        void *block = numaperf_arena_alloc(arena, 64, 0);
        assert_non_null(block);
        numaperf_arena_free(arena, block);
    }
    struct mapped_look look = {.arena = arena}; /* by a stranger, whose look takes nothing in */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, mapped_look_thread, &look), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(look.stats.mapped_bytes <= 2 * MIB);
    numaperf_arena_destroy(arena);
}

/* A thread that frees what is put into its box, one chain at a time, until it gets none. */
struct freer {
    numaperf_arena_t *arena;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    void *chain;
    bool is_full;
};

static void freer_wait(struct freer *freer, bool is_full)
{
    while (freer->is_full != is_full)
        assert_int_equal(pthread_cond_wait(&freer->changed, &freer->mutex), 0);
}

static void *freer_run(void *arg)
{
    struct freer *freer = arg;
    bool goes_on = true;
    while (goes_on) {
        assert_int_equal(pthread_mutex_lock(&freer->mutex), 0);
        freer_wait(freer, true);
        goes_on = freer->chain != NULL;
        arena_empty(freer->arena, freer->chain);
        freer->is_full = false;
        (void)pthread_cond_broadcast(&freer->changed);
        assert_int_equal(pthread_mutex_unlock(&freer->mutex), 0);
    }
    return NULL;
}

/* Hand over a chain, once the last one is freed. */
static void freer_give(struct freer *freer, void *chain)
{
    assert_int_equal(pthread_mutex_lock(&freer->mutex), 0);
    freer_wait(freer, false);
    freer->chain = chain;
    freer->is_full = true;
    (void)pthread_cond_broadcast(&freer->changed);
    assert_int_equal(pthread_mutex_unlock(&freer->mutex), 0);
}

static void arena_does_not_grow_while_another_thread_frees_all_it_allocates(void **state)
{
    (void)state;
    static const size_t sizes[] = {16, 64, 256, 1000, 5000, 28672, 65536, 200000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct freer freer = {.arena = arena_make(0, 0),
                              .mutex = PTHREAD_MUTEX_INITIALIZER,
                              .changed = PTHREAD_COND_INITIALIZER};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, freer_run, &freer), 0);
        /* At most two chains of half a MiB are out at once, of 64 MiB in all. */
        size_t count = MIB / 2 / (sizes[i] < 65536 ? sizes[i] : 262144);
        for (int round = 0; round < 128; round++) {
            void *chain = NULL;
            for (size_t k = 0; k < count; k++) {
                void **block = numaperf_arena_alloc(freer.arena, sizes[i], 0);
                assert_non_null(block);
                *block = chain;
                chain = block;
            }
            freer_give(&freer, chain);
        }
        freer_give(&freer, NULL);
        assert_int_equal(pthread_join(thread, NULL), 0);
        numaperf_arena_stats_t stats = arena_look(freer.arena);
        assert_int_equal(stats.used_bytes, 0);
        assert_int_equal(stats.remote_free_count, 128 * count);
        assert_true(stats.mapped_bytes <= 4 * MIB); /* a chunk is 2 MiB */
        numaperf__arena_validate(freer.arena);
        numaperf_arena_destroy(freer.arena);
    }
}

static void arena_refuses_to_allocate_for_a_thread_that_does_not_own_it(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(0, 0);
    assert_non_null(numaperf_arena_alloc(arena, 64, 0));
    struct remote_task task = {.arena = arena, .got = arena};
    run_thread(remote_alloc_thread, &task);
    assert_null(task.got);
    assert_int_equal(task.code, -EBUSY);
    assert_int_equal(arena_look(arena).fail_count, 1);
    numaperf_arena_destroy(arena);

    arena = arena_make(0, 0); /* made here, owned there: main now only frees */
    task = (struct remote_task){.arena = arena};
    run_thread(remote_alloc_thread, &task);
    assert_non_null(task.got);
    assert_null(numaperf_arena_alloc(arena, 64, 0));
    numaperf_arena_free(arena, task.got);
    assert_int_equal(arena_look(arena).free_count, 0); /* until its owner takes it in */
    numaperf_arena_destroy(arena);
}

/* ---- wrong pointers: the process must die, in a child ---- */

/*
 * At the latest when the blocks freed since have pushed the wrong one out to its span: that is what
 * release builds promise. The scene gets an arena and a block of it, and others are in use besides.
 */
static void expect_abort(void (*fn)(numaperf_arena_t *arena, char *block))
{
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL); /* the test framework catches it */
        (void)freopen("/dev/null", "w", stderr);
        numaperf_arena_t *arena = arena_make(0, 0);
        void *others[OTHERS];
        for (int i = 0; i < OTHERS; i++)
            others[i] = numaperf_arena_alloc(arena, 64, 0);
        fn(arena, numaperf_arena_alloc(arena, 64, 0));
        (void)arena_look(arena);
        for (int i = 0; i < OTHERS; i++)
            numaperf_arena_free(arena, others[i]);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void free_twice(numaperf_arena_t *arena, char *block)
{
    numaperf_arena_free(arena, block);
    numaperf_arena_free(arena, block);
    _exit(0); /* this one is told at once, in every build */
}

static void free_twice_with_another_between(numaperf_arena_t *arena, char *block)
{
    void *other = numaperf_arena_alloc(arena, 64, 0);
    numaperf_arena_free(arena, block);
    numaperf_arena_free(arena, other);
    numaperf_arena_free(arena, block);
}

static void free_inside(numaperf_arena_t *arena, char *block)
{
    numaperf_arena_free(arena, block + 16);
}

static void free_never_handed_out(numaperf_arena_t *arena, char *block)
{
    numaperf_arena_free(arena, block + 64 * 500);
}

static void free_of_another_arena(numaperf_arena_t *arena, char *block)
{
    (void)block;
    numaperf_arena_t *other = arena_make(0, 0);
    numaperf_arena_free(arena, numaperf_arena_alloc(other, 64, 0));
    _exit(0);
}

static void free_buffer_of_another_arena(numaperf_arena_t *arena, char *block)
{
    (void)block;
    numaperf_arena_t *other = arena_make(0, 0);
    numaperf_arena_free(arena, numaperf_arena_alloc(other, 65536, 0));
    _exit(0);
}

static void free_buffer_twice(numaperf_arena_t *arena, char *block)
{
    (void)block;
    void *buffer = numaperf_arena_alloc(arena, 65536, 0);
    numaperf_arena_free(arena, buffer);
    numaperf_arena_free(arena, buffer);
    _exit(0);
}

static void free_buffer_inside(numaperf_arena_t *arena, char *block)
{
    (void)block;
    char *buffer = numaperf_arena_alloc(arena, 131072, 0);
    numaperf_arena_free(arena, buffer + 65536);
    _exit(0);
}

static void free_large_inside(numaperf_arena_t *arena, char *block)
{
    (void)block;
    char *large = numaperf_arena_alloc(arena, 4 * MIB, 0);
    numaperf_arena_free(arena, large + 16);
    _exit(0);
}

static void *free_one_thread(void *arg)
{
    struct remote_task *task = arg;
    numaperf_arena_free(task->arena, task->got);
    return NULL;
}

static void free_by_a_thread(numaperf_arena_t *arena, char *block)
{
    struct remote_task task = {.arena = arena, .got = block};
    pthread_t thread;
    if (pthread_create(&thread, NULL, free_one_thread, &task) != 0)
        _exit(0);
    (void)pthread_join(thread, NULL);
}

static void free_there_and_here(numaperf_arena_t *arena, char *block)
{
    free_by_a_thread(arena, block);
    numaperf_arena_free(arena, block);
}

static void free_twice_there(numaperf_arena_t *arena, char *block)
{
    free_by_a_thread(arena, block);
    free_by_a_thread(arena, block);
    _exit(0);
}

static void free_inside_there(numaperf_arena_t *arena, char *block)
{
    free_by_a_thread(arena, block + 16);
    _exit(0);
}

static void arena_wrong_and_double_frees_are_caught(void **state)
{
    (void)state;
    expect_abort(free_twice);
    expect_abort(free_twice_with_another_between);
    expect_abort(free_inside);
    expect_abort(free_never_handed_out);
    expect_abort(free_of_another_arena);
    expect_abort(free_buffer_of_another_arena);
    expect_abort(free_buffer_twice);
    expect_abort(free_buffer_inside);
    expect_abort(free_large_inside);
    expect_abort(free_there_and_here);
    expect_abort(free_twice_there);
    expect_abort(free_inside_there);
}

#ifdef NUMAPERF__HAS_POISON
static bool is_watched(const char *byte)
{
    return __asan_address_is_poisoned(byte) != 0;
}
#endif

static void arena_blocks_are_watched_by_address_sanitizer(void **state)
{
    (void)state;
#ifdef NUMAPERF__HAS_POISON
    static const size_t sizes[] = {9, 24, 130, 5000, 100000, 4 * MIB};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        numaperf_arena_t *arena = arena_make(0, 0);
        char *block = numaperf_arena_alloc(arena, sizes[i], 0);
        assert_false(is_watched(block) || is_watched(block + sizes[i] - 1));
        assert_true(is_watched(block + sizes[i]));
        if (sizes[i] < 2 * MIB) { /* else its region is gone */
            numaperf_arena_free(arena, block);
            assert_true(is_watched(block) && is_watched(block + sizes[i] - 1));
            block = numaperf_arena_alloc(arena, sizes[i], 0);
            assert_false(is_watched(block) || is_watched(block + sizes[i] - 1));
            assert_true(is_watched(block + sizes[i]));
        }
        struct remote_task task = {.arena = arena, .chain = block};
        *(void **)block = NULL;
        run_thread(remote_free_thread, &task);
        assert_true(is_watched(block) && is_watched(block + sizes[i] - 1));
        (void)arena_look(arena);
        numaperf_arena_destroy(arena);
        assert_false(is_watched(block) || is_watched(block + sizes[i]));
    }
#else
    print_message("skipped: built without address sanitizer\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_blocks_freed_by_another_thread_come_back_before_it_grows),
        cmocka_unit_test(arena_large_block_freed_by_another_thread_is_unmapped_by_the_owner),
        cmocka_unit_test(
            arena_large_block_freed_elsewhere_is_unmapped_while_the_owner_needs_little),
        cmocka_unit_test(arena_does_not_grow_while_another_thread_frees_all_it_allocates),
        cmocka_unit_test(arena_refuses_to_allocate_for_a_thread_that_does_not_own_it),
        cmocka_unit_test(arena_wrong_and_double_frees_are_caught),
        cmocka_unit_test(arena_blocks_are_watched_by_address_sanitizer),
    };
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
