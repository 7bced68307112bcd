/**
 * How likely texts are, beside scores of one text at a time in float64.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { InputError, logits, read, tensor } from "@firn/train";
import { logProbabilities } from "@firn/train/infer";
import { newModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const VOCAB = 23;
const model = await newModel(gpu, {
  source: {
    model_type: "llama",
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    vocab_size: VOCAB,
    max_position_embeddings: 40,
    initializer_range: 0.5,
  },
  seed: 3,
});

/** Logarithms of the probabilities of all tokens of a text but the first. */
async function reference(ids: readonly number[]): Promise<readonly number[]> {
  const scores = await read(gpu, logits(model, tensor(Int32Array.from(ids), [1, ids.length])));
  return ids.slice(1).map((id, i) => {
    const row = Array.from(scores.subarray(i * VOCAB, (i + 1) * VOCAB)), most = Math.max(...row);
    return row[id] - most - Math.log(row.reduce((sum, score) => sum + Math.exp(score - most), 0));
  });
}

Deno.test("texts that share a pass are as likely as each alone, whatever their lengths and their number", async () => {
  const texts = [[9, 4], [5, 2], [20, 1], [3, 1], [16, 15], [24, 12]].map((
    [length, from],
    row,
  ) => ({
    ids: Array.from({ length }, (_, i) => (i * 7 + row * 5 + i * i) % VOCAB),
    from,
  }));
  const reports: number[] = [];
  // All scores at once, and some at a time.
  for (
    const [subject, count] of [[model, texts.length], [{ ...model, scoreBytes: 4 * VOCAB * 9 }, 2]] as const
  ) {
    const found = await logProbabilities(gpu, subject, {
      texts: texts.slice(0, count),
      batch: 3,
      onProgress: ({ done }) => reports.push(done),
    });
    for (const [t, { ids, from }] of texts.slice(0, count).entries()) {
      const wanted = (await reference(ids)).slice(from - 1);
      assertEquals(found[t].length, wanted.length);
      wanted.forEach((value, i) => assertAlmostEquals(found[t][i], value, 2e-4));
    }
  }
  assertEquals([Math.max(...reports), reports.at(-1)], [texts.length, 2]);
});

Deno.test("a text longer than the model reads loses its first tokens, and one that asks for nothing is refused", async () => {
  const ids = Array.from({ length: 44 }, (_, i) => (i * 5) % VOCAB);
  const [found] = await logProbabilities(gpu, model, { texts: [{ ids, from: 42 }] });
  const wanted = (await reference(ids.slice(4))).slice(37);
  assertEquals(found.length, 2);
  wanted.forEach((value, i) => assertAlmostEquals(found[i], value, 2e-4));
  for (const from of [0, 44, 1.5]) {
    await assertRejects(
      () => logProbabilities(gpu, model, { texts: [{ ids, from }] }),
      InputError,
      `"from" must be the place of a token after the first of 44: got ${from}`,
    );
  }
  assertEquals(await logProbabilities(gpu, model, { texts: [] }), []);
});
