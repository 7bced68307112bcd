import { assert, assertEquals, assertRejects } from "@std/assert";
import { flatten, InputError, logits, type Model, openGpu, read, tensor } from "@firn/train";
import { loadAdapter, loadModel, newModel, resizeEmbeddings, saveModel } from "@firn/train/hub";
import { tokenBatch } from "../train/tiny.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const FIXTURES = `${import.meta.dirname}/../fixtures`;
const { inputIds } = tokenBatch([2, 8]);

const valuesOf = async (model: Model, path: string): Promise<Float32Array> =>
  await read(gpu, flatten(model.params).get(path)!) as Float32Array;

for (
  const [name, paths] of [
    ["gpt2", ["transformer.wte.weight"]],
    ["gpt_neox", ["gpt_neox.embed_in.weight", "lm_head.weight"]],
    ["qwen2", ["model.embed_tokens.weight"]],
  ] as const
) {
  Deno.test(`resizeEmbeddings keeps every row of ${name} and adds rows of their mean`, async () => {
    const model = await loadModel(gpu, `${FIXTURES}/${name}`), vocabSize = 99;
    const larger = await resizeEmbeddings(gpu, model, { vocabSize });
    assertEquals(
      [...flatten(larger.params)].filter(([path, one]) => one !== flatten(model.params).get(path)).map((
        [path],
      ) => path),
      [...paths],
    );
    for (const path of paths) {
      const before = await valuesOf(model, path), after = await valuesOf(larger, path);
      assertEquals(after.subarray(0, before.length), before);
      const width = before.length / 96, rows = Array.from({ length: 3 }, (_, i) => 96 + i);
      for (const row of rows) {
        for (let c = 0; c < width; c++) {
          const mean = Array.from({ length: 96 }, (_, r) => before[r * width + c]).reduce((a, b) => a + b) /
            96;
          // A row stored as bf16 has 8 bits.
          assert(Math.abs(after[row * width + c] - mean) <= Math.abs(mean) / 128 + 1e-7);
        }
      }
    }
    const scores = await read(gpu, logits(larger, inputIds)), old = await read(gpu, logits(model, inputIds));
    for (let row = 0; row < 16; row++) {
      const kept = scores.subarray(row * vocabSize, row * vocabSize + 96),
        was = old.subarray(row * 96, row * 96 + 96);
      assert([...kept].every((score, i) => Math.abs(score - was[i]) < 1e-5), "old tokens keep their scores");
    }
  });
}

Deno.test("a model with a larger vocabulary is saved and loaded, and takes the new ids", async () => {
  const source = {
    model_type: "llama",
    hidden_size: 8,
    intermediate_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    vocab_size: 10,
  };
  const larger = await resizeEmbeddings(gpu, await newModel(gpu, { source, seed: 1 }), { vocabSize: 13 });
  const parent = await Deno.makeTempDir();
  try {
    await saveModel(gpu, larger, { folder: `${parent}/model` });
    const again = await loadModel(gpu, `${parent}/model`), ids = tensor(new Int32Array([1, 12, 10]), [1, 3]);
    assertEquals(again.source.vocab_size, 13);
    assertEquals(await read(gpu, logits(again, ids)), await read(gpu, logits(larger, ids)));
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("resizeEmbeddings refuses to lose rows, and a model with an adapter", async () => {
  const model = await loadModel(gpu, `${FIXTURES}/llama`);
  await assertRejects(
    () => resizeEmbeddings(gpu, model, { vocabSize: 95 }),
    InputError,
    "no row may be lost",
  );
  await assertRejects(
    () => resizeEmbeddings(gpu, model, { vocabSize: 1.5 }),
    InputError,
    "whole number above 0",
  );
  const adapted = await loadAdapter(gpu, model, `${FIXTURES}/llama/adapter`);
  await assertRejects(() => resizeEmbeddings(gpu, adapted, { vocabSize: 99 }), InputError, "merge it first");
});
