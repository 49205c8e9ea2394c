/* SPDX-License-Identifier: MIT */
/* When a drift is reported: a pure function. */
#ifndef NUMAPERF_SCHED_EPISODE_H
#define NUMAPERF_SCHED_EPISODE_H

#include <stdbool.h>

enum numaperf__episode {
    NUMAPERF__EPISODE_NONE = 0, /* in order, as far as was seen */
    NUMAPERF__EPISODE_OPEN      /* drifted, and reported */
};

/* What a look, and what was done about it, came to. */
enum numaperf__sight {
    NUMAPERF__SIGHT_UNKNOWN = 0, /* the kernel did not tell */
    NUMAPERF__SIGHT_HOME,
    NUMAPERF__SIGHT_DRIFTED, /* and still is */
    NUMAPERF__SIGHT_PUT_BACK /* had drifted, was put back, and was read back so */
};

/* Move the episode on; whether the sight is to be counted and reported. */
bool numaperf__episode_move(enum numaperf__episode *io_episode, enum numaperf__sight sight);

#endif
