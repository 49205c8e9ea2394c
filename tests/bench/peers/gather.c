/* SPDX-License-Identifier: MIT */
/* See gather.h. All fields but the constant ones are under the mutex. */
#include "peers/gather.h"

#include "peers/peer.h"

#include <stdlib.h>

void bench_gather_init(struct bench_gather *gather, const int32_t *cpus, uint32_t wanted)
{
    *gather = (struct bench_gather){.cpus = cpus, .wanted = wanted};
    pthread_mutex_init(&gather->mutex, NULL);
    pthread_cond_init(&gather->all_here, NULL);
}

void bench_gather_join(struct bench_gather *gather)
{
    pthread_mutex_lock(&gather->mutex);
    if (bench_pin(gather->cpus[gather->here]) < 0)
        abort(); /* numaperf was here before: the PU exists */
    gather->here++;
    while (gather->here < gather->wanted)
        pthread_cond_wait(&gather->all_here, &gather->mutex);
    gather->left++;
    pthread_cond_broadcast(&gather->all_here);
    pthread_mutex_unlock(&gather->mutex);
}

void bench_gather_fini(struct bench_gather *gather)
{
    pthread_mutex_lock(&gather->mutex);
    while (gather->left < gather->wanted)
        pthread_cond_wait(&gather->all_here, &gather->mutex);
    pthread_mutex_unlock(&gather->mutex);
    pthread_cond_destroy(&gather->all_here);
    pthread_mutex_destroy(&gather->mutex);
}
