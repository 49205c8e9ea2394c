#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: tests/bench/run.sh [--rounds N] [--quiet PERCENT] [WORKLOAD | CASE]...
# Configures and builds the release with the benchmarks, runs them (all of them without a name),
# prints the table, and leaves every sample in build/bench/results.json. A few minutes; the figures
# are worth what the quiet of the machine is worth: --quiet takes a round again in which other
# processes took more than that of it.
set -eu
cd "$(dirname "$0")/../.."
if [ ! -f build/bench/build.ninja ]; then
    cmake --preset bench > /dev/null
fi
cmake --build build/bench --target numaperf_bench
echo "$(nproc) PUs usable, load $(cut -d ' ' -f 1-3 /proc/loadavg)"
build/bench/tests/bench/numaperf_bench --json build/bench/results.json "$@"
echo
echo "every sample: build/bench/results.json"
