/**
 * One of two buffers of words.
 *
 * @module
 */

import type { Kernel } from "./kernel.ts";
import { flatKernel } from "./rows.ts";

/**
 * Copies the first buffer where a flag is not 0, else the second.
 *
 * Bindings: a0 `flag[1]`; a1, a2 `words[N]` u32; o0 `words[N]` u32.
 *
 * @param options `items`: words N
 * @returns The kernel
 */
export function selectWords({ items }: { readonly items: number }): Kernel {
  return flatKernel({
    name: `select_words ${items}`,
    items,
    inputs: ["f32", "u32", "u32"],
    outputs: ["u32"],
    body: "  o0[i] = select(a2[i], a1[i], a0[0] != 0.0f);\n",
  });
}
