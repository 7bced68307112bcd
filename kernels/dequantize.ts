/**
 * Widens a matrix that is stored in fewer bytes.
 *
 * @module
 */

import { blockedFunctions, blockedLoad, blockedQuad, isBlocked } from "./blocks.ts";
import type { Kernel } from "./kernel.ts";
import { packedQuad, type Stored } from "./packed.ts";
import { flatKernel } from "./rows.ts";

/** Options of {@link dequantize}. */
export interface DequantizeOptions {
  /** Rows. */
  readonly rows: number;
  /** Elements of a row. */
  readonly width: number;
  /** How the matrix is stored. */
  readonly stored: Exclude<Stored, "f32" | "f16">;
}

/**
 * Computes the values of a matrix.
 *
 * Bindings: a0, the matrix as it is stored; o0 f32 `[rows, width]`.
 *
 * @param options Sizes and storage
 * @returns The kernel
 */
export function dequantize({ rows, width, stored }: DequantizeOptions): Kernel {
  const name = `dequantize ${rows}x${width} ${stored}`;
  if (!isBlocked(stored)) {
    return flatKernel({
      name,
      items: Math.ceil(rows * width / 4),
      inputs: ["vec2u"],
      outputs: ["vec4f"],
      body: `  o0[i] = ${packedQuad("a0[i]", stored)};\n`,
    });
  }
  const quads = Math.ceil(width / 4);
  const raw = blockedLoad(stored, { name: "a0", row: "row", width, column: "column" });
  const put = (part: number): string => {
    const text = `o0[row * ${width}u + column + ${part}u] = value.${"xyzw"[part]};`;
    return width % 4 === 0 ? text : `if (column + ${part}u < ${width}u) { ${text} }`;
  };
  return flatKernel({
    name,
    items: rows * quads,
    inputs: ["u32"],
    outputs: ["f32"],
    functions: blockedFunctions(stored),
    body: `  let row = i / ${quads}u;
  let column = (i - row * ${quads}u) * 4u;
  let value = ${blockedQuad(stored, raw, "column")};
  ${[0, 1, 2, 3].map(put).join("\n  ")}
`,
  });
}
