/**
 * Sine and cosine. WGSL promises no more than three digits of its own.
 *
 * Source: Moshier, Cephes library, sinf.c: reduction by Cody and Waite, minimax polynomials on -pi/4..pi/4.
 *
 * @module
 */

import { f32 } from "../../kernels/kernel.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { multiply, negate } from "./arithmetic.ts";
import { composed, elementwise, lift, type Operand } from "./elementwise.ts";
import { polynomial } from "./polynomial.ts";

/** The number of quarter turns that is nearest to an angle. */
const turnsOp: Op<null> = elementwise("quarterTurns", {
  text: ([x], t) => `floor(${x} * ${f32(2 / Math.PI)} + ${t}(0.5f))`,
  value: (x) => Math.floor(x * 2 / Math.PI + 0.5),
  derivatives: [null],
});

/** A quarter turn in three parts: products with the first two are exact for some thousands of turns. */
const QUARTER = [1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8] as const;

/** Inputs: an angle and its quarter turns. Output: what is left of the angle. */
const restOp: Op<null> = elementwise("restOfTurns", {
  text: ([x, q]) => QUARTER.reduce((rest, part) => `(${rest} - ${q} * ${f32(part)})`, x),
  value: (x, q) => x - q * Math.PI / 2,
  derivatives: [null],
});

const SINE = polynomial([-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]);
const COSINE = polynomial([2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]);

/** Inputs: quarter turns and a rest. Output: the sine of the angle, a quarter turn further if `ahead` is 1. */
function turned(name: string, ahead: 0 | 1): Op<null> {
  return elementwise(name, {
    text: ([q, r], t) => {
      const square = `(${r} * ${r})`, at = `(${q} + ${t}(${f32(ahead)}))`;
      const sine = `fma(${SINE.text(square, t)} * ${square}, ${r}, ${r})`;
      const cosine = `fma(${COSINE.text(square, t)} * ${square}, ${square}, ${t}(1.0f) - 0.5f * ${square})`;
      const own = `select(${sine}, ${cosine}, fract(${at} * 0.5f) != ${t}())`;
      return `${own} * select(${t}(1.0f), ${t}(-1.0f), fract(floor(${at} * 0.5f) * 0.5f) != ${t}())`;
    },
    value: (q, r) => Math.sin((q + ahead) * Math.PI / 2 + r),
    derivatives: [null],
  });
}

const sinTurnedOp = turned("sinTurned", 0), cosTurnedOp = turned("cosTurned", 1);

function reduced(op: Op<null>, x: Tensor): Tensor {
  const turns = apply(turnsOp, [x], null);
  return apply(op, [turns, apply(restOp, [x, turns], null)], null);
}

const sinOp: Op<null> = composed("sin", {
  definition: (x) => reduced(sinTurnedOp, x),
  derivative: ([x], _, g) => multiply(g, cos(x)),
});

const cosOp: Op<null> = composed("cos", {
  definition: (x) => reduced(cosTurnedOp, x),
  derivative: ([x], _, g) => negate(multiply(g, sin(x))),
});

/**
 * Sine, to an error of 1e-7 for angles up to 8192.
 *
 * @param x Tensor or number, radians
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { sin } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, sin(tensor([100]))))[0], Math.sin(100), 1e-6);
 * ```
 */
export function sin(x: Operand): Tensor {
  return apply(sinOp, [lift(x)], null);
}

/**
 * Cosine, to an error of 1e-7 for angles up to 8192.
 *
 * @param x Tensor or number, radians
 * @returns f32 of the same shape
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { cos } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertAlmostEquals((await read(gpu, cos(tensor([100]))))[0], Math.cos(100), 1e-6);
 * ```
 */
export function cos(x: Operand): Tensor {
  return apply(cosOp, [lift(x)], null);
}
