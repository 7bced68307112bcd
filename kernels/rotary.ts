/**
 * Rotary position embedding.
 *
 * @module
 */

import { access, type F16Bindings } from "./f16.ts";
import type { Kernel } from "./kernel.ts";
import { flatKernel, lanesOf } from "./rows.ts";

/** Options of {@link rotary}. */
export interface RotaryOptions {
  /** Sequences B. */
  readonly batch: number;
  /** Positions T of each sequence. */
  readonly time: number;
  /** Heads H. */
  readonly heads: number;
  /** Elements of a head, D. */
  readonly dim: number;
  /** Leading elements of a head to rotate, R: even, at most D; D when absent. The others are copied. */
  readonly rotaryDim?: number;
  /** Whether to rotate back. That is the gradient, as the inverse of a rotation is its transpose. */
  readonly inverse?: boolean;
  /** Position of the first token: a constant (0 when absent), or `"input"` to read it from a buffer. */
  readonly offset?: number | "input";
  /** Which of the bindings `a0` and `o0` hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/**
 * Rotates each pair (i, i + R/2) of a head by the angle of its position.
 *
 * This is the "rotate half" pairing of Hugging Face checkpoints, not the interleaved one of the paper. Row p of the
 * tables belongs to position p, so they need at least `offset + T` rows.
 *
 * Bindings: a0 `x[B,T,H,D]`, a1 `cos[P,R/2]`, a2 `sin[P,R/2]`, with `offset: "input"` a3 `offset[1]` u32; o0 `y[B,T,H,D]`.
 *
 * Source: Su et al. 2021, equation 34.
 *
 * @param options Sizes
 * @returns The kernel
 * @throws {RangeError} When `rotaryDim` is odd or above `dim`
 */
export function rotary(options: RotaryOptions): Kernel {
  const { batch, time, heads, dim, rotaryDim, inverse, offset, f16 } = options;
  const turned = rotaryDim ?? dim;
  if (turned % 2 !== 0 || turned > dim || turned < 2) {
    throw new RangeError(
      `Cannot rotate ${turned} of ${dim} elements as the count must be even and at most "dim": set "rotaryDim"`,
    );
  }
  const vector = turned % 8 === 0 && dim % 4 === 0;
  const { type, lanes } = lanesOf(vector ? 4 : 1);
  const { load, put } = access(type, f16);
  const half = turned / 2 / lanes;
  const head = dim / lanes;
  const items = head - half; // pairs, then copies
  const total = batch * time * heads * items;
  const copies = items > half
    ? `  if (item >= ${half}u) { ${put("o0", `at + ${half}u`, load("a0", `at + ${half}u`))} return; }\n`
    : "";
  const first = offset === "input" ? " + a3[0]" : offset ? ` + ${offset}u` : "";
  return flatKernel({
    name: `rotary ${batch}x${time}x${heads}x${dim}`,
    items: total,
    inputs: [type, type, type, ...(offset === "input" ? ["u32"] : [])],
    outputs: [type],
    f16,
    flops: 3 * batch * time * heads * turned,
    body: `  let head = i / ${items}u;
  let item = i - head * ${items}u;
  let at = head * ${head}u + item;
${copies}  let position = (head / ${heads}u) % ${time}u${first};
  let angle = position * ${half}u + item;
  let c = a1[angle];
  let s = ${inverse ? "-" : ""}a2[angle];
  let x = ${load("a0", "at")};
  let y = ${load("a0", `at + ${half}u`)};
  ${put("o0", "at", "x * c - y * s")}
  ${put("o0", `at + ${half}u`, "y * c + x * s")}
`,
  });
}
