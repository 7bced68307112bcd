/**
 * Positions whose angles depend on the length of the sequence: keys stay as they were when they were new, as in transformers.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { logits, type Model, read, tensor } from "@firn/train";
import { defineGeneration } from "@firn/train/infer";
import { newModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SOURCE = {
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 64,
  max_position_embeddings: 8,
  tie_word_embeddings: true,
};

/** The best token after all of a text, by the forward pass over it. */
async function bestAfter(model: Model, ids: readonly number[]): Promise<number> {
  const scores = await read(gpu, logits(model, tensor(Int32Array.from(ids), [1, ids.length])));
  const row = scores.slice(-64) as Float32Array;
  return row.indexOf(row.reduce((a, b) => Math.max(a, b)));
}

const KINDS = {
  dynamic: { rope_scaling: { rope_type: "dynamic", factor: 4 } },
  longrope: {
    max_position_embeddings: 32,
    original_max_position_embeddings: 8,
    rope_scaling: {
      rope_type: "longrope",
      short_factor: [1, 1, 1, 1],
      long_factor: [1, 4, 9, 16],
      factor: 4,
    },
  },
};

for (const [kind, more] of Object.entries(KINDS)) {
  Deno.test(`a prompt has the angles of its whole length, each prompt of a batch those of its own: ${kind}`, async () => {
    const model = await newModel(gpu, { source: { ...SOURCE, ...more }, seed: 3 });
    const prompts = [[5, 9, 61, 7, 33, 2, 18, 40, 11, 3, 27, 50], [9, 5, 44], [1, 2, 3, 4, 5, 6, 7, 8, 9]];
    using generation = defineGeneration(gpu, model, { stop: [] });
    const state = await generation.next(await generation.init(prompts), 6);
    for (const [r, prompt] of prompts.entries()) {
      const { tokens } = state.sequences[r];
      assertEquals(tokens[prompt.length], await bestAfter(model, prompt));
      using alone = defineGeneration(gpu, model, { stop: [] });
      const one = await alone.next(await alone.init([prompt]), 6);
      assertEquals(one.sequences[0].tokens, tokens);
    }
  });
}

Deno.test("beyond the length at which longrope switches, tokens are those of the forward pass over all, also from a cache of before", async () => {
  const model = await newModel(gpu, { source: { ...SOURCE, ...KINDS.longrope }, seed: 3 });
  using generation = defineGeneration(gpu, model, { stop: [] });
  const prompts = [[5, 9, 61, 7, 33], [9, 5]];
  let state = await generation.next(await generation.init(prompts), 9);
  for (const [r, prompt] of prompts.entries()) {
    const { tokens } = state.sequences[r];
    for (let n = prompt.length; n < tokens.length; n++) {
      assertEquals(tokens[n], await bestAfter(model, tokens.slice(0, n)), `token ${n} of sequence ${r}`);
    }
  }
  const first = state.sequences[0].tokens.slice(0, 4), short = defineGeneration(gpu, model, { stop: [] });
  state = await generation.init([first, [1]], { from: state });
  const fresh = await short.next(await short.init([first]), 2);
  assertEquals((await generation.next(state, 2)).sequences[0].tokens, fresh.sequences[0].tokens);
  short[Symbol.dispose]();
});
