/* SPDX-License-Identifier: MIT */
/*
 * Receive buffers, handed out here and by the kernel's buffer ring: who refers to one keeps its
 * bytes, nobody else gets them meanwhile, and what is given back can be filled again.
 */
#include "io/buffers.h"

#include "support/ring_ops.h"
#include "support/stress.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 4096u
#define BUFFER_COUNT 8u
#define SLICES 40
#define STEPS 50000

static struct scene {
    numaperf_arena_t *arena;
    struct numaperf__ring *ring;
    struct numaperf__buffers *buffers;
    unsigned rooms;
} scene;

static void count_room(void *data)
{
    assert_ptr_equal(data, &scene);
    scene.rooms++;
}

static void scene_open(bool with_ring, bool whole)
{
    memset(&scene, 0, sizeof(scene));
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    assert_int_equal(numaperf_arena_create(&config, &scene.arena), 0);
    scene.ring = with_ring ? ring_open(16) : NULL;
    const struct numaperf__buffers_config buffers = {.arena = scene.arena,
                                                     .ring = scene.ring,
                                                     .bytes = BUFFER_BYTES,
                                                     .count = BUFFER_COUNT,
                                                     .group = 7,
                                                     .whole = whole,
                                                     .on_room = count_room,
                                                     .data = &scene};
    assert_int_equal(numaperf__buffers_create(&buffers, &scene.buffers), 0);
    assert_int_equal(numaperf__buffers_count(scene.buffers), BUFFER_COUNT);
    assert_true(numaperf__buffers_has_room(scene.buffers));
}

static void scene_close(void)
{
    assert_int_equal(numaperf__buffers_used(scene.buffers), 0);
    numaperf__buffers_destroy(scene.buffers);
    numaperf__ring_destroy(scene.ring);
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(scene.arena, &stats), 0);
    assert_true(stats.used_bytes == 0);
    numaperf_arena_destroy(scene.arena);
}

/* ---- handed out here ---- */

/* A received piece, with bytes of its own that nobody may overwrite. */
struct received {
    struct numaperf__slice slice;
    uint8_t mark;
    bool is_lent;
};

static void received_check(const struct received *received)
{
    for (uint32_t i = 0; i < received->slice.length; i++)
        assert_int_equal((uint8_t)received->slice.bytes[i], received->mark);
    assert_true(numaperf__buffer_contains(received->slice.buffer, received->slice.bytes,
                                          received->slice.length));
}

static bool receive(struct received *received, uint32_t length, uint8_t mark)
{
    *received = (struct received){.mark = mark};
    if (!numaperf__buffers_acquire(scene.buffers, &received->slice))
        return false;
    assert_true(received->slice.length >= BUFFER_BYTES / 4);
    uint32_t part = length < received->slice.length ? length : received->slice.length;
    memset(received->slice.bytes, mark, part);
    numaperf__buffers_commit(scene.buffers, &received->slice, part);
    if (part == 0)
        assert_null(received->slice.buffer);
    else
        assert_int_equal(received->slice.length, part);
    return part > 0;
}

static void give_back(struct received *received)
{
    received_check(received);
    if (received->is_lent)
        numaperf__buffer_return(received->slice.buffer);
    else
        numaperf__buffer_unref(received->slice.buffer);
    received->slice.buffer = NULL;
}

static void received_bytes_stay_until_they_are_given_back(void **state)
{
    (void)state;
    struct received all[SLICES] = {{.mark = 0}};
    uint64_t random = stress_seed();
    scene_open(false, false);
    uint64_t steps = stress_count(STEPS);
    for (uint64_t i = 0; i < steps; i++) {
        struct received *one = &all[stress_below(&random, SLICES)];
        if (one->slice.buffer != NULL) {
            give_back(one);
            continue;
        }
        bool taken = receive(one, (uint32_t)stress_below(&random, 3000), (uint8_t)i);
        if (taken && stress_below(&random, 4) == 0 && numaperf__buffer_lend(one->slice.buffer)) {
            one->is_lent = true;
            numaperf__buffer_unref(one->slice.buffer);
        }
    }
    for (int i = 0; i < SLICES; i++) {
        if (all[i].slice.buffer != NULL)
            give_back(&all[i]);
    }
    scene_close();
}

static void exhaustion_is_followed_by_room_once(void **state)
{
    (void)state;
    struct received all[BUFFER_COUNT];
    struct received more;
    scene_open(false, false);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++) {
        assert_true(receive(&all[i], BUFFER_BYTES, (uint8_t)i));
        numaperf__buffer_ref(all[i].slice.buffer); /* two refer to it */
    }
    assert_int_equal(numaperf__buffers_used(scene.buffers), BUFFER_COUNT);
    assert_false(receive(&more, 1, 99));
    assert_false(numaperf__buffers_has_room(scene.buffers));
    numaperf__buffers_await_room(scene.buffers);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++)
        numaperf__buffer_unref(all[i].slice.buffer);
    assert_int_equal(scene.rooms, 0);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++) {
        give_back(&all[i]);
        assert_int_equal(scene.rooms, 1);
    }
    assert_true(receive(&more, 1, 99));
    give_back(&more);
    scene_close();
}

static void user_gets_half_of_them_at_most(void **state)
{
    (void)state;
    struct received all[BUFFER_COUNT];
    scene_open(false, false);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++) {
        assert_true(receive(&all[i], BUFFER_BYTES, (uint8_t)i));
        assert_true(numaperf__buffer_lend(all[i].slice.buffer) == (i < BUFFER_COUNT / 2));
    }
    assert_true(numaperf__buffer_lend(all[0].slice.buffer)); /* another piece of a lent one */
    numaperf__buffer_return(all[0].slice.buffer);
    assert_false(numaperf__buffer_lend(all[7].slice.buffer));
    numaperf__buffer_return(all[0].slice.buffer);
    assert_true(numaperf__buffer_lend(all[7].slice.buffer));
    numaperf__buffer_return(all[7].slice.buffer);
    for (uint32_t i = 1; i < BUFFER_COUNT / 2; i++)
        numaperf__buffer_return(all[i].slice.buffer);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++)
        give_back(&all[i]);
    scene_close();
}

static void bytes_beside_a_buffer_are_not_in_it(void **state)
{
    (void)state;
    struct received one;
    scene_open(false, false);
    assert_true(receive(&one, BUFFER_BYTES, 1));
    const struct numaperf_buffer *buffer = one.slice.buffer;
    const char *base = one.slice.bytes;
    assert_true(numaperf__buffer_contains(buffer, base, BUFFER_BYTES));
    assert_true(numaperf__buffer_contains(buffer, base + BUFFER_BYTES, 0));
    assert_false(numaperf__buffer_contains(buffer, base, BUFFER_BYTES + 1));
    assert_false(numaperf__buffer_contains(buffer, base + 1, BUFFER_BYTES));
    assert_false(numaperf__buffer_contains(buffer, base - 1, 1));
    assert_false(numaperf__buffer_contains(buffer, base + 1, SIZE_MAX));
    give_back(&one);
    scene_close();
}

/* ---- by the kernel ---- */

/* One receive at a time, as often as it is asked for. */
static struct receiver {
    struct numaperf__op op;
    int fds[2];
    uint8_t sent; /* mark of the next piece */
} receiver;

static void receiver_done(struct numaperf__op *op)
{
    assert_false(op->more);
}

static void receiver_open(bool whole)
{
    scene_open(true, whole);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, receiver.fds), 0);
    receiver.op = (struct numaperf__op){.done = receiver_done,
                                        .kind = NUMAPERF__OP_RECV,
                                        .fd = receiver.fds[0],
                                        .group = numaperf__buffers_group(scene.buffers)};
}

static void receiver_close(void)
{
    (void)close(receiver.fds[0]);
    (void)close(receiver.fds[1]);
    scene_close();
}

/* 0, with the piece; or what the receive said. */
static int receiver_receive(struct received *received, uint32_t length)
{
    uint8_t bytes[BUFFER_BYTES];
    memset(bytes, receiver.sent, length);
    assert_int_equal(send(receiver.fds[1], bytes, length, 0), length);
    assert_int_equal(numaperf__ring_submit(scene.ring, &receiver.op), 0);
    (void)drain(scene.ring);
    if (receiver.op.result < 0) {
        assert_false(numaperf__buffers_take(scene.buffers, &receiver.op, &received->slice));
        assert_int_equal(recv(receiver.fds[0], bytes, sizeof(bytes), 0), length);
        return receiver.op.result;
    }
    *received = (struct received){.mark = receiver.sent++};
    assert_true(numaperf__buffers_take(scene.buffers, &receiver.op, &received->slice));
    /* The end of a buffer may be shorter than what there is; the rest is of no use here. */
    uint32_t rest = length - received->slice.length;
    assert_true(rest < length);
    assert_int_equal(recv(receiver.fds[0], bytes, rest + 1, MSG_DONTWAIT),
                     rest > 0 ? (int)rest : -1);
    received_check(received);
    return 0;
}

static void pieces_of_the_kernel_stay_until_they_are_given_back(void **state)
{
    SKIP_WITHOUT_RING(state);
    uint64_t random = stress_seed();
    for (int whole = 0; whole < 2; whole++) {
        struct received all[SLICES] = {{.mark = 0}};
        receiver_open(whole != 0);
        uint64_t steps = stress_count(STEPS / 5);
        unsigned empty = 0;
        for (uint64_t i = 0; i < steps; i++) {
            struct received *one = &all[stress_below(&random, SLICES)];
            if (one->slice.buffer != NULL) {
                give_back(one);
            } else if (receiver_receive(one, 1 + (uint32_t)stress_below(&random, 700)) < 0) {
                assert_int_equal(receiver.op.result, -ENOBUFS);
                assert_false(numaperf__buffers_has_room(scene.buffers));
                empty++;
            }
        }
        assert_true(whole == 0 || empty > 0 || steps < 1000);
        for (int i = 0; i < SLICES; i++) {
            if (all[i].slice.buffer != NULL)
                give_back(&all[i]);
        }
        receiver_close();
    }
}

static void kernel_without_buffers_is_given_room_again(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct received all[BUFFER_COUNT];
    struct received more;
    receiver_open(true);
    assert_false(numaperf__buffers_incremental(scene.buffers));
    for (uint32_t i = 0; i < BUFFER_COUNT; i++)
        assert_int_equal(receiver_receive(&all[i], 10), 0);
    assert_int_equal(receiver_receive(&more, 10), -ENOBUFS);
    assert_false(numaperf__buffers_has_room(scene.buffers));
    numaperf__buffers_await_room(scene.buffers);
    assert_int_equal(scene.rooms, 0);
    give_back(&all[3]);
    assert_int_equal(scene.rooms, 1);
    assert_int_equal(receiver_receive(&all[3], 10), 0);
    for (uint32_t i = 0; i < BUFFER_COUNT; i++)
        give_back(&all[i]);
    assert_int_equal(scene.rooms, 1);
    receiver_close();
}

int main(void)
{
    struct numaperf__ring *ring = NULL;
    ring_refusal = numaperf__ring_create(8, &ring);
    numaperf__ring_destroy(ring);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(received_bytes_stay_until_they_are_given_back),
        cmocka_unit_test(exhaustion_is_followed_by_room_once),
        cmocka_unit_test(user_gets_half_of_them_at_most),
        cmocka_unit_test(bytes_beside_a_buffer_are_not_in_it),
        cmocka_unit_test(pieces_of_the_kernel_stay_until_they_are_given_back),
        cmocka_unit_test(kernel_without_buffers_is_given_room_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
