/* SPDX-License-Identifier: MIT */
/* numaperf: an event-loop runtime for NUMA machines that proves where threads and pages are. */
#ifndef NUMAPERF_H
#define NUMAPERF_H

#include <numaperf/arena.h>
#include <numaperf/capabilities.h>
#include <numaperf/cpuset.h>
#include <numaperf/device.h>
#include <numaperf/enforce.h>
#include <numaperf/error.h>
#include <numaperf/file.h>
#include <numaperf/group.h>
#include <numaperf/loop.h>
#include <numaperf/net.h>
#include <numaperf/pin.h>
#include <numaperf/region.h>
#include <numaperf/runtime.h>
#include <numaperf/stats.h>
#include <numaperf/timer.h>
#include <numaperf/topology.h>
#include <numaperf/udp.h>
#include <numaperf/version.h>

#endif
