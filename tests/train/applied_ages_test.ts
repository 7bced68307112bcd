/** Ages of parameters count the steps that were applied: a step that was left out makes none older. */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  type Gpu,
  multiply,
  type Optimizer,
  read,
  sum,
  type Tensor,
  tensor,
  type Training,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { adafactor, adam, adamW8bit, lion, muon, scheduleFreeAdamW } from "@firn/train/optim";

import { assertNear } from "../reference/values.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const learningRate = 0.02, good = pairs(6);
/** A batch whose loss is NaN. */
const bad: Pairs = { x: tensor(new Float32Array(16).fill(NaN), [4, 4]), y: good[0].y };

/** Each optimizer whose scalars depend on the age of a parameter; without a schedule, so that the step itself does not count. */
const OPTIMIZERS: Readonly<Record<string, Optimizer>> = {
  adam: adam({ learningRate }),
  adamW: adamW({ learningRate }),
  adamW8bit: adamW8bit({ learningRate, least: 0 }),
  scheduleFreeAdamW: scheduleFreeAdamW({ learningRate }),
  lion: lion({ learningRate }),
  adafactor: adafactor({ learningRate }),
  muon: muon({ learningRate, iterations: 1, adamWFor: "top.*" }),
};

function define(optimizer: Optimizer, options: Partial<TrainingOptions<Pairs>> = {}): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer,
    steps: 20,
    lookEvery: 4,
    nonFinite: "skip",
    ...options,
  });
}

async function run(training: Training<Mlp, Pairs>, list: readonly Pairs[]): Promise<TrainingState<Mlp>> {
  let state = await training.init(newMlp());
  for (const batch of list) state = await training.next(state, batch);
  return state;
}

/** What the steps made of weights and moments, without counts and readings. */
async function madeBy(state: TrainingState<Mlp>): Promise<Record<string, unknown>> {
  const values = await bitsOf(gpu, state);
  return Object.fromEntries(
    Object.entries(values).filter(([path]) =>
      path !== "ring" && path !== "loss" && !path.startsWith("scaling.")
    ),
  );
}

for (const [name, optimizer] of Object.entries(OPTIMIZERS)) {
  Deno.test(`${name} takes the same steps, bit for bit, whether steps between them were skipped or not`, async () => {
    using training = define(optimizer);
    const [a, b, c, d] = good;
    // Two in a row, one right before a look and one right after it.
    const state = await run(training, [a, bad, bad, b, bad, c, d]);
    const same = await run(define(optimizer), [a, b, c, d]);
    assertEquals(await madeBy(state), await madeBy(same));
  });
}

Deno.test("adamW with skipped steps has the weights of a float64 reference that counts applied steps", async () => {
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(multiply(w, w), x));
  using training = defineTraining(gpu, loss, {
    optimizer: adamW({ learningRate: 0.1, weightDecay: 0 }),
    steps: 8,
    lookEvery: 3,
    nonFinite: "skip",
  });
  let state = await training.init({ w: tensor([1, -2]) }), m = [0, 0], v = [0, 0], age = 0, w = [1, -2];
  for (const x of [NaN, 1, NaN, 0.5, NaN, NaN, 2, 1]) {
    state = await training.next(state, { x: tensor([x, x]) });
    if (Number.isNaN(x)) continue;
    age++;
    const g = w.map((value) => 2 * value * x);
    m = m.map((value, i) => 0.9 * value + 0.1 * g[i]);
    v = v.map((value, i) => 0.999 * value + 0.001 * g[i] ** 2);
    w = w.map((value, i) =>
      value - 0.1 * (m[i] / (1 - 0.9 ** age)) / (Math.sqrt(v[i] / (1 - 0.999 ** age)) + 1e-8)
    );
  }
  assertNear(await read(gpu, state.params.w), Float64Array.from(w), { tolerance: 2e-6, what: "weights" });
  assertEquals(state.skipped.skipped, 4);
});

Deno.test("a run that goes on from a checkpoint between two looks has the bits of one that did not stop", async () => {
  const fileSystem = memoryFileSystem(), path = "run.safetensors", optimizer = adamW({ learningRate });
  const list = [good[0], bad, good[1], bad, good[2], bad, bad, good[3], good[4]];
  for (const stop of [2, 3, 4, 6]) {
    const first = await run(define(optimizer), list.slice(0, stop));
    await saveCheckpoint(gpu, first, { path, fileSystem });
    const training = define(optimizer);
    let state = await training.resume(await loadCheckpoint(path, { fileSystem })) as TrainingState<Mlp>;
    for (const batch of list.slice(stop)) state = await training.next(state, batch);
    assertEquals(await madeBy(state), await madeBy(await run(define(optimizer), list)), `stopped at ${stop}`);
  }
});

Deno.test("what thaws is as old as the steps applied since then", async () => {
  const policy = scheduled([{ from: 1, frozen: ["bottom"] }, { from: 3, frozen: [] }], ["gradNorm"]);
  const lookEvery = 1, optimizer = adamW({ learningRate }), options = { policy, lookEvery, thawWarmup: 0 };
  const [a, b, c, d, e] = good;
  // A step that is skipped right after the thaw, and one later.
  const state = await run(define(optimizer, options), [a, b, c, bad, d, bad, e]);
  const same = await run(define(optimizer, options), [a, b, c, d, e]);
  assertEquals(await madeBy(state), await madeBy(same));
});

Deno.test("a batch without labels makes no parameter older", async () => {
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(multiply(w, w), x));
  loss.count = ({ x }: { x: Tensor }): number => (x.attrs as { data: Float32Array }).data[0] === 0 ? 0 : 1;
  const weights: Float32Array[] = [];
  for (const list of [[1, 0, 2, 0, 0, 1], [1, 2, 1]]) {
    using training = defineTraining(gpu, loss, {
      optimizer: adamW({ learningRate }),
      steps: 9,
      lookEvery: 4,
    });
    let state = await training.init({ w: tensor([1, -2]) });
    for (const x of list) state = await training.next(state, { x: tensor([x, x]) });
    weights.push(await read(gpu, state.params.w) as Float32Array);
  }
  assertEquals(weights[0], weights[1]);
});

Deno.test("a training that skips nothing goes on from a saved state that has no count of skipped steps", async () => {
  const optimizer = adamW({ learningRate }), first = await run(define(optimizer), good.slice(0, 3));
  const fileSystem = memoryFileSystem(), path = "run.safetensors";
  await saveCheckpoint(gpu, first, { path, fileSystem });
  const { skipped: _, leaves, ...saved } = await loadCheckpoint(path, { fileSystem });
  assert(leaves.has("scaling.judged"));
  const before = new Map([...leaves].filter(([path]) => path !== "scaling.judged"));
  for (const nonFinite of ["skip", "stop"] as const) {
    const training = define(optimizer, { nonFinite });
    const state = await training.resume({ ...saved, leaves: nonFinite === "skip" ? before : leaves });
    const next = await training.next(state as TrainingState<Mlp>, good[3]);
    assertEquals(await madeBy(next), await madeBy(await run(define(optimizer), good.slice(0, 4))));
  }
});
