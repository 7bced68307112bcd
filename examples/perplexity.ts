/**
 * Perplexity of a model on held-out text.
 *
 * @module
 */

import { evaluate, type Gpu, type Model, nextTokenLoss, type TokenBatch } from "@firn/train";

/**
 * Computes e to the mean loss over all predicted tokens.
 *
 * @param gpu The device
 * @param model The model
 * @param batches Batches of one shape, padded with label -100
 * @returns The perplexity
 * @throws {NonFiniteError} When it is not finite; it names the first parameter that is not
 */
export async function perplexity(gpu: Gpu, model: Model, batches: readonly TokenBatch[]): Promise<number> {
  const { loss } = await evaluate(gpu, { loss: nextTokenLoss(model), params: model.params, batches });
  return Math.exp(loss);
}
