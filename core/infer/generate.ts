/**
 * Text generation as a stream of tokens.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Model } from "../models/model.ts";
import type { Gpu } from "../runtime/device.ts";
import { defineGeneration } from "./generation.ts";
import type { GenerationOptions } from "./generation_types.ts";

/** Options of {@link generate}. */
export interface GenerateOptions extends Omit<GenerationOptions, "expected"> {
  /** Ids to continue; at least one. */
  readonly prompt: Int32Array | readonly number[];
  /** Most tokens to add. */
  readonly maxTokens: number;
}

/** Milliseconds in which the host reads tokens at least once, so that text comes evenly. */
const OFTEN = 50;
/** Most tokens that are read at once. */
const MOST = 32;

/**
 * Continues a sequence of token ids, one at a time.
 *
 * Ends after `maxTokens`, or before a token that stops the text, which is not returned. Beyond the model's longest
 * sequence, only the last tokens are read. {@link defineGeneration} continues several sequences at once.
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
 * import { openGpu } from "@firn/train";
 * import { generate } from "@firn/train/infer";
 * import { newModel } from "@firn/train/hub";
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
  const { prompt, maxTokens, ...more } = options;
  if (!(Number.isSafeInteger(maxTokens) && maxTokens >= 0)) {
    throw new InputError(`Cannot generate as "maxTokens" must be a whole number from 0: got ${maxTokens}`);
  }
  using generation = defineGeneration(gpu, model, { ...more, expected: prompt.length + maxTokens });
  let state = await generation.init([prompt]), count = 1;
  for (let left = maxTokens; left > 0 && !state.done;) {
    const start = performance.now();
    state = await generation.next(state, Math.min(count, left));
    count = performance.now() - start < OFTEN / 2
      ? Math.min(2 * count, MOST)
      : Math.max(1, Math.floor(count / 2));
    for (const id of state.sequences[0].added) {
      generation.check();
      yield id;
    }
    left -= state.sequences[0].added.length;
  }
}
