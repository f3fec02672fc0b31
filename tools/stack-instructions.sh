#!/bin/sh
# Instructions of the server's half of a round, counted by callgrind: `stack-instructions.sh STACK_BENCH`.
#
# STACK_BENCH (native/tests/stack/stack_bench.c) marks what counts by its functions measured_segment and measured_turn.
set -eu

bench=$1
rounds=2000
runs=9 # of the benchmark itself
output=$(mktemp)
trap 'rm -f "$output"' EXIT

count() { # what, function: the name may have got an ending at link time
    valgrind --tool=callgrind --toggle-collect="$2*" --callgrind-out-file="$output" "$bench" "$1" $rounds 2>&1 |
        awk -v what="$1" -v rounds=$((rounds * runs)) '/Collected/ { printf "%s: %.0f instructions\n", what, $4 / rounds }'
}

count segment measured_segment
count echo measured_turn
