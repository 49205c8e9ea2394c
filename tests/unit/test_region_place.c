/* SPDX-License-Identifier: MIT */
/*
 * What a region makes of a kernel that refuses. Each call the library makes goes through a wrapper
 * here that can fail; the loop at the end fails every single one of them in turn, and counts that
 * nothing stays mapped. Also the prefault threads, watched at their work.
 */
#include "place/region.h"

#include "place/prefault.h"
#include "support/memory_view.h"

#include <numaperf/error.h>
#include <numaperf/pin.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define MPOL_F_ADDR_BIT 2UL

enum call {
    MMAP,
    MUNMAP,
    MPROTECT,
    MLOCK,
    MADVISE,
    MBIND,
    GET_POLICY,
    PAGES,
    CALLOC,
    THREAD,
    CALLS
};

/* One injected failure: `call` number `skip` from now, and all later ones if `is_lasting`. */
static struct {
    enum call call;
    int skip;
    int error;
    bool is_lasting;
    bool is_any; /* whichever call it is */
    bool is_on;
    bool has_hit;
    bool is_moves_only; /* PAGES: those that move, not those that ask */
} fault;
static bool mbind_lies_once; /* the next mbind says yes and does nothing */
static int all_seem_on = -1; /* a node that every query of pages answers, or -1 */

static size_t live_bytes;         /* mapped through mmap and not unmapped yet */
static atomic_int populate_calls; /* madvise(POPULATE), by any thread */
static atomic_int populate_wrong; /* of these, on the caller's thread, unpinned or interruptible */
static bool watch_populate;
static numaperf_cpuset_t populate_cpus;
static pthread_t main_thread;

static bool fails(enum call call)
{
    if (!fault.is_on || (!fault.is_any && call != fault.call))
        return false;
    if (fault.skip-- > 0)
        return false;
    fault.skip = 0;
    fault.is_on = fault.is_lasting;
    fault.has_hit = true;
    errno = fault.error;
    return true;
}

static void fault_set(enum call call, int skip, int error, bool is_lasting)
{
    memset(&fault, 0, sizeof(fault));
    fault.call = call;
    fault.skip = skip;
    fault.error = error;
    fault.is_lasting = is_lasting;
    fault.is_on = true;
}

static void fault_clear(void)
{
    memset(&fault, 0, sizeof(fault));
}

void *__real_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *addr, size_t length);
int __wrap_munmap(void *addr, size_t length);
int __real_mprotect(void *addr, size_t length, int prot);
int __wrap_mprotect(void *addr, size_t length, int prot);
int __real_mlock(const void *addr, size_t length);
int __wrap_mlock(const void *addr, size_t length);
int __real_madvise(void *addr, size_t length, int advice);
int __wrap_madvise(void *addr, size_t length, int advice);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);

void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    if (fails(MMAP))
        return MAP_FAILED;
    void *got = __real_mmap(addr, length, prot, flags, fd, offset);
    live_bytes += got != MAP_FAILED ? length : 0;
    return got;
}

int __wrap_munmap(void *addr, size_t length)
{
    if (fails(MUNMAP))
        return -1;
    int rc = __real_munmap(addr, length);
    live_bytes -= rc == 0 ? length : 0;
    return rc;
}

int __wrap_mprotect(void *addr, size_t length, int prot)
{
    return fails(MPROTECT) ? -1 : __real_mprotect(addr, length, prot);
}

int __wrap_mlock(const void *addr, size_t length)
{
    return fails(MLOCK) ? -1 : __real_mlock(addr, length);
}

/* Is this a helper thread, on the PUs asked for, that no signal can reach? */
static bool populate_is_right(void)
{
    sigset_t blocked;
    numaperf_cpuset_t cpus;
    if (pthread_equal(pthread_self(), main_thread) ||
        pthread_sigmask(SIG_BLOCK, NULL, &blocked) != 0 || numaperf_get_affinity(&cpus) != 0)
        return false;
    return numaperf_cpuset_equal(&cpus, &populate_cpus) && sigismember(&blocked, SIGTERM) == 1 &&
           sigismember(&blocked, SIGUSR1) == 1;
}

int __wrap_madvise(void *addr, size_t length, int advice)
{
    if (watch_populate && advice == MADV_POPULATE_WRITE) {
        atomic_fetch_add(&populate_calls, 1);
        atomic_fetch_add(&populate_wrong, !populate_is_right());
    }
    /* Failures are injected on the calling thread alone: `fault` is its own. */
    if (pthread_equal(pthread_self(), main_thread) && fails(MADVISE))
        return -1;
    return __real_madvise(addr, length, advice);
}

static bool syscall_fails(long number, const long *args)
{
    if (number == SYS_mbind)
        return fails(MBIND);
    if (number == SYS_get_mempolicy)
        return (args[4] & (long)MPOL_F_ADDR_BIT) != 0 && fails(GET_POLICY);
    if (number == SYS_move_pages)
        return (!fault.is_moves_only || args[3] != 0) && fails(PAGES);
    return false;
}

long __wrap_syscall(long number, ...)
{
    long args[6];
    va_list list;
    va_start(list, number);
    for (size_t i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_mbind && mbind_lies_once) {
        mbind_lies_once = false;
        return 0;
    }
    if (syscall_fails(number, args))
        return -1;
    if (number == SYS_move_pages && all_seem_on >= 0) {
        for (long i = 0; i < args[1]; i++)
            ((int *)args[4])[i] = all_seem_on;
        return 0;
    }
    return __real_syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails(CALLOC) ? NULL : __real_calloc(count, size);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    return fails(THREAD) ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

/* ---- the cases ---- */

static int node; /* a usable one */
static numaperf_nodemask_t usable;

static numaperf_region_config_t bind_config(uint32_t mode)
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.policy = NUMAPERF_MEM_BIND;
    config.mode = mode;
    config.length = MIB;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.nodes = numaperf_nodemask_single(node);
    return config;
}

/* With the fault set: refused in hard mode with this errno, and this level in soft mode. */
static void expect_levels(enum call call, int skip, int error, numaperf_enforcement_level_t level,
                          const char *operation)
{
    numaperf_region_config_t config = bind_config(NUMAPERF_MODE_HARD);
    config.flags = call == MLOCK ? NUMAPERF_REGION_LOCK : 0;
    numaperf_region_t *region = NULL;
    size_t before = live_bytes;
    fault_set(call, skip, error, true);
    assert_int_equal(numaperf_region_create(&config, &region), NUMAPERF_E_HARD_MODE);
    assert_int_equal(numaperf_last_error()->sys_errno, error);
    assert_string_equal(numaperf_last_error()->operation, operation);
    assert_int_equal(live_bytes, before);
    assert_null(region);

    config.mode = NUMAPERF_MODE_SOFT;
    fault_set(call, skip, error, true);
    assert_int_equal(numaperf_region_create(&config, &region), 0);
    fault_clear();
    const numaperf_enforcement_t *enforcement = numaperf_region_enforcement(region);
    assert_int_equal(enforcement->level, level);
    assert_non_null(strstr(enforcement->reason, numaperf_strerror(-error)));
    memset(numaperf_region_data(region), 1, MIB); /* usable all the same */
    numaperf_region_destroy(region);
    assert_int_equal(live_bytes, before);
}

static void region_under_a_kernel_that_refuses_policies_is_level_none_and_usable(void **state)
{
    (void)state;
    expect_levels(MBIND, 0, EPERM, NUMAPERF_ENFORCE_NONE, "mbind");
    expect_levels(MBIND, 0, ENOSYS, NUMAPERF_ENFORCE_NONE, "mbind");
}

static void region_that_cannot_be_bound_in_the_end_is_best_effort(void **state)
{
    (void)state;
    expect_levels(MBIND, 1, EIO, NUMAPERF_ENFORCE_BEST_EFFORT, "mbind");
}

static void region_whose_policy_cannot_be_read_back_is_best_effort(void **state)
{
    (void)state;
    expect_levels(GET_POLICY, 0, EPERM, NUMAPERF_ENFORCE_BEST_EFFORT, "get_mempolicy");
    expect_levels(GET_POLICY, 2, EPERM, NUMAPERF_ENFORCE_BEST_EFFORT, "get_mempolicy");
}

static void region_whose_pages_cannot_be_asked_about_is_best_effort(void **state)
{
    (void)state;
    expect_levels(PAGES, 0, EPERM, NUMAPERF_ENFORCE_BEST_EFFORT, "move_pages");
}

static void region_that_cannot_be_locked_is_best_effort(void **state)
{
    (void)state;
    expect_levels(MLOCK, 0, ENOMEM, NUMAPERF_ENFORCE_BEST_EFFORT, "mlock");
}

static void region_locked_is_locked(void **state)
{
    (void)state;
#ifdef VIEW_SANITIZED
    print_message("skipped: sanitizers make mlock do nothing\n");
    skip();
#endif
    uint64_t before = view_value("/proc/self/status", "VmLck:");
    numaperf_region_config_t config = bind_config(NUMAPERF_MODE_SOFT);
    config.flags = NUMAPERF_REGION_LOCK;
    config.prefault = NUMAPERF_PREFAULT_NONE;
    numaperf_region_t *region = NULL;
    assert_int_equal(numaperf_region_create(&config, &region), 0);
    if (numaperf_is_strict(numaperf_region_enforcement(region)))
        assert_int_equal(view_value("/proc/self/status", "VmLck:"), before + 1024);
    else
        assert_non_null(strstr(numaperf_region_enforcement(region)->reason, "locked"));
    numaperf_region_destroy(region);
    assert_int_equal(view_value("/proc/self/status", "VmLck:"), before);
}

static void region_that_cannot_be_populated_fails_with_the_errno(void **state)
{
    (void)state;
    numaperf_region_config_t config = bind_config(NUMAPERF_MODE_SOFT);
    numaperf_region_t *region = NULL;
    size_t before = live_bytes;
    fault_set(MADVISE, 0, ENOMEM, true);
    assert_int_equal(numaperf_region_create(&config, &region), -ENOMEM);
    assert_string_equal(numaperf_last_error()->operation, "populate");
    config.mode = NUMAPERF_MODE_HARD;
    fault_set(MADVISE, 0, EHWPOISON, true);
    assert_int_equal(numaperf_region_create(&config, &region), NUMAPERF_E_HARD_MODE);
    assert_int_equal(numaperf_last_error()->sys_errno, EHWPOISON);
    fault_clear();
    assert_int_equal(live_bytes, before);
}

/* Before 5.14 the kernel says EINVAL, the filters of containers say the others. */
static void region_whose_populate_is_unknown_or_filtered_is_touched_instead(void **state)
{
    (void)state;
    static const int errors[] = {EINVAL, EPERM, EACCES, ENOSYS};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        numaperf_region_config_t config =
            bind_config(i % 2 == 0 ? NUMAPERF_MODE_HARD : NUMAPERF_MODE_SOFT);
        numaperf_region_t *region = NULL;
        fault_set(MADVISE, 0, errors[i], true);
        assert_int_equal(numaperf_region_create(&config, &region), 0);
        assert_true(fault.has_hit);
        fault_clear();
        assert_true(numaperf_is_strict(numaperf_region_enforcement(region)));
        size_t counts[VIEW_NODES + 1];
        assert_true(view_pages(numaperf_region_data(region), MIB, counts));
        assert_int_equal(counts[node], MIB / (size_t)sysconf(_SC_PAGESIZE));
        numaperf_region_destroy(region);
    }
}

/* Create with a first policy that has no effect, by a thread that prefers another node. */
static int create_astray(const numaperf_region_config_t *config, int other,
                         numaperf_region_t **out_region)
{
    numaperf_nodemask_t away = numaperf_nodemask_single(other);
    const long preferred = 1;
    assert_int_equal(
        __real_syscall(SYS_set_mempolicy, preferred, away.bits, (long)NUMAPERF_NODE_MAX + 1), 0);
    mbind_lies_once = true;
    int rc = numaperf_region_create(config, out_region);
    assert_int_equal(__real_syscall(SYS_set_mempolicy, 0L, NULL, 0L), 0);
    assert_false(mbind_lies_once);
    return rc;
}

static void region_pages_that_went_astray_are_moved_home(void **state)
{
    (void)state;
    int other = numaperf_nodemask_next(&usable, node);
    if (other < 0) {
        print_message("skipped: one usable node\n");
        skip();
    }
    numaperf_region_config_t config = bind_config(NUMAPERF_MODE_HARD);
    numaperf_region_t *region = NULL;
    assert_int_equal(create_astray(&config, other, &region), 0);
    size_t pages = MIB / (size_t)sysconf(_SC_PAGESIZE);
    size_t counts[VIEW_NODES + 1];
    assert_true(view_pages(numaperf_region_data(region), MIB, counts));
    assert_int_equal(counts[node], pages);
    numaperf_region_destroy(region);

    fault_set(PAGES, 0, EPERM, true);
    fault.is_moves_only = true;
    assert_int_equal(create_astray(&config, other, &region), NUMAPERF_E_HARD_MODE);
    assert_int_equal(numaperf_last_error()->sys_errno, EPERM);
    assert_non_null(strstr(numaperf_last_error()->reason, "cannot be moved"));
    config.mode = NUMAPERF_MODE_SOFT;
    assert_int_equal(create_astray(&config, other, &region), 0);
    fault_clear();
    assert_true(numaperf_is_best_effort(numaperf_region_enforcement(region)));
    assert_true(view_pages(numaperf_region_data(region), MIB, counts));
    assert_int_equal(counts[other], pages);
    numaperf_region_destroy(region);
}

static void region_interleaved_with_all_pages_on_one_node_is_not_strict(void **state)
{
    (void)state;
    if (numaperf_nodemask_count(&usable) < 2) {
        print_message("skipped: one usable node\n");
        skip();
    }
    numaperf_region_config_t config = bind_config(NUMAPERF_MODE_HARD);
    config.policy = NUMAPERF_MEM_INTERLEAVE;
    config.nodes = usable;
    for (config.length = MIB; config.length <= 16 * MIB; config.length *= 2) {
        numaperf_region_t *region = NULL;
        all_seem_on = node;
        int rc = numaperf_region_create(&config, &region);
        all_seem_on = -1;
        assert_int_equal(rc, NUMAPERF_E_HARD_MODE);
        assert_non_null(strstr(numaperf_last_error()->reason, "not spread evenly"));
    }
}

static void region_creation_undoes_everything_whichever_call_fails(void **state)
{
    (void)state;
    /* No alignment: the calls that trim it away would come and go with the address. */
    const struct numaperf__region_extra extra = {.guard_bytes = (size_t)sysconf(_SC_PAGESIZE)};
    static const int errors[] = {ENOMEM, EPERM};
    for (uint32_t mode = 0; mode < 2; mode++) {
        for (size_t e = 0; e < 2; e++) {
            int failures = 0;
            for (int skip = 0;; skip++) {
                numaperf_region_config_t config = bind_config(mode);
                config.flags = NUMAPERF_REGION_LOCK;
                config.huge_pages = NUMAPERF_HUGE_NONE;
                numaperf_region_t *region = NULL;
                size_t live_before = live_bytes;
                size_t maps_before = view_maps_count();
                fault_set(MMAP, skip, errors[e], false);
                fault.is_any = true;
                int rc = numaperf__region_create(&config, &extra, &region);
                bool has_hit = fault.has_hit;
                fault_clear();
                assert_true((rc == 0) == (region != NULL));
                failures += rc < 0;
                numaperf_region_destroy(region);
                if (rc < 0) {
                    assert_int_equal(live_bytes, live_before);
                    assert_true(view_maps_unchanged(maps_before));
                }
                if (!has_hit)
                    break;
                assert_true(skip < 100);
            }
            /* Soft: handle, job, mmap, guard, populate. Hard: also two mbind, one query, three
               policies read back, mlock. A populate refused with EPERM is made up for by touching.
             */
            int expected = mode == NUMAPERF_MODE_HARD ? 12 : 5;
            assert_int_equal(failures, errors[e] == EPERM ? expected - 1 : expected);
        }
    }
}

static void region_keeps_slack_that_cannot_be_unmapped_and_works(void **state)
{
    (void)state;
    const struct numaperf__region_extra extra = {.align_bytes = 4 * MIB};
    numaperf_region_config_t config = bind_config(NUMAPERF_MODE_HARD);
    numaperf_region_t *region = NULL;
    fault_set(MUNMAP, 0, ENOMEM, true); /* a process at its limit of mappings */
    assert_int_equal(numaperf__region_create(&config, &extra, &region), 0);
    assert_true(fault.has_hit);
    fault_clear();
    assert_int_equal((uintptr_t)numaperf_region_data(region) % (4 * MIB), 0);
    memset(numaperf_region_data(region), 1, MIB);
    numaperf_region_destroy(region);
}

/* ---- prefault threads ---- */

static void cpus_of(int of_node, numaperf_cpuset_t *out)
{
    char path[96];
    char text[4096];
    numaperf_cpuset_zero(out);
    (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", of_node);
    if (!view_text(path, text, sizeof(text)))
        return;
    text[strcspn(text, "\n")] = '\0';
    assert_int_equal(numaperf_cpuset_parse(text, out), 0);
    numaperf_cpuset_t mine;
    assert_int_equal(numaperf_get_affinity(&mine), 0);
    numaperf_cpuset_intersect(out, &mine, out);
}

static numaperf_region_t *make_parallel(int on_node, uint32_t threads)
{
    numaperf_region_config_t config = bind_config(NUMAPERF_MODE_HARD);
    config.nodes = numaperf_nodemask_single(on_node);
    config.prefault = NUMAPERF_PREFAULT_PARALLEL;
    config.prefault_threads = threads;
    config.length = 40 * MIB;
    numaperf_region_t *region = NULL;
    assert_int_equal(numaperf_region_create(&config, &region), 0);
    size_t counts[VIEW_NODES + 1];
    assert_true(view_pages(numaperf_region_data(region), 40 * MIB, counts));
    assert_int_equal(counts[on_node], 40 * MIB / (size_t)sysconf(_SC_PAGESIZE));
    return region;
}

static void prefault_threads_run_on_the_target_node_and_take_no_signal(void **state)
{
    (void)state;
    for (int at = numaperf_nodemask_next(&usable, -1); at >= 0;
         at = numaperf_nodemask_next(&usable, at)) {
        cpus_of(at, &populate_cpus);
        if (numaperf_cpuset_count(&populate_cpus) == 0)
            assert_int_equal(numaperf_get_affinity(&populate_cpus), 0); /* memory only: anywhere */
        for (uint32_t threads = 0; threads <= 4; threads += 2) {
            sigset_t before;
            sigset_t after;
            assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
            watch_populate = true;
            atomic_store(&populate_calls, 0);
            atomic_store(&populate_wrong, 0);
            numaperf_region_destroy(make_parallel(at, threads));
            watch_populate = false;
            assert_int_equal(atomic_load(&populate_calls), 3); /* pieces of 16 MiB */
            assert_int_equal(atomic_load(&populate_wrong), 0);
            assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
            for (int i = 1; i <= SIGRTMAX; i++)
                assert_int_equal(sigismember(&before, i), sigismember(&after, i));
        }
    }
}

static void prefault_goes_on_with_the_threads_it_gets(void **state)
{
    (void)state;
    for (int got = 0; got < 3; got++) {
        fault_set(THREAD, got, EAGAIN, true);
        numaperf_region_destroy(make_parallel(node, 4));
        assert_true(fault.has_hit);
        fault_clear();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(region_under_a_kernel_that_refuses_policies_is_level_none_and_usable),
        cmocka_unit_test(region_that_cannot_be_bound_in_the_end_is_best_effort),
        cmocka_unit_test(region_whose_policy_cannot_be_read_back_is_best_effort),
        cmocka_unit_test(region_whose_pages_cannot_be_asked_about_is_best_effort),
        cmocka_unit_test(region_that_cannot_be_locked_is_best_effort),
        cmocka_unit_test(region_locked_is_locked),
        cmocka_unit_test(region_that_cannot_be_populated_fails_with_the_errno),
        cmocka_unit_test(region_whose_populate_is_unknown_or_filtered_is_touched_instead),
        cmocka_unit_test(region_pages_that_went_astray_are_moved_home),
        cmocka_unit_test(region_interleaved_with_all_pages_on_one_node_is_not_strict),
        cmocka_unit_test(region_creation_undoes_everything_whichever_call_fails),
        cmocka_unit_test(region_keeps_slack_that_cannot_be_unmapped_and_works),
        cmocka_unit_test(prefault_threads_run_on_the_target_node_and_take_no_signal),
        cmocka_unit_test(prefault_goes_on_with_the_threads_it_gets),
    };
    numaperf_nodemask_t with_memory;
    view_nodes(&with_memory, &usable);
    node = numaperf_nodemask_next(&usable, -1);
    main_thread = pthread_self();
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
