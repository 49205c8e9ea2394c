/* SPDX-License-Identifier: MIT */
/*
 * Receive buffers of a loop.
 *
 * A buffer is filled from its start, piece by piece, and is used again from its start when nobody
 * refers to it: invariant, with a buffer ring it is in exactly one of three places:
 *
 *   the kernel's   in the ring, or partly filled and to be filled further (incremental)
 *   in use         the kernel is done with it, references are out
 *   both           partly filled, references are out, more will come
 *
 * or it lies in a stack of free ones. Without a buffer ring there is one buffer that is filled now,
 * and that stack. The bytes of a piece are never moved.
 *
 * The kernel has few of them at a time when it fills them piece by piece: it goes through all that
 * it has, and more of them than the PU's cache holds means that bytes have left it before they are
 * sent. What it uses up is replaced from the stack, last used first. A burst that finds none
 * (-ENOBUFS) begins again with those; whole ones are all in the ring, since every receive takes
 * one.
 *
 * Thread rule: the loop's thread alone.
 */
#include "io/buffers.h"

#include "base/assert.h"

#include <numaperf/error.h>

#include <errno.h>
#include <string.h>

#define BUFFERS_BYTES_DEFAULT 65536u
#define BUFFERS_COUNT_PIECES 64u /* a buffer serves many small receives */
#define BUFFERS_COUNT_WHOLE 256u /* a buffer a receive */
#define BUFFERS_COUNT_MIN 4u     /* with less memory than that there are none */
#define BUFFERS_KERNEL_BYTES \
    (512u << 10)              /* what the kernel has at a time; half of a small L2 cache */
#define BUFFERS_KERNEL_MIN 4u /* and no fewer buffers than this */
#define BUFFERS_PAGE 4096u
#define BUFFERS_ENTRY_BYTES 16u /* of a buffer ring's entry */

struct numaperf_buffer {
    struct numaperf__buffers *pool;
    char *base;
    struct numaperf_buffer *next_free; /* without a buffer ring */
    uint32_t filled;
    uint32_t references;
    uint32_t lent; /* of these, to the user */
    uint16_t id;
    bool is_kernels; /* it will fill it (further) */
};

struct numaperf__buffers {
    struct numaperf__buffers_config config;
    bool incremental;
    bool awaits_room;
    uint32_t tail;         /* of the buffer ring */
    uint32_t kernel_count; /* buffers that are the kernel's */
    uint32_t kernel_max;   /* how many it gets */
    uint32_t used_count;   /* buffers with references */
    uint32_t lent_count;   /* buffers that the user has */
    char *memory;
    void *ring_memory; /* NULL without a buffer ring */
    struct numaperf_buffer *filling;
    struct numaperf_buffer *free_first;
    struct numaperf_buffer items[];
};

/* ---- create ---- */

static void buffers_free(struct numaperf__buffers *buffers)
{
    numaperf_arena_t *arena = buffers->config.arena;
    numaperf_arena_free(arena, buffers->ring_memory);
    numaperf_arena_free(arena, buffers->memory);
    numaperf_arena_free(arena, buffers);
}

/* Memory for `count` of them; NULL when there is none. */
static struct numaperf__buffers *buffers_alloc(const struct numaperf__buffers_config *config,
                                               uint32_t bytes, uint32_t count)
{
    struct numaperf__buffers *buffers = numaperf_arena_alloc(
        config->arena, sizeof(*buffers) + count * sizeof(struct numaperf_buffer), 64);
    if (buffers == NULL)
        return NULL;
    memset(buffers, 0, sizeof(*buffers));
    buffers->config = *config;
    buffers->config.bytes = bytes;
    buffers->config.count = count;
    buffers->memory = numaperf_arena_alloc(config->arena, (size_t)bytes * count, BUFFERS_PAGE);
    if (buffers->memory == NULL)
        goto free;
    if (config->ring != NULL) {
        buffers->ring_memory =
            numaperf_arena_alloc(config->arena, (size_t)count * BUFFERS_ENTRY_BYTES, BUFFERS_PAGE);
        if (buffers->ring_memory == NULL)
            goto free;
    }
    return buffers;

free:
    buffers_free(buffers);
    return NULL;
}

/* With as many as there is memory for, when the number is ours to choose. */
static struct numaperf__buffers *buffers_alloc_some(const struct numaperf__buffers_config *config,
                                                    bool incremental)
{
    uint32_t bytes = config->bytes != 0 ? config->bytes : BUFFERS_BYTES_DEFAULT;
    if (config->count != 0)
        return buffers_alloc(config, bytes, config->count);
    uint32_t count =
        incremental || config->ring == NULL ? BUFFERS_COUNT_PIECES : BUFFERS_COUNT_WHOLE;
    struct numaperf__buffers *buffers = NULL;
    for (; buffers == NULL && count >= BUFFERS_COUNT_MIN; count /= 2)
        buffers = buffers_alloc(config, bytes, count);
    return buffers;
}

static void buffers_publish(struct numaperf__buffers *buffers, struct numaperf_buffer *buffer)
{
    buffer->is_kernels = true;
    buffers->kernel_count++;
    numaperf__ring_buffers_add(buffers->ring_memory, buffers->config.count, &buffers->tail,
                               buffer->base, buffers->config.bytes, buffer->id);
    numaperf__ring_buffers_publish(buffers->ring_memory, buffers->tail);
}

static struct numaperf_buffer *buffers_pop_free(struct numaperf__buffers *buffers)
{
    struct numaperf_buffer *buffer = buffers->free_first;
    if (buffer != NULL)
        buffers->free_first = buffer->next_free;
    return buffer;
}

/* The kernel used one up: it gets another. */
static void buffers_replace(struct numaperf__buffers *buffers)
{
    struct numaperf_buffer *buffer = buffers_pop_free(buffers);
    if (buffer != NULL)
        buffers_publish(buffers, buffer);
}

/* It is nobody's. */
static void buffers_give(struct numaperf__buffers *buffers, struct numaperf_buffer *buffer)
{
    NUMAPERF_ASSERT_HOT(!buffer->is_kernels && buffer->references == 0);
    buffer->filled = 0;
    if (buffers->ring_memory != NULL && buffers->kernel_count < buffers->kernel_max) {
        buffers_publish(buffers, buffer);
    } else {
        buffer->next_free = buffers->free_first;
        buffers->free_first = buffer;
    }
    if (buffers->awaits_room) {
        buffers->awaits_room = false;
        buffers->config.on_room(buffers->config.data);
    }
}

static uint32_t buffers_kernel_max(const struct numaperf__buffers *buffers)
{
    if (!buffers->incremental)
        return buffers->config.count;
    uint32_t count = BUFFERS_KERNEL_BYTES / buffers->config.bytes;
    return count < BUFFERS_KERNEL_MIN ? BUFFERS_KERNEL_MIN : count;
}

static void buffers_fill(struct numaperf__buffers *buffers)
{
    for (uint32_t i = 0; i < buffers->config.count; i++) {
        struct numaperf_buffer *buffer = &buffers->items[i];
        memset(buffer, 0, sizeof(*buffer));
        buffer->pool = buffers;
        buffer->base = buffers->memory + (size_t)i * buffers->config.bytes;
        buffer->id = (uint16_t)i;
        buffers_give(buffers, buffer);
    }
}

int numaperf__buffers_create(const struct numaperf__buffers_config *config,
                             struct numaperf__buffers **out)
{
    NUMAPERF_ASSERT((config->bytes & (config->bytes - 1)) == 0);
    NUMAPERF_ASSERT((config->count & (config->count - 1)) == 0 && config->count <= 32768);

    /* From the best form down: a kernel that has no incremental ones says -EINVAL. */
    int rc = -EINVAL;
    for (int incremental = config->ring != NULL && !config->whole; incremental >= 0 && rc != 0;
         incremental--) {
        struct numaperf__buffers *buffers = buffers_alloc_some(config, incremental != 0);
        if (buffers == NULL)
            return -ENOMEM;
        rc =
            config->ring == NULL
                ? 0
                : numaperf__ring_buffers_register(config->ring, config->group, buffers->ring_memory,
                                                  buffers->config.count, incremental != 0);
        if (rc != 0) {
            buffers_free(buffers);
            continue;
        }
        buffers->incremental = incremental != 0;
        buffers->kernel_max = buffers_kernel_max(buffers);
        buffers_fill(buffers);
        *out = buffers;
    }
    return rc == -EINVAL ? NUMAPERF_E_UNSUPPORTED : rc;
}

/* ---- with a buffer ring ---- */

bool numaperf__buffers_take(struct numaperf__buffers *buffers, const struct numaperf__op *op,
                            struct numaperf__slice *out)
{
    uint16_t id = 0;
    bool more = false;
    if (!numaperf__ring_buffer_of(op, &id, &more))
        return false;
    NUMAPERF_ASSERT(id < buffers->config.count);
    struct numaperf_buffer *buffer = &buffers->items[id];
    uint32_t length = op->result > 0 ? (uint32_t)op->result : 0;
    NUMAPERF_ASSERT(buffer->is_kernels && length <= buffers->config.bytes - buffer->filled);

    *out = (struct numaperf__slice){
        .buffer = buffer, .bytes = buffer->base + buffer->filled, .length = length};
    buffer->filled += length;
    if (buffer->references++ == 0)
        buffers->used_count++;
    if (!more) {
        buffer->is_kernels = false;
        buffers->kernel_count--;
        buffers_replace(buffers);
    }
    return true;
}

void numaperf__buffers_await_room(struct numaperf__buffers *buffers)
{
    buffers->awaits_room = true;
}

bool numaperf__buffers_has_room(const struct numaperf__buffers *buffers)
{
    if (buffers->ring_memory != NULL)
        return buffers->kernel_count > 0;
    return buffers->free_first != NULL || buffers->filling != NULL;
}

/* ---- without ---- */

bool numaperf__buffers_acquire(struct numaperf__buffers *buffers, struct numaperf__slice *out)
{
    struct numaperf_buffer *buffer = buffers->filling;
    if (buffer != NULL && buffers->config.bytes - buffer->filled < buffers->config.bytes / 4) {
        /* Too full: it comes back when its references are gone, of which it has at least one. */
        NUMAPERF_ASSERT(buffer->references > 0);
        buffers->filling = NULL;
        buffer = NULL;
    }
    if (buffer == NULL) {
        buffer = buffers_pop_free(buffers);
        if (buffer == NULL)
            return false;
        buffers->filling = buffer;
    }
    if (buffer->references++ == 0)
        buffers->used_count++;
    *out = (struct numaperf__slice){.buffer = buffer,
                                    .bytes = buffer->base + buffer->filled,
                                    .length = buffers->config.bytes - buffer->filled};
    return true;
}

void numaperf__buffers_commit(struct numaperf__buffers *buffers, struct numaperf__slice *slice,
                              uint32_t length)
{
    struct numaperf_buffer *buffer = slice->buffer;
    NUMAPERF_ASSERT(buffer == buffers->filling && length <= slice->length);
    NUMAPERF_ASSERT(slice->bytes == buffer->base + buffer->filled);
    buffer->filled += length;
    slice->length = length;
    if (length == 0) {
        numaperf__buffer_unref(buffer);
        slice->buffer = NULL;
    }
}

/* ---- both ---- */

void numaperf__buffer_ref(struct numaperf_buffer *buffer)
{
    NUMAPERF_ASSERT_HOT(buffer->references > 0);
    buffer->references++;
}

void numaperf__buffer_unref(struct numaperf_buffer *buffer)
{
    NUMAPERF_ASSERT(buffer->references > 0);
    if (--buffer->references > 0)
        return;
    struct numaperf__buffers *buffers = buffer->pool;
    buffers->used_count--;
    if (buffer == buffers->filling)
        buffer->filled = 0; /* filled again from its start, which is in the cache */
    else if (!buffer->is_kernels)
        buffers_give(buffers, buffer);
}

bool numaperf__buffer_lend(struct numaperf_buffer *buffer)
{
    struct numaperf__buffers *buffers = buffer->pool;
    if (buffer->lent == 0 && buffers->lent_count >= buffers->config.count / 2)
        return false;
    if (buffer->lent++ == 0)
        buffers->lent_count++;
    numaperf__buffer_ref(buffer);
    return true;
}

void numaperf__buffer_return(struct numaperf_buffer *buffer)
{
    NUMAPERF_ASSERT(buffer->lent > 0);
    if (--buffer->lent == 0)
        buffer->pool->lent_count--;
    numaperf__buffer_unref(buffer);
}

bool numaperf__buffer_contains(const struct numaperf_buffer *buffer, const void *bytes,
                               size_t length)
{
    uintptr_t base = (uintptr_t)buffer->base;
    uintptr_t at = (uintptr_t)bytes;
    uint32_t size = buffer->pool->config.bytes;
    return at >= base && at - base <= size && length <= size - (at - base);
}

uint32_t numaperf__buffers_group(const struct numaperf__buffers *buffers)
{
    return buffers->config.group;
}

bool numaperf__buffers_incremental(const struct numaperf__buffers *buffers)
{
    return buffers->incremental;
}

uint32_t numaperf__buffers_count(const struct numaperf__buffers *buffers)
{
    return buffers->config.count;
}

uint32_t numaperf__buffers_used(const struct numaperf__buffers *buffers)
{
    return buffers->used_count;
}

void numaperf__buffers_destroy(struct numaperf__buffers *buffers)
{
    if (buffers == NULL)
        return;
    NUMAPERF_ASSERT(buffers->used_count == 0);
    if (buffers->ring_memory != NULL) {
        int rc = numaperf__ring_buffers_unregister(buffers->config.ring, buffers->config.group);
        NUMAPERF_ASSERT(rc == 0);
    }
    buffers_free(buffers);
}
