/**
 * Losses of scores of classes.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { binaryCrossEntropy, meanSquaredError } from "../ops/losses.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { reshape } from "../ops/movement.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { ProblemType } from "./class_head.ts";
import { type Regularization, regularizedLoss } from "./regularize.ts";

/**
 * The loss of scores by what they mean.
 *
 * @param scores f32 [..., K]
 * @param options `labels`: i32 [...] or f32 [..., K]; `problem`: what the scores mean, which labels tell where it is null;
 * `regularization`: smoothing and z-loss, none when absent
 * @returns f32 scalar: a mean over rows, or over all scores of a regression or of several classes a row
 * @throws {InputError} When labels are of the wrong type, or a loss without one class a row is to be regularized
 */
export function classRowLoss(
  scores: Tensor,
  { labels, problem, regularization }: {
    readonly labels: Tensor;
    readonly problem: ProblemType | null;
    readonly regularization?: Regularization;
  },
): Tensor {
  const meaning = problem ??
    (labels.dtype === "f32" ? "multi_label_classification" : "single_label_classification");
  const wanted = meaning === "single_label_classification" ? "i32" : "f32";
  if (labels.dtype !== wanted) {
    throw new InputError(
      `Cannot make a loss of ${meaning} as its labels must be ${wanted}: they are ${labels.dtype}`,
    );
  }
  if (wanted === "i32") {
    return regularization === undefined
      ? rowLoss(scores, labels)
      : regularizedLoss(scores, { ...regularization, labels });
  }
  if (regularization !== undefined) {
    throw new InputError(
      `Cannot make a loss of ${meaning} with "labelSmoothing" or "zLoss" as these are for rows with one class: drop them`,
    );
  }
  const targets = reshape(labels, scores.shape);
  return meaning === "regression" ? meanSquaredError(scores, targets) : binaryCrossEntropy(scores, targets);
}

/**
 * Cross-entropy of rows of scores.
 *
 * @param scores f32 [..., K]
 * @param labels i32 [...]
 * @returns f32 scalar
 */
export function rowLoss(scores: Tensor, labels: Tensor): Tensor {
  const rows = sizeOf(labels.shape);
  return crossEntropy(reshape(scores, [rows, scores.shape.at(-1)!]), reshape(labels, [rows]));
}
