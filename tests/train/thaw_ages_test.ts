/** How old the optimizer's state of what thawed is, and what that does to its updates. */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  InputError,
  multiply,
  nextTokenLoss,
  type Optimizer,
  scan,
  sgd,
  stepScalar,
  type Tensor,
  tensor,
  type TensorTree,
  type Training,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { newModel } from "@firn/train/hub";
import { rotate } from "@firn/train/policies";
import { topological } from "../../core/graph.ts";
import { stepScalarOp } from "../../core/sources.ts";
import { thawGroupsOf, thawStepsAfter, withThawGroups } from "../../core/train/freeze/thaw.ts";
import {
  bitsOf,
  llamaSource,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  tokenBatch,
  valuesOf,
} from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 12, THAW = 5;
const batches = pairs(STEPS);
/** `bottom` is frozen from step 2 on, and thaws at step 5. */
const policy = scheduled([{ from: 2, frozen: ["bottom"] }, { from: THAW, frozen: [] }], ["weightDelta"]);

function define(options: Partial<TrainingOptions>): Training<Mlp, Pairs> {
  const optimizer = adamW({ learningRate: 0.05 });
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer,
    steps: STEPS,
    lookEvery: 1,
    policy,
    ...options,
  });
}

interface Taken {
  readonly state: TrainingState<Mlp>;
  readonly params: Mlp;
  readonly bottom: Float32Array;
}

/** What is known after each step, from step 0. */
async function run(options: Partial<TrainingOptions>): Promise<Taken[]> {
  const training = define(options), taken: Taken[] = [];
  const note = async (state: TrainingState<Mlp>): Promise<void> => {
    const values = await valuesOf(gpu, state.params), bottom = values.get("bottom.weight") as Float32Array;
    const params: Mlp = {
      bottom: { weight: tensor(bottom, [4, 8]) },
      top: { weight: tensor(values.get("top.weight")!, [8, 4]) },
    };
    taken.push({ state, params, bottom });
  };
  const start = await training.init(newMlp());
  await note(start);
  for await (const state of scan(training, start, batches)) await note(state);
  return taken;
}

/** How a step from given parameters moves `bottom` where the optimizer's state is new. */
async function fresh(optimizer: Optimizer, params: Mlp, step: number): Promise<number[]> {
  const training = define({ optimizer, policy: undefined });
  const next = await training.next(await training.init(params), batches[step - 1]);
  const after = (await valuesOf(gpu, next.params)).get("bottom.weight")!;
  const before = (await valuesOf(gpu, params)).get("bottom.weight")!;
  return [...after].map((w, i) => w - before[i]);
}

// Weights near 1 are known to 6e-8, so the differences of two to 1.2e-7.
const ROUNDING = 2e-7;

function assertScaled(
  after: Float32Array,
  before: Float32Array,
  update: readonly number[],
  factor: number,
): void {
  update.forEach((u, i) => assertAlmostEquals(after[i] - before[i], factor * u, ROUNDING, `element ${i}`));
}

for (const clip of [false, true]) {
  Deno.test(`next moves what thawed as a fresh ${clip ? "clipped " : ""}AdamW does, times the warm-up`, async () => {
    const adam = adamW({ learningRate: 0.05 });
    const optimizer = clip ? chain(clipByGlobalNorm(0.1), adam) : adam;
    for (
      const [options, factor] of [[{}, 1 / 10], [{ thawWarmup: 4 }, 1 / 4], [{ thawWarmup: 0 }, 1]] as const
    ) {
      const taken = await run({ optimizer, ...options });
      const update = await fresh(optimizer, taken[THAW].params, THAW + 1);
      // A first step of Adam has the length of the learning rate, whatever the gradient.
      assertAlmostEquals(Math.max(...update.map(Math.abs)), 0.05, 1e-3);
      assertScaled(taken[THAW + 1].bottom, taken[THAW].bottom, update, factor);
    }
  });
}

Deno.test("next gives an optimizer without a state the same warm-up, which rises to all of the update", async () => {
  const optimizer = sgd({ learningRate: 0.05 });
  const taken = await run({ optimizer, thawWarmup: 3 });
  for (const [age, factor] of [[1, 1 / 3], [2, 2 / 3], [3, 1], [4, 1]]) {
    const before = taken[THAW + age - 1];
    const update = await fresh(optimizer, before.params, THAW + age);
    assertScaled(taken[THAW + age].bottom, before.bottom, update, factor);
  }
});

Deno.test("weightDelta is what the warm-up leaves of an update", async () => {
  const taken = await run({});
  for (const step of [THAW + 1, THAW + 2, THAW + 7]) {
    const moved = taken[step].bottom.reduce((sum, w, i) => sum + Math.abs(w - taken[step - 1].bottom[i]), 0);
    const [seen] = taken[step].state.look!.readings.weightDelta!.bottom;
    assertAlmostEquals(seen, moved, 32 * ROUNDING);
  }
});

Deno.test("next knows since when what thawed has a state, and forgets it when that freezes again", async () => {
  const again = scheduled([
    { from: 2, frozen: ["bottom"] },
    { from: 5, frozen: ["top"] },
    { from: 7, frozen: ["bottom"] },
    { from: 9, frozen: [] },
  ]);
  const since = (await run({ policy: again })).map(({ state }) => state.since);
  const [none, bottom, top, both] = [{}, { bottom: 5 }, { top: 7 }, { top: 7, bottom: 9 }];
  assertEquals(since, [none, none, none, none, none, bottom, bottom, top, top, both, both, both, both]);
});

Deno.test("resume in the middle of a warm-up ends with the bits of an undisturbed run", async () => {
  const expected = (await run({})).at(-1)!.state;
  const folder = await Deno.makeTempDir();
  for (const at of [THAW, THAW + 2]) {
    const first = define({}), path = `${folder}/${at}.safetensors`;
    let state = await first.init(newMlp());
    while (state.step < at) state = await first.next(state, batches[state.step]);
    await saveCheckpoint(gpu, state, { path });
    const second = define({});
    state = await second.resume(await loadCheckpoint(path));
    assertEquals(state.since, { bottom: THAW });
    while (!state.done) state = await second.next(state, batches[state.step]);
    assertEquals(await bitsOf(gpu, state), await bitsOf(gpu, expected));
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("next plans nothing new under rotate once every block has thawed", async () => {
  const model = await newModel(gpu, { source: llamaSource({ layers: 3, tied: false }), seed: 1 });
  const loss = nextTokenLoss(model), turn = 2, rounds = 5;
  let traces = 0;
  const training = defineTraining(gpu, (params: TensorTree, batch: ReturnType<typeof tokenBatch>) => {
    traces++;
    return loss(params, batch);
  }, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.01 })),
    policy: rotate({ every: turn, always: (c) => c.layer === null }),
    steps: rounds * 3 * turn,
    lookEvery: turn,
  });
  const seen: number[][] = [];
  let state = await training.init(model.params);
  while (!state.done) {
    state = await training.next(state, tokenBatch([2, 8], state.step));
    seen.push([traces, gpu.counts.pipelines]);
  }
  // All, then each block in turn; the first block thaws only as its second turn begins.
  const settled = seen[(1 + 3 + 1) * turn - 1];
  assertEquals(seen.at(-1), settled);
  assert(settled[0] > seen[0][0]);
});

Deno.test("thawGroupsOf groups by the step of the thaw, in the order of the parameters", () => {
  const paths = ["a.weight", "b.weight", "b.bias", "c.weight", "d.weight"];
  const { groups, starts } = thawGroupsOf(paths, { b: 7, c: 4, d: 7 });
  assertEquals([...groups], [["b.weight", 1], ["b.bias", 1], ["c.weight", 2], ["d.weight", 1]]);
  assertEquals(starts, [0, 7, 4]);
});

Deno.test("thawStepsAfter adds what thaws and drops what freezes", () => {
  assertEquals(thawStepsAfter({ a: 3, b: 5 }, { step: 9, frozen: ["a"], thawed: ["c"] }), { b: 5, c: 9 });
});

Deno.test("withThawGroups leaves the scalars of the loss and those of other groups alone", () => {
  const noise = multiply(tensor([1]), stepScalar((step) => step)), rate = stepScalar((_, age) => age);
  const grads = new Map([["a", noise], ["b", noise]]);
  const update = (g: Tensor): Tensor => multiply(g, rate);
  const step = {
    updates: new Map([["a", update(noise)], ["b", update(noise)]]),
    state: new Map([["ema.a", update(noise)], ["ema.b", noise]]),
  };
  const { updates, state } = withThawGroups(step, {
    grads,
    moments: [{ name: "ema", meaning: "firstMoment" }],
    groups: new Map([["a", 1]]),
    warmup: stepScalar((_, age) => age / 2),
  });
  const groupsIn = (root: Tensor): number[] =>
    topological([root]).filter((node) => node.op === stepScalarOp)
      .map((node) => (node.attrs as { group: number }).group).toSorted();
  assertEquals(groupsIn(updates.get("a")!), [0, 1, 1]);
  assertEquals(groupsIn(state.get("ema.a")!), [0, 1]);
  assertEquals(updates.get("b"), step.updates.get("b"));
  assertEquals(state.get("ema.b"), noise);
});

for (const thawWarmup of [-1, 0.5, NaN, Infinity]) {
  Deno.test(`defineTraining refuses a warm-up of ${thawWarmup} steps`, () => {
    assertThrows(
      () => define({ thawWarmup }),
      InputError,
      `Cannot warm up for ${thawWarmup} steps as "thawWarmup" must be a whole number, 0 or more`,
    );
  });
}
