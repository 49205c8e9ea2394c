/* SPDX-License-Identifier: MIT */
/* Source: seccomp(2): a filter is its thread's, and inherited by what that thread makes. */
#include "support/worker_filter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static struct {
    const struct sandbox_rule *rules; /* written while the library makes no thread */
    size_t count;
    atomic_int skip; /* threads that pass first */
    atomic_int hits;
} filter;

struct thread_main {
    void *(*fn)(void *);
    void *arg;
};

void worker_filter_set(const struct sandbox_rule *rules, size_t count, int skip)
{
    filter.rules = rules;
    filter.count = count;
    atomic_store(&filter.skip, skip);
    atomic_store(&filter.hits, 0);
}

int worker_filter_hits(void)
{
    return atomic_load(&filter.hits);
}

static void *filtered_main(void *arg)
{
    struct thread_main main = *(struct thread_main *)arg;
    free(arg);
    sandbox_deny_rules(filter.rules, filter.count);
    (void)atomic_fetch_add(&filter.hits, 1);
    return main.fn(main.arg);
}

/* The build finds it by its name: __wrap_pthread_create( */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    if (filter.count == 0 || atomic_fetch_sub(&filter.skip, 1) > 0)
        return __real_pthread_create(thread, attr, fn, arg);
    struct thread_main *main = malloc(sizeof(*main));
    CHECK(main != NULL);
    *main = (struct thread_main){fn, arg};
    int rc = __real_pthread_create(thread, attr, filtered_main, main);
    if (rc != 0)
        free(main);
    return rc;
}
