/**
 * Rotary position embedding.
 *
 * @module
 */

import { rotary as rotaryKernel } from "../../kernels/rotary.ts";
import { checkOptions } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { apply, checkFloats, type Op, type Tensor } from "../tensor.ts";
import { add, multiply, subtract } from "./arithmetic.ts";
import { f16Bindings } from "./half_precision.ts";
import { pad, reshape, slice } from "./movement.ts";

interface Attrs {
  readonly inverse: boolean;
}

/** Inputs: x, and the tables of cosines and sines. */
export const rotaryOp: Op<Attrs> = {
  name: "rotary",
  half: { reads: [0], writes: [0] },
  range: { result: "moved" },
  batch: ([x]) => ({ parts: x.shape[0], inputs: ["split", "shared"] }),
  infer([x, cos, sin]) {
    checkFloats("rotary", [x, cos, sin]);
    const [, time, , dim] = x.shape;
    if (x.shape.length !== 4) {
      throw new ShapeError("rotary", "the input must be [B, T, H, D]", [x.shape]);
    }
    const fits = [cos, sin].every(({ shape: [rows, pairs, ...more] }) =>
      more.length === 0 && rows >= time && pairs >= 1 && pairs <= dim / 2 && pairs === cos.shape[1]
    );
    if (!fits) {
      throw new ShapeError("rotary", "the tables must be [at least T, at most D / 2], both alike", [
        x.shape,
        cos.shape,
        sin.shape,
      ]);
    }
    return [{ shape: x.shape, dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [, cos, sin], gradient, attrs }) =>
      apply(rotaryOp, [gradient, cos, sin], { inverse: !attrs.inverse }),
    null,
    null,
  ],
  kernel({ inputs, outputs, attrs }) {
    const [batch, time, heads, dim] = inputs[0].shape, rotaryDim = 2 * inputs[1].shape[1];
    const f16 = f16Bindings(inputs, outputs);
    return { kernel: rotaryKernel({ batch, time, heads, dim, rotaryDim, inverse: attrs.inverse, f16 }) };
  },
  definition([x, cosTable, sinTable], { inverse }) {
    const [batch, time, heads, dim] = x.shape;
    const half = cosTable.shape[1], rest = dim - 2 * half;
    const part = (from: number, size = half): Tensor =>
      slice(x, { starts: [0, 0, 0, from], sizes: [batch, time, heads, size] });
    const rows = (table: Tensor): Tensor =>
      reshape(slice(table, { starts: [0, 0], sizes: [time, half] }), [1, time, 1, half]);
    const [a, b] = [part(0), part(half)];
    const cos = rows(cosTable), sin = inverse ? multiply(rows(sinTable), -1) : rows(sinTable);
    const low = subtract(multiply(a, cos), multiply(b, sin)), high = add(multiply(b, cos), multiply(a, sin));
    const place = (y: Tensor, before: number): Tensor =>
      pad(y, { before: [0, 0, 0, before], after: [0, 0, 0, dim - before - y.shape[3]] });
    const turned = add(place(low, 0), place(high, half));
    return [rest === 0 ? turned : add(turned, place(part(2 * half, rest), 2 * half))];
  },
};

/**
 * Rotates pairs of channels `(i, i + R/2)` by the angle of their position ("rotate half", as in Hugging Face models).
 * R is twice the width of the tables; channels from R on stay as they are.
 *
 * Source: Su et al., "RoFormer", arXiv 2104.09864, equation 34.
 *
 * @param x f32 [B, T, H, D]
 * @param tables `cos` and `sin`, f32 [at least T, R / 2]; row t belongs to position t
 * @returns f32 [B, T, H, D]
 * @throws {ShapeError} When x has other axes, or the tables are too short or too wide
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { rotary } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const quarter = { cos: tensor([0], [1, 1]), sin: tensor([1], [1, 1]) };
 * assertEquals([...await read(gpu, rotary(tensor([1, 2], [1, 1, 1, 2]), quarter))], [-2, 1]);
 * ```
 */
export function rotary(x: Tensor, tables: { readonly cos: Tensor; readonly sin: Tensor }): Tensor {
  checkOptions("rotary", tables, "its tables must be a record of cos and sin");
  return apply(rotaryOp, [x, tables.cos, tables.sin], { inverse: false });
}
