/**
 * Text generation as a reducer over tokens.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import { createBuffer, destroyBuffer } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { readBuffers } from "../runtime/readback.ts";
import { bytesOf } from "../plan/storage.ts";
import { checkUnconsumed } from "../runtime/residents.ts";
import { planFor } from "./read.ts";
import { record, type Recording } from "../runtime/record.ts";
import { headOf, type Model, outputOf } from "../models/model.ts";
import { features, scoresOf } from "../models/tasks.ts";
import { embedding } from "../ops/embedding.ts";
import { reshape } from "../ops/movement.ts";
import { leaf } from "../sources.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { sampleToken } from "./sample.ts";

/** Options of {@link generate}. */
export interface GenerateOptions {
  /** Ids to continue; at least one. */
  readonly prompt: Int32Array | readonly number[];
  /** Most tokens to add. */
  readonly maxTokens: number;
  /** 0 is greedy; above, scores are divided by it. 0 when absent. */
  readonly temperature?: number;
  /** Only this many best tokens are drawn from; all when absent. */
  readonly topK?: number;
  /** Seed of the draws; 0 when absent. */
  readonly seed?: number;
  /** Ids that end the text; `eos_token_id` of the model's `config.json` when absent. None of them is returned. */
  readonly stop?: readonly number[];
}

/**
 * Continues a sequence of token ids, one at a time.
 *
 * Ends after `maxTokens`, or before a token that stops the text, which is not returned. Beyond the model's longest
 * sequence, only the last tokens are read.
 *
 * @param gpu The device
 * @param model The model, with parameters on the host or the device
 * @param options Prompt, length, sampling
 * @returns The new ids, as they come
 * @throws {InputError} When the prompt is empty or an id is not in the vocabulary, or an option is out of its range
 * @throws {NonFiniteError} When the scores of a token are not finite
 * @throws {ConsumedError} When a training step consumes the parameters, also between two tokens
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { generate, newModel, openGpu } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const tokens = await Array.fromAsync(generate(gpu, model, { prompt: [1, 2], maxTokens: 3, temperature: 1 }));
 * assertEquals(tokens.length, 3);
 * ```
 */
export async function* generate(
  gpu: Gpu,
  model: Model,
  options: GenerateOptions,
): AsyncGenerator<number, void, undefined> {
  const { prompt, maxTokens, temperature = 0, topK, seed = 0, stop = endsOf(model) } = options;
  const ids = [...prompt];
  checkOptions(model, { ids, maxTokens, temperature, topK, seed, stop });
  // Sequences are padded to a power of two, so that few lengths have to be planned and compiled.
  const length = Math.min(2 ** Math.ceil(Math.log2(ids.length + maxTokens)), model.maxLength);
  const runner = await createRunner(gpu, model, length);
  try {
    for (let position = 0; position < maxTokens; position++) {
      const scores = await runner.scores(ids.slice(-length));
      const id = sampleToken(scores, { temperature, topK, seed, position });
      if (stop.includes(id)) return;
      ids.push(id);
      yield id;
    }
  } finally {
    runner.destroy();
  }
}

/** `eos_token_id` of a model: one, a list, or none. */
function endsOf({ source }: Model): readonly number[] {
  return [source.eos_token_id ?? []].flat() as number[];
}

function checkOptions(
  model: Model,
  { ids, maxTokens, temperature, topK, seed, stop }: {
    readonly ids: readonly number[];
    readonly maxTokens: number;
    readonly temperature: number;
    readonly topK: number | undefined;
    readonly seed: number;
    readonly stop: readonly number[];
  },
): void {
  const head = headOf(model);
  if (head.task !== "nextToken") {
    throw new InputError(
      `Cannot generate with "${model.architecture}" as its task must be nextToken: it is ${head.task}`,
    );
  }
  if (ids.length === 0) throw new InputError('Cannot generate as "prompt" is empty: give at least one id');
  const [vocabSize] = outputOf(model).weight.shape;
  for (const [name, list] of [["prompt", ids], ["stop", stop]] as const) {
    if (!Array.isArray(list)) {
      throw new InputError(`Cannot generate as "${name}" must be a list of ids: got ${shown(list)}`);
    }
    const bad = list.find((id) => !(Number.isSafeInteger(id) && id >= 0 && id < vocabSize));
    if (bad === undefined) continue;
    throw new InputError(
      `Cannot generate as "${name}" must hold whole numbers from 0 to ${vocabSize - 1}: got ${bad}`,
    );
  }
  const must = (holds: boolean, name: string, rule: string, seen: unknown): void => {
    if (!holds) throw new InputError(`Cannot generate as "${name}" must be ${rule}: got ${seen}`);
  };
  must(Number.isSafeInteger(maxTokens) && maxTokens >= 0, "maxTokens", "a whole number from 0", maxTokens);
  must(temperature >= 0 && temperature < Infinity, "temperature", "a number from 0", temperature);
  const counts = topK === undefined || (Number.isSafeInteger(topK) && topK >= 1);
  must(counts, "topK", "a whole number above 0", topK);
  must(Number.isSafeInteger(seed) && seed >= 0, "seed", "a whole number from 0", seed);
}

interface Runner {
  scores(ids: readonly number[]): Promise<Float32Array>;
  destroy(): void;
}

/** The forward pass for one padded length. Causal attention never reads the padding. */
async function createRunner(gpu: Gpu, model: Model, length: number): Promise<Runner> {
  const idLeaf = leaf("ids", { shape: [1, length], dtype: "i32" });
  const lastLeaf = leaf("last", { shape: [1], dtype: "i32" });
  const states = features(model, { inputIds: idLeaf });
  const last = embedding(reshape(states, [length, states.shape[2]]), lastLeaf); // [1, C]
  const scores = scoresOf(model, last); // [1, V]
  const plan = planFor(gpu, [scores]);
  const buffers = new Map<Path, GPUBuffer>(
    [idLeaf, lastLeaf].map((l) => {
      const { path } = l.attrs as { path: Path };
      return [path, createBuffer(gpu, { label: path, bytes: bytesOf(l) })];
    }),
  );
  const resolve = (node: Tensor): GPUBuffer => buffers.get((node.attrs as { path: Path }).path)!;
  const recording: Recording = await record(gpu, { plan, resolve, label: "generate" });
  return {
    async scores(ids) {
      const padded = new Int32Array(length);
      padded.set(ids);
      gpu.device.queue.writeBuffer(buffers.get("ids")!, 0, padded);
      gpu.device.queue.writeBuffer(buffers.get("last")!, 0, new Int32Array([ids.length - 1]));
      checkUnconsumed(plan);
      recording.replay(1);
      // The buffer ends in padding, whose zeros are no scores.
      const bytes = 4 * sizeOf(scores.shape);
      return new Float32Array((await readBuffers(gpu, [{ buffer: recording.roots[0], bytes }]))[0]);
    },
    destroy() {
      recording.destroy();
      for (const buffer of buffers.values()) destroyBuffer(buffer);
    },
  };
}
