#!/usr/bin/env bash
# Instructions of one event, counted by callgrind: the difference between 20,000 and 10,000 of them.
# Counts do not depend on what else the machine does, so two versions can be compared.
#
#   benches/instructions.sh                       this tree
#   benches/instructions.sh OTHER_TREE            and another one beside it, with ratios
#
# "with a store" is what the engine does for one; what the thread of the store does is in benches/store.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
events=(notification registration update read send)

# The benchmark of a tree, built.
built() {
    (cd "$1" && cargo bench -q --no-default-features --bench instructions --no-run --message-format=json) |
        grep '"executable":"[^"]*instructions' | sed 's/.*"executable":"\([^"]*\)".*/\1/' | tail -n 1
}

counted() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

per_event() {
    echo $((($(counted "$1" "$2" 20000 "${@:3}") - $(counted "$1" "$2" 10000 "${@:3}")) / 10000))
}

this=$(built .)
other=${1:+$(built "$1")}
for event in "${events[@]}"; do
    here=$(per_event "$this" "$event")
    stored=$(per_event "$this" "$event" stored)
    ratio=$(awk -v a="$here" -v b="$stored" 'BEGIN { printf "%.3f", a / b }')
    printf '%-14s %8d  with a store %7d  rate %s\n' "$event" "$here" "$stored" "$ratio"
    if [ -n "$other" ]; then
        there=$(per_event "$other" "$event")
        ratio=$(awk -v a="$here" -v b="$there" 'BEGIN { printf "%.3f", a / b }')
        printf '%-14s %8d  other tree %8d  ratio %s\n' "$event" "$here" "$there" "$ratio"
    fi
done
