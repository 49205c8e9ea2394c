/* SPDX-License-Identifier: MIT */
/*
 * Episodes: from the look that finds a drift to the look that finds it gone.
 *
 *              UNKNOWN  HOME  DRIFTED        PUT_BACK
 *      NONE    NONE     NONE  OPEN, report   NONE, report
 *      OPEN    OPEN     NONE  OPEN           NONE
 *
 * Reported once an episode: a report is made on the edges out of NONE alone, and OPEN, which a
 * DRIFTED sight leads to, has none. Again only after it was in order: OPEN is left by HOME or
 * PUT_BACK alone, and both are readings of the kernel; not being able to read proves nothing and
 * moves nothing. What is put back within the look that found it is an episode, too, of one look.
 */
#include "sched/episode.h"

#include "base/assert.h"

bool numaperf__episode_move(enum numaperf__episode *io_episode, enum numaperf__sight sight)
{
    static const enum numaperf__episode next[2][4] = {
        [NUMAPERF__EPISODE_NONE] = {NUMAPERF__EPISODE_NONE, NUMAPERF__EPISODE_NONE,
                                    NUMAPERF__EPISODE_OPEN, NUMAPERF__EPISODE_NONE},
        [NUMAPERF__EPISODE_OPEN] = {NUMAPERF__EPISODE_OPEN, NUMAPERF__EPISODE_NONE,
                                    NUMAPERF__EPISODE_OPEN, NUMAPERF__EPISODE_NONE},
    };
    NUMAPERF_ASSERT(*io_episode <= NUMAPERF__EPISODE_OPEN);
    NUMAPERF_ASSERT(sight <= NUMAPERF__SIGHT_PUT_BACK);

    bool is_report = *io_episode == NUMAPERF__EPISODE_NONE &&
                     (sight == NUMAPERF__SIGHT_DRIFTED || sight == NUMAPERF__SIGHT_PUT_BACK);
    *io_episode = next[*io_episode][sight];
    return is_report;
}
