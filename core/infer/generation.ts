/**
 * Text generation as a reducer over tokens: several sequences at once, with a cache of keys and values.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { shown } from "../arguments.ts";
import { ConsumedError, InputError } from "../errors.ts";
import { headOf, type Model, outputOf } from "../models/model.ts";
import type { Gpu } from "../runtime/device.ts";
import { cachedSequences } from "./cached_sequences.ts";
import type {
  Generation,
  GenerationOptions,
  GenerationState,
  PromptOptions,
  Sequence,
} from "./generation_types.ts";
import { extended } from "./sequences.ts";
import { checkIds, checkSampling, type Sampling } from "./sampling.ts";

/**
 * Defines generation: a model, and how its next token is chosen.
 *
 * All sequences share each pass over the weights. A sequence gets the same tokens in any batch, up to ties within rounding.
 * Beyond the model's longest sequence, only the last tokens are read, which is slow.
 *
 * @param gpu The device
 * @param model The model, with parameters on the host or the device
 * @param options How tokens are chosen, what ends a sequence
 * @returns The reducer; `init` and `next` throw `InputError` for prompts and options out of range, `NonFiniteError` when the
 * scores of a token are not finite, `ConsumedError` for a state that was used, or parameters that a training step consumed
 * @throws {InputError} When an option is out of its range, or the model does not predict tokens
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu } from "@firn/train";
 * import { defineGeneration } from "@firn/train/infer";
 * import { newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * using generation = defineGeneration(gpu, model, { temperature: 0.8, topP: 0.9, seed: 1 });
 * let state = await generation.init([[1, 2, 3], [4]]);
 * state = await generation.next(state, 5);
 * assertEquals(state.sequences.map(({ tokens }) => tokens.length), [8, 6]);
 * ```
 */
export function defineGeneration(gpu: Gpu, model: Model, options: GenerationOptions = {}): Generation {
  checkHead(model);
  const [vocab] = outputOf(model).weight.shape, { stop = endsOf(model) } = options;
  checkIds("stop", stop, vocab);
  checkSampling(options, vocab);
  const cache = cachedSequences(gpu, model, options);
  let live: GenerationState | null = null;
  /** The steps that consumed states. */
  const consumed = new WeakMap<GenerationState, number>();
  function checkLive(state: GenerationState): void {
    if (state !== live) throw new ConsumedError(state.step, consumed.get(state) ?? state.step + 1);
  }
  function consume(state: GenerationState): void {
    checkLive(state);
    consumed.set(state, state.step + 1);
    live = null;
  }
  function born(sequences: readonly Sequence[], step: number): GenerationState {
    return live = { sequences, step, done: sequences.every(({ ended }) => ended) };
  }
  return {
    async init(prompts, { sampling, generated, from } = {}) {
      const sequences = sequencesOf(prompts, { vocab, generated });
      const samplings = samplingsOf(options, { sampling, count: sequences.length });
      samplings.forEach((one) => checkSampling(one, vocab));
      const before = from ?? live;
      if (before !== null) consume(before);
      await cache.prompt(sequences, { samplings, before: from?.sequences });
      return born(sequences, 0);
    },
    async next(state, count = 1) {
      if (!(Number.isSafeInteger(count) && count >= 1)) {
        throw new InputError(
          `Cannot generate as "count" must be a whole number above 0: got ${shown(count)}`,
        );
      }
      consume(state);
      let sequences: readonly Sequence[] = state.sequences.map(({ told: _, ...one }) => ({
        ...one,
        added: [],
      }));
      for (let left = count; left > 0 && !sequences.every(({ ended }) => ended);) {
        const drawn = await cache.draw(sequences, left);
        sequences = sequences.map((one, r) => extended(one, { drawn: drawn[r], stop }));
        left -= drawn[0].ids.length;
      }
      return born(sequences, state.step + 1);
    },
    async profile(state) {
      checkLive(state);
      return await cache.profile(state.sequences);
    },
    check: cache.check,
    [Symbol.dispose]() {
      cache.destroy();
      live = null;
    },
  };
}

/**
 * The tokens that end a text: `eos_token_id` of a model, one, a list, or none.
 *
 * @param model The model
 * @returns Their ids
 */
export function endsOf({ source }: Pick<Model, "source">): readonly number[] {
  return [source.eos_token_id ?? []].flat() as number[];
}

function checkHead(model: Model): void {
  const head = headOf(model);
  if (head.task === "nextToken") return;
  throw new InputError(
    `Cannot generate with "${model.architecture}" as its task must be nextToken: it is ${head.task}`,
  );
}

function sequencesOf(
  prompts: readonly (Int32Array | readonly number[])[],
  { vocab, generated = [] }: { readonly vocab: number; readonly generated?: readonly number[] },
): readonly Sequence[] {
  if (!Array.isArray(prompts) || prompts.length === 0) {
    throw new InputError(
      `Cannot generate as "prompts" must be a list of at least one: got ${shown(prompts)}`,
    );
  }
  return prompts.map((ids, r): Sequence => {
    const tokens = [...ids];
    if (tokens.length === 0) {
      throw new InputError('Cannot generate as "prompt" is empty: give at least one id');
    }
    checkIds("prompt", tokens, vocab);
    const made = generated[r] ?? 0;
    if (!(Number.isSafeInteger(made) && made >= 0 && made <= tokens.length)) {
      throw new InputError(
        `Cannot generate as "generated" must have a number from 0 to ${tokens.length} for prompt ${
          r + 1
        }: got ${shown(made)}`,
      );
    }
    return { tokens, generated: made, added: [], ended: false };
  });
}

/** How each sequence is sampled. Seeds differ, so that equal prompts are continued differently. */
function samplingsOf(
  options: GenerationOptions,
  { sampling, count }: Pick<PromptOptions, "sampling"> & { readonly count: number },
): readonly Sampling[] {
  if (sampling !== undefined && sampling.length !== count) {
    throw new InputError(
      `Cannot generate as "sampling" must have ${
        counted(count, "entry")
      }, one for each prompt: got ${sampling.length}`,
    );
  }
  return Array.from(
    { length: count },
    (_, r) => ({ ...options, seed: (options.seed ?? 0) + r, ...sampling?.[r] }),
  );
}
