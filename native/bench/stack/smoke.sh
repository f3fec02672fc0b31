#!/bin/sh
# Every part of the benchmark once, small: `smoke.sh STACK_BENCH`.
set -eu
for part in "segment 10" "echo 10" "batch 10" "bulk 1" "curve 1" "crowd 1000" "shards 2" "memory 66" "netmap 66" \
    "netmap-exchange 66"; do
    # shellcheck disable=SC2086 # two words, on purpose
    "$1" $part
done
