/* SPDX-License-Identifier: MIT */
/*
 * What rooms above hang on a loop: sockets, files, requests of the user. The loop knows them by
 * five calls. Invariant: a tenant that is dirty gets its turn before the loop waits.
 *
 * Thread rule: the loop's thread.
 */
#include "base/assert.h"
#include "base/error.h"
#include "io/loop_state.h"

struct numaperf__loop_tenant *numaperf__loop_get_tenant(const numaperf_loop_t *loop,
                                                        enum numaperf__loop_slot slot)
{
    return loop->tenants[slot];
}

int numaperf__loop_set_tenant(numaperf_loop_t *loop, enum numaperf__loop_slot slot,
                              struct numaperf__loop_tenant *tenant)
{
    NUMAPERF_ASSERT(loop->tenants[slot] == NULL);
    int rc = numaperf__loop_enter(loop);
    if (rc < 0)
        return rc;
    loop->tenants[slot] = tenant;
    return 0;
}

void numaperf__loop_mark_dirty(numaperf_loop_t *loop, struct numaperf__loop_tenant *tenant)
{
    tenant->is_dirty = true;
    loop->has_dirty = true;
    /* Here, since whoever opens or closes something says so. */
    if (!loop->hosted)
        numaperf__loop_settle_reference(loop);
}

void numaperf__loop_turn_tenants(numaperf_loop_t *loop)
{
    if (!loop->has_dirty)
        return;
    /* Once: what a turn's callbacks ask for is served before the loop waits, not before it looks
     * at anything else. */
    loop->has_dirty = false;
    for (size_t i = 0; i < NUMAPERF__LOOP_SLOTS; i++) {
        struct numaperf__loop_tenant *tenant = loop->tenants[i];
        if (tenant == NULL || !tenant->is_dirty)
            continue;
        tenant->is_dirty = false;
        tenant->turn(tenant);
    }
}

bool numaperf__loop_has_busy_tenant(const numaperf_loop_t *loop)
{
    for (size_t i = 0; i < NUMAPERF__LOOP_SLOTS; i++) {
        if (loop->tenants[i] != NULL && loop->tenants[i]->is_busy(loop->tenants[i]))
            return true;
    }
    return false;
}

bool numaperf__loop_has_active_tenant(const numaperf_loop_t *loop)
{
    for (size_t i = 0; i < NUMAPERF__LOOP_SLOTS; i++) {
        const struct numaperf__loop_tenant *tenant = loop->tenants[i];
        if (tenant != NULL && !tenant->is_passive && tenant->is_busy(tenant))
            return true;
    }
    return false;
}

static bool tenants_are_closed(const numaperf_loop_t *loop)
{
    for (size_t i = 0; i < NUMAPERF__LOOP_SLOTS; i++) {
        if (loop->tenants[i] != NULL && !loop->tenants[i]->is_closed(loop->tenants[i]))
            return false;
    }
    return true;
}

void numaperf__loop_end_tenants(numaperf_loop_t *loop, void (*turn)(numaperf_loop_t *loop))
{
    for (size_t i = 0; i < NUMAPERF__LOOP_SLOTS; i++) {
        if (loop->tenants[i] != NULL)
            loop->tenants[i]->close(loop->tenants[i]);
    }
    while (!tenants_are_closed(loop))
        turn(loop);
    for (size_t i = 0; i < NUMAPERF__LOOP_SLOTS; i++) {
        if (loop->tenants[i] != NULL)
            loop->tenants[i]->destroy(loop->tenants[i]);
        loop->tenants[i] = NULL;
    }
    loop->has_dirty = false;
    if (loop->owns_arena)
        numaperf_arena_destroy(loop->arena);
    loop->arena = NULL;
    loop->owns_arena = false;
}

struct numaperf__loop_cells *numaperf__loop_get_cells(const numaperf_loop_t *loop)
{
    return loop->cells;
}

void numaperf__loop_lend_cells(numaperf_loop_t *loop, struct numaperf__loop_cells *cells)
{
    loop->cells = cells;
}

numaperf_arena_t *numaperf__loop_need_arena(numaperf_loop_t *loop)
{
    if (loop->arena == NULL) {
        /* Local to the thread that touches it first: this one, which the loop is bound to. */
        const numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
        if (numaperf_arena_create(&config, &loop->arena) < 0)
            return NULL;
        loop->owns_arena = true;
    }
    return loop->arena;
}

numaperf_arena_t *numaperf_loop_arena(numaperf_loop_t *loop)
{
    return loop != NULL ? loop->arena : NULL;
}

void numaperf__loop_lend_arena(numaperf_loop_t *loop, numaperf_arena_t *arena)
{
    NUMAPERF_ASSERT(loop->arena == NULL);
    loop->arena = arena;
}

uint32_t numaperf__loop_buffer_bytes(const numaperf_loop_t *loop)
{
    return loop->buffer_bytes;
}

uint32_t numaperf__loop_buffer_count(const numaperf_loop_t *loop)
{
    return loop->buffer_count;
}
