/**
 * Looks made anew from a log: a policy that sees them decides as it did in the run.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  DataError,
  defineTraining,
  type Loss,
  scan,
  type TrainingState,
} from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { definePolicy } from "@firn/train/policies";
import { logged, openLog, readLog, replayOf } from "@firn/train/report";
import { type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { PARTS, startLine, stepLine, stepLines } from "./run_lines.ts";

Deno.test("a component that is named like a method of objects has no readings where the log has none", () => {
  const part = PARTS.kind === "components" ? PARTS.components[0] : undefined;
  const components = [{ ...part!, path: "constructor" }];
  const { looks } = replayOf([startLine(), { kind: "components", components }, stepLine(1)]);
  assertEquals(looks[0].readings, { gradNorm: { constructor: [NaN] } });
});

Deno.test("a log with more signals and components than memory holds is refused", () => {
  const components = Array.from(
    { length: 2_000 },
    (_, i) => ({ path: `${i}`, layer: null, parameters: [], kind: "linear" as const, size: 1 }),
  );
  const readings = Object.fromEntries(components.map(({ path }) => [path, {}]));
  const log = [startLine(), { kind: "components", components } as const, stepLine(1, { readings })];
  assertThrows(() => replayOf(log), DataError, "must be 1000000 at most: it has 2000 and 2000");
});

Deno.test("a policy that is asked again by the log of its run decides as it did, and is told the same", async () => {
  await using gpu = await openTestGpu();
  const policy = definePolicy({
    name: "turns",
    signals: ["gradNorm", "benefit"],
    init: (_, run) => ({ every: run.lookEvery!, frozen: false as boolean, seen: [] as (number | null)[] }),
    next: ({ every, seen }, now) => ({
      every,
      frozen: now.step % (4 * every) < 2 * every,
      seen: [...seen, ...[
        now.loss,
        now.validation!,
        now.look.metrics!.half[0],
        now.read("gradNorm", "bottom"),
      ]]
        .map((value) => Number.isNaN(value) ? null : value),
    }),
    frozen: ({ frozen }) => frozen ? ["bottom"] : [],
  });
  const loss: Loss<Mlp, Pairs> = Object.assign((params: Mlp, batch: Pairs) => mlpLoss(params, batch), {
    count: () => 7,
    metrics: {
      names: ["half"],
      compute: (params: Mlp, batch: Pairs) => [mlpLoss(params, { ...batch, y: batch.x })],
    },
  });
  using training = defineTraining(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.02 })),
    policy,
    steps: 14,
    lookEvery: 2,
    accumulate: 2,
    validation: { batches: pairs(1), every: 3 },
  });
  const fileSystem = memoryFileSystem(), log = await openLog("metrics.jsonl", { fileSystem });
  await log.add([startLine()]);
  const told: { policy: unknown; frozen: readonly string[] }[] = [], looks: unknown[] = [];
  let state: TrainingState<Mlp> = await training.init(newMlp()), times = 0;
  for await (state of logged(scan(training, state, pairs(28)), { log, training })) {
    if (state.look === null) continue;
    told.push({ policy: state.policy, frozen: state.frozen });
    const { stepMs, changeMs: _, ...look } = state.look;
    looks.push(look);
    if (stepMs !== undefined && stepMs > 0) times++;
  }
  assertEquals(times, looks.length - 1, "all looks but the first tell how long steps took");
  const again = replayOf(await readLog("metrics.jsonl", { fileSystem }));
  assertEquals(again.run, {
    steps: 14,
    lookEvery: 2,
    batchSize: 8,
    tokens: 14,
    optimizer: {
      name: "clipByGlobalNorm(1) > adamW(0.02, weightDecay 0.01)",
      moments: [{ name: "m", meaning: "firstMoment" }, { name: "v", meaning: "secondMoment" }],
    },
  });
  assertEquals(again.run, training.info());
  assertEquals(again.components, training.components());
  assertEquals(again.looks as unknown[], looks);
  assert(again.looks[0].clip!.every((factor) => factor > 0 && factor < 1), "the run clips");
  assert(again.looks.some(({ thawed }) => thawed !== undefined), "the run thaws something");
  let decided = policy.init(again.components, again.run);
  const sets = again.looks.map((look) => {
    decided = policy.next(decided, look);
    return { policy: decided, frozen: policy.frozen(decided) };
  });
  assertEquals(sets, told as typeof sets);
});

Deno.test("each step of a log that does not tell when training looked is a look of its own", () => {
  const { run, looks } = replayOf([startLine(), PARTS, ...stepLines(1, 3), stepLine(4, { skipped: true })]);
  assertEquals(run, { steps: 40 });
  assertEquals(looks.map(({ steps, skipped }) => [steps, skipped]), [
    [[1], undefined],
    [[2], undefined],
    [[3], undefined],
    [[4], [4]],
  ]);
});

Deno.test("a log without components cannot be replayed", () => {
  assertThrows(() => replayOf([startLine(), stepLine(1)]), DataError, "must tell the components");
});
