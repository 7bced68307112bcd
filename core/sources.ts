/**
 * Tensors that no launch computes: leaves, values from JavaScript, constants, scalars of a step.
 *
 * @module
 */

import { InputError, ShapeError } from "./errors.ts";
import { sizeOf, type Spec } from "./spec.ts";
import { apply, type Op, type Path, type Tensor } from "./tensor.ts";

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
const hostOp: Op<{ data: HostData; spec: Spec }> = { name: "host", infer: (_, { spec }) => [spec] };

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
 * @throws {InputError} When it is computed, or lives on the device
 */
export function hostValues(tensor: Tensor, what: string): HostData {
  if (tensor.op !== hostOp) {
    throw new InputError(
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
