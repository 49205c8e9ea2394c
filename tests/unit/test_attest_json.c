/* SPDX-License-Identifier: MIT */
/* Values of an attestation: any bytes, whole numbers, times; and what happens without memory. */
#include "sched/attest_json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int64_t blocks; /* that jansson has */
static int64_t left;   /* allocations before one fails; negative: none does */

static bool has_memory(void)
{
    return left < 0 || left-- > 0;
}

static void *counted_malloc(size_t size)
{
    void *block = has_memory() ? malloc(size) : NULL;
    blocks += block != NULL ? 1 : 0;
    return block;
}

static void counted_free(void *block)
{
    blocks -= block != NULL ? 1 : 0;
    free(block);
}

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_realloc(void *memory, size_t size)
{
    return has_memory() ? __real_realloc(memory, size) : NULL;
}

static void assert_value(json_t *value, const char *wanted)
{
    assert_non_null(value);
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    json_decref(value);
    assert_non_null(text);
    assert_string_equal(text, wanted);
    counted_free(text);
}

static int setup(void **state)
{
    (void)state;
    left = -1;
    blocks = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    left = -1;
    return blocks == 0 ? 0 : -1;
}

static void text_of_any_bytes_becomes_printable(void **state)
{
    (void)state;
    assert_value(numaperf__json_text(NULL), "null");
    assert_value(numaperf__json_text(""), "\"\"");
    assert_value(numaperf__json_text("PU 0-3 ~"), "\"PU 0-3 ~\"");
    assert_value(numaperf__json_text("a \"b\" \\"), "\"a \\\"b\\\" \\\\\"");
    assert_value(numaperf__json_text("caf\xc3\xa9 \xff\x01\n\x7f."), "\"caf?? ????.\"");
    assert_value(numaperf__json_text("\x80"), "\"?\"");
}

static void numbers_are_whole_up_to_the_largest(void **state)
{
    (void)state;
    assert_value(numaperf__json_number(0), "0");
    assert_value(numaperf__json_number((UINT64_C(1) << 53) + 1), "9007199254740993");
    assert_value(numaperf__json_number(INT64_MAX), "9223372036854775807");
    assert_value(numaperf__json_number((uint64_t)INT64_MAX + 1), "\"9223372036854775808\"");
    assert_value(numaperf__json_number(UINT64_MAX), "\"18446744073709551615\"");
}

static void times_are_utc_with_nanoseconds(void **state)
{
    (void)state;
    assert_value(numaperf__json_time(0), "null");
    assert_value(numaperf__json_time(1), "\"1970-01-01T00:00:00.000000001Z\"");
    assert_value(numaperf__json_time(INT64_C(951782400) * 1000000000 + 7000000),
                 "\"2000-02-29T00:00:00.007000000Z\"");
    assert_value(numaperf__json_time(INT64_MAX), "\"2262-04-11T23:47:16.854775807Z\"");
}

static void sets_are_lists_however_long(void **state)
{
    (void)state;
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    assert_value(numaperf__json_cpuset(&cpus), "\"\"");
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu += 2)
        assert_int_equal(numaperf_cpuset_add(&cpus, cpu), 0);
    json_t *value = numaperf__json_cpuset(&cpus);
    assert_non_null(value);
    numaperf_cpuset_t read;
    assert_int_equal(numaperf_cpuset_parse(json_string_value(value), &read), 0);
    assert_true(numaperf_cpuset_equal(&read, &cpus));
    json_decref(value);
}

static void what_could_not_be_made_fails_the_document_and_not_the_rest(void **state)
{
    (void)state;
    struct numaperf__json json = {.failed = false};
    json_t *root = json_object();
    json_t *list = json_array();
    numaperf__json_append(&json, list, json_integer(1));
    numaperf__json_put(&json, root, "list", list);
    numaperf__json_put(&json, numaperf__json_section(&json, root, "inner"), "key", json_null());
    assert_false(json.failed);
    assert_int_equal(json_object_size(json_object_get(root, "inner")), 1);

    numaperf__json_put(&json, root, "nothing", NULL);
    assert_true(json.failed);
    json.failed = false;
    numaperf__json_append(&json, NULL, json_integer(2)); /* nor does the value leak */
    assert_true(json.failed);
    numaperf__json_put(&json, root, "after", json_true());
    assert_true(json.failed);
    assert_true(json_is_true(json_object_get(root, "after")));
    json_decref(root);
}

/* 0 or -ENOMEM, with the allocation of that number failing; -1: none. */
static int make_and_write(int64_t number, char **out_text)
{
    struct numaperf__json json = {.failed = false};
    left = number;
    json_t *root = json_object();
    json_t *section = numaperf__json_section(&json, root, "section");
    json_t *list = json_array();
    for (int i = 0; i < 400; i++)
        numaperf__json_append(&json, list, numaperf__json_text("a text that fills the buffer"));
    numaperf__json_put(&json, section, "list", list);
    int rc = json.failed ? -ENOMEM : numaperf__json_write(root, out_text);
    json_decref(root);
    left = -1;
    return rc;
}

static void a_document_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    char *text = NULL;
    assert_int_equal(make_and_write(-1, &text), 0);
    size_t length = strlen(text);
    assert_true(length > 12000); /* its memory has grown twice */
    assert_memory_equal(text, "{\n  \"section\": {\n    \"list\": [\n      \"a text", 40);
    assert_string_equal(text + length - 10, "  ]\n  }\n}\n");
    free(text);

    int64_t refused = 0;
    char untouched = 0;
    for (;; refused++) {
        text = &untouched;
        int rc = make_and_write(refused, &text);
        assert_int_equal(blocks, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, -ENOMEM);
        assert_ptr_equal(text, &untouched);
    }
    free(text);
    assert_true(refused > 400);
}

int main(void)
{
    json_set_alloc_funcs(counted_malloc, counted_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(text_of_any_bytes_becomes_printable, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_are_whole_up_to_the_largest, setup, teardown),
        cmocka_unit_test_setup_teardown(times_are_utc_with_nanoseconds, setup, teardown),
        cmocka_unit_test_setup_teardown(sets_are_lists_however_long, setup, teardown),
        cmocka_unit_test_setup_teardown(what_could_not_be_made_fails_the_document_and_not_the_rest,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_document_is_written_whole_or_not_at_all, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
