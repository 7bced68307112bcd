/**
 * What keeps training from being too sure: smoothed labels, a bound on scores, noise on embeddings.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { rebuild } from "../graph.ts";
import { add, cast, divide, multiply, subtract } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import { equal, maximum, where } from "../ops/comparison.ts";
import { crossEntropy, IGNORE } from "../ops/cross_entropy.ts";
import { logSumExp } from "../ops/log_sum_exp.ts";
import { randomUniform } from "../ops/random.ts";
import { mean } from "../ops/reduce.ts";
import { reshape } from "../ops/movement.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { DropoutSetting } from "./dropout.ts";

/** Options of losses, for training alone: evaluation and validation have the plain loss. */
export interface Regularization {
  /**
   * What the model drops; `"config"` when absent: the rates of its `config.json`, as `transformers` drops after `model.train()`,
   * such as 0.1 for GPT-2 and BERT, and nothing where they are 0, as for Llama. A number takes the place of all rates that the
   * family knows, 0 for none. Source: Srivastava et al. 2014, "Dropout".
   */
  readonly dropout?: DropoutSetting;
  /**
   * Share of each label that goes to all classes alike; 0 when absent. Source: Szegedy et al., arXiv 1512.00567, section 7, as
   * `label_smoothing` of PyTorch has it.
   */
  readonly labelSmoothing?: number;
  /**
   * Factor of the squared logarithm of the sum of all scores' exponentials, which keeps them from drifting; 0 when absent.
   * Source: Chowdhery et al., "PaLM", arXiv 2204.02311, section 5, with 1e-4.
   */
  readonly zLoss?: number;
  /**
   * Alpha of the noise on embeddings of tokens, uniform within `alpha / sqrt(T C)`; 0 when absent. Source: Jain et al.,
   * "NEFTune", arXiv 2310.05914, with 5 to 15.
   */
  readonly neftune?: number;
  /** Seed of dropout and noise; 0 when absent. */
  readonly seed?: number;
}

/** Stream of random numbers of the noise: adapters count theirs from 0. */
const NOISE = 2 ** 31;

/**
 * Refuses settings that are none.
 *
 * @param op The loss
 * @param options The settings
 * @throws {InputError} When a number is out of its range
 */
export function checkRegularization(op: string, options: Regularization): void {
  checkOptions(op, options);
  const { labelSmoothing = 0, zLoss = 0, neftune = 0, dropout = "config" } = options;
  if (dropout !== "config") checkRange(op, { dropout }, { least: 0, below: 1 });
  checkRange(op, { labelSmoothing }, { least: 0, below: 1 });
  checkRange(op, { zLoss, neftune }, { least: 0 });
}

/** What a model drops while it is trained by a loss. */
export function dropoutOf(
  { dropout: setting = "config", seed = 0 }: Regularization,
): { readonly setting: DropoutSetting; readonly seed: number } {
  return { setting, seed };
}

/** Whether a loss needs the scores of all classes. */
export function needsScores({ labelSmoothing = 0, zLoss = 0 }: Regularization): boolean {
  return labelSmoothing > 0 || zLoss > 0;
}

/**
 * Mean negative log-likelihood of labels with smoothing and a bound on scores.
 *
 * @param scores f32 [..., K]
 * @param options `labels`: i32 [...], -100 where nothing is to be learned; the settings
 * @returns f32 scalar
 */
export function regularizedLoss(
  scores: Tensor,
  options: Regularization & { readonly labels: Tensor },
): Tensor {
  const { labelSmoothing = 0, zLoss = 0 } = options, classes = scores.shape.at(-1)!;
  const rows = sizeOf(options.labels.shape), labels = reshape(options.labels, [rows]);
  const flat = reshape(scores, [rows, classes]);
  const counted = where(equal(cast(labels), IGNORE), 0, 1), count = maximum(sum(counted), 1);
  const meanOf = (x: Tensor): Tensor => divide(sum(multiply(counted, x)), count);
  const all = logSumExp(flat, -1);
  let loss = crossEntropy(flat, labels);
  if (labelSmoothing > 0) {
    const uniform = meanOf(subtract(all, mean(flat, -1)));
    loss = add(multiply(loss, 1 - labelSmoothing), multiply(uniform, labelSmoothing));
  }
  return zLoss > 0 ? add(loss, multiply(meanOf(multiply(all, all)), zLoss)) : loss;
}

/**
 * Adds noise to the embeddings of tokens in a graph, another one each step.
 *
 * @param output What is computed from them
 * @param options The ids of the tokens, [B, T], and the settings
 * @returns The same with noise
 */
export function withNoise(
  output: Tensor,
  { ids, neftune = 0, seed = 0 }: Regularization & { readonly ids: Tensor },
): Tensor {
  if (neftune === 0) return output;
  const isTokens = ({ op, inputs, shape }: Tensor): boolean =>
    op.roles?.[0] === "table" && inputs[1] === ids && shape.at(-1) === output.shape.at(-1);
  const [noisy] = rebuild([output], (node) => {
    if (!isTokens(node)) return node;
    const [time, width] = node.shape.slice(-2), bound = neftune / Math.sqrt(time * width);
    const noise = randomUniform(node.shape, { seed, stream: NOISE, eachStep: true });
    return add(node, subtract(multiply(noise, 2 * bound), bound));
  });
  return noisy;
}
