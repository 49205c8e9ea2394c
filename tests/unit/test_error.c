/* SPDX-License-Identifier: MIT */
/* The last error of a thread, names of codes, the log hook, assertions, the version. */
#include "base/assert.h"
#include "base/error.h"

#include <numaperf/error.h>
#include <numaperf/version.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- last error ---- */

static void *last_error_of_a_new_thread(void *arg)
{
    const numaperf_error_t *error = numaperf_last_error();
    numaperf_error_t zero;
    memset(&zero, 0, sizeof(zero));
    assert_memory_equal(error, &zero, sizeof(zero));
    assert_int_equal(numaperf__fail(-ENOMEM, ENOMEM, "other", "there"), -ENOMEM);
    assert_ptr_not_equal(error, arg);
    return NULL;
}

static void each_thread_has_its_own_last_error(void **state)
{
    (void)state;
    const numaperf_error_t *error = numaperf_last_error();
    assert_int_equal(numaperf__fail(NUMAPERF_E_NO_NODE, ESRCH, "start", "node %d", 7),
                     NUMAPERF_E_NO_NODE);
    pthread_t thread;
    assert_int_equal(
        pthread_create(&thread, NULL, last_error_of_a_new_thread, (void *)(uintptr_t)error), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ptr_equal(numaperf_last_error(), error);
    assert_int_equal(error->code, NUMAPERF_E_NO_NODE);
    assert_int_equal(error->sys_errno, ESRCH);
    assert_string_equal(error->operation, "start");
    assert_string_equal(error->reason, "node 7");
}

static void long_texts_are_cut_and_terminated(void **state)
{
    (void)state;
    char text[600];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(numaperf__fail(-EINVAL, 0, text, "%s", text), -EINVAL);
    const numaperf_error_t *error = numaperf_last_error();
    assert_int_equal(strlen(error->operation), sizeof(error->operation) - 1);
    assert_int_equal(strlen(error->reason), sizeof(error->reason) - 1);
    /* Nothing of the longer record before shines through a shorter one. */
    (void)numaperf__fail(-EIO, EIO, "b", "c");
    assert_string_equal(error->operation, "b");
    assert_string_equal(error->reason, "c");
}

static void a_record_of_another_thread_can_be_taken_over(void **state)
{
    (void)state;
    numaperf_error_t error = {.code = -EPERM, .sys_errno = EPERM};
    (void)snprintf(error.operation, sizeof(error.operation), "pin");
    (void)snprintf(error.reason, sizeof(error.reason), "PU 3");
    assert_int_equal(numaperf__fail_copy(&error), -EPERM);
    assert_memory_equal(numaperf_last_error(), &error, sizeof(error));
}

/* ---- names ---- */

static void every_code_has_a_name_and_words(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *name;
    } rows[] = {
        {0, "OK"},
        {17, "OK"},
        {INT_MAX, "OK"},
        {-EINVAL, "EINVAL"},
        {-E2BIG, "E2BIG"},
        {-ETIMEDOUT, "ETIMEDOUT"},
        {NUMAPERF_E_HARD_MODE, "NUMAPERF_E_HARD_MODE"},
        {NUMAPERF_E_NO_NODE, "NUMAPERF_E_NO_NODE"},
        {NUMAPERF_E_STOPPING, "NUMAPERF_E_STOPPING"},
        {NUMAPERF_E_TOPOLOGY, "NUMAPERF_E_TOPOLOGY"},
        {NUMAPERF_E_UNSUPPORTED, "NUMAPERF_E_UNSUPPORTED"},
        {-9999, "UNKNOWN"},
        {-10000, "UNKNOWN"},
        {-10006, "UNKNOWN"},
        {INT_MIN, "UNKNOWN"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *words = numaperf_strerror(rows[i].code);
        assert_string_equal(numaperf_err_name(rows[i].code), rows[i].name);
        assert_non_null(words);
        assert_int_equal(strcmp(words, "unknown error") == 0, strcmp(rows[i].name, "UNKNOWN") == 0);
        assert_int_equal(strcmp(words, "success") == 0, strcmp(rows[i].name, "OK") == 0);
    }
    assert_string_equal(numaperf_strerror(-ENOENT), "No such file or directory");
    /* No two of our own codes say the same. */
    for (int a = NUMAPERF_E_UNSUPPORTED; a <= NUMAPERF_E_HARD_MODE; a++) {
        for (int b = NUMAPERF_E_UNSUPPORTED; b < a; b++)
            assert_string_not_equal(numaperf_strerror(a), numaperf_strerror(b));
    }
}

static void the_version_is_the_headers(void **state)
{
    (void)state;
    assert_int_equal(numaperf_version(), NUMAPERF_VERSION_NUMBER);
    char text[32];
    (void)snprintf(text, sizeof(text), "%d.%d.%d", NUMAPERF_VERSION_MAJOR, NUMAPERF_VERSION_MINOR,
                   NUMAPERF_VERSION_PATCH);
    assert_string_equal(numaperf_version_string(), text);
}

/* ---- log ---- */

struct log_seen {
    int count;
    int level;
    char text[1024];
    atomic_int inside; /* calls running at once */
    atomic_bool is_off;
    atomic_bool has_overlapped;
    atomic_bool was_late;
};

static void log_keep(int level, const char *text, void *data)
{
    struct log_seen *seen = data;
    seen->count++;
    seen->level = level;
    (void)snprintf(seen->text, sizeof(seen->text), "%s", text);
}

static void messages_reach_the_hook_and_nobody_else(void **state)
{
    (void)state;
    struct log_seen seen = {0};
    struct log_seen later = {0};
    numaperf__log(NUMAPERF_LOG_INFO, "before");
    numaperf_set_log(log_keep, &seen);
    assert_int_equal(seen.count, 0);
    numaperf__log(NUMAPERF_LOG_INFO, "node %d", 3);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.level, NUMAPERF_LOG_INFO);
    assert_string_equal(seen.text, "node 3");

    (void)numaperf__fail(NUMAPERF_E_NO_NODE, 0, "start", "node 9 is absent");
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.level, NUMAPERF_LOG_ERROR);
    assert_string_equal(seen.text, "start: node 9 is absent (NUMAPERF_E_NO_NODE)");

    char text[2000];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    numaperf__log(NUMAPERF_LOG_DEBUG, "%s", text);
    assert_int_equal(strlen(seen.text), 511);

    numaperf_set_log(log_keep, &later);
    numaperf__log(NUMAPERF_LOG_WARN, "again");
    assert_int_equal(seen.count, 3);
    assert_int_equal(later.count, 1);
    numaperf_set_log(NULL, NULL);
    numaperf__log(NUMAPERF_LOG_ERROR, "silent");
    (void)numaperf__fail(-EINVAL, 0, "silent", "too");
    assert_int_equal(later.count, 1);
}

static void log_fail_again(int level, const char *text, void *data)
{
    (void)level;
    (void)text;
    int *calls = data;
    (*calls)++;
    (void)numaperf__fail(-EINVAL, 0, "nested", "told while being told");
}

static void log_hook_whose_own_calls_fail_is_not_told_of_it(void **state)
{
    (void)state;
    int calls = 0;
    numaperf_set_log(log_fail_again, &calls);
    (void)numaperf__fail(-ENOENT, ENOENT, "outer", "first");
    (void)numaperf__fail(-ENOENT, ENOENT, "outer", "second");
    numaperf_set_log(NULL, NULL);
    assert_int_equal(calls, 2);
}

static void log_check(int level, const char *text, void *data)
{
    (void)level;
    (void)text;
    struct log_seen *seen = data;
    if (atomic_fetch_add(&seen->inside, 1) != 0)
        atomic_store(&seen->has_overlapped, true);
    if (atomic_load(&seen->is_off))
        atomic_store(&seen->was_late, true);
    seen->count++; /* unguarded on purpose: the library says it calls one at a time */
    (void)sched_yield();
    (void)atomic_fetch_sub(&seen->inside, 1);
}

static void *log_many(void *arg)
{
    const atomic_bool *is_over = arg;
    while (!atomic_load(is_over))
        numaperf__log(NUMAPERF_LOG_DEBUG, "text");
    return NULL;
}

static void a_replaced_hook_no_longer_runs(void **state)
{
    (void)state;
    atomic_bool is_over = false;
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, &is_over), 0);
    for (int round = 0; round < 200; round++) {
        struct log_seen seen = {0};
        numaperf_set_log(log_check, &seen);
        (void)usleep(100);
        numaperf_set_log(NULL, NULL);
        atomic_store(&seen.is_off, true);
        assert_int_equal(atomic_load(&seen.inside), 0);
        (void)usleep(20);
        assert_false(atomic_load(&seen.was_late));
        assert_false(atomic_load(&seen.has_overlapped));
    }
    atomic_store(&is_over, true);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ---- assertions ---- */

static void a_broken_invariant_ends_the_process_and_says_where(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(ends[1], STDERR_FILENO);
        NUMAPERF_ASSERT(1 + 1 == 2);
        NUMAPERF_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    (void)close(ends[1]);
    char text[512] = "";
    size_t length = 0;
    ssize_t got = 0;
    while ((got = read(ends[0], text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)got;
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "1 + 1 == 3"));
    assert_non_null(strstr(text, "test_error.c:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_hook_whose_own_calls_fail_is_not_told_of_it),
        cmocka_unit_test(each_thread_has_its_own_last_error),
        cmocka_unit_test(long_texts_are_cut_and_terminated),
        cmocka_unit_test(a_record_of_another_thread_can_be_taken_over),
        cmocka_unit_test(every_code_has_a_name_and_words),
        cmocka_unit_test(the_version_is_the_headers),
        cmocka_unit_test(messages_reach_the_hook_and_nobody_else),
        cmocka_unit_test(a_replaced_hook_no_longer_runs),
        cmocka_unit_test(a_broken_invariant_ends_the_process_and_says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
