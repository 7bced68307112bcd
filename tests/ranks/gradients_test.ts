/**
 * Training on several ranks is that of one with all their samples in its batch.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  divide,
  flatten,
  freeState,
  type Gpu,
  InputError,
  multiply,
  nextTokenLoss,
  openGpu,
  type Ranks,
  read,
  sqrt,
  sum,
  type Tensor,
  tensor,
  type TrainingOptions,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import { RanksError } from "@firn/train/ranks";
import { definePolicy, defineSignal, gradES } from "@firn/train/policies";
import { gradientExchange } from "../../core/train/step/exchange.ts";
import { createBuffer, destroyBuffer, writeValues } from "../../core/runtime/buffers.ts";
import { readBuffers } from "../../core/runtime/readback.ts";
import { ranksInProcess } from "./in_process.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 32,
  max_position_embeddings: 8,
  tie_word_embeddings: true,
};
const SAMPLES = 6, LENGTH = 8, STEPS = 4;

type Options = TrainingOptions<ReturnType<typeof samples>>;

/** Samples from one to another of a step; the number of labels differs from sample to sample. */
function samples(step: number, { from, to }: { readonly from: number; readonly to: number }) {
  const at = (i: number): number => (i * 7 + Math.floor(i / LENGTH) * step * 5 + step) % SOURCE.vocab_size;
  const ids = Int32Array.from({ length: (to - from) * LENGTH }, (_, i) => at(i + from * LENGTH));
  const labels = ids.map((id, i) => i % LENGTH < 1 + (from + Math.floor(i / LENGTH)) % 5 ? -100 : id);
  const shape = [to - from, LENGTH];
  return { inputIds: tensor(ids, shape), labels: tensor(labels, shape) };
}

/** Losses, frozen components and weights of a run of some ranks, each with its share of the samples. */
async function run(
  gpu: Gpu,
  ranks: readonly Ranks[],
  { parts = 1, optionsOf = () => ({}), ...options }: Partial<Options> & {
    readonly parts?: number;
    /** Options of one rank. */
    readonly optionsOf?: (rank: number) => Partial<Options>;
  } = {},
) {
  const model = await newModel(gpu, { source: SOURCE, seed: 1 }), share = SAMPLES / ranks.length;
  return await Promise.all(ranks.map(async (own) => {
    using training = defineTraining(gpu, nextTokenLoss(model), {
      optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.02 })),
      steps: STEPS,
      lookEvery: 2,
      policy: gradES({ tau: 4, alpha: 0.3 }),
      ...options,
      ...ranks.length > 1 && { ranks: own },
      accumulate: parts,
      ...optionsOf(own.rank),
    });
    let state = await training.init(model.params);
    const losses: number[] = [];
    for (let step = 1; step <= STEPS && !state.done; step++) {
      const batches = Array.from({ length: parts }, (_, i) => {
        const from = own.rank * share + i * share / parts;
        return samples(step, { from, to: from + share / parts });
      });
      state = await training.next(state, parts === 1 ? batches[0] : batches);
      losses.push((await read(gpu, state.loss!))[0]);
    }
    const weights = await Promise.all([...flatten(state.params).values()].map((weight) => read(gpu, weight)));
    return { losses, frozen: state.frozen, weights, policy: state.policy };
  }));
}

for (const [precision, size] of [["f32", 3], ["f16", 2]] as const) {
  Deno.test(`${size} ranks train as one does on all samples, with equal bits on each (${precision})`, async () => {
    await using gpu = await openGpu({ tune: false });
    if (precision === "f16" && !gpu.features.has("shader-f16")) return;
    const [one] = await run(gpu, ranksInProcess(1), { precision });
    const [first, ...others] = await run(gpu, ranksInProcess(size), { precision });
    for (const other of others) assertEquals(other, first);
    assertEquals(first.frozen, one.frozen);
    assertEquals(first.frozen.length > 0, true);
    const tolerance = precision === "f32" ? 2e-6 : 1e-3;
    one.losses.forEach((loss, i) => assertAlmostEquals(first.losses[i], loss, tolerance * loss));
  });
}

Deno.test("a signal of one's own is that of one rank with all samples, and equal on each", async () => {
  await using gpu = await openGpu({ tune: false });
  const squares = (x: Tensor): Tensor => sum(multiply(x, x));
  const relative = defineSignal({
    name: "relative",
    measure: ({ weight, gradient }) => sqrt(divide(squares(gradient), squares(weight))),
  });
  const policy = definePolicy<readonly number[]>({
    name: "reads",
    signals: [relative],
    init: () => [],
    next: (seen, { read }) => [...seen, read(relative, "model.layers.0.mlp.up_proj")],
    frozen: () => [],
  });
  const [one] = await run(gpu, ranksInProcess(1), { policy });
  const [first, ...others] = await run(gpu, ranksInProcess(2), { policy });
  for (const other of others) assertEquals(other, first);
  const [expected, read] = [one, first].map((result) => result.policy as readonly number[]);
  assertEquals([expected.length, expected.every((value) => value > 0)], [STEPS, true]);
  expected.forEach((value, i) => assertAlmostEquals(read[i], value, 1e-5 * value));
});

Deno.test("ranks that accumulate parts take the step of one that has all samples in one batch", async () => {
  await using gpu = await openGpu({ tune: false });
  const [one] = await run(gpu, ranksInProcess(1), { policy: undefined });
  const [first, ...others] = await run(gpu, ranksInProcess(3), { parts: 2, policy: undefined });
  for (const other of others) assertEquals(other, first);
  one.losses.forEach((loss, i) => assertAlmostEquals(first.losses[i], loss, 2e-6 * loss));
});

Deno.test("ranks that train other parameters are refused before anything is summed, on every rank", async () => {
  await using gpu = await openGpu({ tune: false });
  const optionsOf = (rank: number): Partial<Options> =>
    rank === 1 ? { trainable: (path) => path.includes("mlp"), policy: undefined } : { policy: undefined };
  const error = await assertRejects(() => run(gpu, ranksInProcess(2), { optionsOf }), RanksError);
  assertMatch(error.message, /^Cannot take step 1 as all 2 ranks must take the same one/);
});

Deno.test("ranks refuse cachePrefix, and what openRanks did not give", async () => {
  await using gpu = await openGpu({ tune: false });
  const [ranks] = ranksInProcess(2), model = await newModel(gpu, { source: SOURCE, seed: 1 });
  const define = (options: Partial<Options>) =>
    defineTraining(gpu, nextTokenLoss(model), {
      optimizer: adamW({ learningRate: 1 }),
      steps: 1,
      ...options,
    });
  assertThrows(() => define({ ranks, cachePrefix: true }), InputError, "drop one of both");
  assertThrows(() => define({ ranks: { ...ranks, rank: 2 } }), InputError, "what openRanks() gives");
});

Deno.test("an exchange takes sums that grow, as where parameters thaw, and buckets", async () => {
  await using gpu = await openGpu({ tune: false });
  const all = ranksInProcess(2);
  const sums = await Promise.all(all.map(async (ranks) => {
    const exchange = gradientExchange(gpu, ranks), results: number[][] = [];
    for (const count of [2, 6, 1]) {
      const bytes = count * 4, buffer = createBuffer(gpu, { label: "sum", bytes });
      writeValues(gpu, buffer, Float32Array.from({ length: count }, (_, i) => i + ranks.rank));
      await exchange.sum([{ buffer, bytes }]);
      const [values] = await readBuffers(gpu, [{ buffer, bytes }]);
      results.push([...new Float32Array(values)]);
      destroyBuffer(buffer);
    }
    exchange.destroy();
    return { results, bytes: exchange.bytes };
  }));
  const results = [[1, 3], [1, 3, 5, 7, 9, 11], [1]];
  assertEquals(sums, [{ results, bytes: 36 }, { results, bytes: 36 }]);
});

Deno.test("a limit of memory counts the buffers of an exchange, and the cost of a step its bytes", async () => {
  await using gpu = await openGpu({ tune: false });
  const model = await newModel(gpu, { source: SOURCE, seed: 1 });
  // Each begins where a device can bind it.
  const aligned = (bytes: number): number => Math.ceil(bytes / 256) * 256;
  const gradients = [...flatten(model.params).values()].reduce(
    (n, { shape }) => n + aligned(shape.reduce((a, b) => a * b, 4)),
    0,
  );
  for (const accumulate of [1, 2]) {
    const before = gpu.counts.bytes;
    using training = defineTraining(gpu, nextTokenLoss(model), {
      optimizer: adamW({ learningRate: 1 }),
      // No look, which would read with a buffer of its own.
      steps: 2,
      ranks: ranksInProcess(1)[0],
      accumulate,
      memory: "1 GiB",
    });
    const batches = Array.from({ length: accumulate }, () => samples(1, { from: 0, to: 2 }));
    const state = await training.next(await training.init(model.params), batches);
    // The loss goes along, in a buffer of 16 bytes.
    assertEquals(state.cost!.exchanged, gradients + 16);
    assertEquals(gpu.counts.bytes - before, training.memory()!.bytes);
    freeState(state);
  }
});
