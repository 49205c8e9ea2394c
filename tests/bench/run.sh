#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: tests/bench/run.sh [--rounds N] [--quiet PERCENT] [--no-install] [WORKLOAD | CASE]...
# Installs the peers' packages (as root on Debian), configures and builds the release with the
# benchmarks, runs them (all of them without a name), prints the table, and leaves every sample in
# build/bench/results.json and a chart of them in build/bench/results.svg. Several minutes; the
# figures are worth what the quiet of the machine is worth: --quiet takes a round again in which
# other processes took more than that of it.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
install=1
arguments=()
for argument in "$@"; do
    case $argument in
    --no-install) install= ;;
    *) arguments+=("$argument") ;;
    esac
done

# ---- peers ----

# A peer whose package is not there is left out, and the table says so. redis-server, memcached and
# nginx-light are never installed from here: their packages start daemons.
packages=(gcc g++ cmake ninja-build pkg-config libuv1-dev liburing-dev libhwloc-dev libcmocka-dev
    libjansson-dev libtbb-dev libglib2.0-dev libjemalloc-dev libmimalloc-dev
    libhiredis-dev libhttp-parser-dev libssl-dev redis-tools wrk)
missing=()
if command -v dpkg-query > /dev/null; then
    for package in "${packages[@]}"; do
        # A package may be there as another that provides it: pkgconf for pkg-config.
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null || true)
        [ "$state" = installed ] || missing+=("$package")
    done
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ -z "$install" ] || [ "$(id -u)" -ne 0 ]; then
        echo "Not installed (needs root): ${missing[*]}"
    else
        echo "Installing: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q > /dev/null < /dev/null || echo "apt-get update failed; trying with the lists that are here"
        for package in "${missing[@]}"; do
            apt-get install -y -q --no-install-recommends "$package" > /dev/null < /dev/null ||
                echo "not installed: $package"
        done
    fi
fi

# ---- run ----

# Every time: what was installed since is found by configuring.
cmake --preset bench > /dev/null
cmake --build build/bench --target numaperf_bench numaperf_uncounted
# The servers of the kv and http workloads: without what they need they are left out there.
for server in kv_server http_server; do
    if cmake --build build/bench --target help | grep -q "^$server:"; then
        cmake --build build/bench --target "$server"
    fi
done
rm -f build/bench/results.json # so that an older one is not taken for this run's
echo "$(nproc) PUs usable, load $(cut -d ' ' -f 1-3 /proc/loadavg)"
# jemalloc keeps more thread-locals than a library that is loaded late gets room for.
export GLIBC_TUNABLES=glibc.rtld.optional_static_tls=8192
build/bench/tests/bench/numaperf_bench --json build/bench/results.json "${arguments[@]+"${arguments[@]}"}"
[ -f build/bench/results.json ] || exit 0 # --list
echo
echo "every sample: build/bench/results.json"
if command -v python3 > /dev/null; then
    python3 tests/bench/chart.py build/bench/results.json build/bench/results.svg
    echo "a chart:      build/bench/results.svg"
fi
