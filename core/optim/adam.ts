/**
 * Adam.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { add, multiply, negate } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { ADAM_MOMENTS, type AdamMomentOptions, adamSteps } from "./adam_step.ts";
import { initMoments, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";
import { decaysOf, type WeightDecayOptions } from "./weight_decay.ts";

/** Options of {@link adam}; the defaults are PyTorch's. */
export interface AdamOptions extends AdamMomentOptions, WeightDecayOptions {
  /** Rate, or rate by step. */
  readonly learningRate: number | Schedule;
  /** Factor of the weights that is added to their gradients; 0 when absent. {@link adamW} decays them apart from these. */
  readonly weightDecay?: number;
}

/**
 * Adam: the mean of the gradients over the root of the mean of their squares.
 *
 * Source: Kingma and Ba, "Adam", arXiv 1412.6980, algorithm 1.
 *
 * @param options Learning rate and hyperparameters
 * @returns The optimizer; its moments are `m.<path>` and `v.<path>`
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { adam } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1])]]), grads = new Map([["w", tensor([5])]]);
 * const optimizer = adam({ learningRate: 0.1 });
 * const { updates } = optimizer.next(optimizer.init(params), grads, params);
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.1, 1e-6);
 * ```
 */
export function adam(options: AdamOptions): Optimizer {
  checkOptions("adam", options);
  const { learningRate, weightDecay = 0 } = options, rate = scheduleOf("adam", learningRate);
  const steps = adamSteps("adam", rate, options);
  checkRange("adam", { weightDecay }, { least: 0 });
  const { decays, printed } = decaysOf("adam", options);
  return {
    name: `adam(${printRate(learningRate)}${steps.changed}, weightDecay ${weightDecay}${printed})`,
    learningRate: rate,
    moments: ADAM_MOMENTS,
    init: (params) => initMoments(ADAM_MOMENTS, params),
    next(state, grads, params) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      for (const [path, gradient] of grads) {
        const g = decays(gradient) ? add(gradient, multiply(params.get(path)!, weightDecay)) : gradient;
        const { down, m, v } = steps.next({ m: state.get(`m.${path}`)!, v: state.get(`v.${path}`)! }, g);
        updates.set(path, negate(down));
        next.set(`m.${path}`, m);
        next.set(`v.${path}`, v);
      }
      return { updates, state: next };
    },
  };
}
