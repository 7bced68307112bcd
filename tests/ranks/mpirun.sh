#!/bin/sh
# Trains the bundled model on two ranks under mpirun, and compares the losses with those of one process that has all samples in
# its batch. Then a rank is killed: all must end soon and say so, and the run must go on from its checkpoint to the same weights.
#
#   sh tests/ranks/mpirun.sh
set -eu
cd -- "$(dirname -- "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
fail() { echo "ranks: $*" >&2 && cat "$work/log" >&2 && exit 1; }

head -c 20000 README.md >"$work/text.txt"
finetune() { # ranks, samples of each, the folder, then other flags
  ranks=$1 batch=$2 folder=$3 && shift 3
  if [ "$ranks" -gt 1 ]; then set -- ranks "$ranks" finetune "$@"; else set -- finetune "$@"; fi
  ./firn "$@" --data "$work/text.txt" --batch "$batch" --length 32 --steps 16 --checkpoint 3 --no-sample --no-tune \
    --out "$work/$folder" >"$work/log" 2>&1
}
losses() { sed -n 's/.*"kind":"step".*"loss":\([^,}]*\).*/\1/p' "$work/$1/metrics.jsonl"; }

finetune 1 4 one || fail "one process must train"
finetune 2 2 two || fail "two ranks must train"
losses one >"$work/a"
losses two >"$work/b"
paste "$work/a" "$work/b" >"$work/both"
awk '{ off = ($1 - $2) / $1; if (off > 1e-5 || off < -1e-5) bad = 1 } END { exit bad || NR != 16 }' "$work/both" ||
  fail "the losses must be those of one process: $(cat "$work/both")"
cmp "$work/two/model/config.json" "$work/one/model/config.json" || fail "rank 0 must save the model"

if finetune 2 2 dry --dry-run; then fail "ranks must refuse a dry run"; fi
grep -q "run it without ranks" "$work/log" || fail "they must say why"
if finetune 2 2 watched --watch 0; then fail "ranks must refuse to serve a page"; fi
grep -q "run ./firn watch FOLDER" "$work/log" || fail "they must say what does"

finetune 2 2 killed &
run=$!
until grep -q '"kind":"step"' "$work/killed/metrics.jsonl" 2>/dev/null; do
  kill -0 "$run" 2>/dev/null || fail "the run must begin"
  sleep 0.2
done
# The second rank, by the folder that is its own.
rank=$(find .firn -maxdepth 1 -name 'rank-1-*' | head -n 1)
kill -9 "${rank##*-}" || fail "there must be a second rank"
killed=$(date +%s)
if wait "$run"; then fail "a run that lost a rank must not end well"; fi
[ $(($(date +%s) - killed)) -le 10 ] || fail "all ranks must end within ten seconds"
rm -rf .firn/rank-*
./firn ranks 2 finetune --resume "$work/killed" >"$work/log" 2>&1 || fail "the run must go on"
cmp "$work/killed/model/model.safetensors" "$work/two/model/model.safetensors" || fail "its weights must have the same bits"
echo "two ranks train as one process does, and a run that lost one goes on to the same bits"
