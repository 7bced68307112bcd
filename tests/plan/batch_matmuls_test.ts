/**
 * Products that share a launch.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  flatten,
  free,
  freeState,
  type Gpu,
  grad,
  type HostData,
  nextTokenLoss,
  openGpu,
  readAll,
  type Signal,
  type TokenBatch,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import type { LlamaParams } from "@firn/train/models";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import { ALL_SIGNALS, llamaSource, scheduled, tokenBatch, valuesOf } from "../train/tiny.ts";
import { cutBy, tile } from "./cut.ts";
import { assertNear } from "../reference/values.ts";

const SOURCE = { ...llamaSource({ layers: 2, tied: false }), num_key_value_heads: 4, hidden_size: 64 };
const STEPS = 3;

interface Run {
  readonly values: ReadonlyMap<string, ArrayLike<number>>;
  /** Names of the products that the last step launches. */
  readonly products: readonly string[];
  readonly flops: number;
  readonly launches: number;
}

/** A small Llama after some steps, from the second on with some of it frozen. */
async function train(
  gpu: Gpu,
  frozen: readonly string[],
  signals: readonly Signal[] = [],
  precision: "f32" | "f16" = "f32",
): Promise<Run> {
  const model = await newModel(gpu, { source: SOURCE, seed: 3 });
  const training = defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.01 })),
    policy: scheduled([{ from: 1, frozen }], signals),
    steps: STEPS,
    lookEvery: 1,
    precision,
  });
  let state = await training.init(model.params);
  for (let seed = 1; seed < STEPS; seed++) state = await training.next(state, tokenBatch([2, 16], seed));
  const products = (await training.profile(state)).map(({ name }) => name).filter((n) =>
    n.startsWith("matmul")
  );
  state = await training.next(state, tokenBatch([2, 16], STEPS));
  const values = new Map<string, ArrayLike<number>>([
    ...await valuesOf(gpu, state.params as Parameters<typeof valuesOf>[1]),
    ["loss", (await readAll(gpu, [state.loss!]))[0]],
  ]);
  const { matmulFlops: flops, launches } = state.cost!;
  training[Symbol.dispose]();
  free(model.params);
  freeState(state);
  return { values, products, flops, launches };
}

/** A device that plans as for a GPU, in tiles that compile quickly. */
function asHardware(gpu: Gpu): Gpu {
  return { ...gpu, target: cutBy({ ...gpu.target, software: false }, tile(1)) };
}

const FROZEN: readonly (readonly string[])[] = [
  [],
  ["model.layers.0.self_attn.k_proj", "model.layers.0.mlp.up_proj", "model.layers.1.mlp.gate_proj"],
];

Deno.test("training is the same with products that share a launch, whatever is frozen", async () => {
  await using gpu = await openGpu({ tune: false });
  for (const frozen of FROZEN) {
    const apart = await train({ ...gpu, target: { ...gpu.target, software: true } }, frozen);
    const together = await train(asHardware(gpu), frozen);
    assertEquals(together.flops, apart.flops);
    for (const [path, values] of apart.values) {
      // Sums in another order, and Adam divides small gradients by their own size: 1e-2 is the rate.
      assertNear(together.values.get(path)!, values, { tolerance: 2e-4, what: `${path}, frozen ${frozen}` });
    }
  }
});

Deno.test("grad gives the same bits without frozen weights where products share launches", async () => {
  await using gpu = await openGpu({ tune: false });
  // As if measuring had found another way for each number of products.
  const split = (key: string): number => key.startsWith("3") ? 2 : key.startsWith("2") ? 3 : 4;
  const variants = Object.assign(new Map<string, MatmulVariant>(), {
    get: (key: string): MatmulVariant => tile(split(key)),
  });
  const device = { ...gpu, target: { ...gpu.target, software: false, variants } };
  const model = await newModel<LlamaParams>(gpu, { source: SOURCE, seed: 3 });
  const leaves = [...flatten(model.params)];
  const gradients = async (wanted: RegExp): Promise<ReadonlyMap<string, HostData>> => {
    const active = leaves.filter(([path]) => wanted.test(path));
    const loss = nextTokenLoss(model)(model.params, tokenBatch([24, 16]));
    const values = await readAll(device, grad(loss, active.map(([, leaf]) => leaf)));
    return new Map(active.map(([path], i) => [path, values[i]]));
  };
  const full = await gradients(/./);
  for (const wanted of [/[kv]_proj|up_proj/, /k_proj|down/, /layers\.1.*(q_proj|gate)/]) {
    for (const [path, values] of await gradients(wanted)) {
      assertEquals(values, full.get(path), `${path} of ${wanted}`);
    }
  }
});

Deno.test("plan gives query, key and value one launch forward, one by weights and one by what they read", async () => {
  await using gpu = await openGpu({ tune: false });
  const { products } = await train(asHardware(gpu), []);
  const count = (name: string): number => products.filter((p) => p.startsWith(name)).length;
  assertEquals(count("matmul 3 apart 32x64x64 NT"), 2);
  assertEquals(count("matmul 3 apart 64x64x32 TN"), 2);
  assertEquals(count("matmul 3 summed 32x64x64 NN"), 2);
  // Gate and up: forward the gate's kernel multiplies both, so that they stay apart.
  assertEquals(count("matmul 2 summed 32x64x64 NN"), 2);
  assert(!products.some((p) => p.includes("direct")));
});

Deno.test("products of f16 share a launch where all are stored alike, and give the same but for roundings", async () => {
  await using gpu = await openGpu({ tune: false });
  const precision = "f16";
  const apart = await train({ ...gpu, target: { ...gpu.target, software: true } }, [], [], precision);
  const one = asHardware(gpu);
  const together = await train(one, [], [], precision);
  const count = (name: string): number => together.products.filter((p) => p.startsWith(name)).length;
  assertEquals(count("matmul 3 apart 32x64x64 NT f16 f16"), 2);
  assertEquals(count("matmul 3 apart 64x64x32 TN f16 f16"), 2);
  assertEquals(count("matmul 3 summed 32x64x64 NN f16 f16"), 2);
  // A loss of 4.2 after steps that differ by roundings of gradients to 2^-11.
  assertNear(together.values.get("loss")!, apart.values.get("loss")!, { tolerance: 2e-3, what: "loss" });
});

/** Signals that policies ask for together. */
const ASKED: readonly (readonly Signal[])[] = [
  ["gradNorm", "gradDelta", "weightDelta"],
  ["firstMoment", "secondMoment", "benefit"],
  // What activations are measured by is not in the launches that update.
  ALL_SIGNALS.filter((signal) => signal !== "activationNorm"),
];

for (const software of [true, false]) {
  Deno.test(`plan measures any signals by the launches that clip and update, ${software ? "apart" : "shared"}`, async () => {
    await using gpu = await openGpu({ tune: false });
    const device = software ? { ...gpu, target: { ...gpu.target, software } } : asHardware(gpu);
    const plain = await train(device, []);
    for (const signals of ASKED) {
      // What collects their sums takes the place of what writes the loss.
      assertEquals((await train(device, [], signals)).launches, plain.launches, `${signals}`);
    }
  });
}
