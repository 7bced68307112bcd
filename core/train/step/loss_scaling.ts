/**
 * Loss scaling, so that gradients do not vanish in f16. All of it happens on the device.
 *
 * The loss is multiplied by a large scale before it is differentiated. Gradients of parameters are divided by it, in f32.
 * When one of them is not finite, the step changes nothing but the scale, which halves. After many steps without overflow
 * it doubles. Where the loss itself is not finite, a value of the forward pass was too large for f16, which no scale of the loss
 * mends: the scale stays, and the next look stores such values as f32 from there on.
 *
 * Source: Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740, section 3.2, with the numbers of PyTorch's
 * `GradScaler`.
 *
 * @module
 */

import { add, divide, multiply } from "../../ops/arithmetic.ts";
import { less, where } from "../../ops/comparison.ts";
import { unscale } from "../../ops/unscale.ts";
import { leaf } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import { apply, type Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import { GOOD_STEPS, SCALE } from "../state/specs.ts";
import { decideBy, type Decision, notFiniteOp } from "./verdict.ts";

/** Steps without overflow after which the scale doubles. */
const GROWTH_INTERVAL = 2000;
const SCALAR: Spec = { shape: [], dtype: "f32" };

/** Loss scaling of one step. */
export interface Scaling {
  /** The loss to differentiate. */
  scaled(loss: Tensor): Tensor;
  /** Turns a gradient of the scaled loss into one of the loss. */
  unscaled(gradient: Tensor): Tensor;
  /**
   * Decides from the gradients of all parameters whether the step is taken; `size` is the largest number of them. A loss that
   * is not finite itself says nothing about the scale.
   */
  judge(
    gradients: readonly Tensor[],
    options: { readonly loss: Tensor; readonly size: number },
  ): Verdict;
}

/** What a step does when gradients are finite, and when they are not. */
export interface Verdict extends Decision {
  /** The scale at which gradients overflowed, f32 scalar; 0 when they did not. */
  readonly overflow: Tensor;
  /** The next state of loss scaling. */
  readonly state: ReadonlyMap<Path, { readonly leaf: Tensor; readonly value: Tensor }>;
}

/**
 * Makes the loss scaling of a step.
 *
 * @returns The scaling
 */
export function lossScaling(): Scaling {
  const scale = leaf(SCALE, SCALAR), good = leaf(GOOD_STEPS, SCALAR), inverse = divide(1, scale);
  return {
    scaled: (loss) => multiply(loss, scale),
    unscaled: (gradient) => unscale(gradient, inverse),
    judge(gradients, { loss, size }) {
      const decision = decideBy(gradients, size), { ok } = decision, early = less(good, GROWTH_INTERVAL - 1);
      const grown = where(early, scale, multiply(scale, 2));
      const lower = where(apply(notFiniteOp, [loss], null), scale, multiply(scale, 0.5));
      return {
        ...decision,
        overflow: where(ok, 0, scale),
        state: new Map([
          [SCALE, { leaf: scale, value: where(ok, grown, lower) }],
          [GOOD_STEPS, { leaf: good, value: where(ok, multiply(early, add(good, 1)), 0) }],
        ]),
      };
    },
  };
}
