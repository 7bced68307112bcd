/**
 * Perplexity of a model on held-out text.
 *
 * @module
 */

import { evaluate, type Gpu, type Model, nextTokenLoss, type TokenBatch } from "@firn/train";
import { counted } from "@firn/train/report";
import { stage } from "./progress.ts";

/**
 * Computes e to the mean loss over all predicted tokens; a line shows how far it is.
 *
 * @param gpu The device
 * @param model The model
 * @param batches Batches of one shape, padded with label -100
 * @returns The perplexity
 * @throws {NonFiniteError} When it is not finite; it names the first parameter that is not
 */
export function perplexity(gpu: Gpu, model: Model, batches: readonly TokenBatch[]): Promise<number> {
  return stage(`evaluating  ${counted(batches.length, "batch")} of held-out text`, async (say) => {
    say("compiling its kernels");
    const { loss } = await evaluate(gpu, {
      loss: nextTokenLoss(model),
      params: model.params,
      batches,
      onProgress: ({ done, total }) => say(`${done} of ${total} done`),
    });
    return Math.exp(loss);
  });
}
