/**
 * Kernels chosen by measuring.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  defineTraining,
  type GpuOptions,
  grad,
  linearCrossEntropy,
  loadCheckpoint,
  matmul,
  mean,
  multiply,
  openGpu,
  read,
  saveCheckpoint,
  type Tensor,
  tensor,
  type TrainingState,
} from "@firn/train";
import { normalValues } from "@firn/train/kernels";
import { leaf } from "../../core/tensor.ts";
import { fastest, productsOf, tune } from "../../core/gpu/tune.ts";

interface Params {
  readonly w: Tensor;
}

const STEPS = 2;
const values = (size: number, key: number): Float32Array<ArrayBuffer> =>
  normalValues({ size, key: [key, 0] });

function loss({ w }: Params, { x }: { readonly x: Tensor }): Tensor {
  const y = matmul(x, w);
  return mean(multiply(y, y));
}

/** Trains a product of 16x24x40 for two steps. */
async function train(
  options: GpuOptions,
  look?: (gpu: Awaited<ReturnType<typeof openGpu>>, state: TrainingState<Params>) => Promise<void>,
): Promise<{ readonly chosen: Map<string, unknown>; readonly bits: Uint32Array }> {
  await using gpu = await openGpu(options);
  const training = defineTraining(gpu, loss, { optimizer: adamW({ learningRate: 0.1 }), steps: STEPS });
  let state = await training.init({ w: tensor(values(40 * 24, 1), [40, 24]) });
  for (let i = 0; i < STEPS; i++) {
    state = await training.next(state, { x: tensor(values(16 * 40, 2), [16, 40]) });
  }
  await look?.(gpu, state);
  const weights = await read(gpu, state.params.w);
  return { chosen: new Map(gpu.tuning.variants), bits: new Uint32Array(weights.buffer) };
}

Deno.test("productsOf names each product of a graph once, those inside definitions too", () => {
  const a = leaf("a", { shape: [4, 8], dtype: "f32" }), b = leaf("b", { shape: [8, 4], dtype: "f32" });
  const twice = matmul(matmul(a, b), a);
  assertEquals([...productsOf([twice, matmul(a, b)]).keys()], ["4x4x8 NN", "4x8x4 NN"]);
});

Deno.test("tune measures the products of a head that is cut into chunks, though batches limit them", async () => {
  await using gpu = await openGpu({ tune: true });
  const hidden = leaf("hidden", { shape: [128, 8], dtype: "f32" }),
    weight = leaf("weight", { shape: [33, 8], dtype: "f32" });
  const labels = leaf("labels", { shape: [128], dtype: "i32" });
  const loss = linearCrossEntropy(hidden, { weight, labels, bytes: 4 * 40 * 64 });
  await tune(gpu, grad(loss, [hidden, weight]));
  assertEquals([...gpu.tuning.variants.keys()].toSorted(), ["33x8x64 TN 40", "64x40x8 NT", "64x8x33 NN 40"]);
});

Deno.test("tune measures products of bf16 apart from those of f32", async () => {
  await using gpu = await openGpu({ tune: true });
  const x = leaf("x", { shape: [16, 10], dtype: "f32" });
  const [wide, packed] = (["f32", "bf16"] as const).map((dtype) => leaf(dtype, { shape: [6, 10], dtype }));
  await tune(gpu, [wide, packed].map((weight) => matmul(x, weight, { transposeB: true })));
  assertEquals([...gpu.tuning.variants.keys()], ["16x6x10 NT", "16x6x10 NT bf16"]);
});

Deno.test("fastest takes the best round of each way, and an earlier way where a later one is hardly faster", () => {
  assertEquals(fastest([5, 4, 9, 5, 9, 3], 3), 2);
  assertEquals(fastest([5, 4, 3, 5, 4, 9], 3), 2);
  assertEquals(fastest([1, 0.995, 2, 0.98], 2), 1);
  assertEquals(fastest([1, 0.995, 2, 0.995], 2), 0);
});

Deno.test("openGpu does not measure on software adapters unless told to", async () => {
  await using gpu = await openGpu();
  assertEquals(gpu.tuning.enabled, !gpu.software);
  const { chosen } = await train({ tune: false });
  assertEquals(chosen.size, 0);
});

Deno.test("next measures the products of a step once, tells how far it is, and keeps the choice in the file", async () => {
  const folder = await Deno.makeTempDir();
  const tuneCache = `${folder}/new/tune.json`;
  const seen: string[] = [];
  const first = await train({
    tune: true,
    tuneCache,
    onTune: ({ done, total }) => seen.push(`${done}/${total}`),
  });
  assertEquals([...first.chosen.keys()].toSorted(), ["16x24x40 NN", "40x24x16 TN"]);
  assertEquals(seen, ["0/4", "1/4", "2/4", "3/4", "4/4"]);
  const again = await train({ tune: true, tuneCache, onTune: () => assert(false, "it measured again") });
  assertEquals(again, first);
  const file = JSON.parse(await Deno.readTextFile(tuneCache));
  assertEquals(Object.values(file).length, 1);

  // What another version would not choose is measured anew; other adapters keep their entries.
  const [adapter] = Object.keys(file);
  file[adapter]["16x24x40 NN"] = { kind: "direct", tm: 999, tn: 1, subgroups: false };
  file["another adapter"] = { "1x1x1 NN": { kind: "direct", tm: 1, tn: 1, subgroups: false } };
  await Deno.writeTextFile(tuneCache, JSON.stringify(file));
  const { chosen } = await train({ tune: true, tuneCache });
  assert((chosen.get("16x24x40 NN") as { tm: number }).tm < 999);
  const after = JSON.parse(await Deno.readTextFile(tuneCache));
  assertEquals(after["another adapter"], file["another adapter"]);
  assertEquals(after[adapter]["16x24x40 NN"], chosen.get("16x24x40 NN"));
  await Deno.remove(folder, { recursive: true });
});

Deno.test("next refuses a damaged file of choices by name", async () => {
  const tuneCache = await Deno.makeTempFile();
  await Deno.writeTextFile(tuneCache, "{");
  await assertRejects(() => train({ tune: true, tuneCache }), Deno.errors.InvalidData, tuneCache);
  await Deno.remove(tuneCache);
});

Deno.test("resume takes the choices of the saved run, so that its bits come out again", async () => {
  const path = await Deno.makeTempFile();
  const first = await train({ tune: true }, (gpu, state) => saveCheckpoint(gpu, state, { path }));
  const saved = await loadCheckpoint(path);
  await using gpu = await openGpu();
  const training = defineTraining(gpu, loss, { optimizer: adamW({ learningRate: 0.1 }), steps: STEPS });
  await training.resume(saved);
  assertEquals(new Map(gpu.tuning.variants), first.chosen);
  gpu.tuning.variants.clear();
  await training.resume({ ...saved, tuning: { ...saved.tuning!, adapter: "another adapter" } });
  assertEquals(gpu.tuning.variants.size, 0);
  await Deno.remove(path);
});
