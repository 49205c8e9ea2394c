#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: boot.sh TOPOLOGY KERNEL TIMEOUT [RUN_OPTION...] -- STEP...
# One guest for one test: boots it and gives guest.sh its steps. Without QEMU or the kernel it says
# what is missing and exits 77; in CI, where both have to be, 1.
set -u
here=$(cd "$(dirname "$0")" && pwd)
topology=$1
kernel=$2
limit=$3
shift 3

skip() {
    echo "SKIP: $*"
    exit 77
}
missing() {
    [ "${CI:-}" != true ] || { echo "CI has to run the guests: $*" && exit 1; }
    skip "$*"
}
case $(uname -m) in
x86_64) ;;
*) skip "the guests are x86-64, this machine is not" ;;
esac
for need in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio setpriv:util-linux; do
    command -v "${need%%:*}" > /dev/null || missing "no ${need%%:*} here: install ${need#*:}"
done
"$here/run" --kernel "$kernel" --fetch > /dev/null || missing "kernel $kernel cannot be fetched"

options=(--topology "$topology" --kernel "$kernel" --timeout "$limit" --file "$(type -P setpriv):/vm/setpriv")
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
done
shift
for step in "$@"; do
    case $step in
    "run "*)
        program=${step#run }
        options+=(--file "${program%% *}")
        ;;
    esac
done
# An emulated machine may die of a race in its emulation (README.md): another one then takes what is
# left, from the program that it died in.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
already=0
failed=
# What failed comes first: who reads of it may see the beginning of a long output alone.
tell() {
    awk '
        /^==== .*: exit status / { if ($0 !~ /: exit status (0|77) /) printf "%s%s\n", block, $0; block = ""; next }
        /^====/ { block = "" }
        { block = block $0 "\n" }' "$1"
    echo "---- whole:"
    cat "$1"
}
for try in 1 2 3; do
    "$here/run" "${options[@]}" -- "$here/guest.sh" "already $already" "$@" > "$log" 2>&1
    rc=$?
    tell "$log"
    if [ "$rc" -ne 125 ] || [ $try -eq 3 ]; then
        break
    fi
    already=$((already + $(grep -ac '^==== .*: exit status' "$log")))
    failed=$failed$(grep -a '^==== .*: exit status' "$log" | grep -avE ': exit status (0|77) ')
    echo "the guest died after $already programs, booting another one"
done
[ -z "$failed" ] || { echo "$failed" && exit 1; }
exit "$rc"
