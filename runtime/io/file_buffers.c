/* SPDX-License-Identifier: MIT */
/*
 * Buffers for files: blocks of the loop's arena, on its node, of which the first 64 are registered
 * with its ring. Where that is refused (no ring, an old kernel, RLIMIT_MEMLOCK) they are memory
 * like any other, and work the same. And the alignment that O_DIRECT wants of them.
 *
 * Invariant: slots[0..count) are sorted by address and do not overlap, so that the one some bytes
 * lie in is found by halving.
 *
 * Thread rule: the loop's thread.
 */
#include "base/assert.h"
#include "base/error.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BUFFER_ALIGN 4096u

_Static_assert(NUMAPERF__FILE_SLOTS == 64, "`used` has one bit for each");

/* How many slots lie at or below `bytes`. */
static uint32_t buffers_rank(const struct numaperf__file_buffers *buffers, const char *bytes)
{
    uint32_t low = 0;
    uint32_t high = buffers->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (buffers->slots[middle].base <= bytes)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t numaperf__file_buffers_find(struct numaperf__files *files, const void *bytes,
                                     uint64_t length)
{
    const struct numaperf__file_buffers *buffers = &files->buffers;
    uint32_t rank = buffers_rank(buffers, bytes);
    if (rank == 0)
        return NUMAPERF__FILE_NO_SLOT;
    const struct numaperf__file_slot *slot = &buffers->slots[rank - 1];
    size_t before = (size_t)((const char *)bytes - slot->base);
    bool is_within = before < slot->length && length <= slot->length - before;
    return is_within ? slot->index : NUMAPERF__FILE_NO_SLOT;
}

/* Whether the ring has a table; asked for once. */
static bool buffers_have_table(struct numaperf__files *files)
{
    struct numaperf__file_buffers *buffers = &files->buffers;
    if (!buffers->was_tried && files->has_ring)
        buffers->has_table = numaperf__ring_fixed_register(numaperf__loop_ring(files->loop),
                                                           NUMAPERF__FILE_SLOTS) == 0;
    buffers->was_tried = true;
    return buffers->has_table;
}

/* Register it, if that can be had. */
static void buffers_add(struct numaperf__files *files, char *base, size_t length)
{
    struct numaperf__file_buffers *buffers = &files->buffers;
    if (buffers->count == NUMAPERF__FILE_SLOTS || !buffers_have_table(files))
        return;
    uint32_t index = (uint32_t)__builtin_ctzll(~buffers->used);
    if (numaperf__ring_fixed_update(numaperf__loop_ring(files->loop), index, base, length) < 0)
        return; /* more than may be locked, mostly: plain memory */
    uint32_t rank = buffers_rank(buffers, base);
    struct numaperf__file_slot *slot = &buffers->slots[rank];
    memmove(slot + 1, slot, (buffers->count - rank) * sizeof(*slot));
    *slot = (struct numaperf__file_slot){.base = base, .length = length, .index = index};
    buffers->used |= UINT64_C(1) << index;
    buffers->count++;
}

static void buffers_remove(struct numaperf__files *files, const char *base)
{
    struct numaperf__file_buffers *buffers = &files->buffers;
    uint32_t rank = buffers_rank(buffers, base);
    if (rank == 0 || buffers->slots[rank - 1].base != base)
        return; /* it was never registered */
    struct numaperf__file_slot *slot = &buffers->slots[rank - 1];
    /* One that cannot be emptied now is when it is filled again. */
    (void)numaperf__ring_fixed_update(numaperf__loop_ring(files->loop), slot->index, NULL, 0);
    buffers->used &= ~(UINT64_C(1) << slot->index);
    memmove(slot, slot + 1, (buffers->count - rank) * sizeof(*slot));
    buffers->count--;
}

void *numaperf_file_buffer_alloc(numaperf_loop_t *loop, size_t length)
{
    struct numaperf__files *files = NULL;
    if (length == 0 || length > SIZE_MAX - FILE_BUFFER_ALIGN) {
        (void)numaperf__fail(-EINVAL, 0, "file_buffer", "length %zu is 0 or too much", length);
        return NULL;
    }
    if (numaperf__files_need(loop, &files) < 0)
        return NULL;
    size_t rounded = (length + FILE_BUFFER_ALIGN - 1) / FILE_BUFFER_ALIGN * FILE_BUFFER_ALIGN;
    char *base = numaperf_arena_alloc(files->arena, rounded, FILE_BUFFER_ALIGN);
    if (base != NULL)
        buffers_add(files, base, rounded);
    return base;
}

void numaperf_file_buffer_free(numaperf_loop_t *loop, void *buffer)
{
    if (loop == NULL || buffer == NULL)
        return;
    struct numaperf__loop_tenant *tenant = numaperf__loop_get_tenant(loop, NUMAPERF__LOOP_FILES);
    NUMAPERF_ASSERT(tenant != NULL); /* it came from there */
    struct numaperf__files *files = NUMAPERF_CONTAINER_OF(tenant, struct numaperf__files, tenant);
    buffers_remove(files, buffer);
    numaperf_arena_free(files->arena, buffer);
}

void numaperf__file_buffers_free_all(struct numaperf__files *files)
{
    /* The ring goes next, and lets go of their pages then. */
    for (uint32_t i = 0; i < files->buffers.count; i++)
        numaperf_arena_free(files->arena, files->buffers.slots[i].base);
    files->buffers.count = 0;
}

/* ---- alignment ---- */

int numaperf_file_alignment(const numaperf_file_t *file, uint32_t *out_memory, uint32_t *out_offset)
{
    if (file == NULL || out_memory == NULL || out_offset == NULL)
        return numaperf__fail(-EINVAL, 0, "file_alignment", "an argument is NULL");
    struct statx facts;
    if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) < 0)
        return numaperf__fail(-errno, errno, "file_alignment", "statx was refused on fd %d",
                              file->fd);
    if ((facts.stx_mask & STATX_DIOALIGN) != 0) {
        *out_memory = facts.stx_dio_mem_align;
        *out_offset = facts.stx_dio_offset_align;
        return 0;
    }
    uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE); /* cannot fail on Linux */
    *out_memory = page;
    *out_offset = facts.stx_blksize > page ? facts.stx_blksize : page;
    return numaperf__fail(NUMAPERF_E_UNSUPPORTED, 0, "file_alignment",
                          "the kernel, or the file system of fd %d, does not tell", file->fd);
}
