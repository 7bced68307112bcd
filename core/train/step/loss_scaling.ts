/**
 * Loss scaling: gradients that f16 holds. All of it happens on the device.
 *
 * The loss is multiplied by a large number before it is differentiated, so that gradients of activations do not vanish in
 * f16, and gradients of parameters are divided by it, in f32. Where one of them is not finite nothing changes but the
 * number, which halves; after many good steps it doubles.
 *
 * Source: Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740, section 3.2; numbers are those of PyTorch's
 * `GradScaler`.
 *
 * @module
 */

import { add, divide, multiply } from "../../ops/arithmetic.ts";
import { equal, less, maximum, where } from "../../ops/comparison.ts";
import { sum, sumEach } from "../../ops/broadcast.ts";
import { unscale } from "../../ops/unscale.ts";
import { apply, leaf, type Op, type Spec, type Tensor, tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";

/** The factor of the first step. */
const FIRST = 2 ** 16;
/** Good steps after which it doubles. */
const GOOD_STEPS = 2000;
const SCALE = "scaling.scale", GOOD = "scaling.good";
const SCALAR: Spec = { shape: [], dtype: "f32" };

/** State of loss scaling by path, and what it starts with: the factor, and the good steps since it changed. */
export const SCALING: ReadonlyMap<Path, number> = new Map([[SCALE, FIRST], [GOOD, 0]]);

/** Specs of that state. */
export const SCALING_SPECS: ReadonlyMap<Path, Spec> = new Map(
  [...SCALING.keys()].map((path) => [path, SCALAR]),
);

/** 1 where a number is infinite or NaN, by its bits: compilers may take it that arithmetic gives neither. */
const notFiniteOp: Op<null> = {
  name: "notFinite",
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  element: {
    text([x], type) {
      const bits = type.replace("f32", "u32"), exponent = `${bits}(0x7f800000u)`;
      return `select(${type}(), ${type}(1.0f), (bitcast<${bits}>(${x}) & ${exponent}) == ${exponent})`;
    },
    value: (x) => Number.isFinite(x) ? 0 : 1,
  },
};

/** Loss scaling of one step. */
export interface Scaling {
  /** The loss to differentiate. */
  scaled(loss: Tensor): Tensor;
  /** A gradient of it as that of the loss itself. */
  unscaled(gradient: Tensor): Tensor;
  /** Takes the gradients of all parameters, of at most so many, and tells what becomes of values. */
  judge(gradients: readonly Tensor[], size: number): Verdict;
}

/** What a step does where gradients are finite, and where they are not. */
export interface Verdict {
  /** The new value, or the old one. */
  keep(value: Tensor, old: Tensor): Tensor;
  /** Readings f32 [N], absent (NaN) after the first `always` of them where the step is skipped. */
  readings(row: Tensor, always: number): Tensor;
  /** The factor at which gradients overflowed, f32 scalar; 0 where they did not. */
  readonly overflow: Tensor;
  /** What replaces the state of loss scaling. */
  readonly state: ReadonlyMap<Path, { readonly leaf: Tensor; readonly value: Tensor }>;
}

/**
 * Makes the nodes of a step.
 *
 * @returns The scaling
 */
export function lossScaling(): Scaling {
  const scale = leaf(SCALE, SCALAR), good = leaf(GOOD, SCALAR), inverse = divide(1, scale);
  return {
    scaled: (loss) => multiply(loss, scale),
    unscaled: (gradient) => unscale(gradient, inverse),
    judge(gradients, size) {
      const bad = sum(sumEach(gradients.map((gradient) => apply(notFiniteOp, [gradient], null)), { size }));
      const ok = equal(bad, 0), early = less(good, GOOD_STEPS - 1);
      const grown = where(early, scale, multiply(scale, 2));
      return {
        keep: (value, old) => where(ok, value, old),
        readings(row, always) {
          const [count] = row.shape;
          const first = tensor(Float32Array.from({ length: count }, (_, i) => i < always ? 1 : 0));
          return where(maximum(first, ok), row, tensor([NaN]));
        },
        overflow: where(ok, 0, scale),
        state: new Map([
          [SCALE, { leaf: scale, value: where(ok, grown, multiply(scale, 0.5)) }],
          [GOOD, { leaf: good, value: where(ok, multiply(early, add(good, 1)), 0) }],
        ]),
      };
    },
  };
}
