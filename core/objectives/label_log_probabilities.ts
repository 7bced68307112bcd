/**
 * How likely a model finds the labels of a batch, in the graph of a loss.
 *
 * Axes: B batch, T time, V vocabulary.
 *
 * @module
 */

import { headOf, type Model, outputOf } from "../models/model.ts";
import { features, scoresOf, type TokenBatch } from "../models/tasks.ts";
import { negate } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { crossEntropyOp, nextLabels } from "../ops/cross_entropy.ts";
import { tokenLosses } from "../ops/token_losses.ts";
import { reshape } from "../ops/movement.ts";
import { sizeOf } from "../spec.ts";
import { apply, pick, type Tensor } from "../tensor.ts";

/**
 * Log-probabilities of the labels of a batch, each after the tokens before it. Scores of some rows are dropped before those
 * of the next are made.
 *
 * @param model The model
 * @param batch Ids, and labels of the tokens that are asked about
 * @returns f32 [B, T], nats: at each position that of the next token; 0 where that has no label
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 * import { labelLogProbabilities } from "@firn/train/objectives";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const inputIds = tensor(new Int32Array([1, 2, 3]), [1, 3]);
 * const labels = tensor(new Int32Array([-100, -100, 3]), [1, 3]);
 * const found = await read(gpu, labelLogProbabilities(model, { inputIds, labels }));
 * // A new model knows nothing: each of 10 ids is as likely as any other.
 * assertAlmostEquals(found[1], Math.log(1 / 10), 0.1);
 * assertAlmostEquals(found[0] + found[2], 0, 1e-12);
 * ```
 */
export function labelLogProbabilities<I extends object>(
  model: Model<object, I>,
  batch: I & Pick<TokenBatch, "labels">,
): Tensor {
  const rows = features(model, batch), labels = nextLabels(batch.labels);
  const { weight, ...more } = outputOf(model);
  if (Object.values(more).every((other) => other === undefined)) {
    const softCap = headOf(model).softCap?.(model.config);
    return negate(tokenLosses(rows, { weight, labels, softCap, bytes: model.scoreBytes }));
  }
  const scores = scoresOf(model, rows), classes = scores.shape.at(-1)!, count = sizeOf(labels.shape);
  const losses = apply(crossEntropyOp, [reshape(scores, [count, classes]), reshape(labels, [count])], {
    classes,
  });
  return reshape(negate(pick(losses, 0)), labels.shape);
}

/**
 * Log-probabilities of whole answers.
 *
 * @param model The model
 * @param batch Ids, and labels of the answers
 * @returns f32 [B], nats: sums over the labels of each row
 */
export function rowLogProbabilities<I extends object>(
  model: Model<object, I>,
  batch: I & Pick<TokenBatch, "labels">,
): Tensor {
  return sum(labelLogProbabilities(model, batch), 1);
}
