/* SPDX-License-Identifier: MIT */
/*
 * Call stacks of workers. Only a thread itself can walk its stack while it runs, so who wants to
 * know sends it a signal, and the handler writes down where it came from.
 *
 *   IDLE --ask--> WANTED --handler--> WRITING --handler--> DONE --drop--> IDLE
 *                    |                                                     ^
 *                    +---------------drop: nobody waits any more-----------+
 *
 * The handler writes only after it has moved WANTED to WRITING, and who asked reads only what is
 * DONE, so no stack is torn; a signal that comes late, or from somebody else, finds nothing WANTED.
 *
 * What a signal does is the process's to say, not a runtime's: all runtimes share the one handler,
 * and the last one restores what was there. That is why there is state here that no runtime owns. A
 * program that has a handler of its own for it is refused, and one that installs it later is not
 * interfered with: then no more stacks are taken. The handler stays until the workers are joined,
 * since a signal on its way to one of them would otherwise end the process.
 *
 * backtrace() is safe in a handler once it has been called, which loads what it needs, libgcc_s.
 * (glibc before 2.35 takes the loader's lock in it: there a worker that stands in dlopen() is on
 * its own thread already, as the lock is recursive.)
 *
 * Thread rule: acquire and release on any thread; one thread at a time asks for a given stack.
 *
 * Source: signal-safety(7), backtrace(3), sigaction(2).
 */
#include "sched/callstack.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/futex.h"
#include "sched/sched.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#define CALLSTACK_OWN_MAX 8 /* frames of the handler and of what called it */

static pthread_mutex_t callstack_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint32_t callstack_users; /* runtimes; under the mutex */

int numaperf__callstack_signal(void)
{
    return SIGRTMAX - 2;
}

/* ---- take ---- */

/* Where the thread stood; NULL where that cannot be told. */
static void *callstack_interrupted(const void *context)
{
    const ucontext_t *ucontext = context;
#if defined(__x86_64__)
    return (void *)ucontext->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (void *)ucontext->uc_mcontext.pc;
#else
    (void)ucontext;
    return NULL;
#endif
}

/* On the worker, in the handler. */
static void callstack_write(struct numaperf__callstack *callstack, const void *context)
{
    void *frames[NUMAPERF_STALL_FRAMES_MAX + CALLSTACK_OWN_MAX];
    int count = backtrace(frames, NUMAPERF_STALL_FRAMES_MAX + CALLSTACK_OWN_MAX);
    const void *stood = callstack_interrupted(context);
    int first = 0;
    while (first < count && frames[first] != stood)
        first++;
    if (first == count)
        first = 0; /* all of it is better than nothing */
    callstack->frame_count = 0;
    for (int i = first; i < count && callstack->frame_count < NUMAPERF_STALL_FRAMES_MAX; i++)
        callstack->frames[callstack->frame_count++] = frames[i];
}

static void callstack_handler(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    int saved_errno = errno;
    const struct numaperf_worker *worker = numaperf_worker_current();
    struct numaperf__callstack *callstack = worker != NULL ? worker->callstack : NULL;
    uint32_t expected = NUMAPERF__CALLSTACK_WANTED;
    if (callstack != NULL && atomic_compare_exchange_strong_explicit(
                                 &callstack->state, &expected, NUMAPERF__CALLSTACK_WRITING,
                                 memory_order_acquire, memory_order_relaxed)) {
        callstack->progress = numaperf__worker_progress(worker);
        callstack_write(callstack, context);
        /* Release pairs with the acquire in numaperf__callstack_await(). */
        atomic_store_explicit(&callstack->state, NUMAPERF__CALLSTACK_DONE, memory_order_release);
        numaperf__futex_wake_all(&callstack->state);
    }
    errno = saved_errno;
}

/* ---- signal ---- */

/* Whether the signal is ours now. */
static bool callstack_is_ours(void)
{
    struct sigaction now;
    return sigaction(numaperf__callstack_signal(), NULL, &now) == 0 &&
           (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == callstack_handler;
}

/* Under the mutex. */
static bool callstack_install(void)
{
    struct sigaction now;
    int rc = sigaction(numaperf__callstack_signal(), NULL, &now);
    NUMAPERF_ASSERT(rc == 0);
    if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL)
        return false;
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = callstack_handler;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    (void)sigfillset(&action.sa_mask); /* cannot fail */
    rc = sigaction(numaperf__callstack_signal(), &action, NULL);
    NUMAPERF_ASSERT(rc == 0);
    return true;
}

int numaperf__callstack_acquire(void)
{
    void *frame;
    if (backtrace(&frame, 1) < 1) /* loads what it needs, which a handler must not */
        return numaperf__fail(NUMAPERF_E_UNSUPPORTED, 0, "start",
                              "NUMAPERF_RT_STALL_BACKTRACE: backtrace() finds nothing here; is "
                              "libgcc_s.so.1 missing?");
    (void)pthread_mutex_lock(&callstack_mutex); /* never locked twice: cannot fail */
    bool is_ours = callstack_users > 0 ? callstack_is_ours() : callstack_install();
    callstack_users += is_ours ? 1 : 0;
    (void)pthread_mutex_unlock(&callstack_mutex); /* as above */
    if (is_ours)
        return 0;
    return numaperf__fail(-EBUSY, 0, "start",
                          "NUMAPERF_RT_STALL_BACKTRACE needs signal %d, SIGRTMAX - 2, which the "
                          "program handles or ignores",
                          numaperf__callstack_signal());
}

void numaperf__callstack_release(void)
{
    (void)pthread_mutex_lock(&callstack_mutex); /* never locked twice: cannot fail */
    NUMAPERF_ASSERT(callstack_users > 0);
    callstack_users--;
    if (callstack_users == 0 && callstack_is_ours()) {
        struct sigaction none;
        memset(&none, 0, sizeof(none));
        none.sa_handler = SIG_DFL;
        (void)sigaction(numaperf__callstack_signal(), &none, NULL); /* as when it was installed */
    }
    (void)pthread_mutex_unlock(&callstack_mutex); /* as above */
}

/* ---- ask ---- */

bool numaperf__callstack_ask(struct numaperf__callstack *callstack, pthread_t thread)
{
    /* A handler that was given up long ago may still be at it. */
    if (atomic_load_explicit(&callstack->state, memory_order_acquire) ==
            NUMAPERF__CALLSTACK_WRITING ||
        !callstack_is_ours())
        return false;
    /* Release pairs with the acquire of the handler: it writes after what was read of the last. */
    atomic_store_explicit(&callstack->state, NUMAPERF__CALLSTACK_WANTED, memory_order_release);
    return pthread_kill(thread, numaperf__callstack_signal()) == 0;
}

bool numaperf__callstack_await(struct numaperf__callstack *callstack, uint64_t timeout_ns)
{
    uint64_t start_ns = numaperf__clock_now_ns();
    for (;;) {
        /* Acquire pairs with the release of the handler. */
        uint32_t state = atomic_load_explicit(&callstack->state, memory_order_acquire);
        if (state == NUMAPERF__CALLSTACK_DONE)
            return true;
        uint64_t waited_ns = numaperf__clock_now_ns() - start_ns;
        if (waited_ns >= timeout_ns)
            return false;
        numaperf__futex_wait(&callstack->state, state, timeout_ns - waited_ns);
    }
}

void numaperf__callstack_drop(struct numaperf__callstack *callstack)
{
    uint32_t state = NUMAPERF__CALLSTACK_WANTED;
    if (!atomic_compare_exchange_strong_explicit(&callstack->state, &state,
                                                 NUMAPERF__CALLSTACK_IDLE, memory_order_acq_rel,
                                                 memory_order_acquire) &&
        state == NUMAPERF__CALLSTACK_DONE)
        atomic_store_explicit(&callstack->state, NUMAPERF__CALLSTACK_IDLE, memory_order_relaxed);
}
