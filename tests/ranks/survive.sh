#!/bin/sh
# Trains on three ranks with --survive, kills the last one after the first look, and compares the losses with those of one process
# that has all samples in its batch: two ranks must go on with all of them. It needs Open MPI 5, whose mpirun must be on PATH.
#
#   sh tests/ranks/survive.sh
set -eu
cd -- "$(dirname -- "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
fail() { echo "survive: $*" >&2 && cat "$work/log" >&2 && exit 1; }

head -c 20000 README.md >"$work/text.txt"
finetune() { # the folder, samples of a batch, then what comes before the flags
  folder=$1 batch=$2 && shift 2
  ./firn "$@" --data "$work/text.txt" --batch "$batch" --length 16 --steps 30 --policy none --no-sample --no-tune \
    --out "$work/$folder" >"$work/log" 2>&1
}
losses() { sed -n 's/.*"kind":"step".*"loss":\([^,}]*\).*/\1/p' "$work/$1/metrics.jsonl"; }

finetune one 6 finetune || fail "one process must train"
finetune left 2 ranks 3 finetune --survive &
run=$!
until grep -q '"kind":"step"' "$work/left/metrics.jsonl" 2>/dev/null; do
  kill -0 "$run" 2>/dev/null || fail "the run must begin"
  sleep 0.1
done
for process in $(pgrep -f "examples/finetune.ts.*$work/left"); do
  if tr '\0' '\n' <"/proc/$process/environ" | grep -qx OMPI_COMM_WORLD_RANK=2; then kill -9 "$process"; fi
done
wait "$run" || fail "two ranks must go on"
grep -q "rank 2 died: 2 go on" "$work/log" || fail "the run must say who died"
losses one >"$work/a"
losses left >"$work/b"
paste "$work/a" "$work/b" >"$work/both"
awk '{ off = ($1 - $2) / $1; if (off > 1e-4 || off < -1e-4) bad = 1 } END { exit bad || NR != 30 }' "$work/both" ||
  fail "the losses must be those of one process: $(cat "$work/both")"
echo "two ranks of three go on with the losses of one process"
