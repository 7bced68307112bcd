/**
 * How a workgroup learns by which powers of two its rows of A and its columns of B are multiplied (see `pairs.ts`).
 *
 * @module
 */

import { magnitudesOf } from "./magnitudes.ts";
import { operandsOf } from "./frame.ts";
import type { Matmul } from "./types.ts";

/**
 * WGSL that fills `shifts`: those of the rows of the tile, then those of its columns. It ends with a barrier.
 *
 * @param product The product
 * @param options The tile, and threads of the workgroup
 * @returns WGSL that knows `lid`, `z`, `m0` and `n0`
 */
export function shiftsText(
  product: Matmul,
  { bm, bn, threads }: { readonly bm: number; readonly bn: number; readonly threads: number },
): string {
  const sizes = operandsOf(product).map(({ size }) => size);
  const texts = (["a", "b"] as const).map((name, i) => {
    const { parts, rows } = magnitudesOf(product, name), size = sizes[i];
    const [tile, origin, first] = name === "a" ? [bm, "m0", 0] : [bn, "n0", bm];
    return `for (var i = lid; i < ${tile}u; i += ${threads}u) {
let at = z * ${size}u + min(${origin} + i, ${size - 1}u);
var largest = ${name}_largest[at];
${
      Array.from({ length: parts - 1 }, (_, part) =>
        `largest = max(largest, ${name}_largest[at + ${(part + 1) * rows}u]);\n`).join("")
    }shifts[${first}u + i] = shift_of(largest);
}
`;
  });
  return `${texts.join("")}workgroupBarrier();\n`;
}
