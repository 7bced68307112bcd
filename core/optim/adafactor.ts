/**
 * Adafactor.
 *
 * @module
 */

import { checkNumber, checkOptions, checkRange, refuse } from "../arguments.ts";
import { add, divide, multiply, negate } from "../ops/arithmetic.ts";
import { maximum } from "../ops/comparison.ts";
import { rsqrt, sqrt } from "../ops/functions.ts";
import { mean } from "../ops/reduce.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { changedOf } from "./adam_step.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";
import { decaysOf, type WeightDecayOptions } from "./weight_decay.ts";

/** Options of {@link adafactor}; the defaults are PyTorch's. */
export interface AdafactorOptions extends WeightDecayOptions {
  /** Rate relative to the size of a weight, or rate by step; a step has at most one over the root of its number. */
  readonly learningRate: number | Schedule;
  /** Exponent of the step in the decay of the second moment, below 0; -0.8 when absent. */
  readonly beta2Decay?: number;
  /** Least mean square of a row of gradients, and root of the least second moment; 2^-23 when absent. */
  readonly eps1?: number;
  /** Least size of a weight that the rate is relative to; 1e-3 when absent. */
  readonly eps2?: number;
  /** Root mean square of an update above which it is scaled down; 1 when absent. */
  readonly clip?: number;
  /** Decoupled weight decay, times the learning rate; 0 when absent. */
  readonly weightDecay?: number;
}

/** The second moment of a matrix is kept as means of its rows and columns. */
const MOMENTS: readonly Moment[] = [
  { name: "rows", meaning: "other", shape: (shape) => shape.length < 2 ? null : shape.with(-1, 1) },
  { name: "columns", meaning: "other", shape: (shape) => shape.length < 2 ? null : shape.with(-2, 1) },
  { name: "square", meaning: "other", shape: (shape) => shape.length < 2 ? shape : null },
];

/**
 * Adafactor without a first moment: the second moment of a matrix is kept as one number for each row and each column, so that
 * the optimizer needs next to no memory. Updates are relative to the size of the weights, and clipped.
 *
 * Source: Shazeer and Stern, "Adafactor", arXiv 1804.04235, algorithms 4 and 5, as `torch.optim.Adafactor` has them.
 *
 * @param options Learning rate and hyperparameters
 * @returns The optimizer; its moments are `rows.<path>` and `columns.<path>`, and `square.<path>` of a vector
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { adafactor } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([2, -2])]]), grads = new Map([["w", tensor([5, 5])]]);
 * const optimizer = adafactor({ learningRate: 0.1 });
 * const { updates } = optimizer.next(optimizer.init(params), grads, params);
 * // A tenth of the weights' size.
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.2, 1e-6);
 * ```
 */
export function adafactor(options: AdafactorOptions): Optimizer {
  checkOptions("adafactor", options);
  const { learningRate, beta2Decay = -0.8, eps1 = 2 ** -23, eps2 = 1e-3, clip = 1, weightDecay = 0 } =
    options;
  const rate = scheduleOf("adafactor", learningRate);
  checkNumber("adafactor", "beta2Decay", beta2Decay);
  if (beta2Decay >= 0) refuse("adafactor", '"beta2Decay" must be below 0', beta2Decay);
  checkRange("adafactor", { eps1, eps2, weightDecay }, { least: 0 });
  const { decays, printed } = decaysOf("adafactor", options);
  checkRange("adafactor", { clip }, { least: Number.MIN_VALUE });
  const relative = stepScalar((step, age) => Math.min(rate(step), 1 / Math.sqrt(age)));
  const decay = stepScalar((step) => rate(step) * weightDecay);
  const fresh = stepScalar((_, age) => age ** beta2Decay),
    kept = stepScalar((_, age) => 1 - age ** beta2Decay);
  const changed = changedOf([
    ["beta2Decay", beta2Decay, -0.8],
    ["eps1", eps1, 2 ** -23],
    ["eps2", eps2, 1e-3],
    ["clip", clip, 1],
  ]);
  const towards = (old: Tensor, now: Tensor): Tensor => add(multiply(old, kept), multiply(now, fresh));
  return {
    name: `adafactor(${printRate(learningRate)}${changed}, weightDecay ${weightDecay}${printed})`,
    learningRate: rate,
    moments: MOMENTS,
    init: (params) => initMoments(MOMENTS, params),
    next(state, grads, params) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      /** The second moment after the step. */
      const secondMoment = (path: string, square: Tensor): Tensor => {
        const after = (name: string, now: Tensor): Tensor => {
          const value = towards(state.get(`${name}.${path}`)!, now);
          next.set(`${name}.${path}`, value);
          return value;
        };
        if (square.shape.length < 2) return after("square", square);
        const rows = after("rows", mean(square, -1, { keepDims: true }));
        const columns = after("columns", mean(square, -2, { keepDims: true }));
        return multiply(divide(rows, maximum(mean(rows, -2, { keepDims: true }), eps1)), columns);
      };
      for (const [path, g] of grads) {
        const weight = params.get(path)!, second = secondMoment(path, multiply(g, g));
        const way = multiply(g, rsqrt(maximum(second, eps1 * eps1)));
        const size = maximum(sqrt(mean(multiply(weight, weight))), eps2);
        const limit = maximum(divide(sqrt(mean(multiply(way, way))), clip), 1);
        const down = multiply(way, divide(multiply(size, relative), limit));
        updates.set(path, negate(decays(g) ? add(down, multiply(weight, decay)) : down));
      }
      return { updates, state: next };
    },
  };
}
