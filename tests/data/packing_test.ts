/**
 * Losses of conversations alone, padded and packed: equal, and equal to a float64 reference, for templates of three kinds.
 *
 * @module
 */

import {
  evaluate,
  leaf,
  nextTokenLoss,
  openGpu,
  type Tensor,
  tensor,
  type TokenBatch,
  unflatten,
} from "@firn/train";
import { assert, assertAlmostEquals, assertEquals, assertLess } from "@std/assert";
import { bestFit, encodeChat, packSamples, padSamples, predictions, type Sample } from "@firn/train/data";
import { describeModel, families, type Model, modelParams } from "@firn/train/models";
import { evaluateFused } from "../reference/evaluate_fused.ts";
import { random, type Values } from "../reference/values.ts";
import { chatTokenizer, templateOf } from "./chat.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 97,
  tie_word_embeddings: true,
};

const LENGTH = 160;

const CHATS = [
  ["Who are we?", "The people.", "And then?", "The Union stands."],
  ["What is the state of the Union?", "Strong, and it is growing stronger with each year."],
  ["Say yes.", "Yes."],
];

async function samplesOf(name: string): Promise<Sample[]> {
  const tokenizer = await chatTokenizer(), template = await templateOf(name);
  return CHATS.map((texts) => {
    const messages = texts.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content }));
    const { ids, learned } = encodeChat(tokenizer, { kind: "chat", messages }, { template });
    // A small vocabulary keeps the reference quick.
    return { ids: ids.map((id) => id % SOURCE.vocab_size), learned };
  });
}

/** The model with leaves for parameters, their values, and the same with values. */
function models(): { readonly leaves: Model; readonly values: Map<Tensor, Values>; readonly real: Model } {
  const described = describeModel<object>(SOURCE, { families, file: "config.json" });
  const specs = [...modelParams(described)], values = new Map<Tensor, Values>();
  const leaves = specs.map(([path, { shape }], i): [string, Tensor] => {
    const { data } = random(shape, { seed: i + 1, low: -0.5, high: 0.5 }), gain = shape.length === 1 ? 1 : 0;
    const at = leaf(path, { shape, dtype: "f32" });
    values.set(at, { shape, data: data.map((x) => Math.fround(gain + x)) });
    return [path, at];
  });
  const real = leaves.map(([path, at]): [string, Tensor] => [
    path,
    tensor(Float32Array.from(values.get(at)!.data), at.shape),
  ]);
  const of = (params: [string, Tensor][]) =>
    ({ ...described, params: unflatten(new Map(params)) }) as unknown as Model;
  return { leaves: of(leaves), values, real: of(real) };
}

const packed = (samples: readonly Sample[]): TokenBatch => {
  const bins = bestFit(samples.map(({ ids }) => ids.length), LENGTH);
  assertLess(bins.length, samples.length);
  return packSamples(bins.map((bin) => bin.map((i) => samples[i])), { length: LENGTH });
};

for (const name of ["chatml_marked", "mistral", "zephyr"]) {
  Deno.test(`conversations of ${name} have the same loss alone, padded and packed, and that of float64`, async () => {
    const samples = await samplesOf(name), { leaves, values, real } = models();
    const alone = samples.map((sample) => padSamples([sample], { mask: false }));
    const together = [
      padSamples(samples),
      padSamples(samples, { side: "left" }),
      padSamples(samples, { mask: false }),
    ];
    const loss = (batch: TokenBatch): number =>
      evaluateFused([nextTokenLoss(leaves)(leaves.params, batch)], new Map(values))[0].data[0];
    const counts = alone.map(predictions), count = counts.reduce((a, b) => a + b);
    const expected = alone.reduce((sum, batch, i) => sum + counts[i] * loss(batch), 0) / count;
    assert(expected > 4 && expected < 8);

    await using gpu = await openGpu();
    for (const batch of [...together, packed(samples)]) {
      assertEquals(predictions(batch), count);
      // Tables of angles are stored in float32, and conversations stand at other positions.
      assertAlmostEquals(loss(batch), expected, 1e-8);
      if (batch === together[1] || batch === together[2]) continue;
      const own = await evaluate(gpu, { loss: nextTokenLoss(real), params: real.params, batches: [batch] });
      // Sums of some thousand products of float32.
      assertAlmostEquals(own.loss, expected, 2e-6 * expected);
    }
    // Without segments, one conversation reads another.
    const { segments: _, ...mixed } = packed(samples);
    assertLess(1e-4, Math.abs(loss(mixed) - expected));
  });
}
