/**
 * Conversion of floats to integers.
 *
 * @module
 */

import type { Kernel } from "./kernel.ts";
import { flatKernel } from "./rows.ts";

/**
 * Rounds floats to the nearest integers.
 *
 * Bindings: a0 `x[items]` f32; o0 `out[items]` i32.
 *
 * @param options How many
 * @returns The kernel
 */
export function integers({ items }: { readonly items: number }): Kernel {
  return flatKernel({
    name: `integers ${items}`,
    items,
    inputs: ["f32"],
    outputs: ["i32"],
    body: "  o0[i] = i32(round(a0[i]));\n",
  });
}
