import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  InputError,
  logits,
  mapTree,
  type Model,
  NonFiniteError,
  read,
  sizeOf,
  tensor,
  type TensorTree,
} from "@firn/train";
import { generate, type GenerateOptions } from "@firn/train/infer";
import { loadModel, newModel } from "@firn/train/hub";
import { threefry2x32 } from "@firn/train/kernels";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const FIXTURES = `${import.meta.dirname}/../fixtures`;
const llama = await loadModel(gpu, `${FIXTURES}/llama`);
const PROMPT = [15, 4, 25];

/** `softmax(scores / temperature)`, in float64. */
function probabilities(scores: ArrayLike<number>, temperature: number): number[] {
  const weights = Array.from(scores, (score) => Math.exp(score / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

/** The id that a draw of this number from [0, 1) gives: the first at which the sum of probabilities exceeds it. */
function drawn(chances: readonly number[], uniform: number): number {
  let sum = 0;
  return chances.findIndex((chance) => (sum += chance) > uniform);
}

function uniformOf(seed: number, position: number): number {
  return threefry2x32([seed, 0x67656e], [position, 0])[0] / 2 ** 32;
}

async function tokens(model: Model, options: Omit<GenerateOptions, "prompt">): Promise<number[]> {
  return await Array.fromAsync(generate(gpu, model, { prompt: PROMPT, stop: [], ...options }));
}

async function lastScores(model: Model, ids: readonly number[]): Promise<Float32Array> {
  const all = await read(gpu, logits(model, tensor(Int32Array.from(ids), [1, ids.length])));
  return all.slice(-all.length / ids.length) as Float32Array;
}

Deno.test("generate gives only ids of a vocabulary that fills no group of four, also where all scores are negative", async () => {
  const source = {
    model_type: "llama",
    hidden_size: 4,
    intermediate_size: 4,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    vocab_size: 5,
    tie_word_embeddings: false,
  };
  const model = await newModel(gpu, { source, seed: 1 });
  // Hidden values are alike for all ids, and the rows of the head are negative.
  const constants: Readonly<Record<string, (row: number) => number>> = {
    "lm_head.weight": (row) => row - 5,
    "model.embed_tokens.weight": () => 1,
  };
  const params = mapTree(model.params as TensorTree, (t, path) => {
    const value = constants[path];
    if (value === undefined) return t;
    return tensor(Float32Array.from({ length: 20 }, (_, i) => value(Math.floor(i / 4))), t.shape);
  });
  const negative = { ...model, params };
  const options = { prompt: [1, 2], maxTokens: 3, stop: [] };
  assertEquals(await Array.fromAsync(generate(gpu, negative, options)), [4, 4, 4]);
});

Deno.test("generate draws with the probabilities of the temperature, by the seed and the place in the text", async () => {
  const seed = 7, temperature = 3, ids = [...PROMPT], greedy = await tokens(llama, { maxTokens: 5 });
  const seen = await tokens(llama, { maxTokens: 5, temperature, seed });
  for (const token of seen) {
    const chances = probabilities(await lastScores(llama, ids), temperature);
    assertEquals(token, drawn(chances, uniformOf(seed, ids.length)));
    ids.push(token);
  }
  assert(
    seen.some((token, i) => token !== greedy[i]),
    "draws at a high temperature must differ from the best",
  );
});

Deno.test("generate at a temperature near 0 gives what it gives at 0", async () => {
  const greedy = await tokens(llama, { maxTokens: 8 });
  assertEquals(await tokens(llama, { maxTokens: 8, temperature: 1e-5, seed: 3 }), greedy);
});

Deno.test("generate gives one seed the same tokens, and another seed others", async () => {
  const [a, b, c] = [await tokens(llama, { maxTokens: 8, temperature: 2, seed: 1 })].concat([
    await tokens(llama, { maxTokens: 8, temperature: 2, seed: 1 }),
    await tokens(llama, { maxTokens: 8, temperature: 2, seed: 2 }),
  ]);
  assertEquals(a, b);
  assert(c.some((token, i) => token !== a[i]));
});

Deno.test("generate draws from the best tokens alone", async () => {
  assertEquals(
    await tokens(llama, { maxTokens: 6, temperature: 9, topK: 1 }),
    await tokens(llama, { maxTokens: 6 }),
  );
});

Deno.test("generate ends before a token that stops it", async () => {
  const all = await tokens(llama, { maxTokens: 8 });
  assertEquals(await tokens(llama, { maxTokens: 8, stop: [all[2]] }), all.slice(0, all.indexOf(all[2])));
});

Deno.test("generate ends at eos_token_id of the model, one or a list", async () => {
  const all = await tokens(llama, { maxTokens: 8 }), end = all[3];
  for (const eos_token_id of [end, [95, end]]) {
    const model = { ...llama, source: { ...llama.source, eos_token_id } };
    assertEquals(await tokens(model, { maxTokens: 8, stop: undefined }), all.slice(0, all.indexOf(end)));
  }
});

Deno.test("generate over parameters of NaN names the token that it cannot draw", async () => {
  const embedding = "model.embed_tokens.weight";
  const params = mapTree(
    llama.params as TensorTree,
    (t, path) => path === embedding ? tensor(new Float32Array(sizeOf(t.shape)).fill(NaN), t.shape) : t,
  );
  await assertRejects(
    () => tokens({ ...llama, params }, { maxTokens: 2 }),
    NonFiniteError,
    "Cannot generate as the scores of token 1 is NaN",
  );
});

Deno.test("generate goes on where the longest sequence is reached, on the last tokens", async () => {
  const short = { ...llama, maxLength: 6 };
  const seen = await tokens(short, { maxTokens: 6 }), ids = [...PROMPT];
  for (const token of seen) {
    const scores = await lastScores(llama, ids.slice(-6));
    assertEquals(token, scores.indexOf(Math.max(...scores)));
    ids.push(token);
  }
});

for (
  const [options, message] of [
    [{ prompt: [] }, 'Cannot generate as "prompt" is empty: give at least one id'],
    [{ prompt: [1, 96] }, 'Cannot generate as "prompt" must hold whole numbers from 0 to 95: got 96'],
    [{ prompt: [1.5] }, 'Cannot generate as "prompt" must hold whole numbers from 0 to 95: got 1.5'],
    [{ stop: "x" as unknown as number[] }, 'Cannot generate as "stop" must be a list of ids: got "x"'],
    [{ stop: [1e308] }, 'Cannot generate as "stop" must hold whole numbers from 0 to 95: got 1e+308'],
    [{ seed: 0.5 }, 'Cannot generate as "seed" must be a whole number from 0: got 0.5'],
    [{ maxTokens: 1.5 }, 'Cannot generate as "maxTokens" must be a whole number from 0: got 1.5'],
    [{ temperature: -1 }, 'Cannot generate as "temperature" must be a number from 0: got -1'],
    [{ temperature: NaN }, 'Cannot generate as "temperature" must be a number from 0: got NaN'],
    [{ topK: 0 }, 'Cannot generate as "topK" must be a whole number above 0: got 0'],
  ] as const
) {
  Deno.test(`generate refuses ${Object.entries(options).map(([key, value]) => `${key} ${value}`)}`, async () => {
    const run = () => Array.fromAsync(generate(gpu, llama, { prompt: PROMPT, maxTokens: 2, ...options }));
    await assertRejects(run, InputError, message);
  });
}
