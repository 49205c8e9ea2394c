/* SPDX-License-Identifier: MIT */
/*
 * An attestation when memory is short, or when it is jansson's own: every allocation of it fails
 * once, the library's and jansson's, and what is made is free(3)'s whatever jansson was given.
 */
#include <numaperf.h>

#include "support/runtimes.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEADER 32u /* before jansson's memory: what it frees is no pointer of malloc() */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

/* Of the one thread that attests; the workers sleep meanwhile. */
static _Thread_local struct {
    bool counts;
    uint64_t made;
    uint64_t fails; /* the allocation of this number, from 1; 0: none */
} memory;

static int64_t jansson_blocks;

static bool memory_fails(void)
{
    if (!memory.counts)
        return false;
    memory.made++;
    return memory.made == memory.fails;
}

void *__wrap_malloc(size_t size)
{
    return memory_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return memory_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return memory_fails() ? NULL : __real_realloc(old, size);
}

static void *jansson_malloc(size_t size)
{
    char *block = memory_fails() ? NULL : __real_malloc(size + HEADER);
    if (block == NULL)
        return NULL;
    jansson_blocks++;
    return block + HEADER;
}

static void jansson_free(void *block)
{
    if (block == NULL)
        return;
    jansson_blocks--;
    free((char *)block - HEADER);
}

static int attest_counted(numaperf_rt_t *rt, uint64_t fails, char **out_text)
{
    memory.made = 0;
    memory.fails = fails;
    memory.counts = true;
    int rc = numaperf_rt_attest(rt, out_text);
    memory.counts = false;
    return rc;
}

static void open_box(struct runtime_box *box)
{
    *box = (struct runtime_box){.config = NUMAPERF_RT_CONFIG_INIT};
    box->config.workers_per_node = 1;
    assert_int_equal(runtime_box_open(box, NULL), 0);
}

static void each_allocation_that_fails_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    struct runtime_box box;
    open_box(&box);
    char *text = NULL;
    assert_int_equal(attest_counted(box.rt, 0, &text), 0);
    uint64_t count = memory.made;
    free(text);
    assert_true(count > 100);
    uint64_t refused = 0;
    for (uint64_t i = 1; i <= count; i++) {
        char untouched = 0;
        text = &untouched;
        int rc = attest_counted(box.rt, i, &text);
        assert_int_equal(jansson_blocks, 0);
        if (rc == 0) { /* only a look lacked memory, and that is what the document says */
            assert_non_null(strstr(text, "\"ENOMEM\""));
            free(text);
            continue;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(numaperf_last_error()->code, -ENOMEM);
        assert_ptr_equal(text, &untouched);
        refused++;
    }
    print_message("%llu allocations, %llu refusals\n", (unsigned long long)count,
                  (unsigned long long)refused);
    assert_true(refused > count / 2);
    assert_int_equal(attest_counted(box.rt, 0, &text), 0);
    free(text);
    runtime_box_close(&box);
}

static void the_document_is_the_callers_to_free_whatever_allocator_jansson_has(void **state)
{
    (void)state;
    struct runtime_box box;
    open_box(&box);
    char *text = NULL;
    assert_int_equal(numaperf_rt_attest(box.rt, &text), 0);
    assert_int_equal(jansson_blocks, 0);
    json_malloc_t kept_malloc = NULL;
    json_free_t kept_free = NULL;
    json_get_alloc_funcs(&kept_malloc, &kept_free);
    assert_true(kept_malloc == jansson_malloc);
    assert_true(kept_free == jansson_free);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    json_decref(root);
    free(text); /* a block of jansson's would be no pointer to free */
    runtime_box_close(&box);
}

int main(void)
{
    json_set_alloc_funcs(jansson_malloc, jansson_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_that_fails_is_told_and_leaks_nothing),
        cmocka_unit_test(the_document_is_the_callers_to_free_whatever_allocator_jansson_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
