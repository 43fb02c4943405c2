#!/usr/bin/env bash
# Instructions of one event, counted by callgrind: the difference between 20,000 and 10,000 of them.
# Counts do not depend on what else the machine does, so two versions can be compared.
#
#   benches/instructions.sh                       this tree
#   benches/instructions.sh OTHER_TREE            and another one beside it, with ratios
set -euo pipefail
cd "$(dirname "$0")/.."
events=(notification registration update read send)

# The benchmark of a tree, built.
built() {
    (cd "$1" && cargo bench -q --no-default-features --bench instructions --no-run --message-format=json) |
        grep '"executable":"[^"]*instructions' | sed 's/.*"executable":"\([^"]*\)".*/\1/' | tail -n 1
}

counted() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1" "$2" "$3" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

per_event() {
    echo $((($(counted "$1" "$2" 20000) - $(counted "$1" "$2" 10000)) / 10000))
}

this=$(built .)
other=${1:+$(built "$1")}
for event in "${events[@]}"; do
    here=$(per_event "$this" "$event")
    if [ -n "$other" ]; then
        there=$(per_event "$other" "$event")
        ratio=$(awk -v a="$here" -v b="$there" 'BEGIN { printf "%.3f", a / b }')
        printf '%-14s %8d  other tree %8d  ratio %s\n' "$event" "$here" "$there" "$ratio"
    else
        printf '%-14s %8d\n' "$event" "$here"
    fi
done
