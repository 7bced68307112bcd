/**
 * Stochastic gradient descent.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";

/** Options of {@link sgd}. */
export interface SgdOptions {
  /** Rate, or rate by step. */
  readonly learningRate: number | Schedule;
  /** Decay of the velocity; 0, no velocity, when absent. */
  readonly momentum?: number;
}

const VELOCITY: readonly Moment[] = [{ name: "velocity", meaning: "momentum" }];

/**
 * `W -= rate * v`, `v = momentum * v + g`.
 *
 * @param options Learning rate and momentum
 * @returns The optimizer; its moment is `velocity.<path>`, with momentum only
 * @throws {InputError} When a number is out of its range
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
  const { learningRate, momentum = 0 } = options;
  const rate = scheduleOf("sgd", learningRate);
  checkRange("sgd", { momentum }, { least: 0 });
  const down = stepScalar((step) => -rate(step));
  const moments = momentum === 0 ? [] : VELOCITY;
  return {
    name: `sgd(${printRate(learningRate)}, momentum ${momentum})`,
    learningRate: rate,
    moments,
    init: (params) => initMoments(moments, params),
    next(state, grads) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      for (const [path, g] of grads) {
        const velocity = momentum === 0 ? g : add(multiply(state.get(`velocity.${path}`)!, momentum), g);
        if (momentum !== 0) next.set(`velocity.${path}`, velocity);
        updates.set(path, multiply(velocity, down));
      }
      return { updates, state: next };
    },
  };
}
