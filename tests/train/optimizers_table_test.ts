/**
 * Every optimizer by every feature of training. A new optimizer is a line of `OPTIMIZERS`; a new feature is a line of `FEATURES`.
 *
 * @module
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type FreezePolicy,
  type Gpu,
  type Optimizer,
  read,
  sgd,
  type Training,
  type TrainingOptions,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { adafactor, adam, adamW8bit, lion, muon, scheduleFreeAdamW, weightAverage } from "@firn/train/optim";
import { assertNear } from "../reference/values.ts";
import { allocationsOn, plannedOf } from "../bench/allocated.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import {
  advance,
  bitsOf,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  valuesOf,
} from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const learningRate = 0.02, STEPS = 6;
const batches = pairs(STEPS);

/** One of each. Its precision is that of the whole table where it has f16: a step that overflows keeps the state of each. */
const OPTIMIZERS: Readonly<Record<string, Optimizer>> = {
  sgd: sgd({ learningRate, momentum: 0.9, nesterov: true }),
  adam: adam({ learningRate }),
  adamW: adamW({ learningRate }),
  adamW8bit: adamW8bit({ learningRate, least: 0 }),
  scheduleFreeAdamW: scheduleFreeAdamW({ learningRate }),
  lion: lion({ learningRate }),
  adafactor: adafactor({ learningRate }),
  muon: muon({ learningRate, iterations: 2, adamWFor: "top.*" }),
  weightAverage: chain(clipByGlobalNorm(1), adamW({ learningRate }), weightAverage(0.9)),
};

/** Freezes the bottom after step 2, and thaws it after step 4. */
const thawing: FreezePolicy = scheduled([{ from: 2, frozen: ["bottom"] }, { from: 4, frozen: [] }]);

function define(
  optimizer: Optimizer,
  policy: FreezePolicy = thawing,
  options: Partial<TrainingOptions<Pairs>> = {},
): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer,
    steps: STEPS,
    lookEvery: 1,
    thawWarmup: 3,
    policy,
    ...options,
  });
}

const FEATURES: Readonly<Record<string, (optimizer: Optimizer) => Promise<void>>> = {
  async "frees its moments when a parameter freezes, and starts them again when it thaws"(optimizer) {
    using training = define(optimizer);
    const own = (leaves: ReadonlyMap<string, unknown>): string[] =>
      [...leaves.keys()].filter((path) => path.endsWith(".bottom.weight"));
    let state = await advance(training, await training.init(newMlp()), { to: 1, batches });
    const moments = own(state.leaves);
    assert(moments.length > 0, "it keeps something");
    state = await advance(training, state, { to: 2, batches });
    assertEquals([state.frozen, own(state.leaves)], [["bottom"], []]);
    const frozen = await read(gpu, state.params.bottom.weight);
    state = await advance(training, state, { to: 4, batches });
    assertEquals(await read(gpu, state.params.bottom.weight), frozen);
    assertEquals(own(state.leaves), moments);
    state = await advance(training, state, { to: STEPS, batches });
    assertNotEquals(await read(gpu, state.params.bottom.weight), frozen);
    for (const values of (await valuesOf(gpu, state.params)).values()) assert(values.every(Number.isFinite));
  },
  async "goes on from a checkpoint with the same bits"(optimizer) {
    const fileSystem = memoryFileSystem(), path = "run.safetensors";
    using training = define(optimizer);
    // The bottom has thawed, so that ages differ.
    let state = await advance(training, await training.init(newMlp()), { to: 5, batches });
    await saveCheckpoint(gpu, state, { path, fileSystem });
    using other = define(optimizer);
    const again = await other.resume(await loadCheckpoint(path, { fileSystem }));
    assertEquals(await bitsOf(gpu, again), await bitsOf(gpu, state));
    state = await advance(training, state, { to: STEPS, batches });
    assertEquals(
      await bitsOf(gpu, await advance(other, again, { to: STEPS, batches })),
      await bitsOf(gpu, state),
    );
  },
  async "takes a step of two batches as that of one of both"(optimizer) {
    using whole = define(optimizer, scheduled([]));
    using halves = define(optimizer, scheduled([]), { accumulate: 2 });
    let [a, b] = [await whole.init(newMlp()), await halves.init(newMlp())];
    for (const batch of batches.slice(0, 2)) {
      a = await whole.next(a, batch);
      b = await halves.next(b, [batch, batch]);
    }
    const expected = await valuesOf(gpu, a.params);
    for (const [path, values] of await valuesOf(gpu, b.params)) {
      assertNear(values, Float64Array.from(expected.get(path)!), { tolerance: 1e-5, what: path });
    }
  },
  async "takes the bytes that it plans, within a limit of memory and without"(optimizer) {
    const allocations = [undefined, "1 MiB"].map(() => allocationsOn(gpu)), states: unknown[] = [];
    for (const [i, memory] of [undefined, "1 MiB"].entries()) {
      using training = define(optimizer, scheduled([]), { memory });
      const state = await allocations[i].during(async () =>
        await training.next(await training.init(newMlp()), batches[0])
      );
      const { planned, held } = allocations[i].memory(plannedOf(state, batches[0]));
      assertEquals(held, planned);
      // Weights that it makes for a moment, to be judged and saved, have room as well.
      const before = gpu.counts.bytes;
      const made = await training.withWeights(state, () => Promise.resolve(gpu.counts.bytes - before));
      assertEquals(gpu.counts.bytes, before);
      if (memory !== undefined) assertEquals(training.memory()!.bytes, planned + made);
      states.push(await bitsOf(gpu, state));
    }
    assertEquals(states[1], states[0]);
  },
  async "is averaged by weightAverage"(optimizer) {
    const averaged = optimizer === OPTIMIZERS.weightAverage
      ? optimizer
      : chain(optimizer, weightAverage(0.9));
    using training = define(averaged, scheduled([]));
    let state = await training.init(newMlp());
    const doubles = async (tree: Mlp): Promise<Float64Array[]> =>
      [...(await valuesOf(gpu, tree)).values()].map((values) => Float64Array.from(values));
    const expected = await doubles(state.params);
    while (state.step < 4) {
      state = await training.next(state, batches[state.step]);
      for (const [i, w] of (await doubles(state.params)).entries()) {
        expected[i] = expected[i].map((a, j) => 0.9 * a + 0.1 * w[j]);
      }
    }
    const found = await training.withWeights(state, doubles);
    expected.forEach((values, i) =>
      assertNear(found[i], values, { tolerance: 1e-6, what: `parameter ${i}` })
    );
  },
  async "has the moments that snr reads"(optimizer) {
    using training = define(optimizer, scheduled([], ["firstMoment", "secondMoment", "benefit"]));
    const state = await advance(training, await training.init(newMlp()), { to: 2, batches });
    const { readings } = state.look!;
    for (const signal of ["firstMoment", "secondMoment", "benefit"] as const) {
      for (const component of ["bottom", "top"]) {
        const [value] = readings[signal]![component];
        assert(value > 0 && Number.isFinite(value), `${signal} of ${component} is ${value}`);
      }
    }
  },
};

for (const [name, optimizer] of Object.entries(OPTIMIZERS)) {
  for (const [feature, test] of Object.entries(FEATURES)) {
    Deno.test(`${name} ${feature}`, () => test(optimizer));
  }
}

Deno.test("OPTIMIZERS holds every optimizer that @firn/train/optim exports", async () => {
  const helpers =
    /Rate$|^(cosine|cosineRestarts|oneCycle|warmupStableDecay|chain|partition|globalNorm|initMoments|momentPath|clipByGlobalNorm|gradientMoments|loraPlus|parameterGroups|globs)$/;
  const made = Object.keys(await import("@firn/train/optim")).filter((key) => !helpers.test(key));
  assertEquals(made.toSorted(), Object.keys(OPTIMIZERS).toSorted());
});
