/**
 * Reverses an axis.
 *
 * @module
 */

import type { Kernel } from "./kernel.ts";
import { flatKernel } from "./rows.ts";

/** Options of {@link flip}. */
export interface FlipOptions {
  /** Product of the sizes before the axis. */
  readonly outer: number;
  /** Size of the axis. */
  readonly length: number;
  /** Product of the sizes after it. */
  readonly inner: number;
}

/**
 * Copies a tensor with the elements along an axis in reverse order. It moves 32-bit words, and so serves all types.
 *
 * Bindings: a0 `x[outer,length,inner]`; o0 the copy.
 *
 * @param options Sizes
 * @returns The kernel
 */
export function flip({ outer, length, inner }: FlipOptions): Kernel {
  return flatKernel({
    name: `flip ${outer}x${length}x${inner}`,
    items: outer * length * inner,
    inputs: ["u32"],
    outputs: ["u32"],
    body: `  let row = i / ${inner}u;
  let place = row % ${length}u;
  o0[i] = a0[(row - place + ${length - 1}u - place) * ${inner}u + i % ${inner}u];
`,
  });
}
