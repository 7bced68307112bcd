import { assert, assertEquals } from "@std/assert";
import { adamW, classLoss, defineTraining, type Loss, openGpu, tensor, type TensorTree } from "@firn/train";
import { newModel } from "@firn/train/hub";
import type { BertParams } from "@firn/train/models";
import { bitsOf } from "./tiny.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SIZES = {
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  id2label: { 0: "a", 1: "b", 2: "c" },
};
const TEXT = { ...SIZES, vocab_size: 32, max_position_embeddings: 16, pad_token_id: 0 };
/** Models that classify: the name of the bottom, and what they are made from. */
const MODELS = {
  "a BERT": {
    bottom: /embeddings|layers\.0\./,
    source: { ...TEXT, model_type: "bert", architectures: ["BertForSequenceClassification"] },
  },
  "a Llama": {
    bottom: /embed_tokens|layers\.0\./,
    source: { ...TEXT, model_type: "llama", architectures: ["LlamaForSequenceClassification"] },
  },
  "a ViT": {
    bottom: /embeddings|layers\.0\./,
    source: {
      ...SIZES,
      model_type: "vit",
      architectures: ["ViTForImageClassification"],
      image_size: 8,
      patch_size: 4,
    },
  },
};

/** Samples in a batch: so many that their labels are counted by a launch of its own. */
const ROWS = 8;
const labels = tensor(Int32Array.from({ length: ROWS }, (_, i) => i % 3));
/** Two batches, by turns: texts of several lengths, or images. */
const texts = [0, 1].map((seed) => {
  const ids = Array.from({ length: 8 * ROWS }, (_, i) => (i * i * 7 + seed * 5 + i) % 31 + 1);
  const mask = ids.map((_, i) => i % 8 < 5 + Math.floor(i / 8) % 3 ? 1 : 0);
  return {
    inputIds: tensor(Int32Array.from(ids), [ROWS, 8]),
    attentionMask: tensor(Int32Array.from(mask), [ROWS, 8]),
    labels,
  };
});
const images = [0, 1].map((seed) => {
  const pixels = Float32Array.from({ length: 192 * ROWS }, (_, i) => Math.sin(i + seed));
  return { pixelValues: tensor(pixels, [ROWS, 3, 8, 8]), labels };
});

for (const [name, { bottom, source }] of Object.entries(MODELS)) {
  Deno.test(`cachePrefix leaves out the frozen bottom of ${name} that classifies, and changes no bit`, async () => {
    const model = await newModel(gpu, { source, seed: 1 });
    const loss = classLoss(model, { dropout: 0 }) as unknown as Loss<TensorTree, TensorTree>;
    const batches: readonly TensorTree[] = "image_size" in source ? images : texts, runs = [];
    for (const cachePrefix of [false, true]) {
      using training = defineTraining(gpu, loss, {
        optimizer: adamW({ learningRate: 0.01 }),
        steps: 4,
        lookEvery: 4,
        trainable: (path) => !bottom.test(path),
        cachePrefix,
      });
      let state = await training.init(model.params as TensorTree);
      const flops: number[] = [];
      while (!state.done) {
        state = await training.next(state, batches[state.step % 2]);
        flops.push(state.cost!.matmulFlops);
      }
      runs.push({ flops, prefix: training.prefix(), bits: await bitsOf(gpu, state) });
    }
    const [plain, cached] = runs;
    assertEquals(cached.prefix!.reason, null);
    assertEquals([cached.prefix!.samples, cached.bits], [2 * ROWS, plain.bits]);
    assert(cached.flops[2] < 0.85 * plain.flops[2], `${cached.flops} of ${plain.flops}`);
  });
}

Deno.test("cachePrefix keeps the bottom of a classifier, whose labels are counted before it by parts that all samples share", async () => {
  const source = {
    model_type: "bert",
    architectures: ["BertForSequenceClassification"],
    ...{ hidden_size: 64, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2 },
    ...{ vocab_size: 64, max_position_embeddings: 32, type_vocab_size: 1, pad_token_id: 0 },
    id2label: { 0: "a", 1: "b" },
  };
  const classifier = await newModel<BertParams>(gpu, { source, seed: 1 }), shape = [8, 32];
  const batch = {
    inputIds: tensor(Int32Array.from({ length: 256 }, (_, i) => 1 + i % 63), shape),
    attentionMask: tensor(new Int32Array(256).fill(1), shape),
    labels: tensor(Int32Array.from({ length: 8 }, (_, i) => i % 2)),
  };
  using training = defineTraining(gpu, classLoss(classifier, { dropout: 0 }), {
    optimizer: adamW({ learningRate: 0.01 }),
    trainable: (path) => !/embeddings|\.0\./.test(path),
    steps: 2,
    lookEvery: 1,
    cachePrefix: true,
  });
  const first = await training.next(await training.init(classifier.params), batch),
    { launches } = first.cost!;
  const second = await training.next(first, batch);
  assertEquals([training.prefix()!.samples, second.cost!.launches < launches], [8, true]);
});
