#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: guest.sh STEP...
# First program in a guest: takes its steps in order, so that one boot serves several programs and
# privileges. A step is
#   as root | as user | as caps LIST | as drop LIST    who the next programs are
#   cpuset CPUS MEMS   put the next programs there; "-" leaves one of them open, "- -" ends it
#   do SHELL           as root: a sysctl, a PU offline, ...; must succeed
#   env NAME=VALUE     for the next programs
#   limit SECONDS      for each of the next programs
#   run PROGRAM [ARGUMENT...]
#   already N          the first N programs were run before, in a guest that died
# Exit status: 0 all passed or some were skipped; 77 all were skipped; 1 one failed, took too long or
# was not run. The slowest steps are listed at the end.
who=root
group=
limit=200
passed=0
ran=0
already=0
failed=
skipped=
durations=
balancing=/proc/sys/kernel/numa_balancing

as() {
    case $who in
    root) "$@" ;;
    user) /vm/setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all -- "$@" ;;
    caps\ *)
        list=+$(echo "${who#caps }" | sed 's/,/,+/g')
        /vm/setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,"$list" \
            --ambient-caps=-all,"$list" --bounding-set=-all,"$list" -- "$@"
        ;;
    drop\ *)
        list=-$(echo "${who#drop }" | sed 's/,/,-/g')
        /vm/setpriv --inh-caps="$list" --bounding-set="$list" -- "$@"
        ;;
    esac
}

# enter_cpuset CPUS MEMS: a fresh group, since a used one remembers.
enter_cpuset() {
    group=
    [ "$1 $2" != "- -" ] || return 0
    group=$(mktemp -d /sys/fs/cgroup/step.XXXXXX) || return 1
    [ "$1" = - ] || echo "$1" > "$group/cpuset.cpus" || return 1
    [ "$2" = - ] || echo "$2" > "$group/cpuset.mems"
}

run() {
    if [ "$already" -gt 0 ]; then
        already=$((already - 1))
        ran=$((ran + 1))
        passed=$((passed + 1))
        return 0
    fi
    what="$(basename "$1") as $who${group:+, cpuset $(cat "$group/cpuset.cpus") $(cat "$group/cpuset.mems")}"
    echo "==== $what"
    start=$(date +%s)
    (
        [ -z "$group" ] || echo 0 > "$group/cgroup.procs" || exit 1
        as timeout -s KILL "$limit" "$@"
    )
    rc=$?
    seconds=$(($(date +%s) - start))
    ran=$((ran + 1))
    durations="$durations$seconds s: $what
"
    echo "==== $what: exit status $rc after $seconds s"
    case $rc in
    0) passed=$((passed + 1)) ;;
    77) skipped="$skipped; $what" ;;
    137) failed="$failed; $what (killed, or longer than $limit s)" ;;
    *) failed="$failed; $what" ;;
    esac
    return 0
}

echo "guest: $VM_TOPOLOGY, $(uname -r), numa_balancing $(cat $balancing 2> /dev/null || echo absent)"
# shellcheck disable=SC2086 # a step's words are meant to split
take() {
    rest=${1#* }
    case $1 in
    as\ root | as\ user | as\ caps\ * | as\ drop\ *) who=$rest ;;
    cpuset\ *) enter_cpuset $rest ;;
    do\ *)
        echo "==== do: $rest"
        (eval "$rest")
        ;;
    env\ *) export "${rest?}" ;;
    limit\ *) limit=$rest ;;
    already\ *) already=$rest ;;
    run\ *) run $rest ;;
    *) false ;;
    esac || failed="$failed; step '$1'"
}
wanted=0
for step in "$@"; do
    case $step in run\ *) wanted=$((wanted + 1)) ;; esac
    take "$step"
done

echo "guest: $VM_TOPOLOGY, $(uname -r): $ran of $wanted programs run in $(cut -d. -f1 /proc/uptime) s, the slowest:"
printf '%s' "$durations" | sort -rn | head -8
[ "$ran" -eq "$wanted" ] || failed="$failed; $((wanted - ran)) programs were not run"

[ -z "$skipped" ] || echo "guest: skipped:${skipped#;}"
if [ -n "$failed" ]; then
    echo "guest: FAILED:${failed#;}"
    exit 1
fi
[ "$passed" -gt 0 ] || exit 77
