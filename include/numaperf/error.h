/* SPDX-License-Identifier: MIT */
/*
 * Errors. Every function that can fail returns 0 or a count on success and a negative number on
 * failure: -errno for the system's own failures (as libuv and liburing do), or one of the codes
 * below. Precedence: -EINVAL and -E2BIG come first; then an absent node, or one without usable
 * PUs or memory, is NUMAPERF_E_NO_NODE in both modes; then, in hard mode, everything that breaks
 * a guarantee is NUMAPERF_E_HARD_MODE with its cause in sys_errno.
 */
#ifndef NUMAPERF_ERROR_H
#define NUMAPERF_ERROR_H

#include <numaperf/version.h>

NUMAPERF_BEGIN_DECLS

enum {
    NUMAPERF_E_HARD_MODE = -10001,  /* hard mode, and the guarantee cannot be given */
    NUMAPERF_E_NO_NODE = -10002,    /* the node is absent, or has no usable PUs or memory */
    NUMAPERF_E_STOPPING = -10003,   /* the runtime is stopping */
    NUMAPERF_E_TOPOLOGY = -10004,   /* the topology cannot be read, or says something impossible */
    NUMAPERF_E_UNSUPPORTED = -10005 /* this kernel, build or object cannot do that */
};

/* What failed last on a thread. */
typedef struct numaperf_error {
    int code;           /* what the call returned; 0 when nothing failed yet */
    int sys_errno;      /* the system's errno behind it, positive; 0 when there is none */
    char operation[64]; /* what was being done, "mbind" */
    char reason[256];   /* why it failed, in plain words, with the node or PU it concerns */
} numaperf_error_t;

/* Levels of numaperf_set_log(). */
enum {
    NUMAPERF_LOG_ERROR = 0,
    NUMAPERF_LOG_WARN = 1,
    NUMAPERF_LOG_INFO = 2,
    NUMAPERF_LOG_DEBUG = 3
};

/**
 * The last failure of a numaperf call on the calling thread.
 *
 * A success and -EAGAIN leave it as it was. Never NULL.
 *
 * Returns:  the record, overwritten by this thread's next failure.
 * Owner:    the thread.
 * Threads:  any.
 */
NUMAPERF_API const numaperf_error_t *numaperf_last_error(void);

/**
 * Plain words for a code that a numaperf function returned.
 *
 * Returns:  a constant string, also for 0 and for unknown codes.
 * Owner:    the library.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_strerror(int code);

/**
 * The name of a code: "NUMAPERF_E_NO_NODE", "EINVAL".
 *
 * Returns:  a constant string; "OK" for 0 and above, "UNKNOWN" for a code that has no name.
 * Owner:    the library.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_err_name(int code);

/**
 * Receive the library's messages. It is silent until this is called.
 *
 * `fn` may be called from any thread, one call at a time, and must not call numaperf_set_log().
 * It may call the library otherwise; what that would tell it is dropped.
 * NULL silences the library again; when this returns, the earlier `fn` is no longer running.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_set_log(void (*fn)(int level, const char *text, void *data), void *data);

NUMAPERF_END_DECLS
#endif
