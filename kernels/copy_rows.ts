/**
 * Copies of rows from anywhere in one buffer to anywhere in another, in one launch. Commands that copy take as many, each of which
 * waits for the one before.
 *
 * @module
 */

import { type Kernel, storage } from "./kernel.ts";

const THREADS = 256;

/**
 * Copies rows of words. Its inputs are the buffer that is read and a table: the words of a row, then for each row its first word in
 * the buffer that is read, and in the one that is written, which is the output.
 *
 * @param options Words of a row, and how many rows: the grid alone depends on them, so that one text serves all
 * @returns The kernel
 */
export function copyRows({ words, rows }: { readonly words: number; readonly rows: number }): Kernel {
  return {
    name: "copy rows",
    code: storage(["u32", "u32"], ["u32"]) + `
@compute @workgroup_size(${THREADS}) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= a1[0]) { return; }
  o0[a1[2u + 2u * id.y] + id.x] = a0[a1[1u + 2u * id.y] + id.x];
}
`,
    grid: [Math.ceil(words / THREADS), rows, 1],
    flops: 0,
  };
}
