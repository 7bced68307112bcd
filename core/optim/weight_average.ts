/**
 * An exponential moving average of the weights.
 *
 * @module
 */

import { checkRange } from "../arguments.ts";
import { add, multiply, subtract } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { initMoments, type Moment, momentPath, type Optimizer } from "./optimizer.ts";

const AVERAGE: Moment = { name: "average", meaning: "other", offset: true };

/**
 * Keeps an exponential moving average of the weights, `a = decay * a + (1 - decay) * W`. It is chained behind an optimizer, and
 * changes no step: validation, the best weights and `training.weights(state)` have the average.
 *
 * The moment is the distance from the weight to its average. What freezes keeps the weight that it had.
 *
 * Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the running form is that of
 * `torch.optim.swa_utils.AveragedModel`, whose average begins with the first weights, too.
 *
 * @param decay Decay of the average, from 0 and below 1
 * @returns An optimizer for {@link chain}; its moment is `average.<path>`
 * @throws {InputError} When the decay is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { chain, openGpu, read, sgd, tensor } from "@firn/train";
 * import { weightAverage } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const params = new Map([["w", tensor([1])]]), grads = new Map([["w", tensor([1])]]);
 * const optimizer = chain(sgd({ learningRate: 1 }), weightAverage(0.75));
 * const { state } = optimizer.next(optimizer.init(params), grads, params);
 * // The weight went from 1 to 0, and the average to 0.75.
 * const after = new Map([["w", tensor([0])]]);
 * assertAlmostEquals((await read(gpu, optimizer.evaluated!(state, after).get("w")!))[0], 0.75, 1e-6);
 * ```
 */
export function weightAverage(decay: number): Optimizer {
  checkRange("weightAverage", { decay }, { least: 0, below: 1 });
  return {
    name: `weightAverage(${decay})`,
    moments: [AVERAGE],
    init: (params) => initMoments([AVERAGE], params),
    next(state, updates) {
      const next = new Map<string, Tensor>();
      for (const [path, update] of updates) {
        const name = momentPath(AVERAGE, path);
        next.set(name, multiply(subtract(state.get(name)!, update), decay));
      }
      return { updates, state: next };
    },
    evaluated: (state, params) =>
      new Map(
        [...params].map(([path, weight]) => [path, add(weight, state.get(momentPath(AVERAGE, path))!)]),
      ),
  };
}
