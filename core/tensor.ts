/**
 * Tensors: immutable nodes of a graph. They say what is computed, not where.
 *
 * @module
 */

import { checkShape, refuse } from "./arguments.ts";
import { ShapeError } from "./errors.ts";
import { DISPLAY, displayOf, INSPECT, lineOf } from "./inspect.ts";
import type { KernelCall, KernelRequest, Target } from "./kernel_call.ts";
import { dequantize as dequantizeKernel } from "../kernels/dequantize.ts";
import type { Stored } from "../kernels/packed.ts";
import { isPacked, sizeOf, type Spec } from "./spec.ts";

/** The dotted name of a leaf: checkpoint key, component name, error text, buffer label. */
export type Path = string;

/** A node of a graph: one output of an operation on other nodes. It prints in one line (see `inspect.ts`). */
export interface Tensor extends Spec {
  /** The operation that computes it. */
  readonly op: Op;
  /** Inputs of the operation. */
  readonly inputs: readonly Tensor[];
  /** Further arguments of the operation: axes, constants, a name. */
  readonly attrs: unknown;
}

/** The arguments of a pullback. */
export interface PullbackContext<A = unknown> {
  /** Inputs of the node. */
  readonly inputs: readonly Tensor[];
  /** The node itself. */
  readonly output: Tensor;
  /** Gradient of the loss with respect to the node. */
  readonly gradient: Tensor;
  /** Attributes of the node. */
  readonly attrs: A;
  /** Which input the gradient is for. */
  readonly index: number;
}

/** Builds the gradient of one input. Called only when that gradient is wanted. */
export type Pullback<A = unknown> = (context: PullbackContext<A>) => Tensor;

/** WGSL for one value of an elementwise expression; `type` is `f32` or `vec4<f32>`. */
export type ElementText = (args: readonly string[], type: string) => string;

/**
 * How an op treats a batch: its output, row-major, falls into equal parts. Each part is computed from the part of the
 * same number of every `split` input, and from the whole of every `shared` input.
 */
export interface BatchRule {
  /** How many parts the output and each split input have. */
  readonly parts: number;
  /** One for each input; the last serves all further inputs. */
  readonly inputs: readonly ("split" | "shared")[];
}

/** Where the kernel of an op can store values as f16. */
export interface HalfRule {
  /** Inputs that it can read as f16. */
  readonly reads: readonly number[] | "all";
  /** Outputs that it can write as f16. */
  readonly writes: readonly number[];
  /** Whether it moves values as they are stored: it writes f16 only where all inputs that it can read as f16 are. */
  readonly moves?: boolean;
}

/** The rule of an op that moves the values of its first input. */
export const MOVES: HalfRule = { reads: [0], writes: [0], moves: true };

/** How large results can be beside the range of f16. */
export interface RangeRule {
  /** `bounded`: near 1, whatever it reads. `moved`: as large as what it reads. */
  readonly result: "bounded" | "moved";
  /** `bounded` where it reads products of normed values. */
  readonly reads?: "bounded";
}

/** What a parameter is to the op that reads it: an operand of a product, a table of rows, the gain or bias of a norm. */
export type ParameterRole = "matrix" | "table" | "gain" | "bias";

/**
 * An operation as a record.
 *
 * It needs an `element`, a `kernel` or a `definition`. A fused op has a `kernel`, and a `definition` in simpler ops as its
 * documentation and test oracle. The doc of `@firn/train/ops` shows how to write one.
 */
// deno-lint-ignore no-explicit-any
export interface Op<A = any> {
  /** Its name, in errors and profiles. */
  readonly name: string;
  /** Inputs that it reads as they are stored (see `PackedType`); all others are widened to f32 first. */
  readonly packed?: readonly number[];
  /** Specs of the outputs; throws {@link ShapeError} on shapes that do not fit. */
  infer(inputs: readonly Spec[], attrs: A): readonly Spec[];
  /**
   * One for each input; the last serves all further inputs. `null` refuses to differentiate; `"flat"` means that the
   * output is piecewise constant in the input, so that no gradient flows. When absent, the definition is differentiated.
   */
  readonly pullbacks?: readonly (Pullback<A> | "flat" | null)[];
  /** For an elementwise op: its WGSL, and its value in JavaScript. */
  readonly element?: { readonly text: ElementText; readonly value: (...args: number[]) => number };
  /** How many leaves its kernel changes in place: its first inputs, whose buffers its first outputs have; none when absent. */
  readonly inPlace?: number;
  /** The kernel for given shapes. */
  readonly kernel?: (request: KernelRequest<A>) => KernelCall;
  /** The same computation in simpler ops: one tensor for each output. */
  readonly definition?: (inputs: readonly Tensor[], attrs: A) => readonly Tensor[];
  /** Floating-point operations of the matrix products inside, for the cost model. */
  readonly matmulFlops?: (
    inputs: readonly Spec[],
    outputs: readonly Spec[],
    attrs: A,
    wanted: readonly boolean[],
  ) => number;
  /** How it treats a batch; null or absent when an element of the output may depend on several samples. */
  readonly batch?: (inputs: readonly Spec[], attrs: A) => BatchRule | null;
  /**
   * Where its kernel can store f16; when absent, it stores f32 alone. Elementwise ops, products and reductions need none, as all
   * of them can.
   */
  readonly half?: HalfRule;
  /** How large its results can be; anything when absent. */
  readonly range?: RangeRule;
  /** A node whose kernel computes the sum of its result and another tensor; absent where no kernel does. */
  onto?(inputs: readonly Tensor[], attrs: A, other: Tensor): Tensor;
  /**
   * Attributes, of its own type, with which it gives results along a new first axis, whose sum is the result, so that more of the device has work;
   * null where one result is faster, absent where the kernel gives no other.
   */
  inParts?(
    inputs: readonly Spec[],
    attrs: A,
    device: { readonly target: Target; readonly half: boolean },
  ): unknown;
  /** The role of a parameter as each input; null or absent for inputs that are data. */
  readonly roles?: readonly (ParameterRole | null)[];
}

/**
 * Applies an op to tensors. This is the only constructor of graph nodes.
 *
 * @param op The operation
 * @param inputs Its inputs
 * @param attrs Its attributes
 * @returns The first output; {@link pick} gives the others
 * @throws {InputError} When an input is no tensor
 * @throws {ShapeError} When the shapes do not fit, or the result has 2^32 elements or more
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { apply, type Op } from "@firn/train/ops";
 *
 * const squareOp: Op<null> = {
 *   name: "square",
 *   infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
 *   element: { text: ([x]) => `${x} * ${x}`, value: (x) => x * x },
 * };
 * await using gpu = await openGpu();
 * assertEquals([...await read(gpu, apply(squareOp, [tensor([1, -3])], null))], [1, 9]);
 * ```
 */
export function apply<A>(op: Op<A>, inputs: readonly Tensor[], attrs: A): Tensor {
  if (typeof op?.infer !== "function") refuse("apply", "an op is a record with a name and infer", op);
  if (!Array.isArray(inputs)) refuse(op.name, "its inputs must be a list of tensors", inputs);
  let read = inputs;
  inputs.forEach((input, i) => {
    if (!isTensor(input)) {
      refuse(op.name, `input ${i} must be a tensor${op.element === undefined ? "" : " or a number"}`, input);
    }
    if (isPacked(input.dtype) && !op.packed?.includes(i)) {
      read = read.with(i, apply(dequantizeOp, [input], null));
    }
  });
  const [{ shape, dtype }] = op.infer(read, attrs);
  checkShape(op.name, shape);
  return { op, inputs: read, attrs, shape, dtype, [INSPECT]: lineOf, [DISPLAY]: displayOf };
}

/** Widens a tensor that is stored in fewer bytes. It has no pullback: such tensors are not trained. */
export const dequantizeOp: Op<null> = {
  name: "dequantize",
  packed: [0],
  infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
  pullbacks: [null],
  kernel({ inputs: [{ shape, dtype }] }) {
    const width = shape.at(-1) ?? 1, rows = sizeOf(shape.slice(0, -1));
    return { kernel: dequantizeKernel({ rows, width, stored: dtype as Exclude<Stored, "f32" | "f16"> }) };
  },
};

/**
 * Tells a tensor from all else.
 *
 * @param value Anything
 * @returns True for a tensor
 */
export function isTensor(value: unknown): value is Tensor {
  return typeof value === "object" && value !== null && "op" in value && "inputs" in value;
}

/**
 * Checks that an argument is a tensor.
 *
 * @param op The function that was called
 * @param value What it got
 * @param name What it calls the argument
 * @throws {InputError} When it is not
 */
export function checkTensor(op: string, value: Tensor, name: string): void {
  if (!isTensor(value)) refuse(op, `"${name}" must be a tensor`, value);
}

/**
 * Checks that inputs hold f32, so that a kernel does not take the bits of integers for numbers.
 *
 * @param op The function that was called
 * @param inputs Its inputs
 * @throws {InputError} When one holds integers
 */
export function checkFloats(op: string, inputs: readonly Spec[]): void {
  const other = inputs.findIndex(({ dtype }) => dtype === "i32" || dtype === "u32");
  if (other >= 0) {
    const { dtype, shape } = inputs[other];
    throw new ShapeError(op, `input ${other} must be f32, not ${dtype}; convert it with cast`, [shape]);
  }
}

/** An output of a node. */
export interface Output {
  readonly node: Tensor;
  /** Its index among the outputs of the node. */
  readonly index: number;
}

/**
 * Finds the node that computes a tensor.
 *
 * @param tensor Any tensor
 * @returns The node, and which of its outputs the tensor is
 */
export function outputOf(tensor: Tensor): Output {
  const { op, inputs: [node], attrs } = tensor;
  return op === pickOp ? { node, index: (attrs as { index: number }).index } : { node: tensor, index: 0 };
}

/** The op of {@link pick}. It has no pullbacks: `grad` looks through it. */
export const pickOp: Op<{ index: number; spec: Spec }> = {
  name: "pick",
  infer: (_, { spec }) => [spec],
};

/**
 * Selects an output of an op with several outputs.
 *
 * @param node What {@link apply} returned
 * @param index Which output; 0 is `node` itself
 * @returns That output
 * @throws {InputError} When there is no such output
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { add, apply, type Op, pick, subtract } from "@firn/train/ops";
 *
 * // Two outputs: a + b and a - b.
 * const sumAndDifferenceOp: Op<null> = {
 *   name: "sumAndDifference",
 *   infer: ([{ shape }]) => [{ shape, dtype: "f32" }, { shape, dtype: "f32" }],
 *   definition: ([a, b]) => [add(a, b), subtract(a, b)],
 * };
 * await using gpu = await openGpu();
 * const both = apply(sumAndDifferenceOp, [tensor([5]), tensor([2])], null);
 * assertEquals([...await read(gpu, both), ...await read(gpu, pick(both, 1))], [7, 3]);
 * ```
 */
export function pick(node: Tensor, index: number): Tensor {
  checkTensor("pick", node, "node");
  if (index === 0) return node;
  const specs = node.op.infer(node.inputs, node.attrs), spec = specs[index];
  if (spec === undefined) refuse("pick", `"${node.op.name}" has the outputs 0 to ${specs.length - 1}`, index);
  return apply(pickOp, [node], { index, spec: { shape: spec.shape, dtype: spec.dtype } });
}
