/**
 * Root-mean-square normalisation.
 *
 * @module
 */

import { rmsNorm as rmsNormKernel, rmsNormGradX as rmsNormGradKernel } from "../../kernels/rms_norm.ts";
import { rowThreads } from "../../kernels/rows.ts";
import { checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sizeOf } from "../spec.ts";
import { apply, checkFloats, type Op, pick, type Tensor } from "../tensor.ts";
import { add, multiply } from "./arithmetic.ts";
import { rsqrt } from "./functions.ts";
import { f16Bindings } from "./half_precision.ts";
import { sum } from "./broadcast.ts";
import { mean } from "./reduce.ts";
import { reshape } from "./movement.ts";

interface Attrs {
  readonly eps: number;
}

/** The reciprocal root mean square of each row, shape [..., 1]. */
function scaleOf(x: Tensor, eps: number): Tensor {
  return reshape(rsqrt(add(mean(multiply(x, x), -1), eps)), [...x.shape.slice(0, -1), 1]);
}

/** Inputs: x and gain. Outputs: the result, and the scale of each row. */
export const rmsNormOp: Op<Attrs> = {
  name: "rmsNorm",
  half: { reads: [0], writes: [0] },
  range: { result: "bounded" },
  batch: ([{ shape }]) => ({ parts: sizeOf(shape.slice(0, -1)), inputs: ["split", "shared"] }),
  roles: [null, "gain"],
  infer([x, gain]) {
    checkFloats("rmsNorm", [x, gain]);
    const width = x.shape.at(-1);
    if (width === undefined || gain.shape.length !== 1 || gain.shape[0] !== width) {
      throw new ShapeError("rmsNorm", "the gain must have one value for each channel", [x.shape, gain.shape]);
    }
    return [{ shape: x.shape, dtype: "f32" }, { shape: [...x.shape.slice(0, -1), 1], dtype: "f32" }];
  },
  pullbacks: [
    ({ inputs: [x, gain], output, gradient }) =>
      apply(rmsNormGradOp, [x, gain, gradient, pick(output, 1)], null),
    ({ inputs: [x], output, gradient }) =>
      sum(multiply(multiply(gradient, x), pick(output, 1)), x.shape.slice(0, -1).map((_, d) => d)),
  ],
  kernel({ inputs, outputs, attrs, wanted, target }) {
    const [x] = inputs, width = x.shape.at(-1)!;
    const threads = rowThreads(target.software, width);
    return {
      kernel: rmsNormKernel({
        rows: sizeOf(x.shape) / width,
        width,
        eps: attrs.eps,
        threads,
        saveScale: wanted[1],
        f16: f16Bindings(inputs, outputs),
      }),
    };
  },
  definition([x, gain], { eps }) {
    const scale = scaleOf(x, eps);
    return [multiply(multiply(x, scale), gain), scale];
  },
};

/**
 * Inputs: x, gain, gradient of the output, scale of each row, and optionally a tensor to add. Output: the gradient by x,
 * plus that tensor.
 */
export const rmsNormGradOp: Op<null> = {
  name: "rmsNormGrad",
  half: { reads: [0, 2, 4], writes: [0] },
  onto: (inputs, _, other) => apply(rmsNormGradOp, [...inputs, other], null),
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  kernel({ inputs, outputs, target }) {
    const [{ shape }] = inputs, width = shape.at(-1)!, f16 = f16Bindings(inputs, outputs);
    const threads = rowThreads(target.software, width), residual = inputs.length > 4;
    return { kernel: rmsNormGradKernel({ rows: sizeOf(shape) / width, width, threads, residual, f16 }) };
  },
  definition([x, gain, gradient, scale, ...more]) {
    const dy = multiply(gradient, gain);
    const along = reshape(mean(multiply(dy, x), -1), scale.shape);
    const cubed = multiply(multiply(scale, scale), scale);
    const own = add(multiply(dy, scale), multiply(multiply(x, -1), multiply(along, cubed)));
    return [more.reduce(add, own)];
  },
};

/**
 * RMSNorm over the last axis: `x / sqrt(mean(x^2) + eps) * gain`.
 *
 * Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv 1910.07467, equation 4.
 *
 * @param x f32 [..., C]
 * @param gain f32 [C]
 * @param options `eps` is added to the mean square
 * @returns f32 [..., C]
 * @throws {ShapeError} When the gain has another length
 * @throws {InputError} When `eps` is not a number from 0
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { rmsNorm } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const y = await read(gpu, rmsNorm(tensor([3, 4]), tensor([1, 2]), { eps: 0 }));
 * assertAlmostEquals(y[1], 2 * 4 / Math.sqrt(12.5), 1e-6);
 * ```
 */
export function rmsNorm(x: Tensor, gain: Tensor, options: { readonly eps: number }): Tensor {
  checkOptions("rmsNorm", options, "its third argument must be a record with eps");
  const { eps } = options;
  if (!(Number.isFinite(eps) && eps >= 0)) refuse("rmsNorm", '"eps" must be a number from 0', eps);
  return apply(rmsNormOp, [x, gain], { eps });
}
