/**
 * Powers.
 *
 * @module
 */

import { fill } from "../sources.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { divide, multiply, subtract } from "./arithmetic.ts";
import { equal, where } from "./comparison.ts";
import { elementwise, type Operand, operandOf } from "./elementwise.ts";
import { log } from "./functions.ts";

const powOp: Op<null> = elementwise("pow", {
  // WGSL has powers of positive numbers alone. A negative one has powers with whole exponents: odd ones are negative.
  text: ([a, b], t) => {
    const whole = `select(${t}(1.0f), ${t}(-1.0f), fract(abs(${b}) * 0.5f) != ${t}())`;
    const sign = `select((${a} - ${a}) / (${b} - ${b}), ${whole}, fract(${b}) == ${t}())`;
    const power = `pow(abs(${a}), ${b}) * select(${t}(1.0f), ${sign}, ${a} < ${t}())`;
    // Some devices give 0 for a power of NaN, and take no number to differ from itself: its bits tell.
    const word = t === "f32" ? "u32" : "vec4<u32>";
    const isNan = (x: string): string =>
      `((bitcast<${word}>(${x}) & ${word}(0x7fffffffu)) > ${word}(0x7f800000u))`;
    return `select(select(${power}, ${a} + ${b}, ${isNan(a)} | ${isNan(b)}), ${t}(1.0f), ${b} == ${t}())`;
  },
  value: Math.pow,
  derivatives: [
    // The slope of x^0 is 0, also at 0.
    ([a, b], _, g) => where(equal(b, 0), 0, multiply(g, multiply(b, pow(a, subtract(b, 1))))),
    ([a], y, g) => where(equal(a, 0), 0, multiply(g, multiply(y, log(a)))),
  ],
});

/** Whole exponents up to this magnitude are products. */
const MOST_FACTORS = 64;

/**
 * Power `a^b`.
 *
 * A whole number as exponent is computed by products, which is exact for small ones. Negative bases have powers with whole
 * exponents alone; others are NaN.
 *
 * @param a Tensor or number
 * @param b Tensor or number; shapes broadcast. Its gradient is NaN where the base is negative
 * @returns f32 of the broadcast shape
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { pow } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, pow(tensor([2, -3]), 3))], [8, -27]);
 * ```
 */
export function pow(a: Operand, b: Operand): Tensor {
  const base = operandOf("pow", a, "a");
  if (typeof b !== "number" || !Number.isInteger(b) || Math.abs(b) > MOST_FACTORS) {
    return apply(powOp, [base, operandOf("pow", b, "b")], null);
  }
  if (b === 0) return fill(1, base.shape);
  const power = product(base, Math.abs(b));
  return b < 0 ? divide(1, power) : power;
}

/** A power by squaring. */
function product(base: Tensor, count: number): Tensor {
  if (count === 1) return base.dtype === "f32" ? base : multiply(base, 1);
  const half = product(base, count >> 1), square = multiply(half, half);
  return count % 2 === 0 ? square : multiply(square, base);
}
