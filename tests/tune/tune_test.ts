/**
 * Kernels chosen by measuring.
 *
 * @module
 */

import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { DataError } from "@firn/train";
import {
  adamW,
  defineTraining,
  type Gpu,
  type GpuOptions,
  grad,
  matmul,
  mean,
  multiply,
  openGpu,
  OutOfMemoryError,
  read,
  type Tensor,
  tensor,
  type Training,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { linearCrossEntropy } from "@firn/train/ops";
import { normalValues } from "@firn/train/kernels";
import { leaf } from "../../core/sources.ts";
import { prepare } from "../../core/plan/plan.ts";
import { productsOf } from "../../core/plan/lower/products.ts";
import { createBuffer, destroyBuffer } from "../../core/runtime/buffers.ts";
import { bindKernel } from "../../core/runtime/pipelines.ts";
import { readBuffers } from "../../core/runtime/readback.ts";
import { timeBusily } from "../../core/tune/busy.ts";
import { fastest, tune } from "../../core/tune/tune.ts";

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
): Promise<{ readonly chosen: Map<string, unknown>; readonly bits: Uint32Array }> {
  await using gpu = await openGpu(options);
  const training = defineTraining(gpu, loss, { optimizer: adamW({ learningRate: 0.1 }), steps: STEPS });
  let state = await training.init({ w: tensor(values(40 * 24, 1), [40, 24]) });
  for (let i = 0; i < STEPS; i++) {
    state = await training.next(state, { x: tensor(values(16 * 40, 2), [16, 40]) });
  }
  const weights = await read(gpu, state.params.w);
  return { chosen: new Map(Object.entries(state.chosen.variants)), bits: new Uint32Array(weights.buffer) };
}

const SOFTWARE = { software: true, subgroups: true, workgroupBytes: 32768, maxBindings: 8 };
const productsIn = (roots: readonly Tensor[]) => productsOf(prepare(roots, { target: SOFTWARE }));

Deno.test("productsOf tells products of f16 from others: a weight is copied, what is computed is stored", () => {
  const x = tensor(new Float32Array(32), [4, 8]), w = leaf("w", { shape: [8, 4], dtype: "f32" });
  const twice = matmul(matmul(x, w), w, { transposeB: true });
  const keys = (precision: "f32" | "f16"): string[] => [
    ...productsOf(prepare([twice], { target: SOFTWARE, precision })).keys(),
  ];
  assertEquals(keys("f16"), ["4x4x8 NN f16", "4x8x4 NT f16 f16"]);
  assertEquals(keys("f32"), ["4x4x8 NN", "4x8x4 NT"]);
});

Deno.test("productsOf names each product of a graph once, those inside definitions too", () => {
  const a = leaf("a", { shape: [4, 8], dtype: "f32" }), b = leaf("b", { shape: [8, 4], dtype: "f32" });
  const twice = matmul(matmul(a, b), a);
  assertEquals([...productsIn([twice, matmul(a, b)]).keys()], ["4x4x8 NN", "4x8x4 NN"]);
});

Deno.test("tune measures the products of a head that is cut into chunks, though batches limit them", async () => {
  await using gpu = await openGpu({ tune: true });
  const hidden = leaf("hidden", { shape: [128, 8], dtype: "f32" }),
    weight = leaf("weight", { shape: [33, 8], dtype: "f32" });
  const labels = leaf("labels", { shape: [128], dtype: "i32" });
  const loss = linearCrossEntropy(hidden, { weight, labels, bytes: 4 * 40 * 64 });
  await tune(gpu, productsIn(grad(loss, [hidden, weight])));
  assertEquals([...gpu.tuning.variants.keys()].toSorted(), ["33x8x64 TN 40", "64x40x8 NT", "64x8x33 NN 40"]);
});

Deno.test("tune measures products of bf16 apart from those of f32", async () => {
  await using gpu = await openGpu({ tune: true });
  const x = leaf("x", { shape: [16, 10], dtype: "f32" });
  const [wide, packed] = (["f32", "bf16"] as const).map((dtype) => leaf(dtype, { shape: [6, 10], dtype }));
  await tune(gpu, productsIn([wide, packed].map((weight) => matmul(x, weight, { transposeB: true }))));
  assertEquals([...gpu.tuning.variants.keys()], ["16x6x10 NT", "16x6x10 NT bf16"]);
});

Deno.test("timeBusily queues work behind what it times before it waits, so that the device keeps its clock rate", async () => {
  await using gpu = await openGpu({ tune: true });
  const code = `@group(0) @binding(0) var<storage, read_write> o: array<f32>;
@compute @workgroup_size(1) fn main() { o[0] += 1.0; }`;
  const total = createBuffer(gpu, { label: "total", bytes: 4 });
  const kernel = { name: "count", code, grid: [1, 1, 1] as const, flops: 1 };
  const pass = { launches: [bindKernel(gpu, kernel, [{ buffer: total }])], times: 3 };
  const before = gpu.counts.submits, times = timeBusily(gpu, { passes: [pass, pass], load: pass });
  assertEquals(gpu.counts.submits - before, 2);
  assertEquals((await times).length, 2);
  const [bytes] = await readBuffers(gpu, [{ buffer: total, bytes: 4 }]);
  assertEquals(new Float32Array(bytes)[0], 9);
  destroyBuffer(total);
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
  const onTune = (): void => assert(false, "it measured");
  const { chosen } = await train({ tune: false, onTune });
  // What the rule says of software adapters: the largest blocks.
  if (gpu.software) assertEquals([...chosen.values()].map((v) => (v as { tm: number }).tm), [16, 24]);
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

Deno.test("next refuses a file of choices that is damaged or cannot be written, by name and before it measures", async () => {
  const tuneCache = await Deno.makeTempFile();
  const onTune = (): void => assert(false, "it measured");
  await Deno.writeTextFile(tuneCache, "{");
  const message = `Cannot keep measured products in "${tuneCache}"`;
  await assertRejects(() => train({ tune: true, tuneCache, onTune }), DataError, message);
  await Deno.remove(tuneCache);
  const nowhere = "/proc/nowhere/tune.json";
  await assertRejects(
    () => train({ tune: true, tuneCache: nowhere, onTune }),
    DataError,
    nowhere,
  );
});

Deno.test("next measures anew what a file of choices holds in another form", async () => {
  const tuneCache = await Deno.makeTempFile();
  await Deno.writeTextFile(tuneCache, "{}");
  await train({ tune: true, tuneCache });
  const [adapter] = Object.keys(JSON.parse(await Deno.readTextFile(tuneCache)));
  for (const entries of [null, { "16x24x40 NN": null }, [1]]) {
    await Deno.writeTextFile(tuneCache, JSON.stringify({ [adapter]: entries }));
    assertEquals((await train({ tune: true, tuneCache })).chosen.size, 2);
  }
  await Deno.remove(tuneCache);
});

Deno.test("tune gives its memory back, also where it is refused", async () => {
  await using gpu = await openGpu({ tune: true });
  const product = { batch: 1, m: 8, n: 8, k: 8, transposeA: false, transposeB: false };
  const before = gpu.counts.bytes;
  await tune(gpu, new Map([["8x8x8 NN", product]]));
  assertEquals(gpu.counts.bytes, before);
  const large = { ...product, m: 2 ** 16, n: 2 ** 16 };
  await assertRejects(() => tune(gpu, new Map([["large", large]])), OutOfMemoryError, "tune: false");
  assertEquals(gpu.counts.bytes, before);
});

/** A training that has compiled its step already. */
async function started(gpu: Gpu): Promise<Training<Params, { readonly x: Tensor }>> {
  const training = defineTraining(gpu, loss, { optimizer: adamW({ learningRate: 0.1 }), steps: STEPS });
  const state = await training.init({ w: tensor(values(40 * 24, 1), [40, 24]) });
  await training.next(state, { x: tensor(values(16 * 40, 2), [16, 40]) });
  return training;
}

Deno.test("resume computes as the saved run did, whatever was compiled before, and without measuring", async () => {
  const path = await Deno.makeTempFile();
  await using gpu = await openGpu({ tune: false });
  const training = await started(gpu);
  let state = await training.init({ w: tensor(values(40 * 24, 1), [40, 24]) });
  state = await training.next(state, { x: tensor(values(16 * 40, 2), [16, 40]) });
  await saveCheckpoint(gpu, state, { path });
  const saved = await loadCheckpoint(path);
  const key = "16x24x40 NN";
  const other = { kind: "direct", tm: 8, tn: 3, subgroups: gpu.target.subgroups } as const;
  assertNotEquals(saved.chosen!.variants[key], other);
  const choice = { ...saved.chosen!, variants: { ...saved.chosen!.variants, [key]: other } };

  await using measuring = await openGpu({ tune: true, onTune: () => assert(false, "it measured") });
  for (const device of [gpu, measuring]) {
    const resumed = device === gpu
      ? training
      : defineTraining(device, loss, { optimizer: adamW({ learningRate: 0.1 }), steps: STEPS });
    const next = await resumed.next(
      await resumed.resume({ ...saved, chosen: choice }),
      { x: tensor(values(16 * 40, 2), [16, 40]) },
    );
    assertEquals(next.chosen.variants[key], other);
    const names = (await resumed.profile(next)).map(({ name }) => name);
    assert(names.some((name) => name.startsWith(key) || name.includes(`${key} direct 8x3`)), names.join());
  }
  await Deno.remove(path);
});

Deno.test("resume chooses anew what the saved run chose on another adapter, or what no product can have", async () => {
  await using gpu = await openGpu({ tune: false });
  const training = await started(gpu);
  const path = await Deno.makeTempFile();
  let state = await training.init({ w: tensor(values(40 * 24, 1), [40, 24]) });
  state = await training.next(state, { x: tensor(values(16 * 40, 2), [16, 40]) });
  await saveCheckpoint(gpu, state, { path });
  const saved = await loadCheckpoint(path), own = saved.chosen!;
  const strange = { kind: "direct", tm: 999, tn: 1, subgroups: false } as const;
  for (
    const chosen of [{ ...own, adapter: "another adapter" }, { ...own, variants: { "16x24x40 NN": strange } }]
  ) {
    const resumed = await training.resume({ ...saved, chosen });
    const next = await training.next(resumed, { x: tensor(values(16 * 40, 2), [16, 40]) });
    assertEquals(next.chosen, own);
  }
  await Deno.remove(path);
});
