/**
 * Random numbers without state: a value is a function of seed, stream, step and its own index.
 *
 * Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3" (Threefry 2x32).
 *
 * @module
 */

import { checkOptions, checkShape, refuse } from "../arguments.ts";
import {
  dropout as dropoutKernel,
  dropoutKey,
  normal as normalKernel,
  uniform as uniformKernel,
} from "../../kernels/random.ts";
import { stepScalar, tensor } from "../sources.ts";
import { sizeOf, type Spec } from "../spec.ts";
import { apply, checkFloats, checkTensor, type Op, type Tensor } from "../tensor.ts";
import { multiply } from "./arithmetic.ts";
import { less, where } from "./comparison.ts";
import { concat, reshape } from "./movement.ts";

/** Identifies a draw. */
export interface RandomOptions {
  /** A whole number from 0 to 2^32 - 1. */
  readonly seed: number;
  /** Distinguishes draws with the same seed, a whole number from 0 to 2^32 - 1; 0 when absent. */
  readonly stream?: number;
  /** Whether each training step draws anew; false when absent. */
  readonly eachStep?: boolean;
}

interface Attrs {
  readonly shape: readonly number[];
}

/** One shared node, so that all draws of a step share one upload. */
const stepNumber = stepScalar((step) => step);

/**
 * The draw of dropout inside of a kernel: its key, as two numbers that f32 holds, and the step.
 *
 * @param op The operation, for errors
 * @param options Seed and stream
 * @returns f32 [3]
 * @throws {InputError} When seed or stream is out of range
 */
export function dropoutDraw(op: string, { seed, stream }: Omit<RandomOptions, "eachStep">): Tensor {
  sources(op, { seed, stream });
  const key = tensor(Float32Array.from(dropoutKey([seed, stream ?? 0])));
  return concat([key, reshape(stepNumber, [1])], 0);
}

/**
 * Refuses a share of zeros that is none.
 *
 * @throws {InputError} When it is out of range
 */
export function checkRate(op: string, rate: number): void {
  if (typeof rate === "number" && rate >= 0 && rate < 1) return;
  refuse(op, '"rate" must be at least 0 and below 1', rate);
}

/** Draws that {@link drawNumber} tells apart. */
export const MOST_DRAWS: number = 5 * 2 ** 24;

/**
 * The number by which kernels know a draw: a whole number below 2^32 that f32 holds, another one for each draw. Up to 2^24 it is the
 * number of the draw itself.
 *
 * @param draw Number of the draw, below {@link MOST_DRAWS}
 * @returns The number
 */
export function drawNumber(draw: number): number {
  const beyond = draw - 2 ** 24;
  // From there on f32 has every second whole number of an octave, then every fourth.
  return beyond < 0 ? draw : 2 ** (1 + Math.floor(beyond / 2 ** 23)) * (2 ** 23 + beyond % 2 ** 23);
}

/** Whether a node is the number that draws of each step depend on. */
export function isDrawNumber(node: Tensor): boolean {
  return node === stepNumber;
}

/** Inputs of a draw: the key, and the step if each step draws anew. */
function sources(op: string, options: RandomOptions): Tensor[] {
  checkOptions(op, options, "its options must be a record with seed");
  const { seed, stream = 0, eachStep = false } = options;
  for (const [name, word] of [["seed", seed], ["stream", stream]] as const) {
    if (!(Number.isInteger(word) && word >= 0 && word < 2 ** 32)) {
      refuse(op, `"${name}" must be a whole number from 0 to 2^32 - 1`, word);
    }
  }
  return [tensor(new Uint32Array([seed, stream])), ...(eachStep ? [stepNumber] : [])];
}

const infer = (_: readonly Spec[], { shape }: Attrs): readonly Spec[] => [{ shape, dtype: "f32" }];

const uniformOp: Op<Attrs> = {
  name: "randomUniform",
  infer,
  kernel: ({ inputs, attrs }) => ({
    kernel: uniformKernel({ size: sizeOf(attrs.shape), eachStep: inputs.length === 2 }),
  }),
};

const normalOp: Op<Attrs> = {
  name: "randomNormal",
  infer,
  kernel: ({ inputs, attrs }) => ({
    kernel: normalKernel({ size: sizeOf(attrs.shape), eachStep: inputs.length === 2 }),
  }),
};

/** Inputs: key, step and x. */
const dropoutOp: Op<{ readonly rate: number }> = {
  name: "dropout",
  infer([, , x]) {
    checkFloats("dropout", [x]);
    return [{ shape: x.shape, dtype: "f32" }];
  },
  pullbacks: [
    null,
    null,
    ({ inputs: [key, step], gradient, attrs }) => apply(dropoutOp, [key, step, gradient], attrs),
  ],
  kernel: ({ inputs: [, , x], attrs }) => ({
    kernel: dropoutKernel({ size: sizeOf(x.shape), rate: attrs.rate }),
  }),
  definition([key, step, x], { rate }) {
    const draw = apply(uniformOp, [key, step], { shape: x.shape });
    return [where(less(draw, rate), 0, multiply(x, 1 / (1 - rate)))];
  },
};

/**
 * Uniformly distributed values in [0, 1), multiples of 2^-24, with the same bits on every device.
 *
 * @param shape Its shape
 * @param options Seed and stream, and whether each step draws anew
 * @returns f32 of that shape
 * @throws {InputError} When seed or stream is not a whole number of 32 bits
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { openGpu, read } from "@firn/train";
 * import { randomUniform } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const draw = await read(gpu, randomUniform([3], { seed: 1 }));
 * assert(draw.every((u) => u >= 0 && u < 1));
 * ```
 */
export function randomUniform(shape: readonly number[], options: RandomOptions): Tensor {
  checkShape("randomUniform", shape);
  return apply(uniformOp, sources("randomUniform", options), { shape });
}

/**
 * Normally distributed values, mean 0 and deviation 1. Devices differ in the last bits of logarithm and sine.
 *
 * Source: Box and Muller 1958, "A note on the generation of random normal deviates".
 *
 * @param shape Its shape
 * @param options Seed and stream, and whether each step draws anew
 * @returns f32 of that shape
 * @throws {InputError} When seed or stream is not a whole number of 32 bits
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, readAll } from "@firn/train";
 * import { randomNormal } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const [once, again] = await readAll(gpu, [1, 1].map((seed) => randomNormal([4], { seed })));
 * assertEquals(once, again);
 * ```
 */
export function randomNormal(shape: readonly number[], options: RandomOptions): Tensor {
  checkShape("randomNormal", shape);
  return apply(normalOp, sources("randomNormal", options), { shape });
}

/**
 * Zeroes a random share of the elements and scales the others by `1 / (1 - rate)`, for training only.
 *
 * Each step drops different elements. The gradient draws the same numbers again, so no mask is stored.
 *
 * Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting".
 *
 * @param x f32 of any shape
 * @param options `rate`: the share of zeros, at least 0 and below 1; a seed, and a stream for each use
 * @returns f32 of that shape; `x` itself when the rate is 0
 * @throws {InputError} When rate, seed or stream is out of range
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { dropout, fill, openGpu, read } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const kept = await read(gpu, dropout(fill(1, [64]), { rate: 0.5, seed: 1 }));
 * assert(kept.every((x) => x === 0 || x === 2));
 * ```
 */
export function dropout(
  x: Tensor,
  options: { readonly rate: number; readonly seed: number; readonly stream?: number },
): Tensor {
  checkTensor("dropout", x, "x");
  checkOptions("dropout", options, "its options must be a record with rate and seed");
  const { rate, seed, stream } = options;
  checkRate("dropout", rate);
  const key = sources("dropout", { seed, stream, eachStep: true });
  return rate === 0 ? x : apply(dropoutOp, [...key, x], { rate });
}
