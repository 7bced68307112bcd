import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  defineTraining,
  flatten,
  free,
  InputError,
  logits,
  type Model,
  nextTokenLoss,
  read,
  tensor,
  unflatten,
} from "@firn/train";
import { fromBf16, toBf16 } from "@firn/train/data";
import { loadAdapter, loadModel, mergeAdapter, newAdapter, saveModel } from "@firn/train/hub";
import { storageOf } from "../../core/runtime/residents.ts";
import { upload } from "../../core/runtime/upload.ts";
import { tokenBatch } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const FIXTURE = `${import.meta.dirname}/../fixtures/llama`;
const base = await loadModel(gpu, FIXTURE);
const adapted = await loadAdapter(gpu, base, `${FIXTURE}/adapter`);
const batch = tokenBatch([2, 8]);
const q = "model.layers.0.self_attn.q_proj", down = "model.layers.1.mlp.down_proj";

const scores = async (model: Model): Promise<number[]> => [...await read(gpu, logits(model, batch.inputIds))];

/** f32 rounds `x W + (x A) B` and `x (W + A B)` differently: some 1e-7 a layer of scores below 1. */
function assertClose(actual: readonly number[], expected: readonly number[]): void {
  const most = Math.max(...expected.map((score, i) => Math.abs(actual[i] - score)));
  assert(most < 1e-5, `off by ${most}`);
}

Deno.test("mergeAdapter gives the scores of the model with its pairs, without them", async () => {
  const before = await scores(adapted), plain = await scores(base);
  assert(before.some((score, i) => Math.abs(score - plain[i]) > 1e-2), "the pairs must change scores");
  const merged = await mergeAdapter(gpu, adapted);
  assertEquals([...flatten(merged.params).keys()], [...flatten(base.params).keys()]);
  assertEquals([merged.adapter, merged.trainable], [undefined, undefined]);
  assertClose(await scores(merged), before);
  // The given model stays as it is.
  assertEquals(await scores(adapted), before);
});

Deno.test("mergeAdapter merges the pairs of given modules alone; the others are still trained", async () => {
  const merged = await mergeAdapter(gpu, adapted, { paths: [q, down, "model.norm"] });
  const gone = [q, down].flatMap((path) => ["A", "B"].map((half) => `${path}.lora_${half}.weight`));
  assertEquals(
    [...flatten(merged.params).keys()],
    [...flatten(adapted.params).keys()].filter((path) => !gone.includes(path)),
  );
  assertEquals(merged.adapter!.layers.size, adapted.adapter!.layers.size - 2);
  assertClose(await scores(merged), await scores(adapted));

  using training = defineTraining(gpu, nextTokenLoss(merged), {
    optimizer: adamW({ learningRate: 0.01 }),
    steps: 1,
  });
  const start = await training.init(merged.params);
  // A weight that was merged is not trained: training has no copy of it.
  const [own, given] = [start.params, merged.params].map((params) => flatten(params).get(`${q}.weight`)!);
  assertEquals(storageOf(own).buffer === storageOf(given).buffer, true);
  const state = await training.next(start, batch);
  assertEquals(training.components().length, 2 * 7 - 2);
  assertEquals(state.done, true);
});

Deno.test("saveModel saves a merged model, and loadModel loads it", async () => {
  const parent = await Deno.makeTempDir(), folder = `${parent}/merged`;
  try {
    await saveModel(gpu, await mergeAdapter(gpu, adapted), { folder, dtype: "float32" });
    assertClose(await scores(await loadModel(gpu, folder)), await scores(adapted));
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("mergeAdapter takes memory for the new weights alone", async () => {
  const before = gpu.counts.bytes;
  const { params } = await mergeAdapter(gpu, adapted, { paths: [q] });
  const weight = flatten(params).get(`${q}.weight`)!;
  assertEquals(gpu.counts.bytes - before, 4 * weight.shape[0] * weight.shape[1]);
  free({ weight });
  assertEquals(gpu.counts.bytes, before);
});

Deno.test("mergeAdapter merges into weights that are stored as bf16 as into their values", async () => {
  const at = `${q}.weight`, leaves = flatten(adapted.params), { shape } = leaves.get(at)!;
  const codes = toBf16(await read(gpu, leaves.get(at)!) as Float32Array);
  const [packed, wide] = [upload(gpu, codes, { shape, label: at }), tensor(fromBf16(codes), shape)];
  const values = [packed, wide].map(async (weight) => {
    const params = unflatten(new Map([...leaves, [at, weight]]));
    const merged = await mergeAdapter(gpu, { ...adapted, params }, { paths: [q] });
    return await read(gpu, flatten(merged.params).get(at)!);
  });
  const [seen, expected] = await Promise.all(values);
  assertEquals(seen, expected);
});

Deno.test("mergeAdapter stores a router as loadModel does: in f32 where other weights have few bits", async () => {
  const mixture = await loadModel(gpu, `${import.meta.dirname}/../fixtures/olmoe`, { storage: "int8" });
  const { params } = await mergeAdapter(
    gpu,
    await newAdapter(gpu, mixture, { rank: 2, targets: ["0.mlp.gate", "0.self_attn.q_proj"] }),
    { storage: "int8" },
  );
  const types = (tree: object): string[] => [...flatten(tree).values()].map(({ dtype }) => dtype);
  assertEquals(types(params), types(mixture.params));
});

Deno.test("mergeAdapter refuses a model without pairs, half a pair, and modules that it has not", async () => {
  await assertRejects(() => mergeAdapter(gpu, base), InputError, "the model has none");
  await assertRejects(
    () => mergeAdapter(gpu, adapted, { paths: ["model.norm"] }),
    InputError,
    "Cannot merge the adapter as there must be LoRA pairs to merge: the given modules have none",
  );
  await assertRejects(
    () => mergeAdapter(gpu, adapted, { paths: ["model.layers.9.mlp.down_proj"] }),
    InputError,
    'Cannot merge "model.layers.9.mlp.down_proj" as the model must have it',
  );
  const leaves = flatten(adapted.params);
  leaves.delete(`${q}.lora_B.weight`);
  await assertRejects(
    () => mergeAdapter(gpu, { ...adapted, params: unflatten(leaves) }),
    InputError,
    `Cannot merge "${q}" as a pair must be whole and adapt a weight: "${q}.lora_B.weight" is missing`,
  );
});
