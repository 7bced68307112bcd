/**
 * Softmax.
 *
 * @module
 */

import {
  softmax as softmaxKernel,
  softmaxGrad as softmaxGradKernel,
  type SoftmaxOptions,
} from "../../kernels/softmax.ts";
import { axisOf } from "../arguments.ts";
import type { KernelRequest } from "../kernel_call.ts";
import { apply, checkFloats, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { along, batchAlong, columnThreads } from "./along.ts";
import { divide, multiply, subtract } from "./arithmetic.ts";
import { sum } from "./broadcast.ts";
import { exp } from "./functions.ts";
import { f16Bindings } from "./half_precision.ts";
import { max } from "./reduce.ts";

interface Attrs {
  readonly axis: number;
}

function sizes({ inputs, outputs, attrs: { axis }, target }: KernelRequest<Attrs>): SoftmaxOptions {
  const sizes = along(inputs[0].shape, axis);
  return { ...sizes, threads: columnThreads(target, sizes), f16: f16Bindings(inputs, outputs) };
}

/** Input: scores. Output: their softmax along an axis. */
export const softmaxOp: Op<Attrs> = {
  name: "softmax",
  half: { reads: [0], writes: [0] },
  range: { result: "bounded" },
  batch: batchAlong,
  infer(inputs) {
    checkFloats("softmax", inputs);
    return [{ shape: inputs[0].shape, dtype: "f32" }];
  },
  pullbacks: [({ output, gradient, attrs }) => apply(softmaxGradOp, [output, gradient], attrs)],
  kernel: (request) => ({ kernel: softmaxKernel(sizes(request)) }),
  definition([x], { axis }) {
    const powers = exp(subtract(x, max(x, axis, { keepDims: true })));
    return [divide(powers, sum(powers, axis, { keepDims: true }))];
  },
};

/** Inputs: the output of {@link softmaxOp} and its gradient. Output: the gradient by the scores. */
export const softmaxGradOp: Op<Attrs> = {
  name: "softmaxGrad",
  half: { reads: [0, 1], writes: [0] },
  batch: batchAlong,
  infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
  kernel: (request) => ({ kernel: softmaxGradKernel(sizes(request)) }),
  definition: ([y, gradient], { axis }) => [
    multiply(y, subtract(gradient, sum(multiply(y, gradient), axis, { keepDims: true }))),
  ],
};

/**
 * Softmax over an axis: `exp(x - max x) / sum exp(x - max x)`.
 *
 * @param x f32
 * @param axis The axis, negative from the end; the last when absent
 * @returns f32 of the same shape
 * @throws {ShapeError} When the axis does not exist
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { softmax } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, softmax(tensor([3, 3])))], [0.5, 0.5]);
 * ```
 */
export function softmax(x: Tensor, axis = -1): Tensor {
  checkTensor("softmax", x, "x");
  return apply(softmaxOp, [x], { axis: axisOf("softmax", axis, x.shape) });
}
