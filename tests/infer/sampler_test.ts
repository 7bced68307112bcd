/**
 * The choice of tokens on the device, beside what `transformers` does, in float64.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError, read, type Tensor, tensor } from "@firn/train";
import { defineGeneration, type Sampling } from "@firn/train/infer";
import { add, cast, equal, multiply, reshape } from "@firn/train/ops";
import { loadModel } from "@firn/train/hub";
import { chooseToken } from "../../core/infer/sampler.ts";
import { noteValues, samplingValues, stepsOf } from "../../core/infer/sampling.ts";
import { rebuild } from "../../core/graph.ts";
import { leafOp } from "../../core/sources.ts";
import { drawn, processed, warped } from "./logits_reference.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const VOCAB = 40, ROWS = 64, CAPACITY = 16;
const SCORES = Array.from({ length: VOCAB }, (_, id) => 3 * Math.sin(id * id + 1) + Math.cos(7 * id));
const TOKENS = [5, 6, 7, 30, 5, 6, 2, 30, 5, 6], PROMPT = 4;

/** The tokens that the device chooses for equal scores and texts, a row for each sampling. */
async function chosen(samplings: readonly Sampling[], on = gpu): Promise<number[]> {
  const rows = samplings.length, steps = stepsOf(samplings);
  const same = (n: number): Tensor => tensor(new Int32Array(rows).fill(n));
  const { token } = chooseToken(
    tensor(Float32Array.from({ length: rows * VOCAB }, (_, i) => SCORES[i % VOCAB]), [rows, VOCAB]),
    { steps, processors: [], last: null, lengths: same(TOKENS.length), places: same(3), capacity: CAPACITY },
  );
  const text = { tokens: TOKENS, generated: TOKENS.length - PROMPT, cached: 0, dropped: 0 };
  const options = { steps, vocab: VOCAB, capacity: CAPACITY, processors: [] };
  const values = {
    ...samplingValues(samplings, options),
    ...noteValues(samplings.map(() => text), options),
  };
  const [root] = rebuild([token], (node) => {
    if (node.op !== leafOp) return node;
    return tensor(values[(node.attrs as { path: string }).path], node.shape);
  });
  return [...await read(on, root)];
}

const CASES: readonly Sampling[] = [
  { temperature: 0.7 },
  { temperature: 1.5, topK: 5 },
  { temperature: 1, topK: 100 },
  { temperature: 1, topP: 0.6 },
  { temperature: 2, topP: 0.001 },
  { temperature: 2, topP: 0 },
  { temperature: 1, minP: 0.2 },
  { temperature: 1, typicalP: 0.5 },
  { temperature: 1.2, topK: 20, topP: 0.9, minP: 0.02, typicalP: 0.8 },
  { temperature: 1, repetitionPenalty: 1.7 },
  { temperature: 1, presencePenalty: 1.5, frequencyPenalty: 0.5 },
  { temperature: 1, noRepeatNgram: 3, logitBias: { 7: 6, 2: 6 } },
  { temperature: 1, noRepeatNgram: 1 },
  { temperature: 1, logitBias: { 3: -Infinity, 4: 2.5 } },
];

for (const sampling of CASES) {
  Deno.test(`a draw is that of transformers in float64: ${JSON.stringify(sampling)}`, async () => {
    const samplings = Array.from({ length: ROWS }, (_, seed) => ({ ...sampling, seed }));
    const seen = await chosen(samplings);
    const scores = warped(processed(SCORES, { tokens: TOKENS, prompt: PROMPT, sampling }), sampling);
    assertEquals(seen, samplings.map(({ seed }) => drawn(scores, { seed, place: 3 })));
  });
}

Deno.test("options beyond the range of 32 bits do what the largest ones do", async () => {
  const cases: readonly (readonly [Sampling, Sampling])[] = [
    [{ presencePenalty: 1e300 }, { presencePenalty: 1e6 }],
    [{ frequencyPenalty: 1e300 }, { frequencyPenalty: 1e6 }],
    [{ repetitionPenalty: 1e300 }, { repetitionPenalty: 1e10 }],
    [{ repetitionPenalty: 1e-300 }, { repetitionPenalty: 1e-10 }],
    [{ logitBias: { 3: 1e300 } }, { logitBias: { 3: 1e6 } }],
    [{ noRepeatNgram: 2 ** 32 + 1 }, {}],
    [{ temperature: 1e300, logitBias: { 3: -Infinity } }, { temperature: 1e15, logitBias: { 3: -Infinity } }],
  ];
  const seeds = [1, 2, 3, 4];
  const rowsOf = (side: 0 | 1): readonly Sampling[] =>
    cases.flatMap((pair) => seeds.map((seed) => ({ temperature: 1, ...pair[side], seed })));
  assertEquals(await chosen(rowsOf(0)), await chosen(rowsOf(1)));
});

Deno.test("sequences of a batch may each be sampled in their own way, greedily too", async () => {
  const samplings = CASES.flatMap((one) => [{ ...one, seed: 5 }, { ...one, temperature: 0 }]);
  const seen = await chosen(samplings);
  const wanted = samplings.map((sampling) => {
    const scores = processed(SCORES, { tokens: TOKENS, prompt: PROMPT, sampling });
    const best = scores.indexOf(Math.max(...scores));
    return sampling.temperature === 0 ? best : drawn(warped(scores, sampling), { seed: 5, place: 3 });
  });
  assertEquals(seen, wanted);
});

Deno.test("a draw by rows of scores that a workgroup shares is that of one thread", async () => {
  // The kernel for software has one thread a row; the others are compiled for the same device here.
  const samplings = Array.from({ length: 8 }, (_, seed) => ({ temperature: 1, topP: 0.7, topK: 9, seed }));
  const hardware = { ...gpu, target: { ...gpu.target, software: false } };
  assertEquals(await chosen(samplings), await chosen(samplings, hardware));
});

const llama = await loadModel(gpu, `${import.meta.dirname}/../fixtures/llama`);

Deno.test("generation notes what it generates: penalties and n-grams hold over many tokens", async () => {
  const free = defineGeneration(gpu, llama, { stop: [] });
  const loops = (await free.next(await free.init([[15, 4, 25]]), 40)).sequences[0].tokens;
  assert(new Set(loops).size < 30, "a text without loops shows nothing");
  for (const sampling of [{ noRepeatNgram: 1 }, { presencePenalty: 1000 }, { frequencyPenalty: 1000 }]) {
    using generation = defineGeneration(gpu, llama, { ...sampling, stop: [] });
    const { tokens } = (await generation.next(await generation.init([[15, 4, 25]]), 40)).sequences[0];
    const counted = "noRepeatNgram" in sampling ? tokens : tokens.slice(3);
    assertEquals(new Set(counted).size, counted.length, JSON.stringify(sampling));
  }
  free[Symbol.dispose]();
});

Deno.test("an own processor reads scores, tokens and lengths", async () => {
  const ids = tensor(Float32Array.from({ length: 96 }, (_, id) => id), [1, 96]);
  using generation = defineGeneration(gpu, llama, {
    stop: [],
    // The next token is the number of tokens so far.
    processors: [
      (scores, { lengths }) => add(scores, multiply(1e6, equal(ids, reshape(cast(lengths), [-1, 1])))),
    ],
  });
  const state = await generation.next(await generation.init([[7, 8], [1, 2, 3, 4]]), 3);
  assertEquals(state.sequences.map(({ tokens }) => tokens), [[7, 8, 2, 3, 4], [1, 2, 3, 4, 4, 5, 6]]);
});

for (
  const [sampling, message] of [
    [{ topP: -0.1 }, '"topP" must be a number from 0 to 1: got -0.1'],
    [{ minP: 2 }, '"minP" must be a number from 0 to 1: got 2'],
    [{ typicalP: -1 }, '"typicalP" must be a number above 0 and at most 1: got -1'],
    [{ repetitionPenalty: 0 }, '"repetitionPenalty" must be a number above 0: got 0'],
    [{ presencePenalty: NaN }, '"presencePenalty" must be a number: got NaN'],
    [{ noRepeatNgram: 1.5 }, '"noRepeatNgram" must be a whole number from 0: got 1.5'],
    [{ logitBias: { 96: 1 } }, '"logitBias" must hold whole numbers from 0 to 95: got 96'],
    [{ logitBias: { 5: Infinity } }, '"logitBias" of 5 must be a number, or minus infinity: got Infinity'],
  ] as const
) {
  Deno.test(`generation refuses ${JSON.stringify(sampling)} of a sequence`, async () => {
    using generation = defineGeneration(gpu, llama);
    await assertRejects(
      () => generation.init([[1]], { sampling: [sampling as Sampling] }),
      InputError,
      `Cannot generate as ${message}`,
    );
  });
}
