/* SPDX-License-Identifier: MIT */
/*
 * What UDP sockets receive into: slots in the loop's arena, shared by all of them, since a slot is
 * in use no longer than until on_datagram has returned. With a ring they are a buffer ring of their
 * own, whose slots have room for the longest datagram with all that the kernel writes before it.
 *
 * Thread rule: the loop's thread.
 */
#include "net/udp.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

#define UDP_PAYLOAD_BYTES 65536u
#define UDP_COUNT_RING 64u
#define UDP_COUNT_POLL 16u /* what one recvmmsg() takes */
#define UDP_COUNT_MIN 4u
#define UDP_ENTRY_BYTES 16u /* of a buffer ring's entry */
#define UDP_PAGE 4096u
#define UDP_ALIGN 64u

char *numaperf__udp_slot(const struct numaperf__udp_buffers *buffers, uint32_t index)
{
    NUMAPERF_ASSERT(index < buffers->count);
    return buffers->memory + (size_t)index * buffers->stride;
}

void numaperf__udp_slot_return(struct numaperf__udp_buffers *buffers, uint32_t index)
{
    numaperf__ring_buffers_add(buffers->ring_memory, buffers->count, &buffers->tail,
                               numaperf__udp_slot(buffers, index), buffers->slot_bytes,
                               (uint16_t)index);
    numaperf__ring_buffers_publish(buffers->ring_memory, buffers->tail);
}

static void udp_buffers_free(struct numaperf__net *net, struct numaperf__udp_buffers *buffers)
{
    numaperf_arena_free(net->arena, buffers->ring_memory);
    numaperf_arena_free(net->arena, buffers->memory);
    numaperf_arena_free(net->arena, buffers);
}

/* NULL: there is no memory for as many. */
static struct numaperf__udp_buffers *udp_buffers_alloc(struct numaperf__net *net, uint32_t count)
{
    struct numaperf__udp_buffers *buffers = numaperf_arena_alloc(net->arena, sizeof(*buffers), 0);
    if (buffers == NULL)
        return NULL;
    uint32_t configured = numaperf__loop_buffer_bytes(net->loop);
    *buffers = (struct numaperf__udp_buffers){
        .count = count, .payload_bytes = configured != 0 ? configured : UDP_PAYLOAD_BYTES};
    buffers->slot_bytes = NUMAPERF__RING_MESSAGE_HEADER + NUMAPERF__UDP_NAME_BYTES +
                          NUMAPERF__UDP_CONTROL_BYTES + buffers->payload_bytes;
    buffers->stride = (buffers->slot_bytes + UDP_ALIGN - 1) & ~(UDP_ALIGN - 1);
    buffers->memory = numaperf_arena_alloc(net->arena, (size_t)buffers->stride * count, UDP_ALIGN);
    if (buffers->memory == NULL)
        goto free;
    if (net->ring != NULL) {
        buffers->ring_memory =
            numaperf_arena_alloc(net->arena, (size_t)count * UDP_ENTRY_BYTES, UDP_PAGE);
        if (buffers->ring_memory == NULL)
            goto free;
    }
    return buffers;

free:
    udp_buffers_free(net, buffers);
    return NULL;
}

static int udp_buffers_create(struct numaperf__net *net)
{
    uint32_t count = net->ring != NULL ? UDP_COUNT_RING : UDP_COUNT_POLL;
    struct numaperf__udp_buffers *buffers = NULL;
    for (; buffers == NULL && count >= UDP_COUNT_MIN; count /= 2)
        buffers = udp_buffers_alloc(net, count);
    if (buffers == NULL)
        return -ENOMEM;
    if (net->ring != NULL) {
        /* Whole ones: a message is never behind another in a slot. */
        int rc = numaperf__ring_buffers_register(net->ring, NUMAPERF__UDP_BUFFER_GROUP,
                                                 buffers->ring_memory, buffers->count, false);
        if (rc < 0) {
            udp_buffers_free(net, buffers);
            return rc;
        }
        for (uint32_t i = 0; i < buffers->count; i++)
            numaperf__udp_slot_return(buffers, i);
    }
    net->udp_buffers = buffers;
    return 0;
}

int numaperf__udp_buffers_get(struct numaperf__net *net)
{
    if (net->udp_buffers == NULL) {
        int rc = udp_buffers_create(net);
        if (rc < 0)
            return rc;
    }
    net->udp_buffers->user_count++;
    return 0;
}

void numaperf__udp_buffers_put(struct numaperf__net *net)
{
    struct numaperf__udp_buffers *buffers = net->udp_buffers;
    NUMAPERF_ASSERT(buffers->user_count > 0);
    if (--buffers->user_count > 0)
        return;
    if (buffers->ring_memory != NULL) {
        int rc = numaperf__ring_buffers_unregister(net->ring, NUMAPERF__UDP_BUFFER_GROUP);
        NUMAPERF_ASSERT(rc == 0);
    }
    net->udp_buffers = NULL;
    udp_buffers_free(net, buffers);
}
