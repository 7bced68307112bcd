/**
 * Tensors that no launch computes: leaves, values from JavaScript, constants, scalars of a step.
 *
 * @module
 */

import { checkOptions, checkShape, refuse } from "./arguments.ts";
import { InputError, ShapeError } from "./errors.ts";
import { DTYPES, sizeOf, type Spec } from "./spec.ts";
import { apply, type Op, type Path, type Tensor } from "./tensor.ts";

/** The op of {@link leaf}. */
export const leafOp: Op<{ path: Path; spec: Spec }> = { name: "leaf", infer: (_, { spec }) => [spec] };

/**
 * Makes a leaf: a parameter, an optimizer moment or a batch entry that is supplied by name when the graph runs.
 *
 * @param path Its dotted name
 * @param spec Shape and element type
 * @returns The node
 * @throws {InputError} When the spec is not one
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { leaf } from "@firn/train";
 *
 * assertEquals(leaf("layer.weight", { shape: [2, 3], dtype: "f32" }).shape, [2, 3]);
 * ```
 */
export function leaf(path: Path, spec: Spec): Tensor {
  if (typeof path !== "string") refuse("leaf", "a path is a text", path);
  checkOptions("leaf", spec, "its spec must be a record of shape and dtype");
  const { shape, dtype } = spec;
  if (!DTYPES.includes(dtype)) {
    refuse("leaf", `"dtype" must be one of ${DTYPES}`, dtype);
  }
  return apply(leafOp, [], { path, spec: { shape, dtype } });
}

/** Data of a host tensor. */
export type HostData = Float32Array | Int32Array | Uint32Array;

/** The op of {@link tensor}. */
const hostOp: Op<{ data: HostData; spec: Spec }> = { name: "host", infer: (_, { spec }) => [spec] };

/** Numbers that {@link tensor} converts: to f32, or whole ones of few bits to i32. */
export type ConvertedData =
  | readonly number[]
  | Float64Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array;

/**
 * Makes a tensor from values in JavaScript.
 *
 * Lists and `Float64Array` are rounded to f32; whole numbers of 8 and 16 bits become i32.
 *
 * @param values Numbers, row-major
 * @param shape Its shape; `[values.length]` when absent
 * @returns The node; a `Float32Array`, `Int32Array` or `Uint32Array` is not copied and must not change
 * @throws {InputError} When the values are not numbers, or one is beyond the range of f32
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
export function tensor(values: HostData | ConvertedData, shape?: readonly number[]): Tensor {
  const data = dataOf(values), dims = shape ?? [data.length];
  checkShape("tensor", dims);
  if (sizeOf(dims) !== data.length) {
    throw new ShapeError("tensor", `the shape must have the size of the data, ${data.length}`, [dims]);
  }
  const dtype = data instanceof Float32Array ? "f32" : data instanceof Int32Array ? "i32" : "u32";
  return apply(hostOp, [], { data, spec: { shape: dims, dtype } });
}

const HELD = [Float32Array, Int32Array, Uint32Array];
const SMALL_INTEGERS = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array];

function dataOf(values: HostData | ConvertedData): HostData {
  if (HELD.some((kind) => values instanceof kind)) return values as HostData;
  if (SMALL_INTEGERS.some((kind) => values instanceof kind)) return Int32Array.from(values);
  if (!Array.isArray(values) && !(values instanceof Float64Array)) {
    refuse("tensor", "values are a list of numbers, a Float32Array, an Int32Array or a Uint32Array", values);
  }
  const data = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value: unknown = values[i];
    if (typeof value !== "number") {
      const mend = Array.isArray(value) ? ", not lists; use flat() and give the shape" : "";
      refuse("tensor", `values must be numbers${mend}`, value);
    }
    data[i] = value;
    if (!Number.isFinite(data[i]) && Number.isFinite(value)) {
      refuse("tensor", "values must be in the range of f32, up to 3.4e38", value);
    }
  }
  return data;
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
 * @throws {InputError} When the value is not a number, or the shape is none
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
  if (typeof value !== "number") refuse("fill", "its value must be a number", value);
  return apply(fillOp, [], { value, shape });
}

/** A number that the host computes for each step; `age` counts the updates of a parameter. */
export type StepFunction = (step: number, age: number) => number;

/** The op of {@link stepScalar}; `group` selects the parameters whose age it depends on; 0 are those trained from the first step. */
export const stepScalarOp: Op<{ value: StepFunction; group: number }> = {
  name: "stepScalar",
  infer: () => [{ shape: [], dtype: "f32" }],
};

/** Step scalars that depend on an age: a row of a {@link stepTableOp}. */
export type AgedScalar = { readonly value: StepFunction; readonly group: number };

/**
 * Values of step scalars where the host does not know yet how many updates the device left out, f32 [scalars, columns]. A column
 * is the number of steps that the device left out, modulo their number.
 */
export const stepTableOp: Op<{ readonly rows: readonly AgedScalar[]; readonly columns: number }> = {
  name: "stepTable",
  infer: (_, { rows, columns }) => [{ shape: [rows.length, columns], dtype: "f32" }],
};

/** One number of a list f32 [N], which kernels read in the buffer of the list. */
export const scalarAtOp: Op<{ readonly index: number }> = {
  name: "scalarAt",
  infer: () => [{ shape: [], dtype: "f32" }],
};

/**
 * Makes a scalar that the host computes for each step: a learning rate, a bias correction.
 *
 * It is computed in float64 and uploaded with the other scalars of the step in one write.
 *
 * @param value Maps the 1-based step to the scalar. In an optimizer its second argument is the age of a parameter: the number
 * of its updates since its state began, at the first step or at its last thaw: steps that are skipped are none. Elsewhere it is the
 * number of updates of the run
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
  if (typeof value !== "function") refuse("stepScalar", "its value must be a function of the step", value);
  return apply(stepScalarOp, [], { value, group: 0 });
}
