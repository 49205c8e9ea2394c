#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: examples/quickstart.sh [--no-install]
# From a fresh Debian 12 to a server on every NUMA node, in under three minutes: installs what is
# needed (as root), builds the release, starts kv_server on every node, drives it with
# redis-benchmark, shows the throughput and where every worker and every arena page is, and stops
# it. Nothing is left running.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
install=1
case ${1-} in
'') ;;
--no-install) install= ;;
*)
    sed -n '3,7s/^# //p' "$0"
    exit 2
    ;;
esac

began=$SECONDS
work=$(mktemp -d) || exit 1
server=

stop_server() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2> /dev/null
    wait "$server"
    local code=$?
    server=
    return $code
}
clean_up() {
    stop_server
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say() {
    printf '\n[%d:%02d] %s\n' $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)) "$*"
}
fail() {
    echo "quickstart: $*" >&2
    exit 1
}

# ---- what is needed ----

packages=(gcc g++ cmake ninja-build pkg-config libuv1-dev liburing-dev libhwloc-dev libhiredis-dev
    libjansson-dev redis-tools)
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
        apt-get update -q < /dev/null > "$work/apt.log" 2>&1 || echo "apt-get update failed; trying with the lists that are here"
        if ! apt-get install -y -q --no-install-recommends "${missing[@]}" < /dev/null >> "$work/apt.log" 2>&1; then
            tail -n 20 "$work/apt.log" >&2
            fail "could not install: ${missing[*]}"
        fi
    fi
fi
for tool in cmake ninja pkg-config cc redis-benchmark redis-cli; do
    command -v "$tool" > /dev/null || fail "$tool is needed and not here"
done

# ---- build ----

say "Building the release in build/release"
if ! cmake --workflow --preset release > "$work/build.log" 2>&1; then
    tail -n 40 "$work/build.log" >&2
    fail "the build failed"
fi
program=build/release/examples/kv_server
[ -x "$program" ] || fail "$program was not built: is libhiredis-dev there?"

# ---- serve ----

say "Starting kv_server on every node"
"$program" --unix "$work/kv.sock" --attest "$work/attestation.json" > "$work/ready" 2> "$work/errors" &
server=$!
for _ in $(seq 100); do
    [ -s "$work/ready" ] && break
    kill -0 "$server" 2> /dev/null || break
    sleep 0.1
done
if ! [ -s "$work/ready" ]; then
    cat "$work/errors" >&2
    fail "kv_server did not start"
fi
cat "$work/ready"

# drive LABEL ARGUMENTS...: one line a command with its rate.
drive() {
    say "$1"
    shift
    if ! redis-benchmark -s "$work/kv.sock" -t ping,set,get,incr,mset -c 50 -q "$@" > "$work/rates" 2>&1; then
        cat "$work/rates" >&2
        fail "redis-benchmark failed"
    fi
    tr '\r' '\n' < "$work/rates" | grep 'requests per second'
}
drive "redis-benchmark: 50 clients, one request at a time" -n 100000 -r 100000
drive "redis-benchmark: 50 clients, 16 requests at a time" -n 400000 -r 100000 -P 16

# ---- where everything is ----

say "Where everything is (INFO)"
redis-cli -s "$work/kv.sock" info > "$work/info" || fail "redis-cli failed"
tr -d '\r' < "$work/info" | awk -F: '
    { key = $1; value = substr($0, length(key) + 2) }
    key ~ /^(mode|enforcement|enforcement_reason|nodes|workers)$/ && value != "" { print key ": " value }
    key ~ /^node[0-9]+$/ || key ~ /^shard[0-9]+$/ || key ~ /^worker[0-9]+$/ { print key ": " value }
    key ~ /^worker[0-9]+_(enforcement_reason|backend_reason|arena|arena_pages|stack_pages|ring_pages|tasks)$/ {
        sub(/^worker[0-9]+_/, "", key)
        print "    " key ": " value
    }'

say "What proves it (attestation, a JSON document of $(wc -l < "$work/attestation.json") lines)"
awk '
    /^  "verdict": / { inside = 1 }
    inside && /"level": / { gsub(/.*: "|",?$/, ""); level = $0 }
    inside && /"reason": "/ { gsub(/.*: "|",?$/, ""); reason = ", " $0 }
    /^  }/ { inside = 0 }
    /"last": / { parts++ }
    END { print "verdict: " level reason "; " parts " parts of workers read back from the kernel" }
    ' "$work/attestation.json"

say "Stopping"
stop_server || fail "kv_server ended with exit code $?"
say "Done. Next: $program --help, and README.md."
