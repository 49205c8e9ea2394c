/* SPDX-License-Identifier: MIT */
/*
 * Last error, log hook, assertions, and the loading of size-prefixed structs.
 *
 * The last error is a thread-local record, written only by numaperf__fail() on its own thread. The
 * log hook is the one piece of state of the whole process, since the public function has no
 * handle: a mutex keeps function and data together and calls one at a time, so that a hook that
 * was replaced is no longer running when numaperf_set_log() returns.
 */
#include "base/error.h"

#include "base/assert.h"
#include "base/config.h"

#include <numaperf/version.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local numaperf_error_t last_error;

static struct {
    pthread_mutex_t mutex;
    void (*fn)(int level, const char *text, void *data); /* under mutex */
    void *data;                                          /* under mutex */
    bool is_running;    /* under mutex: seen true, it is this very thread that is inside fn */
    atomic_bool is_set; /* a hint that spares the mutex while silent */
} log_hook = {.mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP};

const numaperf_error_t *numaperf_last_error(void)
{
    return &last_error;
}

int numaperf__fail(int code, int sys_errno, const char *operation, const char *reason, ...)
{
    NUMAPERF_ASSERT(code < 0);

    last_error.code = code;
    last_error.sys_errno = sys_errno;
    (void)snprintf(last_error.operation, sizeof(last_error.operation), "%s", operation);
    va_list args;
    va_start(args, reason);
    /* A reason longer than the record is cut, which is what the record's size means. */
    (void)vsnprintf(last_error.reason, sizeof(last_error.reason), reason, args);
    va_end(args);
    numaperf__log(NUMAPERF_LOG_ERROR, "%s: %s (%s)", last_error.operation, last_error.reason,
                  numaperf_err_name(code));
    return code;
}

int numaperf__fail_copy(const numaperf_error_t *error)
{
    NUMAPERF_ASSERT(error->code < 0);
    last_error = *error;
    return error->code;
}

void numaperf_set_log(void (*fn)(int level, const char *text, void *data), void *data)
{
    (void)pthread_mutex_lock(&log_hook.mutex); /* a static default mutex cannot fail */
    log_hook.fn = fn;
    log_hook.data = data;
    atomic_store_explicit(&log_hook.is_set, fn != NULL, memory_order_relaxed);
    (void)pthread_mutex_unlock(&log_hook.mutex);
}

void numaperf__log(int level, const char *format, ...)
{
    if (!atomic_load_explicit(&log_hook.is_set, memory_order_relaxed))
        return;

    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args); /* cut when too long */
    va_end(args);

    (void)pthread_mutex_lock(&log_hook.mutex);
    /* A hook whose own calls fail must not be told of that for ever. */
    if (log_hook.fn != NULL && !log_hook.is_running) {
        log_hook.is_running = true;
        log_hook.fn(level, text, log_hook.data);
        log_hook.is_running = false;
    }
    (void)pthread_mutex_unlock(&log_hook.mutex);
}

const char *numaperf_strerror(int code)
{
    switch (code) {
    case NUMAPERF_E_HARD_MODE:
        return "hard mode: the placement cannot be guaranteed";
    case NUMAPERF_E_NO_NODE:
        return "the node is absent, or has no usable PUs or memory";
    case NUMAPERF_E_STOPPING:
        return "the runtime is stopping";
    case NUMAPERF_E_TOPOLOGY:
        return "the topology cannot be used";
    case NUMAPERF_E_UNSUPPORTED:
        return "not supported here";
    default:
        break;
    }
    if (code >= 0)
        return "success";
    /* glibc's descriptions are constant and, unlike strerror(), safe on any thread. */
    const char *text = code > -10000 ? strerrordesc_np(-code) : NULL;
    return text != NULL ? text : "unknown error";
}

const char *numaperf_err_name(int code)
{
    switch (code) {
    case NUMAPERF_E_HARD_MODE:
        return "NUMAPERF_E_HARD_MODE";
    case NUMAPERF_E_NO_NODE:
        return "NUMAPERF_E_NO_NODE";
    case NUMAPERF_E_STOPPING:
        return "NUMAPERF_E_STOPPING";
    case NUMAPERF_E_TOPOLOGY:
        return "NUMAPERF_E_TOPOLOGY";
    case NUMAPERF_E_UNSUPPORTED:
        return "NUMAPERF_E_UNSUPPORTED";
    default:
        break;
    }
    if (code >= 0)
        return "OK";
    const char *name = code > -10000 ? strerrorname_np(-code) : NULL;
    return name != NULL ? name : "UNKNOWN";
}

int numaperf_version(void)
{
    return NUMAPERF_VERSION_NUMBER;
}

const char *numaperf_version_string(void)
{
    return NUMAPERF_VERSION_STRING;
}

int numaperf__config_load(void *out, size_t out_size, size_t min_size, const void *config,
                          const char *name)
{
    NUMAPERF_ASSERT(min_size >= 2 * sizeof(uint32_t));
    NUMAPERF_ASSERT(min_size <= out_size);

    uint32_t size = 0;
    memcpy(&size, config, sizeof(size));
    if (size < min_size)
        return numaperf__fail(-EINVAL, 0, name,
                              "config.size is %u, below the %zu of the first release: start from "
                              "its _INIT",
                              size, min_size);

    const unsigned char *bytes = config;
    for (size_t i = out_size; i < size; i++) {
        if (bytes[i] != 0)
            return numaperf__fail(-E2BIG, 0, name,
                                  "config uses a field at byte %zu that this library (%s) does not "
                                  "know",
                                  i, NUMAPERF_VERSION_STRING);
    }
    size_t known = size < out_size ? size : out_size;
    memset(out, 0, out_size);
    memcpy(out, config, known);
    return 0;
}

int numaperf__result_store(void *out, size_t min_size, const void *result, size_t result_size,
                           const char *name)
{
    NUMAPERF_ASSERT(min_size >= sizeof(uint32_t));
    NUMAPERF_ASSERT(min_size <= result_size);

    uint32_t size = 0;
    if (out != NULL)
        memcpy(&size, out, sizeof(size));
    if (size < min_size)
        return numaperf__fail(-EINVAL, 0, name,
                              "the result struct is NULL or its size, %u, is below %zu: start from "
                              "its _INIT",
                              size, min_size);
    size_t known = size < result_size ? size : result_size;
    memcpy((char *)out + sizeof(size), (const char *)result + sizeof(size), known - sizeof(size));
    return 0;
}

void numaperf__assert_failed(const char *expression, const char *file, int line)
{
    /* The one place that prints: the process is lost, and its owner must learn why. */
    (void)fprintf(stderr, "numaperf: assertion failed: %s (%s:%d)\n", expression, file, line);
    abort();
}
