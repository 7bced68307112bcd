/**
 * Losses of numbers and of probabilities; `cross_entropy.ts` has that of classes.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import { sameShape } from "../spec.ts";
import { checkTensor, type Tensor } from "../tensor.ts";
import { multiply, subtract } from "./arithmetic.ts";
import { softplus } from "./softplus.ts";
import { mean } from "./reduce.ts";

/** Checks that both arguments of a loss have one shape: broadcasting would count elements several times. */
function checkPair(op: string, pair: Readonly<Record<string, Tensor>>): void {
  for (const [name, x] of Object.entries(pair)) checkTensor(op, x, name);
  const [a, b] = Object.values(pair);
  if (!sameShape(a.shape, b.shape)) {
    throw new ShapeError(op, `${Object.keys(pair).join(" and ")} must have one shape`, [a.shape, b.shape]);
  }
}

/**
 * Mean of squared differences over all elements.
 *
 * @param predictions f32 of any shape
 * @param targets f32 of the same shape
 * @returns f32 scalar
 * @throws {ShapeError} When the shapes differ
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { meanSquaredError } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, meanSquaredError(tensor([1, 2]), tensor([1, 4])))], [2]);
 * ```
 */
export function meanSquaredError(predictions: Tensor, targets: Tensor): Tensor {
  checkPair("meanSquaredError", { predictions, targets });
  const off = subtract(predictions, targets);
  return mean(multiply(off, off));
}

/**
 * Mean binary cross-entropy of scores over all elements: `softplus(x) - x * target`.
 *
 * @param logits f32 of any shape, scores before the logistic function
 * @param targets f32 of the same shape, probabilities from 0 to 1
 * @returns f32 scalar, nats
 * @throws {ShapeError} When the shapes differ
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { binaryCrossEntropy } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const loss = binaryCrossEntropy(tensor([0, 0]), tensor([0, 1]));
 * assertAlmostEquals((await read(gpu, loss))[0], Math.LN2, 1e-6);
 * ```
 */
export function binaryCrossEntropy(logits: Tensor, targets: Tensor): Tensor {
  checkPair("binaryCrossEntropy", { logits, targets });
  return mean(subtract(softplus(logits), multiply(logits, targets)));
}
