#!/bin/sh
# Trains the bundled model on two ranks under mpirun, and compares the losses with those of one process that has all samples in
# its batch. Then ranks are killed: all must end soon and say so, and the run must go on from its checkpoint to the same weights.
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

finetune 2 2 dry --dry-run || fail "ranks must try steps together"
grep -q "2 ranks × 2 × 32 tokens" "$work/log" || fail "a dry run must say how many samples a step has"
finetune 2 2 watched --watch 0 --tensorboard --evaluate-every 4 --best held-out/loss || fail "ranks must be watched and evaluated"
grep -q "watching    http" "$work/log" || fail "rank 0 must serve the page"
[ -d "$work/watched/tensorboard" ] || fail "rank 0 must write files of TensorBoard"

average() { # a folder: three ranks take steps alone, and average their parameters in int8
  finetune 3 2 "$1" --exchange parameters --exchange-every 4 --wire int8 --outer-lr 0.7 --outer-momentum 0.9
}
average averaged || fail "ranks must average their parameters"
average again || fail "ranks must average their parameters once more"
cmp "$work/averaged/model/model.safetensors" "$work/again/model/model.safetensors" || fail "a repeated run must have the same bits"
./firn ranks 2 digits --steps 4 --batch 2 --no-tune --exchange parameters --exchange-every 2 --out "$work/digits" \
  >"$work/log" 2>&1 || fail "every command that trains must average parameters"
grep -q "exchange a step" "$work/log" || fail "the summary must say how much is exchanged"

# A policy that throws on one rank, after the first look: its reason is what is printed, and all end.
cat >"$work/broken.ts" <<'END'
const mine = Deno.env.get("OMPI_COMM_WORLD_RANK");
const next = (state) => {
  if (mine === "1") throw new Error("the policy of rank 1 broke");
  return state;
};
export default { name: "broken", signals: [], init: () => 0, next, frozen: () => [] };
END
if finetune 2 2 broken --policy "$work/broken.ts"; then fail "a rank that fails must end all"; fi
grep -q "1.*Error: the policy of rank 1 broke" "$work/log" || fail "the reason of the first must be printed"
tail -n 1 "$work/log" | grep -q "^firn: rank 1 ended all: .*Error: the policy of rank 1 broke" || fail "it must stand last"
if grep -q SIGTERM "$work/log"; then fail "nobody sent a signal"; fi

# A program of one's own gets one library, and the variables that tell a process its number.
library=$(PATH=$PATH:/sbin ldconfig -p | sed -n 's|.*libmpi.so.40 .*=> ||p' | head -n 1)
if [ -n "$library" ]; then
  library=$(readlink -f -- "$library")
  launcher=OMPI_COMM_WORLD_SIZE,OMPI_COMM_WORLD_RANK,PMI_SIZE,PMI_RANK,SLURM_STEP_NUM_TASKS,SLURM_PROCID
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 FIRN_MPI_LIBRARY=$library mpirun --oversubscribe -n 2 \
    ./firn deno run -q --no-prompt "--allow-ffi=$library" "--allow-env=FIRN_MPI_LIBRARY,$launcher" \
    tests/ranks/own_program.ts >"$work/log" 2>&1 || fail "a program of one's own must need no other permission"
  grep -q "2 ranks of Open MPI .* have equal weights" "$work/log" || fail "both must have the same weights"
fi

./firn deno run -A tests/ranks/kills.ts --kills 3 || fail "a run that lost a rank must end at once, and go on"
echo "two ranks train as one process does, and a run that lost one goes on to the same bits"
