/**
 * Stochastic gradient descent.
 *
 * @module
 */

import { checkFlag, checkOptions, checkRange, refuse } from "../arguments.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";
import { decaysOf, type WeightDecayOptions } from "./weight_decay.ts";

/** Options of {@link sgd}. */
export interface SgdOptions extends WeightDecayOptions {
  /** Rate, or rate by step. */
  readonly learningRate: number | Schedule;
  /** Decay of the velocity; 0, no velocity, when absent. */
  readonly momentum?: number;
  /** Whether a step looks ahead along the velocity; false when absent. */
  readonly nesterov?: boolean;
  /** Factor of the weights that is added to their gradients; 0 when absent. */
  readonly weightDecay?: number;
}

const VELOCITY: readonly Moment[] = [{ name: "velocity", meaning: "momentum" }];

/**
 * `W -= rate * v`, `v = momentum * v + g`; with Nesterov's momentum `W -= rate * (g + momentum * v)`.
 *
 * Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, as PyTorch has it.
 *
 * @param options Learning rate and momentum
 * @returns The optimizer; its moment is `velocity.<path>`, with momentum only
 * @throws {InputError} When a number is out of its range, or Nesterov's momentum is 0
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, sgd, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1])]]), grads = new Map([["w", tensor([5])]]);
 * const { updates } = sgd({ learningRate: 0.1 }).next(new Map(), grads, params);
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.5, 1e-6);
 * ```
 */
export function sgd(options: SgdOptions): Optimizer {
  checkOptions("sgd", options);
  const { learningRate, momentum = 0, nesterov = false, weightDecay = 0 } = options;
  const rate = scheduleOf("sgd", learningRate);
  checkRange("sgd", { momentum, weightDecay }, { least: 0 });
  checkFlag("sgd", "nesterov", nesterov);
  const { decays, printed } = decaysOf("sgd", options);
  if (nesterov && momentum === 0) refuse("sgd", '"nesterov" needs a "momentum" above 0', momentum);
  const down = stepScalar((step) => -rate(step));
  const moments = momentum === 0 ? [] : VELOCITY;
  const more = `${nesterov ? ", nesterov" : ""}${
    weightDecay === 0 ? "" : `, weightDecay ${weightDecay}${printed}`
  }`;
  return {
    name: `sgd(${printRate(learningRate)}, momentum ${momentum}${more})`,
    learningRate: rate,
    moments,
    init: (params) => initMoments(moments, params),
    next(state, grads, params) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      for (const [path, gradient] of grads) {
        const g = decays(gradient) ? add(gradient, multiply(params.get(path)!, weightDecay)) : gradient;
        const velocity = momentum === 0 ? g : add(multiply(state.get(`velocity.${path}`)!, momentum), g);
        if (momentum !== 0) next.set(`velocity.${path}`, velocity);
        updates.set(path, multiply(nesterov ? add(g, multiply(velocity, momentum)) : velocity, down));
      }
      return { updates, state: next };
    },
  };
}
