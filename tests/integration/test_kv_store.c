/* SPDX-License-Identifier: MIT */
/*
 * The parts of examples/kv_server that raw sockets reach badly: the keyed hash against published
 * vectors, the table against an array model while it grows, its limits, and values that outlive
 * their key on another thread.
 */
#include "../../examples/kv_server/siphash.h"
#include "../../examples/kv_server/store.h"

#include <errno.h>
#include <numaperf.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEYS 5000u
#define STEPS 200000u

static numaperf_arena_t *make_arena(uint64_t limit_bytes)
{
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.limit_bytes = limit_bytes;
    numaperf_arena_t *arena = NULL;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    return arena;
}

static struct slice text(const char *string)
{
    return (struct slice){string, strlen(string)};
}

/* Key 00 01 .. 0f, input 00 01 .. of growing length: the vectors that implementations publish. */
static void siphash_gives_the_published_values(void **state)
{
    (void)state;
    static const struct {
        size_t length;
        uint64_t hash;
    } vectors[] = {
        {0, UINT64_C(0xabac0158050fc4dc)},
        {1, UINT64_C(0xc9f49bf37d57ca93)},
        {15, UINT64_C(0xd320d86d2a519956)},
    };
    unsigned char bytes[16];
    uint64_t key[2];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    memcpy(key, bytes, sizeof(key));
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        assert_int_equal(siphash13(bytes, vectors[i].length, key), vectors[i].hash);
}

static void a_growing_table_agrees_with_an_array(void **state)
{
    (void)state;
    static uint32_t model[KEYS]; /* 0: absent */
    const uint64_t hash_key[2] = {1, 2};
    numaperf_arena_t *arena = make_arena(0);
    struct store store;
    assert_int_equal(store_init(&store, arena, UINT64_MAX / 2), 0);
    uint32_t random = 1;
    uint64_t present = 0;
    for (uint32_t step = 1; step <= STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        uint32_t index = (random >> 8) % KEYS;
        char name[32];
        char value[32];
        (void)snprintf(name, sizeof(name), "key-%u", index);
        (void)snprintf(value, sizeof(value), "%u", step);
        uint64_t hash = siphash13(name, strlen(name), hash_key);
        if (random >> 30 == 0) {
            assert_int_equal(store_delete(&store, text(name), hash), model[index] != 0);
            present -= model[index] != 0;
            model[index] = 0;
        } else if (random >> 30 == 1) {
            assert_int_equal(store_set(&store, text(name), hash, text(value)), 0);
            present += model[index] == 0;
            model[index] = step;
        } else {
            struct value *found = store_get(&store, text(name), hash);
            assert_int_equal(found != NULL, model[index] != 0);
            assert_int_equal(store_exists(&store, text(name), hash), model[index] != 0);
            if (found != NULL) {
                assert_int_equal(strtoul(found->data, NULL, 10), model[index]);
                value_drop(found);
            }
        }
        assert_int_equal(atomic_load(&store.key_count), present);
    }
    assert_true(store.bucket_count > 512); /* else no split was tested */
    for (uint32_t i = 0; i < KEYS; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "key-%u", i);
        (void)store_delete(&store, text(name), siphash13(name, strlen(name), hash_key));
    }
    assert_int_equal(atomic_load(&store.key_count), 0);
    assert_int_equal(atomic_load(&store.byte_count), 0);
    numaperf_arena_destroy(arena);
}

static void all_keys_in_one_bucket_are_still_told_apart(void **state)
{
    (void)state;
    numaperf_arena_t *arena = make_arena(0);
    struct store store;
    assert_int_equal(store_init(&store, arena, UINT64_MAX / 2), 0);
    for (uint32_t i = 0; i < 2000; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(store_set(&store, text(name), 7, text(name)), 0);
    }
    for (uint32_t i = 0; i < 2000; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%u", i);
        struct value *found = store_get(&store, text(name), 7);
        assert_non_null(found);
        assert_int_equal(found->length, strlen(name));
        assert_memory_equal(found->data, name, strlen(name));
        value_drop(found);
    }
    numaperf_arena_destroy(arena);
}

static void a_full_store_keeps_what_it_had(void **state)
{
    (void)state;
    static char large[5000];
    numaperf_arena_t *arena = make_arena(0);
    struct store store;
    assert_int_equal(store_init(&store, arena, 4096), 0);
    assert_int_equal(store_set(&store, text("a"), 1, text("kept")), 0);
    struct slice too_much = {large, sizeof(large)};
    assert_int_equal(store_set(&store, text("a"), 1, too_much), -ENOMEM);
    assert_int_equal(store_set(&store, text("b"), 2, too_much), -ENOMEM);
    struct value *found = store_get(&store, text("a"), 1);
    assert_non_null(found);
    assert_memory_equal(found->data, "kept", 4);
    value_drop(found);
    assert_int_equal(atomic_load(&store.key_count), 1);
    numaperf_arena_destroy(arena);
}

/* The arena itself refuses, at whatever step: what was there stays, and nothing is half done. */
static void an_exhausted_arena_is_an_error_at_every_step(void **state)
{
    (void)state;
    numaperf_arena_t *arena = make_arena(UINT64_C(2) << 20);
    struct store store;
    assert_int_equal(store_init(&store, arena, UINT64_MAX / 2), 0);
    uint32_t stored = 0;
    uint32_t refused = 0;
    char name[32];
    for (uint32_t i = 0; refused < 100 && i < 1000000; i++) {
        (void)snprintf(name, sizeof(name), "%u", i);
        int rc = store_set(&store, text(name), i * UINT64_C(0x9e3779b97f4a7c15), text(name));
        assert_true(rc == 0 || rc == -ENOMEM);
        stored += rc == 0;
        refused += rc != 0;
    }
    assert_int_equal(refused, 100);
    assert_int_equal(atomic_load(&store.key_count), stored);
    struct value *found = store_get(&store, text("0"), 0);
    assert_non_null(found);
    value_drop(found);
    numaperf_arena_destroy(arena);
}

static void *drop_value(void *value)
{
    value_drop(value);
    return NULL;
}

static void a_value_outlives_its_key_until_another_thread_drops_it(void **state)
{
    (void)state;
    numaperf_arena_t *arena = make_arena(0);
    struct store store;
    assert_int_equal(store_init(&store, arena, UINT64_MAX / 2), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(store_set(&store, text("k"), 1, text("held")), 0);
        struct value *held = store_get(&store, text("k"), 1);
        assert_non_null(held);
        assert_int_equal(store_set(&store, text("k"), 1, text("replaced")), 0);
        assert_int_equal(store_delete(&store, text("k"), 1), 1);
        assert_memory_equal(held->data, "held", 4);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, drop_value, held), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(arena, &stats), 0);
    assert_int_equal(stats.remote_free_count, 100);
    numaperf_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_gives_the_published_values),
        cmocka_unit_test(a_growing_table_agrees_with_an_array),
        cmocka_unit_test(all_keys_in_one_bucket_are_still_told_apart),
        cmocka_unit_test(a_full_store_keeps_what_it_had),
        cmocka_unit_test(an_exhausted_arena_is_an_error_at_every_step),
        cmocka_unit_test(a_value_outlives_its_key_until_another_thread_drops_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
