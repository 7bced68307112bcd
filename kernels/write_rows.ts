/**
 * Rows written into a larger buffer, such as the keys of new tokens into a cache.
 *
 * @module
 */

import type { Kernel } from "./kernel.ts";
import { flatKernel } from "./rows.ts";

/** Options of {@link writeRows}. */
export interface WriteRowsOptions {
  /** Sequences B. */
  readonly batch: number;
  /** Rows T to write into each sequence. */
  readonly time: number;
  /** Rows S that each sequence has room for. */
  readonly capacity: number;
  /** Elements of a row, W. */
  readonly width: number;
  /** Type of the elements. */
  readonly type: "f32" | "i32" | "u32";
}

/**
 * Writes row t of a sequence to its row `t + at`. Rows beyond the capacity are dropped; all other rows of the buffer stay.
 *
 * Bindings: a0 `rows[B,T,W]`, a1 `at[B]` i32; o0 `out[B,S,W]`.
 *
 * @param options Sizes
 * @returns The kernel
 */
export function writeRows({ batch, time, capacity, width, type }: WriteRowsOptions): Kernel {
  const lanes = width % 4 === 0 ? 4 : 1, loads = width / lanes;
  const element = lanes === 4 ? `vec4<${type}>` : type;
  return flatKernel({
    name: `write_rows ${batch}x${time}x${width} of ${capacity}`,
    items: batch * time * loads,
    inputs: [element, "i32"],
    outputs: [element],
    body: `  let row = i / ${loads}u;
  let place = a1[row / ${time}u] + i32(row % ${time}u);
  if (place >= 0 && place < ${capacity}) {
    o0[(row / ${time}u * ${capacity}u + u32(place)) * ${loads}u + i % ${loads}u] = a0[i];
  }
`,
  });
}
