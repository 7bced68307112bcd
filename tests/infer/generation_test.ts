/**
 * Generation with a cache: the tokens of every family are those that the forward pass over all tokens gives.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { ConsumedError, InputError, logits, type Model, read, tensor } from "@firn/train";
import { defineGeneration, logProbabilities, type ToldToken } from "@firn/train/infer";
import { loadModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const FIXTURES = `${import.meta.dirname}/../fixtures`;
const PROMPTS = [[15, 4, 25, 7, 2], [3, 9]];

/** The best token after each token of sequences, by the forward pass over all of them. */
async function bestAfter(model: Model, sequences: readonly (readonly number[])[]): Promise<number[][]> {
  const length = Math.max(...sequences.map(({ length }) => length)),
    ids = new Int32Array(sequences.length * length);
  sequences.forEach((tokens, r) => ids.set(tokens, r * length));
  const scores = await read(gpu, logits(model, tensor(ids, [sequences.length, length])));
  const vocab = scores.length / ids.length;
  return sequences.map((tokens, r) =>
    tokens.map((_, t) => {
      const row = scores.slice((r * length + t) * vocab, (r * length + t + 1) * vocab) as Float32Array;
      return row.indexOf(row.reduce((a, b) => Math.max(a, b)));
    })
  );
}

for (
  const family of [
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "granite",
    "llama",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
  ]
) {
  Deno.test(`generation with a cache gives the tokens of the forward pass over all: ${family}`, async () => {
    const model = await loadModel(gpu, `${FIXTURES}/${family}`);
    using generation = defineGeneration(gpu, model, { stop: [] });
    let state = await generation.init(PROMPTS);
    for (let n = 0; n < 2; n++) state = await generation.next(state, 12);
    const sequences = state.sequences.map(({ tokens }) => tokens);
    assertEquals(sequences.map(({ length }, r) => length - PROMPTS[r].length), [24, 24]);
    const best = await bestAfter(model, sequences);
    sequences.forEach((tokens, r) => {
      assertEquals(tokens.slice(PROMPTS[r].length), best[r].slice(PROMPTS[r].length - 1, -1));
    });
  });
}

const llama = await loadModel(gpu, `${FIXTURES}/llama`);

/** The tokens that follow prompts, chosen greedily. */
async function greedy(prompts: readonly (readonly number[])[], count: number): Promise<number[][]> {
  using generation = defineGeneration(gpu, llama, { stop: [] });
  const state = await generation.next(await generation.init(prompts), count);
  return state.sequences.map(({ tokens, generated }) => tokens.slice(tokens.length - generated));
}

Deno.test("generation gives a batch the tokens of each prompt alone, however many are read at once, while the cache grows", async () => {
  using generation = defineGeneration(gpu, llama, { stop: [] });
  let state = await generation.init(PROMPTS);
  for (const count of [1, 2, 37]) state = await generation.next(state, count);
  for (const [r, prompt] of PROMPTS.entries()) {
    const [alone] = await greedy([prompt], 40);
    assertEquals(state.sequences[r].tokens, [...prompt, ...alone]);
  }
});

Deno.test("a sequence ends before a token that stops it, and the others go on", async () => {
  const [first, second] = await greedy(PROMPTS, 6), end = first.find((id) => !second.includes(id))!;
  using generation = defineGeneration(gpu, llama, { stop: [end] });
  let state = await generation.next(await generation.init(PROMPTS), 4);
  state = await generation.next(state, 2);
  assertEquals(state.sequences.map(({ tokens, generated }) => tokens.slice(tokens.length - generated)), [
    first.slice(0, first.indexOf(end)),
    second,
  ]);
  assertEquals([state.done, ...state.sequences.map(({ ended }) => ended)], [false, true, false]);
});

Deno.test("init from a state reads only what is new, and gives the tokens of the whole prompt", async () => {
  using generation = defineGeneration(gpu, llama, { stop: [] });
  const first = await generation.next(await generation.init([PROMPTS[0]]), 5);
  const { tokens } = first.sequences[0];
  let state = first;
  for (const prompt of [[...tokens, 8, 1, 2], [...tokens.slice(0, 7), 8], tokens.slice(0, 3)]) {
    state = await generation.next(await generation.init([prompt], { from: state }), 4);
    assertEquals(state.sequences[0].tokens, [...prompt, ...(await greedy([prompt], 4))[0]]);
  }
});

Deno.test("a generation refuses a state that was used", async () => {
  using generation = defineGeneration(gpu, llama, { stop: [] });
  const state = await generation.init([[1, 2]]);
  const next = await generation.next(state);
  await assertRejects(
    () => generation.next(state),
    ConsumedError,
    "Cannot use the state of step 0 as step 1 consumed it",
  );
  await generation.init([[3]]);
  await assertRejects(
    () => generation.next(next),
    ConsumedError,
    "Cannot use the state of step 1 as step 2 consumed it",
  );
});

Deno.test("a generation refuses no prompts, and samplings of other prompts", async () => {
  using generation = defineGeneration(gpu, llama);
  await assertRejects(
    () => generation.init([]),
    InputError,
    'as "prompts" must be a list of at least one: got []',
  );
  const options = { sampling: [{ seed: 1 }] };
  await assertRejects(
    () => generation.init([[1], [2]], options),
    InputError,
    "2 entries, one for each prompt: got 1",
  );
});

Deno.test("a generation tells how likely its tokens were by the model, and which ones were likeliest, where it is asked to", async () => {
  const sampling = [
    { logProbs: 3, temperature: 0.7, seed: 4, presencePenalty: 1 },
    { logProbs: 0 },
    {},
  ];
  using generation = defineGeneration(gpu, llama, { stop: [] });
  let state = await generation.init([...PROMPTS, [7]], { sampling });
  const told: ToldToken[][] = [[], []];
  for (const count of [1, 5, 40]) {
    state = await generation.next(state, count);
    for (const [r, all] of told.entries()) {
      assertEquals(state.sequences[r].told!.map(({ id }) => id), state.sequences[r].added);
      all.push(...state.sequences[r].told!);
    }
    assertEquals(state.sequences[2].told, undefined);
  }
  for (const [r, all] of told.entries()) {
    const { tokens } = state.sequences[r], from = PROMPTS[r].length;
    const [wanted] = await logProbabilities(gpu, llama, { texts: [{ ids: tokens, from }] });
    assertEquals(all.length, wanted.length);
    all.forEach(({ logProb }, i) => assertAlmostEquals(logProb, wanted[i], 1e-3));
    assertEquals(all.every(({ likeliest }) => likeliest.length === (r === 0 ? 3 : 0)), true);
  }
  // The first of the likeliest is what the forward pass finds best, and has its probability.
  const best = await bestAfter(llama, [state.sequences[0].tokens]);
  assertEquals(told[0].map(({ likeliest: [{ id }] }) => id), best[0].slice(PROMPTS[0].length - 1, -1));
  const same = told[0].filter(({ id, likeliest }) => likeliest.some((other) => other.id === id));
  same.forEach(({ id, logProb, likeliest }) =>
    assertEquals(logProb, likeliest.find((other) => other.id === id)!.logProb)
  );
  await assertRejects(
    () => generation.init([[1]], { sampling: [{ logProbs: 21 }] }),
    InputError,
    '"logProbs"',
  );
});

Deno.test("what was generated before goes on as it was: penalties count it", async () => {
  const options = { stop: [], temperature: 0.9, seed: 5, presencePenalty: 2, frequencyPenalty: 1 };
  using whole = defineGeneration(gpu, llama, options), parts = defineGeneration(gpu, llama, options);
  const wanted = await whole.next(await whole.init([PROMPTS[0]]), 12);
  let state = await parts.next(await parts.init([PROMPTS[0]]), 5);
  const { tokens, generated } = state.sequences[0];
  state = await parts.next(await parts.init([tokens], { generated: [generated], from: state }), 7);
  assertEquals([state.sequences[0].tokens, state.sequences[0].generated], [wanted.sequences[0].tokens, 12]);
  await assertRejects(
    () => parts.init([[1, 2]], { generated: [3] }),
    InputError,
    '"generated" must have a number from 0 to 2 for prompt 1: got 3',
  );
});
