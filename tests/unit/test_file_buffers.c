/* SPDX-License-Identifier: MIT */
/*
 * Buffers for files: where they lie, which are registered, what is read into them how, and that
 * all of it works where registering is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/file.h"
#include "support/file_case.h"

#define PAGE 4096u
#define MANY (NUMAPERF__FILE_SLOTS + 6u)

/* ---- what the ring is asked ---- */

static uint64_t ring_kinds; /* bit k: an operation of kind k was submitted */
static uint32_t ring_slot;  /* of the last one with a registered buffer */
static int ring_refusal;    /* of new slots, or of the table; 0: none */
static bool table_refusal;
static unsigned ring_updates;

int __real_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op)
{
    ring_kinds |= UINT64_C(1) << op->kind;
    if (op->kind == NUMAPERF__OP_READ_FIXED || op->kind == NUMAPERF__OP_WRITE_FIXED)
        ring_slot = op->group;
    return __real_numaperf__loop_submit(loop, op);
}

int __real_numaperf__ring_fixed_register(struct numaperf__ring *ring, uint32_t count);
int __wrap_numaperf__ring_fixed_register(struct numaperf__ring *ring, uint32_t count);
int __wrap_numaperf__ring_fixed_register(struct numaperf__ring *ring, uint32_t count)
{
    return table_refusal ? ring_refusal : __real_numaperf__ring_fixed_register(ring, count);
}

int __real_numaperf__ring_fixed_update(struct numaperf__ring *ring, uint32_t index, void *base,
                                       size_t length);
int __wrap_numaperf__ring_fixed_update(struct numaperf__ring *ring, uint32_t index, void *base,
                                       size_t length);
int __wrap_numaperf__ring_fixed_update(struct numaperf__ring *ring, uint32_t index, void *base,
                                       size_t length)
{
    ring_updates++;
    return ring_refusal != 0 ? ring_refusal
                             : __real_numaperf__ring_fixed_update(ring, index, base, length);
}

static bool ring_was_asked(enum numaperf__op_kind kind)
{
    bool was = (ring_kinds >> kind & 1) != 0;
    ring_kinds = 0;
    return was;
}

/* ---- cases ---- */

struct scene {
    struct file_fixture *fixture;
    numaperf_file_t *file;
    char bytes[4 * PAGE]; /* of the file */
    bool registers;       /* whether buffers of this loop are */
};

static struct scene scene;

static struct scene *scene_open(void **state)
{
    scene.fixture = file_fixture_open(state);
    file_make(scene.fixture, "data", sizeof(scene.bytes));
    file_fill(scene.bytes, sizeof(scene.bytes), 0);
    scene.file = file_open(scene.fixture, "data", O_RDWR);
    ring_kinds = 0;
    ring_updates = 0;
    return &scene;
}

/* Whether the kernel registers anything: a sparse table is 5.19's, and memory may be locked up. */
static void scene_probe(void)
{
    char *probe = numaperf_file_buffer_alloc(scene.fixture->loop, PAGE);
    assert_non_null(probe);
    scene.registers = scene.file->files->buffers.count == 1;
    numaperf_file_buffer_free(scene.fixture->loop, probe);
    assert_int_equal(scene.file->files->buffers.count, 0);
    ring_updates = 0;
    if (!scene.registers && scene.fixture->backend == NUMAPERF_IO_URING)
        print_message("the kernel registers no buffers here: plain memory is looked at\n");
}

static void scene_close(void)
{
    ring_refusal = 0;
    table_refusal = false;
    file_close(scene.fixture, scene.file);
    file_fixture_close(scene.fixture);
}

static void buffer_is_aligned_and_on_the_loops_arena(void **state)
{
    struct scene *at = scene_open(state);
    static const size_t lengths[] = {1, PAGE, PAGE + 1, 100000, 3 << 20};
    numaperf_arena_stats_t before = NUMAPERF_ARENA_STATS_INIT;
    numaperf_arena_stats_t now = NUMAPERF_ARENA_STATS_INIT;
    numaperf_arena_t *arena = numaperf_loop_arena(at->fixture->loop);
    assert_int_equal(numaperf_arena_stats(arena, &before), 0);
    char *buffers[5];
    for (size_t i = 0; i < 5; i++) {
        buffers[i] = numaperf_file_buffer_alloc(at->fixture->loop, lengths[i]);
        assert_non_null(buffers[i]);
        assert_int_equal((uintptr_t)buffers[i] % PAGE, 0);
        memset(buffers[i], (int)i, lengths[i]);
    }
    assert_int_equal(numaperf_arena_stats(arena, &now), 0);
    assert_true(now.used_bytes >= before.used_bytes + (3 << 20) + 100000);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(buffers[i][0], i);
        assert_int_equal(buffers[i][lengths[i] - 1], i);
        numaperf_file_buffer_free(at->fixture->loop, buffers[i]);
    }
    assert_int_equal(numaperf_arena_stats(arena, &now), 0);
    assert_int_equal(now.used_bytes, before.used_bytes);
    numaperf_file_buffer_free(at->fixture->loop, NULL);
    assert_null(numaperf_file_buffer_alloc(at->fixture->loop, 0));
    assert_int_equal(numaperf_last_error()->code, -EINVAL);
    assert_null(numaperf_file_buffer_alloc(at->fixture->loop, SIZE_MAX));
    assert_int_equal(numaperf_last_error()->code, -EINVAL);
    assert_null(numaperf_file_buffer_alloc(NULL, PAGE));
    assert_int_equal(numaperf_last_error()->code, -EINVAL);
    scene_close();
}

static void buffer_that_is_registered_is_used_as_such(void **state)
{
    struct file_fixture *fixture = scene_open(state)->fixture;
    scene_probe();
    char *buffer = numaperf_file_buffer_alloc(fixture->loop, 2 * PAGE);
    char other[PAGE];
    assert_int_equal(FILE_READ(scene.file, buffer, 2 * PAGE, 0), 2 * PAGE);
    assert_memory_equal(buffer, scene.bytes, 2 * PAGE);
    assert_true(ring_was_asked(NUMAPERF__OP_READ_FIXED) == scene.registers);
    assert_int_equal(FILE_READ(scene.file, buffer + 2 * PAGE - 1, 1, 7), 1);
    assert_int_equal(buffer[2 * PAGE - 1], scene.bytes[7]);
    assert_true(ring_was_asked(NUMAPERF__OP_READ_FIXED) == scene.registers);
    file_fill(buffer, PAGE, 5);
    assert_int_equal(FILE_WRITE(scene.file, buffer, PAGE, 0), PAGE);
    assert_true(ring_was_asked(NUMAPERF__OP_WRITE_FIXED) == scene.registers);
    assert_int_equal(FILE_READ(scene.file, other, PAGE, 0), PAGE);
    assert_false(ring_was_asked(NUMAPERF__OP_READ_FIXED));
    assert_memory_equal(other, buffer, PAGE);
    /* The end of the file comes in the midst of it. */
    assert_int_equal(FILE_READ(scene.file, buffer, 2 * PAGE, 3 * PAGE), PAGE);
    assert_memory_equal(buffer, scene.bytes + 3 * PAGE, PAGE);
    numaperf_file_buffer_free(fixture->loop, buffer);
    scene_close();
}

static void buffer_is_found_by_any_bytes_within_it(void **state)
{
    struct scene *at = scene_open(state);
    struct numaperf__files *files = at->file->files;
    scene_probe();
    char *buffers[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        buffers[i] = numaperf_file_buffer_alloc(at->fixture->loop, PAGE);
        assert_non_null(buffers[i]);
    }
    assert_int_equal(files->buffers.count, at->registers ? NUMAPERF__FILE_SLOTS : 0);
    uint64_t seen = 0;
    for (unsigned i = 0; i < MANY; i++) {
        uint32_t slot = numaperf__file_buffers_find(files, buffers[i], PAGE);
        assert_true((slot != NUMAPERF__FILE_NO_SLOT) ==
                    (at->registers && i < NUMAPERF__FILE_SLOTS));
        assert_int_equal(numaperf__file_buffers_find(files, buffers[i] + PAGE - 1, 1), slot);
        assert_int_equal(numaperf__file_buffers_find(files, buffers[i] + PAGE - 1, 2),
                         NUMAPERF__FILE_NO_SLOT);
        assert_int_equal(numaperf__file_buffers_find(files, buffers[i], PAGE + 1),
                         NUMAPERF__FILE_NO_SLOT);
        assert_int_equal(numaperf__file_buffers_find(files, buffers[i], UINT64_MAX),
                         NUMAPERF__FILE_NO_SLOT);
        if (slot != NUMAPERF__FILE_NO_SLOT) {
            assert_int_equal(seen >> slot & 1, 0); /* each has its own */
            seen |= UINT64_C(1) << slot;
        }
    }
    assert_int_equal(numaperf__file_buffers_find(files, &seen, 8), NUMAPERF__FILE_NO_SLOT);
    assert_int_equal(numaperf__file_buffers_find(files, NULL, 0), NUMAPERF__FILE_NO_SLOT);
    for (unsigned i = 0; i < MANY; i++) {
        /* In another order than they came. */
        numaperf_file_buffer_free(at->fixture->loop, buffers[i * 11 % MANY]);
        assert_int_equal(numaperf__file_buffers_find(files, buffers[i * 11 % MANY], 1),
                         NUMAPERF__FILE_NO_SLOT);
    }
    assert_int_equal(files->buffers.count, 0);
    assert_int_equal(files->buffers.used, 0);
    scene_close();
}

static void buffer_of_a_slot_that_was_used_before_reads_the_new_memory(void **state)
{
    struct file_fixture *fixture = scene_open(state)->fixture;
    scene_probe();
    char *first = numaperf_file_buffer_alloc(fixture->loop, PAGE);
    char *second = numaperf_file_buffer_alloc(fixture->loop, PAGE);
    assert_int_equal(FILE_READ(scene.file, first, PAGE, 0), PAGE);
    uint32_t slot = ring_slot;
    numaperf_file_buffer_free(fixture->loop, first);
    char *third = numaperf_file_buffer_alloc(fixture->loop, 4 * PAGE);
    assert_int_equal(FILE_READ(scene.file, third, 4 * PAGE, 0), 4 * PAGE);
    assert_memory_equal(third, scene.bytes, 4 * PAGE);
    assert_int_equal(ring_slot, slot);
    assert_int_equal(FILE_READ(scene.file, second, PAGE, PAGE), PAGE);
    assert_memory_equal(second, scene.bytes + PAGE, PAGE);
    numaperf_file_buffer_free(fixture->loop, second);
    numaperf_file_buffer_free(fixture->loop, third);
    scene_close();
}

static void buffer_that_cannot_be_registered_works_the_same(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct file_fixture *fixture = scene_open(state)->fixture;
        ring_refusal = -ENOMEM; /* RLIMIT_MEMLOCK */
        table_refusal = i == 1; /* an old kernel */
        char *buffer = numaperf_file_buffer_alloc(fixture->loop, PAGE);
        char *more = numaperf_file_buffer_alloc(fixture->loop, PAGE);
        assert_non_null(buffer);
        assert_non_null(more);
        assert_int_equal(scene.file->files->buffers.count, 0);
        if (fixture->backend == NUMAPERF_IO_EPOLL || i == 1)
            assert_int_equal(ring_updates, 0);
        else
            assert_true(ring_updates <= 2); /* none when it is no sparse table that is missing */
        assert_int_equal(FILE_READ(scene.file, buffer, PAGE, PAGE), PAGE);
        assert_memory_equal(buffer, scene.bytes + PAGE, PAGE);
        assert_false(ring_was_asked(NUMAPERF__OP_READ_FIXED));
        numaperf_file_buffer_free(fixture->loop, buffer);
        numaperf_file_buffer_free(fixture->loop, more);
        scene_close();
    }
}

/* Those that nobody gave back go with the loop: address sanitizer and the arena would tell. */
static void buffer_that_is_kept_goes_with_the_loop(void **state)
{
    struct file_fixture *fixture = scene_open(state)->fixture;
    for (unsigned i = 0; i < MANY; i++)
        assert_non_null(numaperf_file_buffer_alloc(fixture->loop, PAGE));
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_CASE(buffer_is_aligned_and_on_the_loops_arena),
        FILE_CASE(buffer_that_is_registered_is_used_as_such),
        FILE_CASE(buffer_is_found_by_any_bytes_within_it),
        FILE_CASE(buffer_of_a_slot_that_was_used_before_reads_the_new_memory),
        FILE_CASE(buffer_that_cannot_be_registered_works_the_same),
        FILE_CASE(buffer_that_is_kept_goes_with_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
