/**
 * Tensors: immutable nodes that say what is computed, never where.
 *
 * @module
 */

import { ShapeError } from "./errors.ts";
import { DISPLAY, displayOf, INSPECT, lineOf } from "./inspect.ts";
import type { MatmulVariant } from "../kernels/matmul/types.ts";

/** The dotted name of a leaf: checkpoint key, component name, error text, buffer label. */
export type Path = string;

/**
 * Element type of a tensor. Everything differentiable is `f32`; `bf16` is how the device may store frozen weights, which
 * few ops read.
 */
export type DType = "f32" | "i32" | "u32" | "bf16";

/** How the elements of a buffer are stored: a plan may store f32 as f16, which no tensor of a graph is. */
export type StorageType = DType | "f16";

/** Bytes of an element on the device. */
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

/** Shape, and how the elements are stored. */
export interface StoredSpec {
  /** Sizes, outermost first. */
  readonly shape: readonly number[];
  /** How the elements are stored. */
  readonly dtype: StorageType;
}

/** A node of a graph: one output of an operation on other nodes. */
export interface Tensor extends Spec {
  /** The operation that makes it. */
  readonly op: Op;
  /** What the operation reads. */
  readonly inputs: readonly Tensor[];
  /** What else the operation needs to know: axes, constants, a name. */
  readonly attrs: unknown;
}

/** What a pullback may look at. */
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

/** One value of an elementwise expression, as WGSL text: `type` is `f32` or `vec4<f32>`. */
export type ElementText = (args: readonly string[], type: string) => string;

/** A kernel as an op needs it: plain text and a grid (see `kernels/kernel.ts`). */
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

/** What a kernel may depend on besides shapes. */
export interface Target {
  /** A CPU that plays a GPU: no workgroup memory, few threads, large blocks. */
  readonly software: boolean;
  /** At least eight neighbouring threads can broadcast values to each other. */
  readonly subgroups: boolean;
  /** At least sixteen can; fewer when absent. */
  readonly wideSubgroups?: boolean;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Storage buffers one kernel can bind. */
  readonly maxBindings: number;
  /** How products were measured to be fastest, by `productKey`; a rule decides about all others. */
  readonly variants?: ReadonlyMap<string, MatmulVariant>;
}

/** One launch that an op asks for. */
export interface KernelCall {
  /** What to launch. */
  readonly kernel: KernelText;
  /** Indices of the inputs that it binds, in order; all when absent. */
  readonly reads?: readonly number[];
  /** Indices of the outputs that it binds, in order; the wanted ones when absent. */
  readonly writes?: readonly number[];
  /**
   * An input whose buffer the only output may share, and the kernel for that case: it binds the other inputs in order,
   * then the shared buffer. The planner uses it where nobody reads the input later. None when absent.
   */
  readonly alias?: { readonly input: number; readonly kernel: () => KernelText };
}

/** What an op's `kernel` is told. */
export interface KernelRequest<A = unknown> {
  /** Shapes of the inputs and how they are stored: f16 only where the planner knows that the kernel reads it. */
  readonly inputs: readonly StoredSpec[];
  /** Shapes of the outputs, wanted or not, and how they are to be stored. */
  readonly outputs: readonly StoredSpec[];
  /** Which outputs somebody reads; only those are bound. */
  readonly wanted: readonly boolean[];
  /** Attributes of the node. */
  readonly attrs: A;
  /** What the device can do. */
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
 * Exactly one of `element`, `kernel` and `definition` is needed; a fused op has a `kernel` and, as its meaning
 * and test oracle, a `definition` made of simpler ops.
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
   * One for each input; the last serves all further inputs. `null` refuses to differentiate; `"flat"` says that the
   * output does not change with the input, or in jumps only, so that no gradient flows.
   */
  readonly pullbacks?: readonly (Pullback<A> | "flat" | null)[];
  /** An elementwise op: its WGSL and its value. */
  readonly element?: { readonly text: ElementText; readonly value: (...args: number[]) => number };
  /** The fused kernel. */
  readonly kernel?: (request: KernelRequest<A>) => KernelCall;
  /** The same in simpler ops: one tensor for each output. */
  readonly definition?: (inputs: readonly Tensor[], attrs: A) => readonly Tensor[];
  /** Floating-point operations of the matrix products inside, for the cost model. */
  readonly matmulFlops?: (
    inputs: readonly Spec[],
    outputs: readonly Spec[],
    attrs: A,
    wanted: readonly boolean[],
  ) => number;
  /** How it treats a batch; null, or absent, where an element of the output may depend on several samples. */
  readonly batch?: (inputs: readonly Spec[], attrs: A) => BatchRule | null;
  /** What each input is where a parameter is given for it; null, or absent, for inputs that are data. */
  readonly roles?: readonly (ParameterRole | null)[];
}

/**
 * Applies an op to tensors: the one constructor of graph nodes.
 *
 * @param op The operation
 * @param inputs Its inputs
 * @param attrs Its attributes
 * @returns The first output; {@link pick} gives the others
 * @throws {ShapeError} When the shapes do not fit, or an input is stored as bf16 and the op does not read that
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
 * A later output of an op with several.
 *
 * @param node What {@link apply} returned
 * @param index Which output; 0 is `node` itself
 * @returns That output
 */
export function pick(node: Tensor, index: number): Tensor {
  if (index === 0) return node;
  const spec = node.op.infer(node.inputs, node.attrs)[index];
  return apply(pickOp, [node], { index, spec: { shape: spec.shape, dtype: spec.dtype } });
}

/** The op of a leaf: a value that is supplied when the graph runs. */
export const leafOp: Op<{ path: Path; spec: Spec }> = { name: "leaf", infer: (_, { spec }) => [spec] };

/**
 * A leaf: a parameter, an optimizer moment or a batch entry, supplied by name when the graph runs.
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
 * A tensor from values that live in JavaScript.
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
 * The values of a tensor that was made from values.
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
 * A tensor of one repeated value, written into the kernels that read it.
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

/** A number that the host computes for a step, and for the age of some parameters' moments in it. */
export type StepFunction = (step: number, age: number) => number;

/** The op of {@link stepScalar}; `group` tells whose age it depends on: 0 is what was trained from the first step on. */
export const stepScalarOp: Op<{ value: StepFunction; group: number }> = {
  name: "stepScalar",
  infer: () => [{ shape: [], dtype: "f32" }],
};

/**
 * A scalar that the host computes for each step: a learning rate, a bias correction.
 *
 * Computed in float64, uploaded with the step's other scalars in one write.
 *
 * @param value From the 1-based number of the step to the scalar. In an optimizer it is told an age too: which update of
 * a parameter this is since its state began, at the first step or when it thawed last; elsewhere that is the step
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
