/**
 * Windows of images as rows, for convolution and pooling.
 *
 * @module
 */

import {
  foldWindows,
  type Pair,
  windowCounts,
  type WindowOptions,
  windows as windowsKernel,
} from "../../kernels/windows.ts";
import { refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";

/** Attributes of {@link windowsOp}. */
export interface WindowAttrs extends Omit<WindowOptions, "batch" | "channels" | "size"> {
  /** Value of elements outside an image. */
  readonly value: number;
}

/** The whole description of windows over images [B, C, H, W]. */
function optionsOf(
  [batch, channels, height, width]: readonly number[],
  attrs: WindowAttrs,
): Required<WindowOptions> & {
  readonly value: number;
} {
  return { ...attrs, batch, channels, size: [height, width] };
}

/** Input: images [B, C, H, W]. Output: rows [G, B L, C / G K], a window each. */
const windowsOp: Op<WindowAttrs> = {
  name: "windows",
  batch: ([{ shape }], { groups }) => groups === 1 ? { parts: shape[0], inputs: ["split"] } : null,
  infer([{ shape }], attrs) {
    const [batch, channels, ...size] = shape, { groups, kernel: [kh, kw] } = attrs;
    const [oh, ow] = windowCounts({ ...attrs, size: size as unknown as Pair });
    return [{ shape: [groups, batch * oh * ow, channels / groups * kh * kw], dtype: "f32" }];
  },
  pullbacks: [({ inputs: [{ shape }], gradient, attrs }) => apply(foldOp, [gradient], { attrs, shape })],
  kernel: ({ inputs: [{ shape }], attrs }) => ({ kernel: windowsKernel(optionsOf(shape, attrs)) }),
};

/** Input: rows of {@link windowsOp}. Output: their sums, images of a shape. */
const foldOp: Op<{ readonly attrs: WindowAttrs; readonly shape: readonly number[] }> = {
  name: "foldWindows",
  batch: (_, { attrs: { groups }, shape }) => groups === 1 ? { parts: shape[0], inputs: ["split"] } : null,
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
  pullbacks: [({ gradient, attrs: { attrs } }) => apply(windowsOp, [gradient], { ...attrs, value: 0 })],
  kernel: ({ attrs: { attrs, shape } }) => ({ kernel: foldWindows(optionsOf(shape, attrs)) }),
};

/** Rows of windows, and how many there are along height and width of an image. */
export interface Windows {
  /** f32 [G, B L, C / G K]. */
  readonly rows: Tensor;
  readonly counts: Pair;
}

/**
 * Makes rows of windows.
 *
 * @param op The function that was called
 * @param x f32 [B, C, H, W]
 * @param attrs The windows
 * @returns The rows
 * @throws {ShapeError} When a window is larger than the padded image
 */
export function windowsOf(op: string, x: Tensor, attrs: WindowAttrs): Windows {
  const size: Pair = [x.shape[2], x.shape[3]], counts = windowCounts({ ...attrs, size });
  if (counts.some((n) => n < 1)) {
    const rule = `a window of ${attrs.kernel.join(" x ")} must fit into the padded input`;
    throw new ShapeError(op, rule, [x.shape]);
  }
  return { rows: apply(windowsOp, [x], attrs), counts };
}

/**
 * Reads an option that is a number for all axes, or one for each.
 *
 * @param op The function that was called
 * @param option Its name, what it got, how many axes there are, and the least number
 * @returns Numbers along height and width; for one axis the height's is neutral
 * @throws {InputError} When they are not whole, or too small
 */
export function pairOf(
  op: string,
  { name, value, axes, least, neutral }: {
    readonly name: string;
    readonly value: number | readonly number[];
    readonly axes: number;
    readonly least: number;
    readonly neutral: number;
  },
): Pair {
  const all = typeof value === "number" ? Array.from({ length: axes }, () => value) : value;
  if (
    !Array.isArray(all) || all.length !== axes ||
    !all.every((n) => Number.isInteger(n) && n >= least && n < 2 ** 24)
  ) {
    const list = axes === 1 ? "" : `, or a list of ${axes}`;
    refuse(op, `"${name}" must be a whole number from ${least}${list}`, value);
  }
  return axes === 1 ? [neutral, all[0]] : [all[0], all[1]];
}
