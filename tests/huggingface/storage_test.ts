/**
 * Models whose matrices are int8 and nf4 on the device.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  defineTraining,
  embedding,
  flatten,
  type Gpu,
  grad,
  InputError,
  logits,
  matmul,
  type Model,
  multiply,
  nextTokenLoss,
  type Path,
  read,
  readAll,
  sum,
  type Tensor,
  tensor,
  type TrainingState,
  unflatten,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { fromBlocks, openSafetensors, toBlocks } from "@firn/train/data";
import { loadModel, mergeAdapter, newModel, saveModel } from "@firn/train/hub";
import { groupedMatmul, sortByExpert, toExperts } from "../../core/ops/experts.ts";
import { elementBytes } from "../../core/spec.ts";
import { copyToDevice, uploadLeaf } from "../../core/train/state/upload.ts";
import { uploadPacked } from "../../core/huggingface/upload_packed.ts";
import { bits, bitsOf, llamaSource, tokenBatch, valuesOf } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
const root = await Deno.makeTempDir();
Deno.test.afterAll(async () => {
  await Deno.remove(root, { recursive: true });
  await gpu[Symbol.asyncDispose]();
});

/** Rows of 32 are less than a block, and rows of 70 more than one. */
const SOURCES = {
  llama: { ...llamaSource({ layers: 1, tied: true }), intermediate_size: 70 },
  // Its matrices are [in, out].
  gpt2: {
    model_type: "gpt2",
    n_embd: 32,
    n_inner: 70,
    n_layer: 1,
    n_head: 2,
    n_positions: 16,
    vocab_size: 65,
  },
};
for (const [name, source] of Object.entries(SOURCES)) {
  await saveModel(gpu, await newModel(gpu, { source, seed: 3 }), { folder: `${root}/${name}` });
}
const load = (name: string, storage: "f32" | "int8" | "nf4"): Promise<Model> =>
  loadModel(gpu, `${root}/${name}`, { storage });
const batches = [1, 2, 3].map((seed) => tokenBatch([2, 8], seed));

/** The model with the values of its parameters as f32. */
async function widened(model: Model): Promise<Model> {
  const values = await valuesOf(gpu, model.params);
  const wide = [...flatten(model.params)].map(([path, { shape }]) =>
    [path, tensor(values.get(path) as Float32Array, shape)] as const
  );
  return { ...model, params: unflatten(new Map(wide)) };
}

/** The model with a pair of rank 2 beside every projection. */
function withPairs(model: Model): Model {
  const pairs = new Map<Path, Tensor>();
  for (const [path, { shape }] of flatten(model.params)) {
    if (!/\.\d+\..*(_proj|c_\w+)\.weight$/.test(path)) continue;
    const [out, width] = model.family.name === "gpt2" ? shape.toReversed() : shape,
      at = path.replace(/weight$/, "");
    const some = (size: number): Float32Array =>
      Float32Array.from({ length: size }, (_, i) => Math.sin(i + pairs.size) / 9);
    pairs.set(`${at}lora_A.weight`, tensor(some(2 * width), [2, width]));
    pairs.set(`${at}lora_B.weight`, tensor(some(2 * out), [out, 2]));
  }
  const params = unflatten(new Map([...flatten(model.params), ...pairs]));
  return { ...model, params, trainable: (path) => path.includes(".lora_") };
}

const options = { optimizer: adamW({ learningRate: 0.01 }), steps: 3 };

Deno.test("loadModel stores matrices as int8, or as nf4 in layers and bf16 outside of them, in as few bytes", async () => {
  for (const storage of ["int8", "nf4"] as const) {
    const before = gpu.counts.bytes, { params } = await load("llama", storage);
    const all = [...flatten(params)];
    for (const [path, { shape, dtype }] of all) {
      const matrix = storage === "int8" ? "int8" : path.includes(".layers.") ? "nf4" : "bf16";
      assertEquals(dtype, shape.length === 1 ? "f32" : matrix, path);
    }
    assertEquals(gpu.counts.bytes - before, all.reduce((sum, [, t]) => sum + elementBytes(t), 0));
  }
  // A row of 4096: 8.5 bits an element, and 4.16.
  const bitsOf = (dtype: "int8" | "nf4"): number => 8 * elementBytes({ shape: [1, 4096], dtype }) / 4096;
  assertEquals([bitsOf("int8"), bitsOf("nf4")], [8.5, 4.15625]);
});

Deno.test("scores are those of the values that int8 and nf4 stand for, in both layouts", async () => {
  for (const name of Object.keys(SOURCES)) {
    const exact = await read(gpu, logits(await load(name, "f32"), batches[0].inputIds));
    for (const storage of ["int8", "nf4"] as const) {
      const small = await load(name, storage);
      const [a, b] = await Promise.all(
        [small, await widened(small)].map((model) => read(gpu, logits(model, batches[0].inputIds))),
      );
      a.forEach((value, i) => assertAlmostEquals(value, b[i], 1e-5));
      const off = Math.max(...a.map((value, i) => Math.abs(value - exact[i])));
      assert(off > 1e-6 && off < (storage === "int8" ? 0.01 : 0.15), `${name} ${storage} is off by ${off}`);
    }
  }
});

Deno.test("experts are int8 and nf4, and their router f32; products and gradients are those of their values", async () => {
  const [experts, out, width] = [3, 12, 70],
    values = Float32Array.from({ length: 36 * width }, (_, i) => Math.sin(i));
  const x = await copyToDevice(gpu, { path: "x", source: tensor(values.subarray(0, 5 * width), [5, width]) });
  const order = sortByExpert(tensor(new Int32Array([2, 0, 0, 2, 2]), [5, 1]), { experts });
  for (const storage of ["int8", "nf4"] as const) {
    const leaves = [...flatten((await loadModel(gpu, "tests/fixtures/qwen3_moe", { storage })).params)];
    const mlp = leaves.filter(([path]) => path.includes("layers.1.mlp")).map((
      [path, { dtype }],
    ) => [path, dtype]);
    assertEquals(Object.fromEntries(mlp), {
      "model.layers.1.mlp.gate.weight": "f32",
      "model.layers.1.mlp.experts.gate_up_proj": storage,
      "model.layers.1.mlp.experts.down_proj": storage,
    });
    const spec = { shape: [experts, out, width], dtype: storage };
    assertThrows(
      () => uploadLeaf(gpu, { path: "experts", value: { ...spec, data: values }, step: 0 }),
      InputError,
      "must be words",
    );
    const small = uploadPacked(gpu, values, { path: "experts", ...spec });
    const wide = tensor(await read(gpu, small) as Float32Array, spec.shape);
    const [a, b] = await Promise.all([small, wide].map((weight) => {
      const y = groupedMatmul(toExperts(x, order), { weight, order });
      return readAll(gpu, [y, ...grad(sum(multiply(y, y)), [x])]);
    }));
    a.forEach((seen, i) => seen.forEach((value, at) => assertAlmostEquals(value, b[i][at], 1e-3)));
  }
});

Deno.test("pairs beside int8 and nf4 train as beside their values, go on from a file, and are merged", async () => {
  for (const [name, storage] of [["llama", "nf4"], ["gpt2", "int8"]] as const) {
    const small = withPairs(await load(name, storage)), wide = withPairs(await widened(small));
    const path = `${root}/state.safetensors`, saved: Record<string, readonly number[]>[] = [];
    const train = async (model: Model): Promise<TrainingState<object>> => {
      const training = defineTraining(gpu, nextTokenLoss(model), options);
      let state = await training.init(model.params);
      for (const batch of batches) {
        state = await training.next(state, batch);
        if (state.step !== 2 || model !== small) continue;
        await saveCheckpoint(gpu, state, { path });
        saved.push(await bitsOf(gpu, state));
      }
      return state;
    };
    const [seen, expected] = [await train(small), await train(wide)];
    const [a, b] = [await valuesOf(gpu, seen.params), await valuesOf(gpu, expected.params)];
    for (const [at, values] of a) {
      values.forEach((value, i) => assertAlmostEquals(value, b.get(at)![i], 1e-5, at));
    }

    const training = defineTraining(gpu, nextTokenLoss(small), options);
    const resumed = await training.resume(await loadCheckpoint(path));
    assertEquals(await bitsOf(gpu, resumed), saved[0]);
    assertEquals(await bitsOf(gpu, await training.next(resumed, batches[2])), await bitsOf(gpu, seen));

    const merged = await mergeAdapter(gpu, { ...small, params: seen.params });
    const [x, y] = await Promise.all(
      [merged, { ...small, params: seen.params }].map((model) =>
        read(gpu, logits(model, batches[0].inputIds))
      ),
    );
    x.forEach((value, i) => assertAlmostEquals(value, y[i], 1e-5));

    const again = await mergeAdapter(gpu, { ...small, params: seen.params }, { storage });
    const types = (params: object): string[] => [...flatten(params).values()].map(({ dtype }) => dtype);
    assertEquals(types(again.params), types((await load(name, storage)).params));
    const packed = await read(gpu, logits(again, batches[0].inputIds));
    const off = Math.max(...packed.map((value, i) => Math.abs(value - x[i])));
    assert(off > 0 && off < (storage === "int8" ? 0.02 : 0.3), `${name} ${storage} is off by ${off}`);
  }
});

Deno.test("what is stored as int8 is not trained, and is saved as the values that it stands for", async () => {
  const small = await load("llama", "int8");
  await assertRejects(
    () => defineTraining(gpu, nextTokenLoss(small), options).init(small.params),
    InputError,
    'as it is stored as int8, which holds no small changes: train a LoRA adapter, or load the model with storage "f32"',
  );
  await saveModel(gpu, small, { folder: `${root}/again` });
  await using file = await openSafetensors(`${root}/again/model.safetensors`);
  const path = "model.embed_tokens.weight";
  assertEquals(file.specs.get(path)!.dtype, "F32");
  assertEquals(bits(await file.readF32(path)), bits(await read(gpu, flatten(small.params).get(path)!)));
});

Deno.test("matrices of int8 and nf4 that are larger than one binding are read by rows", async () => {
  const tight: Gpu = { ...gpu, target: { ...gpu.target, maxBindingBytes: 24_576 } };
  const [rows, width] = [700, 70],
    values = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i));
  for (const stored of ["int8", "nf4"] as const) {
    const words = toBlocks(values, { stored, width }), spec = { shape: [rows, width], dtype: stored };
    const small = uploadLeaf(gpu, { path: "w", value: { ...spec, data: words }, step: 0 });
    assert(words.byteLength > 24_576);
    const wide = await copyToDevice(gpu, {
      path: "wide",
      source: tensor(fromBlocks(words, { stored, width }), [rows, width]),
    });
    const x = tensor(values.subarray(0, 2 * width), [2, width]),
      y = tensor(values.subarray(0, 2 * rows), [2, rows]);
    const ids = tensor(new Int32Array([0, 699, 350, 5]));
    const ops: readonly ((w: Tensor) => Tensor)[] = [
      (w) => matmul(x, w, { transposeB: true }),
      (w) => matmul(y, w),
      (w) => embedding(w, ids),
    ];
    for (const op of ops) {
      const [seen, expected] = [await read(tight, op(small)), await read(gpu, op(wide))];
      seen.forEach((value, i) => assertAlmostEquals(value, expected[i], 1e-4, `${stored} ${op}`));
    }
  }
});
