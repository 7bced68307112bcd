/**
 * Copies of rows from anywhere in one buffer to anywhere in another, in one launch. Commands that copy take as many, each of which
 * waits for the one before.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, storage } from "./kernel.ts";

const THREADS = 256;

/**
 * Copies rows of words. Its inputs are the buffer that is read and a table: the words of a row, the number of rows, then for each row
 * its first word in the buffer that is read, and in the one that is written, which is the output.
 *
 * @param options Words of a row, and how many rows: the grid alone depends on them, so that one text serves all
 * @returns The kernel
 */
export function copyRows({ words, rows }: { readonly words: number; readonly rows: number }): Kernel {
  return {
    name: "copy rows",
    code: storage(["u32", "u32"], ["u32"]) + `
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
  let parts = (a1[0] + ${THREADS - 1}u) / ${THREADS}u;
  let group = ${GROUP_INDEX};
  let row = group / parts;
  let word = (group % parts) * ${THREADS}u + lid;
  if (row >= a1[1] || word >= a1[0]) { return; }
  o0[a1[3u + 2u * row] + word] = a0[a1[2u + 2u * row] + word];
}
`,
    grid: foldGrid(Math.ceil(words / THREADS) * rows),
    flops: 0,
  };
}
