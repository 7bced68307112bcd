/**
 * Moments of gradients for signals, beside an optimizer that keeps none.
 *
 * @module
 */

import { checkRange } from "../arguments.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import type { Tensor } from "../tensor.ts";
import { initMoments, type Moment, type Optimizer } from "./optimizer.ts";

const MOMENTS: readonly Moment[] = [
  { name: "mean", meaning: "firstMoment" },
  { name: "meanSquare", meaning: "secondMoment" },
];

/** Options of {@link gradientMoments}. */
export interface GradientMomentsOptions {
  /** Decay of the mean; 0.9 when absent, as policies assume. */
  readonly beta1?: number;
  /** Decay of the mean square; 0.999 when absent, as policies assume. */
  readonly beta2?: number;
}

/**
 * Keeps Adam's moments of the gradients and changes no step: signals of moments are measured of them. Training chains it before
 * an optimizer that keeps no such moments when a policy asks for them.
 *
 * @param options Decays
 * @returns An optimizer for {@link chain}; its moments are `mean.<path>` and `meanSquare.<path>`
 * @throws {InputError} When a decay is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chain, sgd } from "@firn/train";
 * import { gradientMoments } from "@firn/train/optim";
 *
 * const optimizer = chain(gradientMoments(), sgd({ learningRate: 0.1 }));
 * assertEquals(optimizer.moments.map(({ meaning }) => meaning), ["firstMoment", "secondMoment"]);
 * ```
 */
export function gradientMoments({ beta1 = 0.9, beta2 = 0.999 }: GradientMomentsOptions = {}): Optimizer {
  checkRange("gradientMoments", { beta1, beta2 }, { least: 0, below: 1 });
  return {
    name: `gradientMoments(${beta1}, ${beta2})`,
    moments: MOMENTS,
    init: (params) => initMoments(MOMENTS, params),
    next(state, grads) {
      const next = new Map<string, Tensor>();
      for (const [path, g] of grads) {
        next.set(`mean.${path}`, add(multiply(state.get(`mean.${path}`)!, beta1), multiply(g, 1 - beta1)));
        const square = multiply(state.get(`meanSquare.${path}`)!, beta2);
        next.set(`meanSquare.${path}`, add(square, multiply(multiply(g, g), 1 - beta2)));
      }
      return { updates: grads, state: next };
    },
  };
}
