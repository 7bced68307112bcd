/**
 * AdamW.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { add, multiply, negate } from "../ops/arithmetic.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { ADAM_MOMENTS, type AdamMomentOptions, adamSteps } from "./adam_step.ts";
import { initMoments, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";
import { decaysOf, type WeightDecayOptions } from "./weight_decay.ts";

/** Options of {@link adamW}; the defaults are PyTorch's. */
export interface AdamWOptions extends AdamMomentOptions, WeightDecayOptions {
  /** Rate, or rate by step. */
  readonly learningRate: number | Schedule;
  /** Decoupled weight decay, times the learning rate; 0.01 when absent. */
  readonly weightDecay?: number;
}

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
  const { learningRate, weightDecay = 0.01 } = options, rate = scheduleOf("adamW", learningRate);
  const steps = adamSteps("adamW", rate, options);
  checkRange("adamW", { weightDecay }, { least: 0 });
  const { decays, printed } = decaysOf("adamW", { ...options, weightDecay });
  const decay = stepScalar((step) => rate(step) * weightDecay);
  return {
    name: `adamW(${printRate(learningRate)}${steps.changed}, weightDecay ${weightDecay}${printed})`,
    learningRate: rate,
    moments: ADAM_MOMENTS,
    init: (params) => initMoments(ADAM_MOMENTS, params),
    next(state, grads, params) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      for (const [path, g] of grads) {
        const { down, m, v } = steps.next({ m: state.get(`m.${path}`)!, v: state.get(`v.${path}`)! }, g);
        const shrink = decays(g) ? add(down, multiply(params.get(path)!, decay)) : down;
        updates.set(path, negate(shrink));
        next.set(`m.${path}`, m);
        next.set(`v.${path}`, v);
      }
      return { updates, state: next };
    },
  };
}
