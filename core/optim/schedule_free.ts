/**
 * AdamW without a schedule.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { add, divide, multiply, subtract } from "../ops/arithmetic.ts";
import { sqrt } from "../ops/functions.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { type AdamMomentOptions, changedOf } from "./adam_step.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";
import { printRate, type Schedule, scheduleOf } from "./schedules.ts";
import { decaysOf, type WeightDecayOptions } from "./weight_decay.ts";

/** Options of {@link scheduleFreeAdamW}; the defaults are those of the paper's code. */
export interface ScheduleFreeOptions extends AdamMomentOptions, WeightDecayOptions {
  /** Rate, larger than that of AdamW with a schedule; `constantRate` adds warm-up. */
  readonly learningRate: number | Schedule;
  /** Weight decay, times the learning rate; 0 when absent. */
  readonly weightDecay?: number;
}

const MOMENTS: readonly Moment[] = [
  { name: "offset", meaning: "other", offset: true },
  { name: "v", meaning: "secondMoment" },
];

/**
 * AdamW that needs no decay of its rate, and so no planned length: an average of the weights takes its place.
 *
 * Steps move a point z. The weights to evaluate, x, are the average of all z; gradients are taken at y, between both: `y = (1 -
 * beta1) z + beta1 x`. The parameters of a training are y, and the moment `offset` is `z - y`. Validation and
 * `training.weights(state)` have x.
 *
 * Source: Defazio et al., "The Road Less Scheduled", arXiv 2405.15682, algorithm 1, with the weights of its code: each z counts
 * by the square of the highest rate so far.
 *
 * @param options Learning rate and hyperparameters
 * @returns The optimizer; its moments are `offset.<path>` and `v.<path>`
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { scheduleFreeAdamW } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1])]]), grads = new Map([["w", tensor([5])]]);
 * const optimizer = scheduleFreeAdamW({ learningRate: 0.1 });
 * const { updates, state } = optimizer.next(optimizer.init(params), grads, params);
 * // After one step the average of all z is z itself, so all three points are one.
 * assertAlmostEquals((await read(gpu, updates.get("w")!))[0], -0.1, 1e-6);
 * assertAlmostEquals((await read(gpu, state.get("offset.w")!))[0], 0, 1e-6);
 * ```
 */
export function scheduleFreeAdamW(options: ScheduleFreeOptions): Optimizer {
  checkOptions("scheduleFreeAdamW", options);
  const { learningRate, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0 } = options;
  const rate = scheduleOf("scheduleFreeAdamW", learningRate), share = averageShare(rate);
  checkRange("scheduleFreeAdamW", { beta1 }, { least: Number.MIN_VALUE, below: 1 });
  checkRange("scheduleFreeAdamW", { beta2 }, { least: 0, below: 1 });
  checkRange("scheduleFreeAdamW", { eps, weightDecay }, { least: 0 });
  const { decays, printed } = decaysOf("scheduleFreeAdamW", options);
  const towardsZ = stepScalar(share), zStep = stepScalar((step) => rate(step));
  const yStep = stepScalar((step, age) => rate(step) * (beta1 * (1 - share(step, age)) - 1));
  const correction = stepScalar((_, age) => 1 / Math.sqrt(1 - beta2 ** age));
  const changed = changedOf([["beta1", beta1, 0.9], ["beta2", beta2, 0.999], ["eps", eps, 1e-8]]);
  return {
    name: `scheduleFreeAdamW(${printRate(learningRate)}${changed}, weightDecay ${weightDecay}${printed})`,
    learningRate: rate,
    moments: MOMENTS,
    init: (params) => initMoments(MOMENTS, params),
    next(state, grads, params) {
      const updates = new Map<string, Tensor>(), next = new Map<string, Tensor>();
      for (const [path, g] of grads) {
        const offset = state.get(`offset.${path}`)!;
        const v = add(multiply(state.get(`v.${path}`)!, beta2), multiply(multiply(g, g), 1 - beta2));
        const quotient = divide(g, add(multiply(sqrt(v), correction), eps));
        const way = decays(g) ? add(quotient, multiply(params.get(path)!, weightDecay)) : quotient;
        const update = add(multiply(offset, towardsZ), multiply(way, yStep));
        updates.set(path, update);
        next.set(`offset.${path}`, subtract(subtract(offset, multiply(way, zStep)), update));
        next.set(`v.${path}`, v);
      }
      return { updates, state: next };
    },
    evaluated: (state, params) =>
      new Map(
        [...params].map(([path, y]) => [path, add(y, multiply(state.get(`offset.${path}`)!, 1 - 1 / beta1))]),
      ),
  };
}

/** Most sums that are kept: one for each number of steps that the device may have left out, and for each thaw. */
const MOST_SUMS = 4096;

/**
 * Share of the newest z in the average of all z: each counts by the square of the highest rate until then.
 *
 * @param rate Learning rate by step
 * @returns The share by step and age of the parameter
 */
function averageShare(rate: Schedule): (step: number, age: number) => number {
  // The sums of a run go on from step to step, so that a long one does not add them all up again.
  const sums = new Map<number, { step: number; highest: number; sum: number; weight: number }>();
  return (step, age) => {
    const start = step - age;
    let known = sums.get(start);
    if (known === undefined || known.step > step) {
      if (sums.size === MOST_SUMS) sums.clear();
      sums.set(start, known = { step: start, highest: 0, sum: 0, weight: 0 });
    }
    while (known.step < step) {
      known.step++;
      known.highest = Math.max(known.highest, rate(known.step));
      known.weight = known.highest ** 2;
      known.sum += known.weight;
    }
    return known.sum === 0 ? 0 : known.weight / known.sum;
  };
}
