/** Training under policies that probe, thaw, choose and stop goes on from each of its steps. */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  add,
  chain,
  clipByGlobalNorm,
  cosine,
  defineTraining,
  type FreezePolicy,
  matmul,
  mean,
  multiply,
  subtract,
  type Tensor,
  tensor,
  type TensorTree,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { silu } from "@firn/train/ops";
import {
  adaGradSelect,
  anyOf,
  below,
  costAware,
  earlyStopping,
  only,
  rotate,
  sticky,
  thaw,
} from "@firn/train/policies";
import { bitsOf, type Pairs, pairs, untimed } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** Two layers with biases and a head, above a matrix that is never trained. */
interface Deep extends TensorTree {
  readonly fixed: { readonly weight: Tensor };
  readonly layers: { readonly [index: string]: { readonly weight: Tensor; readonly bias: Tensor } };
  readonly head: { readonly weight: Tensor };
}

function waves([rows, columns]: readonly [number, number], seed: number): Tensor {
  const values = Float32Array.from({ length: rows * columns }, (_, i) => 0.7 * Math.sin(seed * 17 + i * 1.7));
  return tensor(values, [rows, columns]);
}

const start: Deep = {
  fixed: { weight: waves([4, 4], 30) },
  layers: Object.fromEntries(
    [0, 1].map((i) => [i, { weight: waves([4, 4], i + 1), bias: waves([1, 4], i + 9) }]),
  ),
  head: { weight: waves([4, 4], 20) },
};

function loss({ fixed, layers, head }: Deep, { x, y }: Pairs): Tensor {
  const hidden = Object.values(layers).reduce(
    (h, { weight, bias }) => silu(add(matmul(h, weight), bias)),
    matmul(x, fixed.weight),
  );
  const error = subtract(matmul(hidden, head.weight), y);
  return mean(multiply(error, error));
}

const STEPS = 9, batches = pairs(STEPS), held = pairs(2, 2).map(({ x, y }) => ({ x: y, y: x }));

interface Case {
  readonly policy: FreezePolicy;
  readonly lookEvery: number;
  /** Steps between validations. */
  readonly every: number;
}

function define({ policy, lookEvery, every }: Case): Training<Deep, Pairs> {
  return defineTraining<Deep, Pairs>(gpu, loss, {
    optimizer: chain(
      clipByGlobalNorm(0.3, { over: "all" }),
      adamW({ learningRate: cosine({ peak: 0.05, warmup: 1, steps: STEPS }) }),
    ),
    steps: STEPS,
    lookEvery,
    policy,
    thawWarmup: 3,
    trainable: (path) => !path.startsWith("fixed"),
    validation: { batches: held, every },
  });
}

/** All that a state is, on the device and as data. */
async function wholeOf(state: TrainingState<Deep>): Promise<unknown> {
  const { params: _, leaves: __, loss: ___, ...data } = state;
  return [{ ...data, look: untimed(data.look) }, await bitsOf(gpu, state)];
}

const CASES: { readonly [name: string]: Case & { readonly seen: (state: TrainingState<Deep>) => boolean } } =
  {
    "thaw that probes and wakes": {
      policy: thaw(sticky(below("gradNorm", 0.6)), { every: 2, count: 1, readings: 1, wake: 1.05, drop: 2 }),
      lookEvery: 1,
      every: 3,
      seen: ({ probed, event }) => probed.length > 0 || (event?.thawed.length ?? 0) > 0,
    },
    "policies that measure some components each, of which one freezes": {
      policy: anyOf(
        only("layers.*", sticky(below("gradDelta", { "layers.0": 1e-9, "*": 1e3 }))),
        only("head", below("gradNorm", 1e-9)),
      ),
      lookEvery: 3,
      every: 3,
      seen: ({ leaves, frozen }) =>
        frozen.join() === "layers.1" && leaves.has("previous.layers.0.weight") &&
        !leaves.has("previous.head.weight"),
    },
    "costAware that chooses anew": {
      policy: costAware({
        targetSpeedup: 1.2,
        alpha: 0,
        every: 2,
        worth: "benefit",
        thaw: 1,
        curiosity: 0.5,
      }),
      lookEvery: 2,
      every: 3,
      seen: ({ event }) => (event?.thawed.length ?? 0) > 0,
    },
    "adaGradSelect that explores, then draws": {
      policy: adaGradSelect({ every: 2, share: 0.4, explore: 0.5, seed: 3 }),
      lookEvery: 2,
      every: 3,
      seen: ({ probed, event }) => probed.length > 0 && (event?.thawed.length ?? 0) > 0,
    },
    "earlyStopping beside rotate, which keeps the best": {
      policy: anyOf(rotate({ every: 3, order: "random" }), earlyStopping({ minDelta: 0 })),
      lookEvery: 3,
      every: 4,
      seen: ({ leaves, frozen }) =>
        frozen.length > 0 && [...leaves.keys()].some((p) => p.startsWith("best.")),
    },
  };

for (const [name, { seen, ...options }] of Object.entries(CASES)) {
  Deno.test(`resume goes on bit for bit from each step of a training with ${name}`, async () => {
    const folder = await Deno.makeTempDir(), first = define(options), expected: unknown[] = [];
    let state = await first.init(start), count = 0;
    for (;;) {
      expected.push(await wholeOf(state));
      if (seen(state)) count++;
      await saveCheckpoint(gpu, state, { path: `${folder}/${state.step}` });
      if (state.done) break;
      state = await first.next(state, batches[state.step]);
    }
    assert(count > 0, "the training does what is tested");
    const second = define(options);
    for (let at = 0; at < state.step; at++) {
      let resumed = await second.resume(await loadCheckpoint(`${folder}/${at}`));
      while (!resumed.done) {
        resumed = await second.next(resumed, batches[resumed.step]);
        assertEquals(await wholeOf(resumed), expected[resumed.step], `from ${at}, step ${resumed.step}`);
      }
    }
    await Deno.remove(folder, { recursive: true });
  });
}
