/**
 * Models whose matrices stay bf16 on the device.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  add,
  defineTraining,
  embedding,
  evaluate,
  type Evaluated,
  flatten,
  free,
  grad,
  InputError,
  logits,
  matmul,
  mean,
  type Model,
  nextTokenLoss,
  type Path,
  read,
  reshape,
  snapshot,
  type Tensor,
  tensor,
  type TrainingState,
  unflatten,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { linearCrossEntropy } from "@firn/train/ops";
import { fromBf16, openSafetensors, toBf16 } from "@firn/train/data";
import { loadAdapter, loadModel, newModel, saveAdapter, saveModel } from "@firn/train/hub";
import { normalValues } from "@firn/train/kernels";
import { upload } from "../../core/runtime/upload.ts";
import { bits, bitsOf, llamaSource, tokenBatch, valuesOf } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
const root = await Deno.makeTempDir();
Deno.test.afterAll(async () => {
  await Deno.remove(root, { recursive: true });
  await gpu[Symbol.asyncDispose]();
});

const folder = `${root}/model`, adapter = `${root}/adapter`, EMBEDDING = "model.embed_tokens.weight";
const normal = (size: number, key: number): Float32Array<ArrayBuffer> =>
  normalValues({ size, key: [key, 0] });
/** Rows of 32 are loaded four at a time, rows of 33 one by one. */
const source = { ...llamaSource({ layers: 2, tied: false }), intermediate_size: 33, vocab_size: 65 };
await saveModel(gpu, await newModel(gpu, { source, seed: 3 }), { folder, dtype: "bfloat16" });
await saveAdapter(gpu, withPairs(await loadModel(gpu, folder)), { folder: adapter });

/** Adds a pair of rank 2 to every projection of the blocks. */
function withPairs(model: Model): Model {
  const base = flatten(model.params), pairs = new Map<Path, Tensor>();
  for (const [path, { shape: [out, width] }] of base) {
    if (!path.endsWith("_proj.weight")) continue;
    const at = path.slice(0, -".weight".length), key = pairs.size;
    pairs.set(`${at}.lora_A.weight`, tensor(normal(2 * width, key), [2, width]));
    pairs.set(`${at}.lora_B.weight`, tensor(normal(2 * out, key + 1), [out, 2]));
  }
  return { ...model, params: unflatten(new Map([...base, ...pairs])) };
}

const packed = (): Promise<Model> => loadModel(gpu, folder, { storage: "file" });
const batches = [1, 2, 3].map((seed) => tokenBatch([2, 8], seed));
const isMatrix = ({ shape }: Tensor): boolean => shape.length === 2;

Deno.test("loadModel keeps matrices as bf16, in half the memory, and vectors as f32; read widens them exactly", async () => {
  const start = gpu.counts.bytes;
  const wide = await loadModel(gpu, folder), between = gpu.counts.bytes;
  const small = await packed(), end = gpu.counts.bytes;
  const all = [...flatten(small.params).values()];
  assertEquals(all.map(({ dtype }) => dtype), all.map((t) => isMatrix(t) ? "bf16" : "f32"));
  const vectors = all.filter((t) => !isMatrix(t)).reduce((n, { shape }) => n + 4 * shape[0], 0);
  assertEquals(end - between - vectors, (between - start - vectors) / 2);
  const expected = await valuesOf(gpu, wide.params), seen = await valuesOf(gpu, small.params);
  for (const [path, values] of seen) assertEquals(bits(values), bits(expected.get(path)!), path);
  free(small.params);
  free(wide.params);
  await assertRejects(() => read(gpu, all[0]), InputError, `Cannot use "${EMBEDDING}" as it was freed`);
});

Deno.test("loadModel keeps matrices as f16 where the file does, and what it stores as f32 is f32", async () => {
  for (const [dtype, stored] of [["float16", "f16"], ["float32", "f32"]] as const) {
    const copy = `${root}/${dtype}`;
    await saveModel(gpu, await loadModel(gpu, folder), { folder: copy, dtype });
    const [wide, small] = [await loadModel(gpu, copy), await loadModel(gpu, copy, { storage: "file" })];
    const all = [...flatten(small.params).values()];
    assertEquals(all.map(({ dtype }) => dtype), all.map((t) => isMatrix(t) ? stored : "f32"));
    const expected = await valuesOf(gpu, wide.params);
    for (const [path, values] of await valuesOf(gpu, small.params)) {
      assertEquals(bits(values), bits(expected.get(path)!), path);
    }
    const [a, b] = [
      await read(gpu, logits(wide, batches[0].inputIds)),
      await read(gpu, logits(small, batches[0].inputIds)),
    ];
    assertEquals(bits(b), bits(a), dtype);
    const again = `${root}/again-${dtype}`;
    await saveModel(gpu, small, { folder: again });
    await using file = await openSafetensors(`${again}/model.safetensors`);
    assertEquals(file.specs.get(EMBEDDING)!.dtype, stored === "f16" ? "F16" : "F32");
  }
});

Deno.test("scores and losses of a model stored as bf16 have the bits of the same model as f32", async () => {
  const wide = await loadModel(gpu, folder), small = await packed();
  const [a, b] = await Promise.all(
    [wide, small].map((model) => read(gpu, logits(model, batches[0].inputIds))),
  );
  assertEquals(bits(b), bits(a));
  const losses = (model: Model): Promise<Evaluated> =>
    evaluate(gpu, { loss: nextTokenLoss(model), params: model.params, batches });
  assertEquals(await losses(small), await losses(wide));
});

/** Trains an adapter and returns the state of a step. */
async function train(
  model: Model,
  look: (state: TrainingState<object>) => Promise<void> = async () => {},
): Promise<Record<string, readonly number[]>> {
  using training = defineTraining(gpu, nextTokenLoss(model), options);
  let state = await training.init(model.params);
  for (const batch of batches) {
    state = await training.next(state, batch);
    if (state.step === 2) await look(state);
  }
  return await bitsOf(gpu, state);
}

const options = { optimizer: adamW({ learningRate: 0.01 }), steps: 3 };

Deno.test("an adapter beside bf16 trains, is copied and goes on from a file with the bits of one beside f32", async () => {
  const path = `${root}/state.safetensors`;
  const wide = await loadAdapter(gpu, await loadModel(gpu, folder), adapter);
  const small = await loadAdapter(gpu, await packed(), adapter);
  const expected = await train(wide);
  let copied: Record<string, readonly number[]> = {}, saved: Record<string, readonly number[]> = {};
  const seen = await train(small, async (state) => {
    saved = await bitsOf(gpu, state);
    copied = await bitsOf(gpu, snapshot(gpu, state));
    await saveCheckpoint(gpu, state, { path });
  });
  assertEquals(seen, expected);
  assertEquals(copied, saved);

  await using file = await openSafetensors(path);
  assertEquals(file.specs.get(`params.${EMBEDDING}`)!.dtype, "BF16");
  const checkpoint = await loadCheckpoint(path);
  using training = defineTraining(gpu, nextTokenLoss(small), options);
  const resumed = await training.resume(checkpoint);
  const types = (params: object): Record<string, string> =>
    Object.fromEntries([...flatten(params)].map(([path, { dtype }]) => [path, dtype]));
  assertEquals(types(resumed.params), types(small.params));
  assertEquals(await bitsOf(gpu, resumed), saved);
  assertEquals(await bitsOf(gpu, await training.next(resumed, batches[2])), expected);

  // All of it, of a model that trains its base.
  using other = defineTraining(gpu, nextTokenLoss(small), { ...options, trainable: () => true });
  await assertRejects(() => other.resume(checkpoint), InputError, "as it is stored as bf16");
});

Deno.test("saveModel writes bf16 back to the bit, unless another type is asked for", async () => {
  const small = await packed(), again = `${root}/again`;
  await saveModel(gpu, small, { folder: again });
  const bytes = (at: string): Promise<Uint8Array> => Deno.readFile(`${at}/model.safetensors`);
  assertEquals(await bytes(again), await bytes(folder));
  const types = async (): Promise<string[]> => {
    await using file = await openSafetensors(`${again}/model.safetensors`);
    return [EMBEDDING, "model.norm.weight"].map((name) => file.specs.get(name)!.dtype);
  };
  const { dtype: _, ...source } = small.source;
  await saveModel(gpu, { ...small, source }, { folder: again });
  assertEquals(await types(), ["BF16", "F32"]);
  await saveModel(gpu, small, { folder: again, dtype: "float32" });
  assertEquals(await types(), ["F32", "F32"]);
});

Deno.test("init refuses to train what is stored as bf16, by name and before it copies anything", async () => {
  const small = await packed(), before = gpu.counts.bytes;
  const training = defineTraining(gpu, nextTokenLoss(small), options);
  await assertRejects(
    () => training.init(small.params),
    InputError,
    `Cannot train "${EMBEDDING}" as it is stored as bf16, which holds no small changes: ` +
      'train a LoRA adapter, or load the model with storage "f32"',
  );
  assertEquals(gpu.counts.bytes, before);
});

Deno.test("ops that do not read bf16 get its values, and it has no gradient", async () => {
  const codes = toBf16(normal(9, 1)), weight = upload(gpu, codes, { shape: [3, 3], label: "weight" });
  const x = tensor(normal(9, 2), [3, 3]), stack = tensor(normal(18, 3), [2, 3, 3]);
  const ops: readonly ((w: Tensor) => Tensor)[] = [
    (w) => add(w, x),
    (w) => reshape(w, [9]),
    (w) => mean(w),
    (w) => matmul(w, x),
    (w) => matmul(w, stack),
    (w) => linearCrossEntropy(w, { weight: x, labels: tensor(new Int32Array(3)) }),
  ];
  for (const op of ops) {
    const expected = await read(gpu, op(tensor(fromBf16(codes), [3, 3])));
    assertEquals(bits(await read(gpu, op(weight))), bits(expected), op.toString());
  }
  assertThrows(
    () => grad(mean(matmul(x, weight)), [weight]),
    InputError,
    'load the model with storage "f32"',
  );
});

Deno.test("a bf16 matrix with an odd number of elements is read to its last one", async () => {
  const codes = toBf16(normal(15, 1)),
    x = tensor(normal(10, 2), [2, 5]),
    ids = tensor(new Int32Array([4, 0]));
  const small = upload(gpu, codes, { shape: [5, 3], label: "small" });
  const wide = tensor(await read(gpu, small) as Float32Array, [5, 3]);
  assertEquals(toBf16(await read(gpu, wide) as Float32Array), codes);
  for (const f of [(w: Tensor) => matmul(x, w), (w: Tensor) => embedding(w, ids)]) {
    const seen = await read(gpu, f(small));
    assertEquals(bits(seen), bits(await read(gpu, f(wide))));
    assert(seen.some((value) => value !== 0));
  }
});
