/**
 * Pure operations on tensors, and how to make one's own.
 *
 * ## Add an op
 *
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { grad, openGpu, readAll, sum, tensor } from "@firn/train";
 * import { apply, multiply, type Op, sigmoid, type Tensor } from "@firn/train/ops";
 *
 * // log(1 + e^x), element by element: its shape, its gradient, its formula in WGSL and for tests.
 * const softplusOp: Op<null> = {
 *   name: "softplus",
 *   infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
 *   pullbacks: [({ inputs: [x], gradient }) => multiply(gradient, sigmoid(x))],
 *   element: { text: ([x]) => `log(1.0f + exp(${x}))`, value: (x) => Math.log1p(Math.exp(x)) },
 * };
 * const softplus = (x: Tensor): Tensor => apply(softplusOp, [x], null);
 *
 * await using gpu = await openGpu();
 * const x = tensor([0]), y = softplus(x);
 * const [[value], [slope]] = await readAll(gpu, [y, ...grad(sum(y), [x])]);
 * assertAlmostEquals(value, Math.log(2), 1e-6);
 * assertAlmostEquals(slope, 0.5, 1e-6);
 * ```
 *
 * ## Kinds of ops
 *
 * An operation is an {@link Op} record and a function that calls {@link apply}. The record needs one of
 *
 * - `element`: a formula for one element. The planner fuses it with its neighbours.
 * - `kernel`: a compute shader of its own. Add a `definition` in simpler operations where there is one: it is the
 *   documentation and the reference for tests.
 * - `definition` alone: a composition, expanded before planning.
 *
 * Rules for a `kernel`:
 *
 * - It returns WGSL with the entry point `main` and a grid of workgroups. The bindings of group 0 are the inputs in order,
 *   then the wanted outputs in order. `reads` and `writes` choose others.
 * - `wanted[i]` tells whether anything reads output `i`. An output that nobody wants has no buffer and no binding, unless
 *   `writes` names it.
 * - `alias` offers a second kernel that overwrites an input with the output: it binds the other inputs, then the shared
 *   buffer, `read_write`. The planner uses it when nothing reads that input afterwards.
 * - Inputs and outputs are row-major, of the dtypes of the tensors. With half-precision storage (`precision: "f16"`) the
 *   planner keeps everything that such a kernel reads or writes in f32. Inputs that `packed` lists may be bf16, f16, int8 or
 *   nf4; others are widened to f32 first.
 * - Attributes are numbers, strings, lists and records. Two nodes of one operation with equal inputs and equal attributes
 *   are computed once. A node whose attributes hold a function, a `Map` or an object of a class is computed each time.
 * - Pullbacks are those of output 0. Further outputs ({@link pick}) hold values that the pullbacks need again; second
 *   derivatives go through them by the `definition`. An op without pullbacks is differentiated by its `definition` too.
 *
 * @example A reduction with its own kernel, and an operation with two outputs
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { grad, openGpu, readAll, tensor } from "@firn/train";
 * import {
 *   apply, broadcast, divide, multiply, type Op, pick, reshape, sqrt, subtract, sum, type Tensor,
 * } from "@firn/train/ops";
 *
 * // A column [N, 1] repeated over the columns of x [N, C].
 * const across = (column: Tensor, { shape }: Tensor): Tensor => broadcast(reshape(column, [shape[0], 1]), shape);
 *
 * // The sum of squares of each row: [N, C] to [N]. Binding 0 is the input, binding 1 the output.
 * const sumSquaresOp: Op<null> = {
 *   name: "sumSquares",
 *   infer: ([{ shape }]) => [{ shape: [shape[0]], dtype: "f32" }],
 *   pullbacks: [({ inputs: [x], gradient }) => multiply(multiply(x, 2), across(gradient, x))],
 *   definition: ([x]) => [sum(multiply(x, x), 1)],
 *   kernel({ inputs: [{ shape: [rows, width] }] }) {
 *     const code = `
 *       @group(0) @binding(0) var<storage, read> x: array<f32>;
 *       @group(0) @binding(1) var<storage, read_write> y: array<f32>;
 *       @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
 *         if (id.x >= ${rows}u) { return; }
 *         var total = 0.0f;
 *         for (var c = 0u; c < ${width}u; c += 1u) { let v = x[id.x * ${width}u + c]; total += v * v; }
 *         y[id.x] = total;
 *       }`;
 *     return { kernel: { name: "sum_squares", code, grid: [Math.ceil(rows / 64), 1, 1], flops: 2 * rows * width } };
 *   },
 * };
 * const sumSquares = (x: Tensor): Tensor => apply(sumSquaresOp, [x], null);
 *
 * // Rows of length 1, and the lengths that they had: the pullback divides by them.
 * const unitRowsOp: Op<null> = {
 *   name: "unitRows",
 *   infer: ([{ shape }]) => [{ shape, dtype: "f32" }, { shape: [shape[0]], dtype: "f32" }],
 *   pullbacks: [({ output, gradient }) => {
 *     const along = sum(multiply(gradient, output), 1);
 *     return divide(subtract(gradient, multiply(output, across(along, output))), across(pick(output, 1), output));
 *   }],
 *   definition([x]) {
 *     const length = sqrt(sumSquares(x));
 *     return [divide(x, across(length, x)), length];
 *   },
 *   kernel({ inputs: [{ shape: [rows, width] }], wanted }) {
 *     // This kernel always writes the rows. The lengths have a binding only if something reads them.
 *     const code = `
 *       @group(0) @binding(0) var<storage, read> x: array<f32>;
 *       @group(0) @binding(1) var<storage, read_write> y: array<f32>;
 *       ${wanted[1] ? "@group(0) @binding(2) var<storage, read_write> lengths: array<f32>;" : ""}
 *       @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
 *         if (id.x >= ${rows}u) { return; }
 *         let base = id.x * ${width}u;
 *         var total = 0.0f;
 *         for (var c = 0u; c < ${width}u; c += 1u) { total += x[base + c] * x[base + c]; }
 *         for (var c = 0u; c < ${width}u; c += 1u) { y[base + c] = x[base + c] / sqrt(total); }
 *         ${wanted[1] ? "lengths[id.x] = sqrt(total);" : ""}
 *       }`;
 *     return {
 *       kernel: { name: "unit_rows", code, grid: [Math.ceil(rows / 64), 1, 1], flops: 4 * rows * width },
 *       writes: wanted[1] ? [0, 1] : [0],
 *     };
 *   },
 * };
 * const unitRows = (x: Tensor): Tensor => apply(unitRowsOp, [x], null);
 *
 * await using gpu = await openGpu();
 * const x = tensor([3, 4, 0, 2], [2, 2]), weight = tensor([1, 2, 3, 4], [2, 2]);
 * const results: [Tensor, number[], number[]][] = [
 *   [sumSquares(x), [25, 4], [6, 8, 0, 4]],
 *   [unitRows(x), [0.6, 0.8, 0, 1], [-0.064, 0.048, 1.5, 0]],
 *   [pick(unitRows(x), 1), [5, 2], []],
 * ];
 * for (const [y, values, slopes] of results) {
 *   const loss = y.shape.length === 2 ? sum(multiply(y, weight)) : sum(y);
 *   const [seen, gradient] = await readAll(gpu, slopes.length > 0 ? [y, ...grad(loss, [x])] : [y]);
 *   values.forEach((value, i) => assertAlmostEquals(seen[i], value, 1e-5));
 *   slopes.forEach((slope, i) => assertAlmostEquals(gradient[i], slope, 1e-5));
 * }
 * ```
 *
 * @module
 */

export { gelu, leakyRelu, relu, silu } from "./activations.ts";
export { softplus } from "./softplus.ts";
export { arange, type ArangeOptions } from "./arange.ts";
export { add, cast, divide, multiply, negate, subtract } from "./arithmetic.ts";
export { associativeScan, type Combine, type ScanOptions } from "./associative_scan.ts";
export { attention, type AttentionDropout, type AttentionOptions } from "./attention.ts";
export type { AttentionLimits } from "./attention_ranges.ts";
export { expandDims, split, squeeze, stack } from "./axes.ts";
export { broadcast, type ReduceOptions, sum, sumEach } from "./broadcast.ts";
export { clamp, equal, less, maximum, minimum, where } from "./comparison.ts";
export { conv1d, conv2d, type ConvolutionOptions } from "./convolution.ts";
export { crossEntropy, IGNORE, nextLabels } from "./cross_entropy.ts";
export { cumsum } from "./cumsum.ts";
export { einsum } from "./einsum.ts";
export type { Operand } from "./elementwise.ts";
export { embedding } from "./embedding.ts";
export { flip } from "./flip.ts";
export { abs, exp, log, rsqrt, sigmoid, sign, sqrt, tanh } from "./functions.ts";
export { integers } from "./integers.ts";
export { linearCrossEntropy, type LinearCrossEntropyOptions } from "./linear_cross_entropy.ts";
export { gather, type GatherAxis, scatterAdd } from "./gather.ts";
export { layerNorm, type LayerNormOptions } from "./layer_norm.ts";
export { logSoftmax, logSumExp } from "./log_sum_exp.ts";
export { binaryCrossEntropy, meanSquaredError } from "./losses.ts";
export { matmul, type MatmulAttrs } from "./matmul.ts";
export { concat, pad, permute, reshape, slice } from "./movement.ts";
export { oneHot } from "./one_hot.ts";
export {
  type AveragePoolOptions,
  avgPool1d,
  avgPool2d,
  maxPool1d,
  maxPool2d,
  type PoolOptions,
} from "./pooling.ts";
export { pow } from "./power.ts";
export { dropout, randomNormal, type RandomOptions, randomUniform } from "./random.ts";
export { max, mean, min, variance, type VarianceOptions } from "./reduce.ts";
export { rmsNorm } from "./rms_norm.ts";
export { rotary } from "./rotary.ts";
export { softmax } from "./softmax.ts";
export { erf } from "./special.ts";
export { stopGradient } from "./stop_gradient.ts";
export { argmax, argmin, type TopK, topK } from "./top_k.ts";
export { cos, sin } from "./trigonometry.ts";
export type { KernelCall, KernelRequest, KernelText, Target } from "../kernel_call.ts";
export type { MatrixProducts } from "../../kernels/matmul/matrix_products.ts";
export type { MatrixDialect, MatrixUnit } from "../../kernels/matrix_unit.ts";
export type { DType, PackedType, Spec, StorageType, StoredSpec } from "../spec.ts";
export { dequantize } from "./dequantize.ts";
export {
  apply,
  type BatchRule,
  type ElementText,
  type HalfRule,
  type Op,
  type ParameterRole,
  pick,
  type Pullback,
  type PullbackContext,
  type RangeRule,
  type Tensor,
} from "../tensor.ts";
