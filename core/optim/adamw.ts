/**
 * AdamW.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { add, divide, multiply, negate } from "../ops/arithmetic.ts";
import { sqrt } from "../ops/functions.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";

/** Options of {@link adamW}; the defaults are PyTorch's. */
export interface AdamWOptions {
  /** Rate, or rate by step. */
  readonly learningRate: number | Schedule;
  /** Decay of the first moment; 0.9 when absent. */
  readonly beta1?: number;
  /** Decay of the second moment; 0.999 when absent. */
  readonly beta2?: number;
  /** Added to the root of the second moment; 1e-8 when absent. */
  readonly eps?: number;
  /** Decoupled weight decay, times the learning rate; 0.01 when absent. */
  readonly weightDecay?: number;
}

const MOMENTS: readonly Moment[] = [
  { name: "m", meaning: "firstMoment" },
  { name: "v", meaning: "secondMoment" },
];

/**
 * Adam with decoupled weight decay. The planner fuses the update of a parameter into one kernel.
 *
 * Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", arXiv 1711.05101, algorithm 2.
 *
 * @param options Learning rate and hyperparameters
 * @returns The optimizer; its moments are `m.<path>` and `v.<path>`
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { adamW, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1])]]), grads = new Map([["w", tensor([5])]]);
 * const optimizer = adamW({ learningRate: 0.1, weightDecay: 0 });
 * const { updates } = optimizer.next(optimizer.init(params), grads, params);
 * // The first step of Adam has the length of the learning rate.
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.1, 1e-6);
 * ```
 */
export function adamW(options: AdamWOptions): Optimizer {
  checkOptions("adamW", options);
  const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01 } = options;
  const { learningRate } = options, rate = scheduleOf("adamW", learningRate);
  checkRange("adamW", { beta1, beta2 }, { least: 0, below: 1 });
  checkRange("adamW", { eps, weightDecay }, { least: 0 });
  // One tensor a scalar, which all parameters share. Bias corrections are computed in float64, as in PyTorch. They count
  // the updates of the moments: fewer than the steps where a parameter was frozen.
  const stepSize = stepScalar((step, age) => rate(step) / (1 - beta1 ** age));
  const correction = stepScalar((_, age) => 1 / Math.sqrt(1 - beta2 ** age));
  const decay = stepScalar((step) => rate(step) * weightDecay);
  const settings = [["beta1", beta1, 0.9], ["beta2", beta2, 0.999], ["eps", eps, 1e-8]] as const;
  const changed = settings.map(([key, value, usual]) => value === usual ? "" : `, ${key} ${value}`).join("");
  return {
    name: `adamW(${printRate(learningRate)}${changed}, weightDecay ${weightDecay})`,
    learningRate: rate,
    moments: MOMENTS,
    init: (params) => initMoments(MOMENTS, params),
    next(state, grads, params) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      for (const [path, g] of grads) {
        const m = add(multiply(state.get(`m.${path}`)!, beta1), multiply(g, 1 - beta1));
        const v = add(multiply(state.get(`v.${path}`)!, beta2), multiply(multiply(g, g), 1 - beta2));
        const step = divide(multiply(m, stepSize), add(multiply(sqrt(v), correction), eps));
        const shrink = weightDecay === 0 ? step : add(step, multiply(params.get(path)!, decay));
        updates.set(path, negate(shrink));
        next.set(`m.${path}`, m);
        next.set(`v.${path}`, v);
      }
      return { updates, state: next };
    },
  };
}
