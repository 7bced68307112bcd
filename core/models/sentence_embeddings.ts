/**
 * Vectors of sentences.
 *
 * Axes: B batch, T time, C channels.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { add, cast, divide, multiply } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { maximum } from "../ops/comparison.ts";
import { sqrt } from "../ops/functions.ts";
import { reshape } from "../ops/movement.ts";
import { mean } from "../ops/reduce.ts";
import type { Tensor } from "../tensor.ts";
import type { TokenInput } from "./family.ts";
import { hiddenStates, type Model } from "./model.ts";

/** Options of {@link sentenceEmbeddings}. */
export interface SentenceEmbeddingOptions {
  /** Whether each vector is divided by its length, so that a product of two is the cosine of their angle; true when absent. */
  readonly normalize?: boolean;
}

/**
 * Vectors of sentences: the mean of the hidden states of their tokens.
 *
 * Source: Reimers and Gurevych, "Sentence-BERT", arXiv 1908.10084, section 3.
 *
 * @param model The model; `params` may be any tree of its shape
 * @param input Token ids, and which of them are padding
 * @param options Whether vectors have length 1
 * @returns f32 [B, C]
 * @throws {InputError} When the sequence is longer than the model allows, the mask has gaps, or rows are packed
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 * import { sentenceEmbeddings } from "@firn/train/models";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "bert", architectures: ["BertModel"], hidden_size: 8, intermediate_size: 16,
 *   num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 10 };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const inputIds = tensor(new Int32Array([1, 2, 3, 1, 2, 0]), [2, 3]);
 * const attentionMask = tensor(new Int32Array([1, 1, 1, 1, 1, 0]), [2, 3]);
 * const vectors = await read(gpu, sentenceEmbeddings(model, { inputIds, attentionMask }));
 * assertAlmostEquals(Math.hypot(...vectors.subarray(0, 8)), 1, 1e-6);
 * ```
 */
export function sentenceEmbeddings<I extends TokenInput>(
  model: Model<object, I>,
  input: I,
  { normalize = true }: SentenceEmbeddingOptions = {},
): Tensor {
  if (input.segments !== undefined) {
    throw new InputError(
      'Cannot make sentence embeddings on "segments" as each row gets one vector: give each document a row of its own',
    );
  }
  const hidden = hiddenStates(model, input), { attentionMask } = input; // [B, T, C]
  const [batch, time] = hidden.shape, column = [batch, 1];
  const pooled = attentionMask === undefined ? mean(hidden, 1) : divide(
    sum(multiply(hidden, reshape(cast(attentionMask), [batch, time, 1])), 1),
    reshape(maximum(sum(cast(attentionMask), 1), 1), column),
  );
  if (!normalize) return pooled;
  // As in PyTorch, a vector of zeros stays one.
  const length = sqrt(add(sum(multiply(pooled, pooled), 1), 1e-24));
  return divide(pooled, reshape(length, column));
}
