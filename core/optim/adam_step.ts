/**
 * What Adam and its kin have in common: two moments with corrected bias, and their quotient.
 *
 * @module
 */

import { checkRange } from "../arguments.ts";
import { add, divide, multiply } from "../ops/arithmetic.ts";
import { sqrt } from "../ops/functions.ts";
import { stepScalar } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { Moment } from "./optimizer.ts";
import type { Schedule } from "./schedules.ts";

/** Decays of the moments, and what keeps the quotient finite; the defaults are PyTorch's. */
export interface AdamMomentOptions {
  /** Decay of the first moment; 0.9 when absent. */
  readonly beta1?: number;
  /** Decay of the second moment; 0.999 when absent. */
  readonly beta2?: number;
  /** Added to the root of the second moment; 1e-8 when absent. */
  readonly eps?: number;
}

/** The moments of Adam: `m.<path>` and `v.<path>`. */
export const ADAM_MOMENTS: readonly Moment[] = [
  { name: "m", meaning: "firstMoment" },
  { name: "v", meaning: "secondMoment" },
];

/** Adam's step of one parameter. */
export interface AdamStep {
  /** The rate times the quotient: what the parameter goes down by. */
  readonly down: Tensor;
  /** The first moment after the step. */
  readonly m: Tensor;
  /** The second moment after the step. */
  readonly v: Tensor;
}

/** Adam with its settings. */
export interface AdamSteps {
  /** Settings other than the defaults, for the name of an optimizer. */
  readonly changed: string;
  /** The rate without bias, f32 scalar. */
  readonly stepSize: Tensor;
  /** What unbiases the root of the second moment, f32 scalar. */
  readonly correction: Tensor;
  /** Takes a step of one parameter. */
  next(moments: { readonly m: Tensor; readonly v: Tensor }, gradient: Tensor): AdamStep;
}

/**
 * Makes the steps of Adam.
 *
 * @param op The optimizer
 * @param rate Learning rate by step
 * @param options Decays
 * @returns A function of moments and gradient
 * @throws {InputError} When a number is out of its range
 */
export function adamSteps(
  op: string,
  rate: Schedule,
  { beta1 = 0.9, beta2 = 0.999, eps = 1e-8 }: AdamMomentOptions,
): AdamSteps {
  checkRange(op, { beta1, beta2 }, { least: 0, below: 1 });
  checkRange(op, { eps }, { least: 0 });
  // One tensor a scalar, which all parameters share. Bias corrections are computed in float64, as in PyTorch. They count
  // the updates of the moments: fewer than the steps where a parameter was frozen.
  const stepSize = stepScalar((step, age) => rate(step) / (1 - beta1 ** age));
  const correction = stepScalar((_, age) => 1 / Math.sqrt(1 - beta2 ** age));
  return {
    changed: changedOf([["beta1", beta1, 0.9], ["beta2", beta2, 0.999], ["eps", eps, 1e-8]]),
    stepSize,
    correction,
    next(moments, g) {
      const m = add(multiply(moments.m, beta1), multiply(g, 1 - beta1));
      const v = add(multiply(moments.v, beta2), multiply(multiply(g, g), 1 - beta2));
      const down = divide(multiply(m, stepSize), add(multiply(sqrt(v), correction), eps));
      return { down, m, v };
    },
  };
}

/** Settings that differ from their defaults, as names of optimizers print them. */
export function changedOf(
  settings: readonly (readonly [key: string, value: unknown, usual: unknown])[],
): string {
  return settings.map(([key, value, usual]) => value === usual ? "" : `, ${key} ${value}`).join("");
}
