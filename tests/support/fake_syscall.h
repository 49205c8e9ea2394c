/* SPDX-License-Identifier: MIT */
/*
 * A kernel that refuses or lies: a syscall() of the test program, which stands before the C
 * library's. Included once in a program. What calls the C library's own wrappers is not concerned.
 */
#ifndef NUMAPERF_TESTS_FAKE_SYSCALL_H
#define NUMAPERF_TESTS_FAKE_SYSCALL_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum fake_answer {
    FAKE_REFUSE,   /* -1 and errno */
    FAKE_NOTHING,  /* 0, and nothing is done */
    FAKE_MASK,     /* mbind, set_mempolicy: 0, and the node mask is kept */
    FAKE_DEV_NULL, /* io_uring_setup: a descriptor that cannot be mapped */
    FAKE_ALL_PUS,  /* sched_getaffinity: every PU */
    FAKE_MORE_PUS  /* sched_getaffinity: a kernel of more than 8192 PUs */
};

/* Set while no other thread calls; threads started later read it. */
static struct {
    long number; /* the call it concerns; 0: none */
    enum fake_answer answer;
    int error;
    int skip;                /* so many calls pass first */
    bool is_only_once;       /* later calls pass again */
    bool only_other_threads; /* concerns calls about another thread alone */
    int extra_cpu;           /* MORE_PUS: a PU it reports beside the real ones, or 0 */
} fake;

/* What FAKE_MASK has kept: as much of a mask as the kernel would read. */
static struct {
    uint64_t bits[1024 / 64];
    long bit_count;
} fake_mask;

/* The one bit of it; -1 when there is none or several. */
static inline int fake_mask_only_bit(void)
{
    int found = -1;
    for (int i = 0; i < fake_mask.bit_count && i < 1024; i++) {
        if ((fake_mask.bits[i / 64] >> (i % 64) & 1) == 0)
            continue;
        if (found >= 0)
            return -1;
        found = i;
    }
    return found;
}

static void fake_keep_mask(const void *mask, long bits_told)
{
    memset(&fake_mask, 0, sizeof(fake_mask));
    fake_mask.bit_count = bits_told - 1; /* the kernel reads one bit less than it is told */
    size_t bytes = (size_t)(bits_told + 62) / 64 * 8;
    memcpy(fake_mask.bits, mask, bytes < sizeof(fake_mask.bits) ? bytes : sizeof(fake_mask.bits));
}

typedef long (*fake_syscall_fn)(long, ...);
static fake_syscall_fn fake_real_syscall;

/* Also called by constructors, so the first call finds it, on the only thread there is then. */
static void fake_find_real(void)
{
    if (fake_real_syscall == NULL)
        *(void **)&fake_real_syscall = dlsym(RTLD_NEXT, "syscall");
}

static long fake_more_pus(const long *a)
{
    if (a[1] <= 8192 / 8) {
        errno = EINVAL;
        return -1;
    }
    long n = fake_real_syscall(SYS_sched_getaffinity, a[0], a[1], a[2]);
    if (n > 0 && fake.extra_cpu > 0)
        ((uint64_t *)a[2])[fake.extra_cpu / 64] |= UINT64_C(1) << (fake.extra_cpu % 64);
    return n;
}

static long fake_answer_call(long number, const long *a)
{
    switch (fake.answer) {
    case FAKE_NOTHING:
        return 0;
    case FAKE_MASK:
        if (number == SYS_mbind)
            fake_keep_mask((const void *)a[3], a[4]);
        else
            fake_keep_mask((const void *)a[1], a[2]);
        return 0;
    case FAKE_DEV_NULL:
        ((struct io_uring_params *)a[1])->sq_entries = 4;
        ((struct io_uring_params *)a[1])->cq_entries = 8;
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case FAKE_ALL_PUS:
        memset((void *)a[2], 0xff, (size_t)a[1]);
        return a[1];
    case FAKE_MORE_PUS:
        return fake_more_pus(a);
    case FAKE_REFUSE:
    default:
        errno = fake.error;
        return -1;
    }
}

/* It takes six arguments where fewer were passed, as the C library's own does. */
__attribute__((no_sanitize_address)) long syscall(long number, ...)
{
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    fake_find_real();

    bool is_concerned = fake.number != 0 && number == fake.number &&
                        (!fake.only_other_threads || a[0] != 0) &&
                        (fake.skip <= 0 || fake.skip-- <= 0);
    if (!is_concerned)
        return fake_real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (fake.is_only_once)
        fake.number = 0;
    return fake_answer_call(number, a);
}

static void fake_clear(void)
{
    memset(&fake, 0, sizeof(fake));
}

static void fake_set(long number, enum fake_answer answer, int error)
{
    fake_clear();
    fake.number = number;
    fake.answer = answer;
    fake.error = error;
}

#endif
