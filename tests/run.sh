#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: tests/run.sh [--quick] [--no-install]
# Installs what the tests need (as root on Debian), builds, and runs all tests: gcc with unit,
# integration, stress, lint and the guests; the release build; clang; the address and
# undefined-behaviour sanitizers; the thread sanitizer; each fuzz target for a minute. --quick: the
# unit tests of the gcc build alone. The last line is "N passed, N failed, N skipped"; what was
# skipped, and why, stands above it.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
quick=
install=1
for option in "$@"; do
    case $option in
    --quick) quick=1 ;;
    --no-install) install= ;;
    *)
        sed -n '3,8s/^# //p' "$0"
        exit 2
        ;;
    esac
done
began=$SECONDS
jobs=$(nproc)
results=()
skips=()

say() {
    printf '\n[%2d:%02d] %s\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$*"
}

# ---- what is needed ----

packages=(gcc g++ cmake ninja-build pkg-config python3 libuv1-dev liburing-dev libhwloc-dev
    libcmocka-dev libhiredis-dev libjansson-dev libhttp-parser-dev libssl-dev)
[ -n "$quick" ] || packages+=(redis-tools wrk curl openssl clang libclang-rt-14-dev clang-format-14 clang-tidy-14
    shellcheck doxygen binutils qemu-system-x86 busybox-static cpio zstd lz4 xz-utils)

missing=()
if command -v dpkg-query > /dev/null; then
    for package in "${packages[@]}"; do
        # A package may be there as another that provides it: pkgconf for pkg-config.
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)
        [ "$state" = installed ] || missing+=("$package")
    done
else
    echo "This is no Debian: needed are the equivalents of: ${packages[*]}"
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ -z "$install" ] || [ "$(id -u)" -ne 0 ]; then
        echo "Not installed (needs root): ${missing[*]}"
        echo "Going on with what is here."
    else
        say "Installing: ${missing[*]}"
        apt-get update -q < /dev/null || echo "apt-get update failed; trying with the lists that are here"
        if ! apt-get install -y -q --no-install-recommends "${missing[@]}" < /dev/null; then
            echo "Not everything could be installed; trying one by one."
            for package in "${missing[@]}"; do
                apt-get install -y -q --no-install-recommends "$package" < /dev/null || echo "not installed: $package"
            done
        fi
    fi
fi
lacking=()
for tool in cmake ninja pkg-config python3 cc; do
    command -v "$tool" > /dev/null || lacking+=("$tool")
done
if [ ${#lacking[@]} -gt 0 ]; then
    echo "Nothing can be built without: ${lacking[*]}"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

# ---- stages ----

# build PRESET: false, and a failure in the report, when it cannot be built.
build() {
    local log=build/$1.log
    mkdir -p build
    say "Building $1"
    if { cmake --preset "$1" && cmake --build --preset "$1" -j "$jobs"; } > "$log" 2>&1 < /dev/null; then
        return 0
    fi
    echo "The $1 build failed; the end of $log:"
    tail -n 60 "$log"
    results+=("build $1=failed")
    return 1
}

# run_tests STAGE TEST_PRESET LABELS [COMMAND...]: COMMAND goes before ctest.
run_tests() {
    local stage=$1 preset=$2 labels=$3 junit=$PWD/build/$1.xml
    shift 3
    say "Testing $stage: ${labels//,/, }"
    rm -f "$junit"
    # Every byte of a test's output counts: the report reads the cases from it.
    "$@" ctest --preset "$preset" --output-junit "$junit" \
        --test-output-size-passed 10000000 --test-output-size-failed 10000000 < /dev/null
    results+=("$stage=$junit:$labels")
}

# The thread sanitizer of gcc 12 and clang 14 cannot lay out its shadow where the kernel randomizes
# more than 28 bits.
without_randomization() {
    local bits
    bits=$(cat /proc/sys/vm/mmap_rnd_bits 2> /dev/null || echo 0)
    if [ "${bits:-0}" -gt 28 ] && setarch "$(uname -m)" -R true 2> /dev/null; then
        setarch "$(uname -m)" -R "$@"
    else
        "$@"
    fi
}

if [ -n "$quick" ]; then
    build dev && run_tests dev unit unit
else
    if build dev; then
        run_tests dev ci unit,integration,stress,lint
        run_tests vm vm vm
    fi
    build release && results+=("build release=ok")
    if command -v clang > /dev/null; then
        build clang && run_tests clang clang unit,integration,stress
        build fuzz && run_tests fuzz fuzz fuzz
    else
        skips+=("clang and fuzz=clang is not installed")
    fi
    build asan && run_tests asan asan unit,integration,stress
    build tsan && run_tests tsan tsan unit,integration,stress without_randomization
fi

# ---- what came of it ----

say "Done"
options=()
# Only a person's machine may be without guests; CI has to run them.
[ "${CI:-}" = true ] || options+=(--may-skip vm)
for skip in "${skips[@]+"${skips[@]}"}"; do
    options+=(--skipped "$skip")
done
exec python3 tests/support/report.py "${options[@]+"${options[@]}"}" "${results[@]}"
