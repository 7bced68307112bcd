/**
 * Training with precisions f16 and f32x3 on matrix units, where a driver of Dawn has them.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  chain,
  clipByGlobalNorm,
  defineTraining,
  multiply,
  openGpu,
  type Precision,
  read,
  sgd,
  type Tensor,
  tensor,
} from "@firn/train";
import { matrixDevice } from "../kernels/matrix_device.ts";
import { type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "./tiny.ts";

const opened = await matrixDevice(), why = typeof opened === "string" ? opened : null;

/** Losses of a training, how its products were computed, and a weight; `factors` multiply what it begins with. */
async function train(
  precision: Precision,
  { factors: [input, below, above], learningRate }: {
    readonly factors: readonly number[];
    readonly learningRate: number;
  },
): Promise<{ losses: number[]; kinds: Set<string>; wide: boolean; weight: number[] }> {
  await using gpu = await openGpu({ gpu: "dawn", tune: false });
  const loss = (params: Mlp, { x, y }: Pairs): Tensor => mlpLoss(params, { x: multiply(x, input), y });
  using training = defineTraining<Mlp, Pairs>(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), sgd({ learningRate })),
    steps: 4,
    lookEvery: 2,
    precision,
  });
  const { bottom, top } = newMlp(),
    scaled = async (weight: Tensor, factor: number): Promise<Tensor> =>
      tensor((await read(gpu, weight)).map((x) => x * factor), weight.shape);
  let state = await training.init({
    bottom: { weight: await scaled(bottom.weight, below) },
    top: { weight: await scaled(top.weight, above) },
  });
  const losses: number[] = [];
  for (const batch of pairs(4, 20)) {
    state = await training.next(state, batch);
    if (state.look !== null) losses.push(...state.look.loss);
  }
  const kinds = new Set(Object.values(state.chosen.variants).map(({ kind }) => kind));
  return { losses, kinds, wide: state.wide, weight: [...await read(gpu, state.params.top.weight)] };
}

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: why === null ? name : `${name} (not run: ${why})`, ignore: why !== null, fn });
}

test("training with f16 multiplies on matrix units, and its losses and weights follow those of f32", async () => {
  const options = { factors: [1, 1, 1], learningRate: 0.1 };
  const wide = await train("f32", options), half = await train("f16", options);
  assertEquals([...half.kinds], ["matrix"]);
  assertEquals(wide.kinds.has("matrix"), false);
  // What is rounded to f16 is off by 2^-11 of it, some times in a row.
  half.losses.forEach((loss, i) => assert(Math.abs(loss / wide.losses[i] - 1) < 2e-3, `${i}: ${loss}`));
  half.weight.forEach((w, i) => assert(Math.abs(w - wide.weight[i]) < 2e-3, `${i}: ${w}`));
  assert(half.losses.some((loss, i) => loss !== wide.losses[i]));
});

test("activations of 2e5 go through matrix units, too, once a look has seen that they are beyond f16", async () => {
  // Weights stay within the range, and hardly change; what the first product gives does not.
  const options = { factors: [10, 2e4, 1e-4], learningRate: 1e-12 };
  const wide = await train("f32", options), half = await train("f16", options);
  assert(half.wide && !half.losses.slice(0, 2).some(Number.isFinite));
  assertEquals([...half.kinds], ["matrix"]);
  half.losses.slice(2).forEach((value, i) => {
    assert(Number.isFinite(value));
    assert(Math.abs(value / wide.losses[i + 2] - 1) < 2e-3, `${value}, ${wide.losses[i + 2]}`);
  });
});

test("training with f32x3 multiplies on matrix units, and its losses and weights are those of f32 up to its rounding", async () => {
  for (const factors of [[1, 1, 1], [10, 2e4, 1e-4]]) {
    const options = { factors, learningRate: factors[0] === 1 ? 0.1 : 1e-12 };
    const wide = await train("f32", options), paired = await train("f32x3", options);
    assertEquals([...paired.kinds], ["matrix"]);
    assertEquals(paired.wide, false);
    paired.losses.forEach((loss, i) => assert(Math.abs(loss / wide.losses[i] - 1) < 2e-6, `${i}: ${loss}`));
    paired.weight.forEach((w, i) => assert(Math.abs(w - wide.weight[i]) < 2e-6, `${i}: ${w}`));
  }
});
