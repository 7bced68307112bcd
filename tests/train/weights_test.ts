/** Optimizers that evaluate other weights than those that steps update. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  adamW,
  type AdamWOptions,
  chain,
  defineTraining,
  evaluate,
  fill,
  type FreezePolicy,
  type Gpu,
  type HostData,
  type Optimizer,
  readAll,
  sgd,
  tensor,
  type Training,
} from "@firn/train";
import {
  adafactor,
  adam,
  adamW8bit,
  lion,
  parameterGroups,
  scheduleFreeAdamW,
  weightAverage,
} from "@firn/train/optim";
import { assertNear } from "../reference/values.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { advance, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled, valuesOf } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 4, batches = pairs(STEPS), learningRate = 0.05;

function define(optimizer: Optimizer, policy?: FreezePolicy): Training<Mlp, Pairs> {
  const validation = { batches: batches.slice(0, 2), every: 1 };
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer,
    policy,
    steps: STEPS,
    lookEvery: 1,
    validation,
  });
}

/** The average of the weights after each step, with the first ones, on the host. */
async function averageOf(optimizer: Optimizer, decay: number): Promise<Map<string, Float64Array>> {
  using training = define(optimizer);
  let state = await training.init(newMlp());
  const average = new Map(
    [...await valuesOf(gpu, state.params)].map(([path, x]) => [path, Float64Array.from(x)]),
  );
  while (!state.done) {
    state = await advance(training, state, { to: state.step + 1, batches });
    for (const [path, now] of await valuesOf(gpu, state.params)) {
      average.get(path)!.forEach((x, i, all) => all[i] = decay * x + (1 - decay) * now[i]);
    }
  }
  return average;
}

Deno.test("withWeights and validation have the average of weights, and the state keeps the weights of steps", async () => {
  const plain = adamW({ learningRate }), expected = await averageOf(plain, 0.7);
  using training = define(chain(plain, weightAverage(0.7)));
  const state = await advance(training, await training.init(newMlp()), { to: STEPS, batches });
  using other = define(plain);
  const without = await advance(other, await other.init(newMlp()), { to: STEPS, batches });
  assertEquals(await valuesOf(gpu, state.params), await valuesOf(gpu, without.params));
  const { values, loss } = await training.withWeights(state, async (params) => ({
    values: await valuesOf(gpu, params),
    loss: (await evaluate(gpu, { loss: mlpLoss, params, batches: batches.slice(0, 2) })).loss,
  }));
  for (const [path, data] of expected) assertNear(values.get(path)!, data, { tolerance: 1e-6, what: path });
  assertEquals(state.validation!.loss, loss);
  assertNotEquals(state.validation!.loss, without.validation!.loss);
});

Deno.test("an optimizer without an average hands out the parameters themselves", async () => {
  using training = define(sgd({ learningRate }));
  const state = await training.init(newMlp());
  await training.withWeights(state, (params) => {
    assert(params.top.weight === state.params.top.weight);
    return Promise.resolve();
  });
});

for (const [when, best, end] of [["before the last", 2, 4], ["the last", 4, 4]] as const) {
  Deno.test(`training that ends with the best step has the average of that step where it is ${when}`, async () => {
    const policy: FreezePolicy = {
      name: "best",
      signals: [],
      init: () => 0,
      next: (_, look) => look.steps.at(-1)!,
      frozen: () => [],
      best: (step) => (step as number) < best ? null : best,
    };
    const optimizer = scheduleFreeAdamW({ learningRate });
    using training = define(optimizer, policy);
    let state = await training.init(newMlp()), kept: ReadonlyMap<string, HostData> = new Map();
    using twin = define(optimizer);
    let other = await twin.init(newMlp());
    while (!state.done) {
      state = await advance(training, state, { to: state.step + 1, batches });
      other = await advance(twin, other, { to: state.step, batches });
      if (state.step === best) kept = await twin.withWeights(other, (params) => valuesOf(gpu, params));
    }
    assertEquals(state.step, end);
    assertEquals(await valuesOf(gpu, state.params), kept);
    assertEquals(await training.withWeights(state, (params) => valuesOf(gpu, params)), kept);
  });
}

Deno.test("warm-up after a thaw shortens the way of a parameter, and leaves the point where it is that a distance leads to", async () => {
  const points: Float64Array[] = [], params: HostData[] = [];
  for (const thawWarmup of [0, 4]) {
    using training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
      optimizer: scheduleFreeAdamW({ learningRate }),
      policy: scheduled([{ from: 1, frozen: ["bottom"] }, { from: 2, frozen: [] }]),
      steps: STEPS,
      lookEvery: 1,
      thawWarmup,
    });
    const state = await advance(training, await training.init(newMlp()), { to: 3, batches });
    const [y, offset] = await readAll(gpu, [
      state.params.bottom.weight,
      state.leaves.get("optimizer.offset.bottom.weight")!,
    ]);
    points.push(Float64Array.from(y, (x, i) => x + offset[i]));
    params.push(y);
  }
  assertNear(Float32Array.from(points[1]), points[0], { tolerance: 1e-6, what: "the point z" });
  assertNotEquals(params[1], params[0]);
});

Deno.test("decay of matrices leaves vectors alone, and a group decays as it says", async () => {
  const params = new Map([["a.weight", tensor([2, 2], [1, 2])], ["a.bias", tensor([2])], [
    "b.bias",
    tensor([2]),
  ]]);
  const grads = new Map([...params].map(([path, { shape }]) => [path, fill(0, shape)]));
  const settings: AdamWOptions = { learningRate: 0.5, weightDecay: 0.1, decayed: "matrices" };
  for (const make of [adamW, adam, adamW8bit, lion, adafactor, sgd, scheduleFreeAdamW]) {
    const optimizer = make(settings);
    const { updates } = optimizer.next(optimizer.init(params), grads, params);
    const [weight, bias] = await readAll(gpu, ["a.weight", "a.bias"].map((path) => updates.get(path)!));
    assert(weight[0] < 0, `${optimizer.name}: the matrix decays`);
    assertEquals(bias[0] + 0, 0, `${optimizer.name}: the vector does not`);
  }
  const optimizer = parameterGroups(adamW, settings, [["b.*", {
    weightDecay: 0.2,
    decayed: "all",
    rate: 2,
  }]]);
  const { updates } = optimizer.next(optimizer.init(params), grads, params);
  const values = await readAll(gpu, [...params.keys()].map((path) => updates.get(path)!));
  // Rate times decay times the weight of 2.
  const expected = Float64Array.of(-0.1, -0.1, 0, -0.4);
  assertNear(Float32Array.from(values.flatMap((x) => [...x])), expected, {
    tolerance: 1e-7,
    what: "updates",
  });
});
