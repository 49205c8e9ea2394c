/* SPDX-License-Identifier: MIT */
/*
 * What waits to be sent: pieces of every kind against a pattern of bytes, sent in any parts, with
 * notifications that come late. Byte n of what was appended is pattern(n).
 */
#include "net/output.h"

#include "support/stress.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define STEPS 20000
#define LOANS 64
#define PARTS 8
#define LENGTH_MAX 40000

struct loan {
    uint8_t *bytes;
    uint64_t end; /* position behind its last byte */
    bool is_out;
    int status;
};

static struct scene {
    numaperf_arena_t *arena;
    struct numaperf__buffers *buffers;
    struct numaperf__output output;
    uint64_t random;
    uint64_t written, sent; /* bytes in all */
    struct loan loans[LOANS];
    unsigned lent, returned;
    bool drops;
    /* Notifications that are owed: pinned pieces, and what they sent. */
    struct numaperf__piece *pinned[LOANS];
    struct iovec pinned_bytes[LOANS];
    uint64_t pinned_at[LOANS];
    unsigned pinned_count;
} scene;

static uint8_t pattern(uint64_t position)
{
    return (uint8_t)((position * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static void fill(uint8_t *bytes, size_t length, uint64_t position)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = pattern(position + i);
}

static void check(const void *bytes, size_t length, uint64_t position)
{
    for (size_t i = 0; i < length; i++)
        assert_int_equal(((const uint8_t *)bytes)[i], pattern(position + i));
}

static int scene_open(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof(scene));
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    assert_int_equal(numaperf_arena_create(&config, &scene.arena), 0);
    const struct numaperf__buffers_config buffers = {
        .arena = scene.arena, .bytes = 4096, .count = 8};
    assert_int_equal(numaperf__buffers_create(&buffers, &scene.buffers), 0);
    numaperf__output_init(&scene.output, scene.arena);
    return 0;
}

static int scene_close(void **state)
{
    (void)state;
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf__buffers_used(scene.buffers), 0);
    numaperf__buffers_destroy(scene.buffers);
    assert_int_equal(numaperf_arena_stats(scene.arena, &stats), 0);
    assert_true(stats.used_bytes == 0);
    numaperf_arena_destroy(scene.arena);
    return 0;
}

/* ---- appending ---- */

static void append_copy(size_t length)
{
    static uint8_t bytes[LENGTH_MAX];
    fill(bytes, length, scene.written);
    struct iovec parts[4];
    size_t count = 0;
    for (size_t at = 0; at < length;) { /* in up to three parts, and an empty one */
        size_t part =
            count == 2 ? length - at : (size_t)stress_below(&scene.random, length - at + 1);
        parts[count++] = (struct iovec){.iov_base = bytes + at, .iov_len = part};
        at += part;
    }
    parts[count++] = (struct iovec){.iov_base = NULL, .iov_len = 0};
    assert_int_equal(numaperf__output_copy(&scene.output, parts, count, length), 0);
    memset(bytes, 0xee, length);
    scene.written += length;
}

/* Every loan comes back once; with 0 when, and only when, all of it was sent. */
static void loan_done(numaperf_conn_t *conn, int status, void *data)
{
    assert_null(conn);
    struct loan *loan = data;
    assert_true(loan->is_out);
    assert_int_equal(status, scene.drops ? -ECONNRESET : 0);
    assert_true(scene.drops || loan->end <= scene.sent);
    loan->is_out = false;
    free(loan->bytes);
    scene.returned++;
}

static void append_loan(size_t length)
{
    struct loan *loan = NULL;
    for (size_t i = 0; i < LOANS && loan == NULL; i++)
        loan = scene.loans[i].is_out ? NULL : &scene.loans[i];
    if (loan == NULL)
        return;
    loan->bytes = malloc(length);
    assert_non_null(loan->bytes);
    fill(loan->bytes, length, scene.written);
    scene.written += length;
    loan->end = scene.written;
    loan->is_out = true;
    scene.lent++;
    assert_int_equal(numaperf__output_borrow(&scene.output, loan->bytes, length, loan_done, loan),
                     0);
}

static bool append_held(size_t length)
{
    struct numaperf__slice slice;
    if (!numaperf__buffers_acquire(scene.buffers, &slice))
        return false;
    uint32_t part = length < slice.length ? (uint32_t)length : slice.length;
    fill((uint8_t *)slice.bytes, part, scene.written);
    numaperf__buffers_commit(scene.buffers, &slice, part);
    bool is_lent = numaperf__buffer_lend(slice.buffer);
    if (is_lent) {
        scene.written += part;
        assert_int_equal(numaperf__output_hold(&scene.output, slice.buffer, slice.bytes, part), 0);
    }
    numaperf__buffer_unref(slice.buffer);
    return is_lent;
}

/* ---- sending ---- */

static void unpin(unsigned index)
{
    /* The kernel used it until now. */
    check(scene.pinned_bytes[index].iov_base, scene.pinned_bytes[index].iov_len,
          scene.pinned_at[index]);
    struct numaperf__piece *piece = scene.pinned[index];
    scene.pinned_count--;
    scene.pinned[index] = scene.pinned[scene.pinned_count];
    scene.pinned_bytes[index] = scene.pinned_bytes[scene.pinned_count];
    scene.pinned_at[index] = scene.pinned_at[scene.pinned_count];
    numaperf__output_unpin(&scene.output, NULL, piece);
}

static void send_some(uint32_t zero_copy_bytes)
{
    if (scene.output.first == NULL)
        return;
    struct iovec parts[PARTS];
    struct numaperf__output_front front;
    uint32_t max = 1 + (uint32_t)stress_below(&scene.random, PARTS);
    numaperf__output_front(&scene.output, zero_copy_bytes, parts, max, &front);
    assert_in_range(front.part_count, 1, max);
    uint64_t at = scene.sent;
    for (uint32_t i = 0; i < front.part_count; i++) {
        assert_true(parts[i].iov_len > 0);
        check(parts[i].iov_base, parts[i].iov_len, at);
        at += parts[i].iov_len;
    }
    assert_true(front.length == at - scene.sent);
    size_t length = (size_t)stress_below(&scene.random, front.length + 1);
    length = stress_below(&scene.random, 3) == 0 ? front.length : length;
    if (front.zero_copy != NULL && length > 0) {
        assert_int_equal(front.part_count, 1);
        assert_true(front.length >= zero_copy_bytes);
        if (scene.pinned_count == LOANS)
            unpin(0);
        scene.pinned[scene.pinned_count] = front.zero_copy;
        scene.pinned_at[scene.pinned_count] = scene.sent;
        scene.pinned_bytes[scene.pinned_count++] = (struct iovec){parts[0].iov_base, length};
        numaperf__piece_pin(front.zero_copy);
    }
    scene.sent += length;
    numaperf__output_sent(&scene.output, NULL, length);
}

static void scene_step(void)
{
    size_t length = 1 + (size_t)stress_below(&scene.random, LENGTH_MAX - 1);
    length >>= stress_below(&scene.random, 15);
    length += length == 0;
    switch (stress_below(&scene.random, 7)) {
    case 0:
        append_copy(length);
        break;
    case 1:
        append_loan(length);
        break;
    case 2:
        (void)append_held(length);
        break;
    case 3:
        if (scene.pinned_count > 0)
            unpin((unsigned)stress_below(&scene.random, scene.pinned_count));
        break;
    default:
        send_some(stress_below(&scene.random, 2) == 0 ? 1000 : UINT32_MAX);
    }
    numaperf__output_validate(&scene.output);
    assert_true(scene.output.bytes == scene.written - scene.sent);
}

static void scene_finish(void)
{
    while (scene.output.first != NULL)
        send_some(1000);
    while (scene.pinned_count > 0)
        unpin(0);
    numaperf__output_validate(&scene.output);
    assert_true(scene.sent == scene.written && scene.lent == scene.returned);
}

/* ---- cases ---- */

static void bytes_leave_in_order_whatever_is_sent_at_once(void **state)
{
    (void)state;
    scene.random = stress_seed();
    uint64_t steps = stress_count(STEPS);
    for (uint64_t i = 0; i < steps; i++)
        scene_step();
    scene_finish();
}

static void what_is_dropped_tells_why_and_leaves_nothing(void **state)
{
    (void)state;
    scene.random = stress_seed();
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 40; i++)
            scene_step();
        while (scene.pinned_count > 0)
            unpin(0);
        scene.drops = true;
        numaperf__output_drop(&scene.output, NULL, -ECONNRESET);
        scene.drops = false;
        assert_true(scene.output.bytes == 0 && scene.output.first == NULL);
        assert_int_equal(scene.lent, scene.returned);
        assert_int_equal(numaperf__buffers_used(scene.buffers), 0);
        scene.sent = scene.written;
    }
}

static void zero_copy_piece_goes_by_itself(void **state)
{
    (void)state;
    struct iovec parts[PARTS];
    struct numaperf__output_front front;
    append_copy(100);
    append_loan(5000);
    append_copy(100);
    append_copy(6000); /* a copy is never one, however long */
    numaperf__output_front(&scene.output, 1000, parts, PARTS, &front);
    assert_true(front.length == 100 && front.zero_copy == NULL);
    numaperf__output_front(&scene.output, 5001, parts, PARTS, &front);
    assert_true(front.length == scene.output.bytes && front.zero_copy == NULL);
    scene.sent += 100;
    numaperf__output_sent(&scene.output, NULL, 100);
    numaperf__output_front(&scene.output, 5000, parts, PARTS, &front);
    assert_true(front.length == 5000 && front.part_count == 1 && front.zero_copy != NULL);
    numaperf__piece_pin(front.zero_copy);
    numaperf__piece_pin(front.zero_copy); /* sent in two requests */
    scene.sent += 5000;
    numaperf__output_sent(&scene.output, NULL, 5000);
    assert_int_equal(scene.returned, 0);
    numaperf__output_unpin(&scene.output, NULL, front.zero_copy);
    assert_int_equal(scene.returned, 0);
    numaperf__output_unpin(&scene.output, NULL, front.zero_copy);
    assert_int_equal(scene.returned, 1);
    scene_finish();
}

static void without_memory_nothing_is_taken(void **state)
{
    (void)state;
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.limit_bytes = config.chunk_bytes = 65536;
    numaperf_arena_t *small = NULL;
    struct numaperf__output output;
    static uint8_t bytes[LENGTH_MAX];
    assert_int_equal(numaperf_arena_create(&config, &small), 0);
    numaperf__output_init(&output, small);
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    size_t taken = 0;
    while (numaperf__output_copy(&output, &part, 1, sizeof(bytes)) == 0)
        taken += sizeof(bytes);
    assert_true(taken < 65536 && output.bytes == taken);
    numaperf__output_validate(&output);
    int rc = 0;
    for (; rc == 0; taken += rc == 0)
        rc = numaperf__output_copy(&output, &(struct iovec){bytes, 1}, 1, 1);
    assert_int_equal(rc, -ENOMEM);
    assert_int_equal(numaperf__output_borrow(&output, bytes, 1, loan_done, NULL), -ENOMEM);
    assert_true(output.bytes == taken);
    numaperf__output_drop(&output, NULL, -ENOMEM);
    numaperf_arena_destroy(small);
}

#define SCENE(fn) cmocka_unit_test_setup_teardown(fn, scene_open, scene_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(bytes_leave_in_order_whatever_is_sent_at_once),
        SCENE(what_is_dropped_tells_why_and_leaves_nothing),
        SCENE(zero_copy_piece_goes_by_itself),
        cmocka_unit_test(without_memory_nothing_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
