/**
 * Runs of one training that are interleaved, against the same runs apart: the state of a run is in its record alone.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  type Component,
  defineTraining,
  type FreezePolicy,
  type Path,
  tensor,
  type Training,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { bitsOf, type Mlp, mlpLoss, type Pairs, untimed } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 9, LOOK = 2;

/** A model of its own sizes, and batches of its own. */
interface Sizes {
  readonly input: number;
  readonly hidden: number;
  readonly output: number;
  readonly rows: number;
  /** Of the first parameters. */
  readonly seed: number;
}

/** The bottom is the larger part of the first model, and the top of the second. */
const RUNS: readonly Sizes[] = [
  { input: 6, hidden: 8, output: 3, rows: 4, seed: 1 },
  { input: 2, hidden: 8, output: 5, rows: 7, seed: 1 },
];

const waves = (shape: readonly [number, number], seed: number) =>
  tensor(Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => Math.sin(seed * 17 + i * 1.7)), shape);

function paramsOf({ input, hidden, output, seed }: Sizes): Mlp {
  return {
    bottom: { weight: waves([input, hidden], seed) },
    top: { weight: waves([hidden, output], seed + 1) },
  };
}

function batchOf({ input, output, rows }: Sizes, step: number): Pairs {
  // Two batches in all, so that a cache sees samples again.
  const seed = step % 2;
  return { x: waves([rows, input], 10 + seed), y: waves([rows, output], 50 + seed) };
}

/** Freezes the largest component from step 2 to 6, and measures only the smallest. What it knows of sizes is in its state. */
const bySize: FreezePolicy = {
  name: "bySize",
  signals: ["gradNorm", "gradDelta"],
  measured: (_, components) => [sorted(components)[0]],
  init: (components) => ({ step: 0, largest: sorted(components).at(-1)!, seen: [] }),
  next(state, { steps, readings }) {
    const { largest, seen } = state as { readonly largest: Path; readonly seen: readonly (number | null)[] };
    const found = Object.values(readings.gradNorm!).flat().map((x) => Number.isNaN(x) ? null : x);
    return { step: steps.at(-1)!, largest, seen: [...seen, ...found] };
  },
  frozen(state) {
    const { step, largest } = state as { readonly step: number; readonly largest: Path };
    return step >= 2 && step < 6 ? [largest] : [];
  },
};

const sorted = (components: readonly Component[]): Path[] =>
  components.toSorted((a, b) => a.size - b.size).map(({ path }) => path);

function define(options: Partial<TrainingOptions>): Training<Mlp, Pairs> {
  const optimizer = chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.05 }));
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer,
    policy: bySize,
    steps: STEPS,
    lookEvery: LOOK,
    ...options,
  });
}

/** Everything that a run tells and holds. */
async function resultOf(states: readonly TrainingState<Mlp>[]): Promise<unknown> {
  return {
    bits: await bitsOf(gpu, states.at(-1)!),
    told: states.map(({ policy, frozen, since, look, event, cost }) => ({
      policy,
      frozen,
      since,
      look: untimed(look),
      event,
      cost,
    })),
  };
}

async function apart(options: Partial<TrainingOptions>, sizes: Sizes): Promise<unknown> {
  const training = define(options), states = [await training.init(paramsOf(sizes))];
  while (!states.at(-1)!.done) {
    states.push(await training.next(states.at(-1)!, batchOf(sizes, states.length - 1)));
  }
  return await resultOf(states);
}

const OPTIONS: Readonly<Record<string, Partial<TrainingOptions>>> = {
  "": {},
  " with a cached prefix": { cachePrefix: true, optimizer: adamW({ learningRate: 0.05 }) },
};

for (const [name, options] of Object.entries(OPTIONS)) {
  /** Cached values are those of the run that was met last, so with two runs a step may cost more, and no bit changes. */
  const comparable = (result: unknown): unknown =>
    options.cachePrefix ? (result as { readonly bits: unknown }).bits : result;

  Deno.test(`runs of other shapes take steps by turns and change nothing of each other${name}`, async () => {
    const expected = await Promise.all(RUNS.map((sizes) => apart(options, sizes)));
    const training = define(options);
    const runs = await Promise.all(RUNS.map(async (sizes) => [await training.init(paramsOf(sizes))]));
    for (let step = 0; step < STEPS; step++) {
      for (const [i, states] of runs.entries()) {
        states.push(await training.next(states.at(-1)!, batchOf(RUNS[i], step)));
      }
    }
    const results = await Promise.all(runs.map(resultOf));
    assertEquals(results.map(comparable), expected.map(comparable));
    assert(runs.every((states) => states.some(({ event }) => event !== null)), "something froze in both");
    assertEquals(runs.map((states) => states.find(({ event }) => event !== null)!.frozen), [["bottom"], [
      "top",
    ]]);
  });

  Deno.test(`runs of other shapes whose steps overlap change nothing of each other${name}`, async () => {
    const expected = await Promise.all(RUNS.map((sizes) => apart(options, sizes)));
    const training = define(options);
    const results = await Promise.all(RUNS.map(async (sizes) => {
      const states = [await training.init(paramsOf(sizes))];
      while (!states.at(-1)!.done) {
        states.push(await training.next(states.at(-1)!, batchOf(sizes, states.length - 1)));
      }
      return await resultOf(states);
    }));
    assertEquals(results.map(comparable), expected.map(comparable));
  });
}

Deno.test("runs that share plans, and runs that differ in the shape of batches alone, change nothing of each other", async () => {
  const runs = [{ ...RUNS[0], rows: 2 }, { ...RUNS[0], rows: 5 }, { ...RUNS[0], rows: 5, seed: 3 }];
  const expected = await Promise.all(runs.map((sizes) => apart({}, sizes)));
  const training = define({}),
    states = await Promise.all(runs.map((sizes) => training.init(paramsOf(sizes))));
  const all = states.map((state) => [state]);
  for (let step = 0; step < STEPS; step++) {
    // Both are asked for before either is taken.
    const taken = await Promise.all(
      all.map((run, i) => training.next(run.at(-1)!, batchOf(runs[i], step))),
    );
    taken.forEach((state, i) => all[i].push(state));
  }
  assertEquals(await Promise.all(all.map(resultOf)), expected);
});

Deno.test("components and costOf tell about the last step that was asked for", async () => {
  const training = define({}), sizes: number[][] = [];
  for (const run of RUNS) {
    const { cost } = await training.next(await training.init(paramsOf(run)), batchOf(run, 0));
    sizes.push(training.components().map(({ size }) => size));
    assertEquals(training.costOf([]), cost);
  }
  assertEquals(sizes, [[48, 24], [16, 40]]);
});
