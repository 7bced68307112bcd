/**
 * Layer normalisation.
 *
 * @module
 */

import {
  layerNorm as layerNormKernel,
  layerNormGradX as layerNormGradKernel,
} from "../../kernels/layer_norm.ts";
import { rowThreads } from "../../kernels/rows.ts";
import { checkOptions, refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sizeOf } from "../spec.ts";
import {
  apply,
  checkFloats,
  checkTensor,
  type Op,
  pick,
  type PullbackContext,
  type Tensor,
} from "../tensor.ts";
import { add, multiply, subtract } from "./arithmetic.ts";
import { rsqrt } from "./functions.ts";
import { f16Bindings } from "./half_precision.ts";
import { sum } from "./broadcast.ts";
import { mean, variance } from "./reduce.ts";

interface Attrs {
  readonly eps: number;
}

/** Inputs: x, and optionally a gain, and then optionally a bias. Outputs: the result, and mean and scale of each row. */
export const layerNormOp: Op<Attrs> = {
  name: "layerNorm",
  half: { reads: [0], writes: [0] },
  range: { result: "bounded" },
  batch: ([{ shape }]) => ({ parts: sizeOf(shape.slice(0, -1)), inputs: ["split", "shared"] }),
  roles: [null, "gain", "bias"],
  infer(inputs) {
    checkFloats("layerNorm", inputs);
    const [{ shape }, ...vectors] = inputs, width = shape.at(-1);
    if (width === undefined || vectors.some((v) => v.shape.length !== 1 || v.shape[0] !== width)) {
      const rule = "weight and bias must have one value for each channel";
      throw new ShapeError("layerNorm", rule, inputs.map((x) => x.shape));
    }
    const rows = { shape: shape.with(-1, 1), dtype: "f32" as const };
    return [{ shape, dtype: "f32" }, rows, rows];
  },
  pullbacks: [
    ({ inputs: [x, gain], output, gradient }) => {
      const inputs = [x, gradient, pick(output, 1), pick(output, 2)];
      return apply(layerNormGradOp, gain === undefined ? inputs : [...inputs, gain], {
        gain: gain !== undefined,
      });
    },
    (context) => sumRows(multiply(context.gradient, normalised(context))),
    ({ gradient }) => sumRows(gradient),
  ],
  kernel({ inputs, outputs, attrs, wanted, target }) {
    const [{ shape }] = inputs, width = shape.at(-1)!, saveStatistics = wanted[1] || wanted[2];
    return {
      kernel: layerNormKernel({
        rows: sizeOf(shape) / width,
        width,
        eps: attrs.eps,
        threads: rowThreads(target.software, width),
        gain: inputs.length > 1,
        bias: inputs.length > 2,
        saveStatistics,
        f16: f16Bindings(inputs, outputs),
      }),
      writes: saveStatistics ? [0, 1, 2] : [0],
    };
  },
  definition([x, gain, bias], { eps }) {
    const middle = mean(x, -1, { keepDims: true });
    const scale = rsqrt(add(variance(x, -1, { keepDims: true }), eps));
    const norm = multiply(subtract(x, middle), scale);
    const scaled = gain === undefined ? norm : multiply(norm, gain);
    return [bias === undefined ? scaled : add(scaled, bias), middle, scale];
  },
};

/** Sums over all rows: f32 [..., C] to [C]. */
function sumRows(x: Tensor): Tensor {
  return sum(x, x.shape.slice(0, -1).map((_, d) => d));
}

/** Rows of mean 0 and variance 1. */
function normalised({ inputs: [x], output }: PullbackContext<Attrs>): Tensor {
  return multiply(subtract(x, pick(output, 1)), pick(output, 2));
}

/** Attributes of {@link layerNormGradOp}: whether it has a gain among its inputs. */
export interface LayerNormGradAttrs {
  readonly gain: boolean;
}

/**
 * Inputs: x, gradient of the output, mean and scale of each row, the gain if there is one, and optionally a tensor to add.
 * Output: the gradient by x, plus that tensor.
 */
export const layerNormGradOp: Op<LayerNormGradAttrs> = {
  name: "layerNormGrad",
  // The gain is at 4 or absent, the residual at 4 or 5.
  half: { reads: [0, 1, 4, 5], writes: [0] },
  onto: (inputs, attrs, other) => apply(layerNormGradOp, [...inputs, other], attrs),
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  kernel({ inputs, outputs, attrs: { gain }, target }) {
    const [{ shape }] = inputs, width = shape.at(-1)!;
    return {
      kernel: layerNormGradKernel({
        rows: sizeOf(shape) / width,
        width,
        threads: rowThreads(target.software, width),
        gain,
        residual: inputs.length > (gain ? 5 : 4),
        f16: f16Bindings(inputs, outputs),
      }),
    };
  },
  definition([x, gradient, middle, scale, ...more], { gain }) {
    const along = (y: Tensor): Tensor => mean(y, -1, { keepDims: true });
    const norm = multiply(subtract(x, middle), scale);
    const slope = gain ? multiply(gradient, more[0]) : gradient;
    const own = subtract(subtract(slope, along(slope)), multiply(norm, along(multiply(slope, norm))));
    return [more.slice(gain ? 1 : 0).reduce(add, multiply(own, scale))];
  },
};

/** Options of {@link layerNorm}. */
export interface LayerNormOptions {
  /** Gain, f32 [C]; none when absent. */
  readonly weight?: Tensor;
  /** Bias, f32 [C]; none when absent. */
  readonly bias?: Tensor;
  /** Added to the variance; 1e-5 when absent. */
  readonly eps?: number;
}

/**
 * LayerNorm over the last axis: `(x - mean) / sqrt(variance + eps) * weight + bias`.
 *
 * Source: Ba, Kiros and Hinton, "Layer Normalization", arXiv 1607.06450, equation 3.
 *
 * @param x f32 [..., C]
 * @param options Gain, bias and `eps`
 * @returns f32 [..., C]
 * @throws {ShapeError} When gain or bias has another length
 * @throws {InputError} When `eps` is not a number from 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { layerNorm } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const y = layerNorm(tensor([1, 3], [1, 2]), { weight: tensor([2, 2]), bias: tensor([0, 1]), eps: 0 });
 * assertEquals([...await read(gpu, y)], [-2, 3]);
 * ```
 */
export function layerNorm(x: Tensor, options: LayerNormOptions = {}): Tensor {
  checkTensor("layerNorm", x, "x");
  checkOptions("layerNorm", options);
  const { weight, bias, eps = 1e-5 } = options;
  if (!(Number.isFinite(eps) && eps >= 0)) refuse("layerNorm", '"eps" must be a number from 0', eps);
  if (weight !== undefined) checkTensor("layerNorm", weight, "weight");
  if (bias === undefined) return apply(layerNormOp, weight === undefined ? [x] : [x, weight], { eps });
  checkTensor("layerNorm", bias, "bias");
  if (weight !== undefined) return apply(layerNormOp, [x, weight, bias], { eps });
  // The kernel adds a bias after a gain.
  layerNormOp.infer([x, bias], { eps });
  return add(apply(layerNormOp, [x], { eps }), bias);
}
