# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of numaperf for bash.

_numaperf_processes() {
    local file
    for file in /proc/[0-9]*; do
        printf '%s\n' "${file#/proc/}"
    done
}

_numaperf() {
    local current=$2 previous=$3 command=${COMP_WORDS[1]-}
    local words=''
    COMPREPLY=()
    # With "=" among the word breaks, "--format=json" comes as three words.
    [ "$current" != '=' ] || current=''
    [ "$previous" != '=' ] || previous=${COMP_WORDS[COMP_CWORD - 2]-}
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='info doctor audit --help --version'
    else
        case $previous in
        --format) words='text json' ;;
        --mode) words='soft hard' ;;
        --backend) words='auto io_uring epoll' ;;
        --nodes) words=$(cat /sys/devices/system/node/online 2> /dev/null) ;;
        --workers-per-node) ;;
        *)
            case $command in
            info) words='all topology capabilities affinity distances devices io --format --help' ;;
            doctor) words='--mode --nodes --workers-per-node --backend --waive-privileges --format --help' ;;
            audit) words="--format --help $(_numaperf_processes)" ;;
            esac
            ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _numaperf numaperf
