/* SPDX-License-Identifier: MIT */
/* What lock-free files share: the cache line and the pause of a spin. */
#ifndef NUMAPERF_BASE_ATOMIC_H
#define NUMAPERF_BASE_ATOMIC_H

#include <stdalign.h>
#include <stdatomic.h>

/* Two lines of 64: adjacent-line prefetch makes neighbours share. */
#define NUMAPERF_CACHE_LINE 128

static inline void numaperf__cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

#endif
