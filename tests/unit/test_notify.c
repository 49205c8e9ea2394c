/* SPDX-License-Identifier: MIT */
/*
 * The auditor's wait: it ends in time, when a cpuset's file is written to, and when it is told to;
 * and a storm of writes does not make it spin. The files are ordinary ones here.
 */
#include "sched/notify.h"

#include "support/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND_NS 1000000000ull

struct group_case {
    struct numaperf__notify notify;
    struct numaperf__cgroup group; /* two levels below its top */
    char top[64];
};

static void write_file(const char *directory, const char *name)
{
    char path[NUMAPERF__CGROUP_PATH_MAX + 64];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "0\n", 2), 2);
    assert_int_equal(close(fd), 0);
}

static void case_open(struct group_case *one)
{
    memset(one, 0, sizeof(*one));
    (void)snprintf(one->top, sizeof(one->top), "/tmp/numaperf-notify.XXXXXX");
    assert_non_null(mkdtemp(one->top));
    (void)snprintf(one->group.path, sizeof(one->group.path), "%s/a", one->top);
    one->group.top_length = strlen(one->top);
    assert_int_equal(mkdir(one->group.path, 0700), 0);
    write_file(one->top, "cpuset.mems");
    write_file(one->group.path, "cpuset.cpus");
    assert_int_equal(numaperf__notify_open(&one->notify), 0);
    numaperf__notify_watch(&one->notify, &one->group);
}

static void remove_file(const char *directory, const char *name)
{
    char path[NUMAPERF__CGROUP_PATH_MAX + 64];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    (void)unlink(path);
}

static void case_close(struct group_case *one)
{
    numaperf__notify_close(&one->notify);
    remove_file(one->group.path, "cpuset.cpus");
    remove_file(one->top, "cpuset.mems");
    remove_file(one->top, "other");
    (void)rmdir(one->group.path);
    (void)rmdir(one->top);
}

static void wait_ends_when_its_time_has_come(void **state)
{
    (void)state;
    struct group_case one;
    case_open(&one);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf__notify_wait(&one.notify, start_ns + SECOND_NS / 20),
                     NUMAPERF__NOTICE_TIME);
    assert_true(test_now_ns() - start_ns >= SECOND_NS / 20);
    case_close(&one);
}

static void wait_ends_when_a_cpuset_of_the_group_or_above_is_written_to(void **state)
{
    (void)state;
    struct group_case one;
    case_open(&one);
    const char *const directories[] = {one.group.path, one.top};
    const char *const names[] = {"cpuset.cpus", "cpuset.mems"};
    for (int i = 0; i < 2; i++) {
        uint64_t start_ns = test_now_ns();
        write_file(directories[i], names[i]);
        assert_int_equal(numaperf__notify_wait(&one.notify, start_ns + 60 * SECOND_NS),
                         NUMAPERF__NOTICE_EVENT);
        assert_true(test_now_ns() - start_ns < test_limit_ns(5));
    }
    write_file(one.top, "other");
    assert_int_equal(numaperf__notify_wait(&one.notify, test_now_ns() + SECOND_NS / 20),
                     NUMAPERF__NOTICE_TIME);
    numaperf__notify_watch(&one.notify, NULL);
    write_file(one.top, "cpuset.mems");
    assert_int_equal(numaperf__notify_wait(&one.notify, test_now_ns() + SECOND_NS / 20),
                     NUMAPERF__NOTICE_TIME);
    case_close(&one);
}

static void wait_ends_when_it_is_told_to_and_so_does_every_later_one(void **state)
{
    (void)state;
    struct group_case one;
    case_open(&one);
    numaperf__notify_end(&one.notify);
    for (int i = 0; i < 2; i++)
        assert_int_equal(numaperf__notify_wait(&one.notify, test_now_ns() + 60 * SECOND_NS),
                         NUMAPERF__NOTICE_END);
    case_close(&one);
}

static atomic_bool storm_goes_on;

static void *storm(void *arg)
{
    while (atomic_load(&storm_goes_on))
        write_file(arg, "cpuset.cpus");
    return NULL;
}

/* At most: 5, 10, 20, ... ms apart, so fewer than ten a second. */
static void storm_of_writes_brings_few_looks(void **state)
{
    (void)state;
    struct group_case one;
    case_open(&one);
    pthread_t thread;
    atomic_store(&storm_goes_on, true);
    assert_int_equal(pthread_create(&thread, NULL, storm, one.group.path), 0);
    uint64_t until_ns = test_now_ns() + SECOND_NS;
    int looks = 0;
    while (test_now_ns() < until_ns)
        looks += numaperf__notify_wait(&one.notify, until_ns) == NUMAPERF__NOTICE_EVENT ? 1 : 0;
    atomic_store(&storm_goes_on, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    print_message("%d looks in a second of writes\n", looks);
    assert_in_range(looks, 1, 12);
    case_close(&one);
}

/* With no room for more than the one descriptor that it must have. */
static void wait_works_without_notifications(void **state)
{
    (void)state;
    struct group_case one;
    struct rlimit limit;
    struct rlimit few;
    memset(&one, 0, sizeof(one));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int next = dup(0);
    assert_true(next >= 0);
    assert_int_equal(close(next), 0);
    few = limit;
    few.rlim_cur = (rlim_t)next + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int rc = numaperf__notify_open(&one.notify);
    (void)snprintf(one.group.path, sizeof(one.group.path), "/tmp");
    one.group.top_length = 4;
    numaperf__notify_watch(&one.notify, &one.group);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(rc, 0);
    assert_int_equal(one.notify.uevents, -1);
    assert_int_equal(one.notify.files, -1);
    assert_int_equal(numaperf__notify_wait(&one.notify, test_now_ns() + SECOND_NS / 50),
                     NUMAPERF__NOTICE_TIME);
    numaperf__notify_close(&one.notify);
    int again = dup(0);
    assert_int_equal(again, next); /* nothing is open that was not before */
    assert_int_equal(close(again), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_works_without_notifications),
        cmocka_unit_test(wait_ends_when_its_time_has_come),
        cmocka_unit_test(wait_ends_when_a_cpuset_of_the_group_or_above_is_written_to),
        cmocka_unit_test(wait_ends_when_it_is_told_to_and_so_does_every_later_one),
        cmocka_unit_test(storm_of_writes_brings_few_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
