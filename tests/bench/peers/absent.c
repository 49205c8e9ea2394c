/* SPDX-License-Identifier: MIT */
/* Peers whose packages were not there when this program was built, so that the cases can name them
 * and the table can say what is missing. CMakeLists.txt defines what is there. */
#include "peers/peer.h"

#ifndef NUMAPERF_BENCH_HAS_GLIB
const struct bench_peer bench_glib = {.name = "glib", .absent = NUMAPERF_BENCH_NO_GLIB};
#endif

#ifndef NUMAPERF_BENCH_HAS_TBB
const struct bench_peer bench_tbb_enqueue = {.name = "tbb-enqueue",
                                             .absent = NUMAPERF_BENCH_NO_TBB};
const struct bench_peer bench_tbb_group = {.name = "tbb-group", .absent = NUMAPERF_BENCH_NO_TBB};
#endif

#ifndef NUMAPERF_BENCH_HAS_OPENMP
const struct bench_peer bench_openmp = {.name = NUMAPERF_BENCH_OPENMP,
                                        .absent = NUMAPERF_BENCH_NO_OPENMP};
#endif
