/**
 * Lion.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { add, multiply, subtract } from "../ops/arithmetic.ts";
import { sign } from "../ops/functions.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { changedOf } from "./adam_step.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";
import { decaysOf, type WeightDecayOptions } from "./weight_decay.ts";

/** Options of {@link lion}; the defaults are the paper's. */
export interface LionOptions extends WeightDecayOptions {
  /** Rate, or rate by step: a third to a tenth of AdamW's. */
  readonly learningRate: number | Schedule;
  /** Share of the moment in the direction of a step; 0.9 when absent. */
  readonly beta1?: number;
  /** Decay of the moment; 0.99 when absent. */
  readonly beta2?: number;
  /** Decoupled weight decay, times the learning rate: three to ten times AdamW's; 0 when absent. */
  readonly weightDecay?: number;
}

const MOMENTS: readonly Moment[] = [{ name: "m", meaning: "firstMoment" }];

/**
 * Lion: each weight goes up or down by the learning rate, as the sign of a mean of gradients says. It keeps one moment.
 *
 * Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", arXiv 2302.06675, algorithm 2.
 *
 * @param options Learning rate and hyperparameters
 * @returns The optimizer; its moment is `m.<path>`
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { lion } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1, 1])]]), grads = new Map([["w", tensor([5, -0.01])]]);
 * const optimizer = lion({ learningRate: 0.1 });
 * const { updates } = optimizer.next(optimizer.init(params), grads, params);
 * const [first, second] = await read(gpu, updates.get("w")!);
 * assertAlmostEquals(first, -0.1, 1e-6);
 * assertAlmostEquals(second, 0.1, 1e-6);
 * ```
 */
export function lion(options: LionOptions): Optimizer {
  checkOptions("lion", options);
  const { learningRate, beta1 = 0.9, beta2 = 0.99, weightDecay = 0 } = options;
  const rate = scheduleOf("lion", learningRate);
  checkRange("lion", { beta1, beta2 }, { least: 0, below: 1 });
  checkRange("lion", { weightDecay }, { least: 0 });
  const { decays, printed } = decaysOf("lion", options);
  const down = stepScalar((step) => -rate(step));
  return {
    name: `lion(${printRate(learningRate)}${
      changedOf([["beta1", beta1, 0.9], ["beta2", beta2, 0.99]])
    }, weightDecay ${weightDecay}${printed})`,
    learningRate: rate,
    moments: MOMENTS,
    init: (params) => initMoments(MOMENTS, params),
    next(state, grads, params) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      for (const [path, g] of grads) {
        // Both means are from the gradient towards the moment, so that one launch has them and reads each once.
        const apart = subtract(state.get(`m.${path}`)!, g);
        const way = sign(add(g, multiply(apart, beta1)));
        const all = decays(g) ? add(way, multiply(params.get(path)!, weightDecay)) : way;
        updates.set(path, multiply(all, down));
        next.set(`m.${path}`, add(g, multiply(apart, beta2)));
      }
      return { updates, state: next };
    },
  };
}
