/**
 * Perplexity of a model on held-out text.
 *
 * @module
 */

import { evaluate, type Gpu, type Model, nextTokenLoss, type TokenBatch } from "@firn/train";
import { predictions } from "@firn/train/data";

/**
 * Computes e to the mean loss over all predicted tokens.
 *
 * @param gpu The device
 * @param model The model
 * @param batches Batches of one shape, padded with label -100
 * @returns The perplexity
 */
export async function perplexity(gpu: Gpu, model: Model, batches: readonly TokenBatch[]): Promise<number> {
  const losses = await evaluate(gpu, { loss: nextTokenLoss(model), params: model.params, batches });
  const counts = batches.map(predictions);
  const total = counts.reduce((a, b) => a + b, 0);
  return Math.exp(counts.reduce((sum, n, i) => sum + n * losses[i], 0) / total);
}
