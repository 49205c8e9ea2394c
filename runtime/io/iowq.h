/* SPDX-License-Identifier: MIT */
/* The io-wq threads that the kernel makes for rings, found among the threads of this process. */
#ifndef NUMAPERF_IO_IOWQ_H
#define NUMAPERF_IO_IOWQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * All io-wq threads of one thread's rings have one name, which carries that thread's number in the
 * first pid namespace: in another one it is not known until one of them was seen.
 */
#define NUMAPERF__IOWQ_NAME_SIZE 16 /* the kernel's limit, with its zero */

/* The name that those of the calling thread have in the first pid namespace. */
void numaperf__iowq_own_name(char out[NUMAPERF__IOWQ_NAME_SIZE]);
/* Name of a thread of this process; false when there is none, or it is no io-wq thread. */
bool numaperf__iowq_name(int thread_id, char out[NUMAPERF__IOWQ_NAME_SIZE]);

struct numaperf__iowq_thread {
    int32_t thread_id;
    char name[NUMAPERF__IOWQ_NAME_SIZE]; /* empty: a thread of another kind */
};

/*
 * The threads of this process, as they were when it was last refreshed. A refresh asks for the
 * names of those alone that are new, so it costs little.
 */
struct numaperf__iowq_census {
    struct numaperf__iowq_thread *threads; /* in the kernel's order */
    size_t count;
    size_t capacity;
    uint32_t refresh_count;
};

/* 0 or -errno, and then it is as it was. Start with all zero; not for concurrent use. */
int numaperf__iowq_refresh(struct numaperf__iowq_census *census);
void numaperf__iowq_free(struct numaperf__iowq_census *census);

#endif
