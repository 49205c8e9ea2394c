/* SPDX-License-Identifier: MIT */
/*
 * Datagrams: what is read of a buffer whatever its header says, how sends are cut into messages,
 * and what becomes of a socket when memory, the ring or the kernel's sending fail it. What comes
 * and goes otherwise is test_net_udp's.
 */
#include "io/ring_message.h"
#include "net/udp.h"

#include "support/udp_scene.h"

#include <numaperf/error.h>

#include <errno.h>
#include <netinet/udp.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

/* ---- failures ---- */

static struct {
    unsigned allocs_until;           /* one fails after so many; 0: none does */
    unsigned submits;                /* so many fail with -EBUSY */
    unsigned cancels;                /* the same */
    unsigned full;                   /* so many sends find no room */
    int segmented_errno;             /* what sends of several say */
    int poll_init, buffers_register; /* what these say; 0: they work */
    bool no_multishot;               /* a kernel before 6.0 */
    unsigned segmented;              /* messages that the kernel was to cut */
} faults;

void *__real_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align);
void *__wrap_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align);
void *__wrap_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align)
{
    if (faults.allocs_until > 0 && --faults.allocs_until == 0)
        return NULL;
    return __real_numaperf_arena_alloc(arena, size, align);
}

int __real_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op)
{
    if (faults.submits > 0) {
        faults.submits--;
        return -EBUSY;
    }
    if (faults.no_multishot && op->kind == NUMAPERF__OP_RECVMSG_MULTI) {
        /* What the kernel says to a request that it does not know. */
        op->kind = NUMAPERF__OP_READV;
        op->length = 100000;
    }
    return __real_numaperf__loop_submit(loop, op);
}

int __real_numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op);
int __wrap_numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op);
int __wrap_numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op)
{
    if (faults.cancels > 0) {
        faults.cancels--;
        return -EBUSY;
    }
    return __real_numaperf__ring_cancel(ring, op);
}

int __real_numaperf__ring_buffers_register(struct numaperf__ring *ring, uint32_t group,
                                           void *ring_memory, uint32_t entries, bool incremental);
int __wrap_numaperf__ring_buffers_register(struct numaperf__ring *ring, uint32_t group,
                                           void *ring_memory, uint32_t entries, bool incremental);
int __wrap_numaperf__ring_buffers_register(struct numaperf__ring *ring, uint32_t group,
                                           void *ring_memory, uint32_t entries, bool incremental)
{
    if (faults.buffers_register != 0 && group == NUMAPERF__UDP_BUFFER_GROUP)
        return faults.buffers_register;
    return __real_numaperf__ring_buffers_register(ring, group, ring_memory, entries, incremental);
}

int __real_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd);
int __wrap_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd);
int __wrap_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd)
{
    return faults.poll_init != 0 ? faults.poll_init : __real_uv_poll_init(loop, poll, fd);
}

/* Whether a send is to fail: its errno. */
static int send_fault(const struct msghdr *message)
{
    if (faults.full > 0) {
        faults.full--;
        return EAGAIN;
    }
    if (message->msg_controllen == 0)
        return 0;
    faults.segmented++;
    return faults.segmented_errno;
}

int __real_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    /* As the kernel does: those before the one that fails are sent, and it is told next time. */
    unsigned good = 0;
    for (; good < count; good++) {
        int error = send_fault(&messages[good].msg_hdr);
        if (error != 0 && good == 0) {
            errno = error;
            return -1;
        }
        if (error != 0)
            break;
    }
    return __real_sendmmsg(fd, messages, good, flags);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    int error = send_fault(message);
    if (error == 0)
        return __real_sendmsg(fd, message, flags);
    errno = error;
    return -1;
}

/* ---- messages of the ring ---- */

struct buffer {
    uint32_t name_length, control_length, payload_length, flags;
    char rest[NUMAPERF__UDP_NAME_BYTES + NUMAPERF__UDP_CONTROL_BYTES + 100];
};

static const struct msghdr layout = {.msg_namelen = NUMAPERF__UDP_NAME_BYTES,
                                     .msg_controllen = NUMAPERF__UDP_CONTROL_BYTES};
#define BEFORE \
    (NUMAPERF__RING_MESSAGE_HEADER + NUMAPERF__UDP_NAME_BYTES + NUMAPERF__UDP_CONTROL_BYTES)

static void udp_message_is_found_in_its_buffer(void **state)
{
    (void)state;
    struct buffer buffer = {.name_length = 16, .control_length = 24, .payload_length = 100};
    struct numaperf__message message;
    assert_true(numaperf__ring_message_parse(&buffer, BEFORE + 100, &layout, &message));
    assert_ptr_equal(message.from, buffer.rest);
    assert_int_equal(message.from_length, 16);
    assert_ptr_equal(message.control, buffer.rest + NUMAPERF__UDP_NAME_BYTES);
    assert_int_equal(message.control_length, 24);
    assert_ptr_equal(message.bytes, (char *)&buffer + BEFORE);
    assert_int_equal(message.length, 100);
    assert_false(message.truncated);
    buffer.flags = MSG_TRUNC | MSG_CTRUNC;
    assert_true(numaperf__ring_message_parse(&buffer, BEFORE, &layout, &message));
    assert_int_equal(message.length, 0);
    assert_true(message.truncated);
}

static void udp_message_that_claims_too_much_stays_in_its_buffer(void **state)
{
    (void)state;
    struct buffer buffer = {
        .name_length = UINT32_MAX, .control_length = UINT32_MAX, .payload_length = UINT32_MAX};
    struct numaperf__message message;
    for (size_t length = 0; length < BEFORE; length++)
        assert_false(numaperf__ring_message_parse(&buffer, length, &layout, &message));
    for (size_t length = BEFORE; length <= sizeof(buffer); length++) {
        assert_true(numaperf__ring_message_parse(&buffer, length, &layout, &message));
        assert_int_equal(message.from_length, NUMAPERF__UDP_NAME_BYTES);
        assert_int_equal(message.control_length, NUMAPERF__UDP_CONTROL_BYTES);
        assert_ptr_equal(message.bytes + message.length, (char *)&buffer + length);
    }
}

/* ---- what a datagram is told as ---- */

static numaperf_datagram_t last_told;

static void keep_datagram(numaperf_udp_t *udp, const numaperf_datagram_t *datagram, int status,
                          void *data)
{
    (void)udp;
    (void)data;
    assert_int_equal(status, 0);
    last_told = *datagram;
}

/* A control message of `length` bytes that says `value`, in a message of 1000 bytes. */
static size_t segment_of(int level, int type, size_t length, int value)
{
    static char bytes[1000];
    _Atomic uint64_t cells[NUMAPERF__NET_CONNECTIONS + 1];
    memset((void *)cells, 0, sizeof(cells));
    alignas(struct cmsghdr) char control[NUMAPERF__UDP_CONTROL_BYTES] = {0};
    struct cmsghdr header = {.cmsg_len = length, .cmsg_level = level, .cmsg_type = type};
    memcpy(control, &header, sizeof(header));
    memcpy(control + sizeof(header), &value, sizeof(value));
    struct numaperf__net net = {.cells = cells};
    struct numaperf_udp udp = {.net = &net, .on_datagram = keep_datagram};
    const struct numaperf__message message = {.bytes = bytes,
                                              .length = sizeof(bytes),
                                              .control = control,
                                              .control_length = sizeof(control)};
    numaperf__udp_deliver(&udp, &message);
    assert_int_equal(last_told.length, sizeof(bytes));
    size_t count = (sizeof(bytes) - 1) / last_told.segment_bytes + 1;
    assert_true(cells[NUMAPERF__NET_DATAGRAMS_RECEIVED] == count);
    return last_told.segment_bytes;
}

static void udp_length_of_joined_datagrams_is_taken_only_if_it_can_be(void **state)
{
    (void)state;
    const size_t good = CMSG_LEN(sizeof(int));
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, good, 300), 300);
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, good, 1000), 1000);
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, good, 1001), 1000);
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, good, 0), 1000);
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, good, -5), 1000);
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, good - 1, 300), 1000);
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, 0, 300), 1000);
    assert_int_equal(segment_of(SOL_UDP, UDP_GRO, SIZE_MAX, 300), 300);
    assert_int_equal(segment_of(SOL_UDP, UDP_SEGMENT, good, 300), 1000);
    assert_int_equal(segment_of(SOL_SOCKET, UDP_GRO, good, 300), 1000);
}

/* ---- cutting ---- */

static void udp_sends_are_cut_at_whole_segments(void **state)
{
    (void)state;
    static const struct {
        size_t length, offset, segment;
        bool can_segment, one_by_one;
        size_t wanted;
        bool is_segmented;
    } cases[] = {
        {0, 0, 0, true, false, 0, false},
        {100, 0, 100, true, false, 100, false},
        {100, 0, 60, true, false, 100, true},
        {100, 60, 60, true, false, 40, false},
        {100, 0, 60, false, false, 60, false},
        {100, 0, 60, true, true, 60, false},
        {100, 60, 60, false, false, 40, false},
        {1000000, 0, 1000, true, false, 64000, true},
        {1000000, 0, 10, true, false, 640, true},
        {1000000, 999000, 600, true, false, 1000, true},
        {1000000, 0, 1400, true, false, 46 * 1400, true},
        {100000, 0, 32500, true, false, 65000, true},
        {100000, 0, 32501, true, false, 32501, false},
        {100000, 0, 65507, true, false, 65507, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct numaperf_udp udp = {.can_segment = cases[i].can_segment};
        static const char bytes[1000000];
        const struct numaperf__udp_piece piece = {.bytes = bytes,
                                                  .length = cases[i].length,
                                                  .segment_bytes = cases[i].segment,
                                                  .one_by_one = cases[i].one_by_one};
        struct numaperf__udp_message message;
        size_t length = numaperf__udp_message_fill(&udp, &piece, cases[i].offset, &message);
        assert_int_equal(length, cases[i].wanted);
        assert_int_equal(message.part.iov_len, length);
        assert_ptr_equal(message.part.iov_base, bytes + cases[i].offset);
        const struct cmsghdr *control = CMSG_FIRSTHDR(&message.header);
        assert_int_equal(control != NULL, cases[i].is_segmented);
        if (control == NULL)
            continue;
        uint16_t value = 0;
        memcpy(&value, CMSG_DATA(control), sizeof(value));
        assert_int_equal(value, cases[i].segment);
        assert_int_equal(control->cmsg_type, UDP_SEGMENT);
    }
}

/* ---- failures on the way ---- */

struct scene_of_two {
    struct net_scene scene;
    struct udp_end end;
    int peer;
    struct sockaddr_storage to;
    uint32_t to_length;
};

static void two_open(struct scene_of_two *two, void **state)
{
    uint16_t port = 0;
    memset(&two->end, 0, sizeof(two->end));
    udp_scene_begin(&two->scene, state);
    udp_end_open(&two->scene, &two->end, "127.0.0.1");
    two->peer = udp_peer("127.0.0.1", &port);
    udp_address("127.0.0.1", port, &two->to, &two->to_length);
}

static void two_close(struct scene_of_two *two)
{
    udp_end_close(&two->end);
    (void)close(two->peer);
    udp_scene_end(&two->scene);
    memset(&faults, 0, sizeof(faults));
}

static void two_take_until(struct scene_of_two *two, uint32_t *number, uint32_t wanted)
{
    uint64_t limit_ns = net_limit();
    for (udp_peer_take(two->peer, 100, number); *number < wanted;
         udp_peer_take(two->peer, 100, number))
        net_turn(&two->scene, limit_ns, "all datagrams at the peer");
}

static void udp_sends_that_find_no_room_wait_in_order(void **state)
{
    enum { COUNT = 100 };
    struct scene_of_two two;
    two_open(&two, state);
    uint32_t number = 0;
    faults.full = 5;
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(udp_end_send(&two.end, &two.to, 100, i), 0);
    two_take_until(&two, &number, COUNT);
    /* In the midst of a batch, too. */
    for (uint32_t i = 0; i < COUNT; i++) {
        faults.full += i % 10 == 9;
        assert_int_equal(udp_end_send(&two.end, &two.to, 100, COUNT + i), 0);
    }
    two_take_until(&two, &number, 2 * COUNT);
    assert_int_equal(two.end.errors, 0);
    two_close(&two);
}

static void udp_segments_go_one_by_one_where_the_kernel_does_not_cut(void **state)
{
    static const int errors[] = {EINVAL, EIO, EMSGSIZE};
    static char bytes[2001];
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct scene_of_two two;
        two_open(&two, state);
        uint32_t number = 0;
        faults.segmented_errno = errors[i];
        /* The first to go is the ring's own, which no test stands before. */
        assert_int_equal(udp_end_send(&two.end, &two.to, 100, 0), 0);
        for (uint32_t n = 0; n < 20; n++)
            udp_fill(bytes + n * 100, 100, n + 1);
        for (unsigned round = 0; round < 2; round++) {
            if (round == 1) {
                number = 0;
                assert_int_equal(udp_end_send(&two.end, &two.to, 100, 0), 0);
            }
            assert_int_equal(numaperf_udp_send(two.end.udp, (struct sockaddr *)&two.to,
                                               two.to_length, bytes, 2000, 100),
                             0);
            two_take_until(&two, &number, 21);
        }
        /* A device that cannot is not asked for the next piece (the first may be tried at once, and
         * again from the queue); a way that is too narrow may be another. */
        assert_true(faults.segmented > 0);
        assert_true(errors[i] != EIO || faults.segmented <= 2);
        assert_int_equal(two.end.errors, 0);
        assert_true(net_stats(&two.scene).datagrams_sent == 42);
        two_close(&two);
    }
}

static void udp_requests_that_the_ring_has_no_room_for_are_made_later(void **state)
{
    struct scene_of_two two;
    faults.submits = 3;
    two_open(&two, state);
    uint32_t number = 0;
    assert_int_equal(udp_end_send(&two.end, &two.to, 100, 0), 0);
    udp_peer_send(&two.end, two.peer, "127.0.0.1", 100, 9);
    two_take_until(&two, &number, 1);
    NET_UNTIL(&two.scene, two.end.datagrams == 1);
    assert_true(faults.submits == 0 || two.scene.kind->backend == NUMAPERF_IO_EPOLL);
    faults.submits = 0;
    faults.cancels = 5;
    two_close(&two);
}

static void udp_receives_by_libuv_where_the_kernel_has_no_such_request(void **state)
{
    struct scene_of_two two;
    faults.no_multishot = true;
    two_open(&two, state);
    uint32_t number = 0;
    for (uint32_t i = 0; i < 50; i++) {
        udp_peer_send(&two.end, two.peer, "127.0.0.1", 100, i);
        assert_int_equal(udp_end_send(&two.end, &two.to, 100, i), 0);
        NET_UNTIL(&two.scene, two.end.datagrams == i + 1);
        assert_int_equal(two.end.told[i].number, i);
        two_take_until(&two, &number, i + 1);
    }
    assert_int_equal(two.end.errors, 0);
    two_close(&two);
}

static uint64_t arena_used(const struct net_scene *scene)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(numaperf_loop_arena(scene->loop), &stats), 0);
    return stats.used_bytes;
}

static void udp_open_that_fails_on_the_way_leaves_nothing(void **state)
{
    struct net_scene scene;
    struct udp_end end = {0};
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    udp_end_close(&end);
    uint64_t used = arena_used(&scene);
    numaperf_udp_config_t config = udp_end_config(&end, "127.0.0.1");
    /* The handle; the buffers are fewer where memory is short. */
    faults.allocs_until = 1;
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &end.udp), -ENOMEM);
    assert_true(arena_used(&scene) == used);
    for (unsigned n = 2; n < 5; n++) {
        memset(&end, 0, sizeof(end));
        faults.allocs_until = n;
        udp_end_open(&scene, &end, "127.0.0.1");
        udp_end_close(&end);
        faults.allocs_until = 0;
        assert_true(arena_used(&scene) == used);
    }
    memset(&end, 0, sizeof(end));
    faults.buffers_register = -ENOMEM;
    faults.poll_init = -EPERM;
    int rc = numaperf_udp_open(scene.loop, &config, &end.udp);
    assert_int_equal(rc, scene.kind->backend == NUMAPERF_IO_URING ? -ENOMEM : -EPERM);
    memset(&faults, 0, sizeof(faults));
    assert_null(end.udp);
    assert_true(arena_used(&scene) == used);
    udp_scene_end(&scene);
}

static void udp_send_without_memory_takes_nothing(void **state)
{
    struct scene_of_two two;
    two_open(&two, state);
    faults.full = 1; /* so that it is queued on epoll, too */
    faults.allocs_until = 1;
    assert_int_equal(udp_end_send(&two.end, &two.to, 100, 5), -ENOMEM);
    faults.full = 0;
    assert_int_equal(udp_end_send(&two.end, &two.to, 100, 0), 0);
    uint32_t number = 0;
    two_take_until(&two, &number, 1);
    net_settle(&two.scene);
    two_take_until(&two, &number, 1);
    assert_true(net_stats(&two.scene).datagrams_sent == 1);
    two_close(&two);
}

int main(void)
{
    /* What libuv opens once and keeps. */
    uv_loop_t warm;
    if (uv_loop_init(&warm) != 0)
        return 1;
    (void)uv_loop_close(&warm);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(udp_message_is_found_in_its_buffer),
        cmocka_unit_test(udp_message_that_claims_too_much_stays_in_its_buffer),
        cmocka_unit_test(udp_length_of_joined_datagrams_is_taken_only_if_it_can_be),
        cmocka_unit_test(udp_sends_are_cut_at_whole_segments),
        NET_BOTH(udp_sends_that_find_no_room_wait_in_order),
        NET_BOTH(udp_segments_go_one_by_one_where_the_kernel_does_not_cut),
        NET_BOTH(udp_requests_that_the_ring_has_no_room_for_are_made_later),
        NET_BOTH(udp_receives_by_libuv_where_the_kernel_has_no_such_request),
        NET_BOTH(udp_open_that_fails_on_the_way_leaves_nothing),
        NET_BOTH(udp_send_without_memory_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
