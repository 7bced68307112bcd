/**
 * Tensors: immutable nodes of a graph. They say what is computed, not where.
 *
 * @module
 */

import { ShapeError } from "./errors.ts";
import { DISPLAY, displayOf, INSPECT, lineOf } from "./inspect.ts";
import type { MatmulVariant } from "../kernels/matmul/types.ts";

/** The dotted name of a leaf: checkpoint key, component name, error text, buffer label. */
export type Path = string;

/**
 * Element type of a tensor. Everything differentiable is `f32`. The device may store frozen weights as `bf16`, which few ops
 * read.
 */
export type DType = "f32" | "i32" | "u32" | "bf16";

/** How the elements of a buffer are stored: a plan may store f32 tensors as f16. */
export type StorageType = DType | "f16";

/** Bytes per element on the device. */
export const ELEMENT_BYTES: { readonly [type in StorageType]: number } = {
  f32: 4,
  i32: 4,
  u32: 4,
  bf16: 2,
  f16: 2,
};

/** Shape and element type. */
export interface Spec {
  /** Sizes, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Element type. */
  readonly dtype: DType;
}

/** Shape and storage type. */
export interface StoredSpec {
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** How the elements are stored. */
  readonly dtype: StorageType;
}

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

/** A compute shader: WGSL and a grid (see `kernels/kernel.ts`). */
export interface KernelText {
  /** Short name for the profiler. */
  readonly name: string;
  /** WGSL with the entry point `main`. */
  readonly code: string;
  /** Workgroups in x, y and z. */
  readonly grid: readonly [number, number, number];
  /** Floating-point operations of one launch. */
  readonly flops: number;
}

/** The properties of a device that kernels depend on. */
export interface Target {
  /** Whether the adapter is a software rasteriser, which prefers few threads and no workgroup memory. */
  readonly software: boolean;
  /** Whether at least eight neighbouring threads can broadcast values to each other. */
  readonly subgroups: boolean;
  /** Whether at least sixteen can; false when absent. */
  readonly wideSubgroups?: boolean;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Storage buffers that one kernel can bind. */
  readonly maxBindings: number;
  /** The fastest variants of measured products, by `productKey`; a cost model chooses for others. */
  readonly variants?: ReadonlyMap<string, MatmulVariant>;
}

/** A launch of a kernel. */
export interface KernelCall {
  /** The kernel. */
  readonly kernel: KernelText;
  /** Indices of the inputs to bind, in order; all when absent. */
  readonly reads?: readonly number[];
  /** Indices of the outputs to bind, in order; the wanted ones when absent. */
  readonly writes?: readonly number[];
  /**
   * An input whose buffer the only output may share, and the kernel for that case: it binds the other inputs in order,
   * then the shared buffer. The planner uses it when nothing reads the input later. None when absent.
   */
  readonly alias?: { readonly input: number; readonly kernel: () => KernelText };
}

/** The argument of an op's `kernel`. */
export interface KernelRequest<A = unknown> {
  /** Shapes and storage types of the inputs; f16 only if the planner knows that the kernel reads it. */
  readonly inputs: readonly StoredSpec[];
  /** Shapes and storage types of all outputs, wanted or not. */
  readonly outputs: readonly StoredSpec[];
  /** Which outputs are read; only those are bound. */
  readonly wanted: readonly boolean[];
  /** Attributes of the node. */
  readonly attrs: A;
  /** The device. */
  readonly target: Target;
}

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
  /** Inputs that may be stored as bf16; all others are refused. */
  readonly bf16?: readonly number[];
  /** Specs of the outputs; throws {@link ShapeError} on shapes that do not fit. */
  infer(inputs: readonly Spec[], attrs: A): readonly Spec[];
  /**
   * One for each input; the last serves all further inputs. `null` refuses to differentiate; `"flat"` means that the
   * output is piecewise constant in the input, so that no gradient flows.
   */
  readonly pullbacks?: readonly (Pullback<A> | "flat" | null)[];
  /** For an elementwise op: its WGSL, and its value in JavaScript. */
  readonly element?: { readonly text: ElementText; readonly value: (...args: number[]) => number };
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
 * @throws {ShapeError} When the shapes do not fit, or an input is bf16 and the op does not read bf16
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
  const packed = inputs.findIndex(({ dtype }, i) => dtype === "bf16" && !op.bf16?.includes(i));
  if (packed >= 0) {
    const rule = `it does not read bf16, which input ${packed} is; load the model with storage "f32"`;
    throw new ShapeError(op.name, rule, inputs.map(({ shape }) => shape));
  }
  const [{ shape, dtype }] = op.infer(inputs, attrs);
  return { op, inputs, attrs, shape, dtype, [INSPECT]: lineOf, [DISPLAY]: displayOf };
}

/** The op of {@link pick}. */
export const pickOp: Op<{ index: number; spec: Spec }> = {
  name: "pick",
  infer: (_, { spec }) => [spec],
  pullbacks: [null],
};

/**
 * Selects an output of an op with several outputs.
 *
 * @param node What {@link apply} returned
 * @param index Which output; 0 is `node` itself
 * @returns That output
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
  if (index === 0) return node;
  const spec = node.op.infer(node.inputs, node.attrs)[index];
  return apply(pickOp, [node], { index, spec: { shape: spec.shape, dtype: spec.dtype } });
}

/** The op of {@link leaf}. */
export const leafOp: Op<{ path: Path; spec: Spec }> = { name: "leaf", infer: (_, { spec }) => [spec] };

/**
 * Makes a leaf: a parameter, an optimizer moment or a batch entry that is supplied by name when the graph runs.
 *
 * @param path Its dotted name
 * @param spec Shape and element type
 * @returns The node
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { leaf } from "@firn/train";
 *
 * assertEquals(leaf("layer.weight", { shape: [2, 3], dtype: "f32" }).shape, [2, 3]);
 * ```
 */
export function leaf(path: Path, { shape, dtype }: Spec): Tensor {
  return apply(leafOp, [], { path, spec: { shape, dtype } });
}

/** Data of a host tensor. */
export type HostData = Float32Array | Int32Array | Uint32Array;

/** The op of {@link tensor}. */
export const hostOp: Op<{ data: HostData; spec: Spec }> = { name: "host", infer: (_, { spec }) => [spec] };

/**
 * Makes a tensor from values in JavaScript.
 *
 * @param values Numbers (stored as f32) or a typed array, row-major
 * @param shape Its shape; `[values.length]` when absent
 * @returns The node; the values are not copied and must not change
 * @throws {ShapeError} When the shape does not hold as many values
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tensor } from "@firn/train";
 *
 * assertEquals(tensor([1, 2, 3, 4], [2, 2]).shape, [2, 2]);
 * ```
 */
export function tensor(values: readonly number[] | HostData, shape?: readonly number[]): Tensor {
  const data = ArrayBuffer.isView(values) ? values : new Float32Array(values);
  const dims = shape ?? [data.length];
  if (sizeOf(dims) !== data.length) {
    throw new ShapeError("tensor", `the shape must hold all ${data.length} values`, [dims]);
  }
  const dtype = data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32";
  return apply(hostOp, [], { data, spec: { shape: dims, dtype } });
}

/** Whether a tensor was made from values, which {@link hostValues} gives. */
export function isHost({ op }: Tensor): boolean {
  return op === hostOp;
}

/**
 * Returns the values of a tensor that was made by {@link tensor}.
 *
 * @param tensor A tensor of {@link tensor}
 * @param what Its name, for the error
 * @returns Its values, row-major, not a copy
 * @throws {TypeError} When it is computed, or lives on the device
 */
export function hostValues(tensor: Tensor, what: string): HostData {
  if (tensor.op !== hostOp) {
    throw new TypeError(
      `Cannot upload "${what}" as it must hold values: it is a result of "${tensor.op.name}"; make it with tensor(values, shape)`,
    );
  }
  return (tensor.attrs as { data: HostData }).data;
}

/** The op of {@link fill}. */
export const fillOp: Op<{ value: number; shape: readonly number[] }> = {
  name: "fill",
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
};

/**
 * Makes a tensor of one repeated value, which becomes a constant in the kernels that read it.
 *
 * @param value The value
 * @param shape Its shape; a scalar when absent
 * @returns The node, f32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fill } from "@firn/train";
 *
 * assertEquals(fill(0, [2, 3]).shape, [2, 3]);
 * ```
 */
export function fill(value: number, shape: readonly number[] = []): Tensor {
  return apply(fillOp, [], { value, shape });
}

/** A number that the host computes for each step; `age` counts the updates of a parameter. */
export type StepFunction = (step: number, age: number) => number;

/** The op of {@link stepScalar}; `group` selects the parameters whose age it depends on; 0 are those trained from the first step. */
export const stepScalarOp: Op<{ value: StepFunction; group: number }> = {
  name: "stepScalar",
  infer: () => [{ shape: [], dtype: "f32" }],
};

/**
 * Makes a scalar that the host computes for each step: a learning rate, a bias correction.
 *
 * It is computed in float64 and uploaded with the other scalars of the step in one write.
 *
 * @param value Maps the 1-based step to the scalar. In an optimizer its second argument is the age of a parameter: the number
 * of its updates since its state began, at the first step or at its last thaw. Elsewhere that is the step
 * @returns The node, f32, shape []
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, stepScalar } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * // `read` computes as step 1 does.
 * assertEquals([...await read(gpu, stepScalar((step) => 0.5 / step))], [0.5]);
 * ```
 */
export function stepScalar(value: StepFunction): Tensor {
  return apply(stepScalarOp, [], { value, group: 0 });
}

/** Number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((n, d) => n * d, 1);
}

/** Whether two shapes are the same. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}
