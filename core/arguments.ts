/**
 * Checks of arguments. An error says what is wrong in the words of the function that was called.
 *
 * @module
 */

import { InputError, ShapeError } from "./errors.ts";
import { INSPECT } from "./inspect.ts";

/** Elements that one tensor can have: kernels index them by u32. */
const MOST_ELEMENTS = 2 ** 32 - 1;

/**
 * Refuses an argument.
 *
 * @param op The function that was called
 * @param rule What it takes
 * @param seen What it got
 * @throws {InputError} Always
 */
export function refuse(op: string, rule: string, seen: unknown): never {
  throw new InputError(`Cannot apply "${op}" as ${rule}: got ${shown(seen)}`);
}

/**
 * A value in an error: short, and without the values of a tensor.
 *
 * @param value Anything
 * @returns Its text
 */
export function shown(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  }
  if (typeof value === "function") return "a function";
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) {
    return value.length <= 8 && value.every((x) => typeof x !== "object" || x === null)
      ? `[${value.map(shown).join(", ")}]`
      : `a list of ${value.length}`;
  }
  const line = (value as { readonly [INSPECT]?: unknown })[INSPECT];
  if (typeof line === "function" && "op" in value) return line.call(value);
  const kind = Object.getPrototypeOf(value)?.constructor?.name ?? "Object";
  if (kind === "Promise") return "a Promise, which must be awaited first";
  return kind === "Object" ? "a record" : `an object of the class ${kind}`;
}

/**
 * Checks that options are a record.
 *
 * @param op The function that was called
 * @param options What it got
 * @param rule What it takes
 * @throws {InputError} When they are not
 */
export function checkOptions(op: string, options: unknown, rule = "options must be a record"): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) refuse(op, rule, options);
}

/**
 * Checks an option that is true or false.
 *
 * @param op The function that was called
 * @param name Name of the option
 * @param value What it got
 * @throws {InputError} When it is neither
 */
export function checkFlag(op: string, name: string, value: unknown): void {
  if (typeof value !== "boolean") refuse(op, `"${name}" must be true or false`, value);
}

/**
 * Checks an option that is a number.
 *
 * @param op The function that was called
 * @param name Name of the option
 * @param value What it got
 * @throws {InputError} When it is none, or not finite
 */
export function checkNumber(op: string, name: string, value: unknown): void {
  if (!Number.isFinite(value)) refuse(op, `"${name}" must be a number`, value);
}

/**
 * Checks a number that has a range.
 *
 * @param op The function that was called
 * @param values What it got, by name of the option
 * @param range `least`: the smallest; `below`: what it stays below, Infinity when absent
 * @throws {InputError} When one is no number, or out of the range
 */
export function checkRange(
  op: string,
  values: Readonly<Record<string, unknown>>,
  { least, below = Infinity }: { readonly least: number; readonly below?: number },
): void {
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "number" && value >= least && value < below) continue;
    refuse(
      op,
      `"${name}" must be a number from ${least}${below < Infinity ? ` and below ${below}` : ""}`,
      value,
    );
  }
}

/**
 * Checks a shape.
 *
 * @param op The function that was called
 * @param shape What it got, or what it would give
 * @throws {InputError} When it is not a list
 * @throws {ShapeError} When a size is not a whole number above 0, or there are too many elements
 */
export function checkShape(op: string, shape: readonly number[]): void {
  if (!Array.isArray(shape)) refuse(op, "a shape is a list of sizes", shape);
  let elements = 1;
  for (const size of shape) {
    if (typeof size !== "number") refuse(op, "sizes must be whole numbers above 0", shape);
    if (!Number.isInteger(size) || size < 1) {
      throw new ShapeError(op, "sizes must be whole numbers above 0", [shape]);
    }
    elements *= size;
  }
  if (elements > MOST_ELEMENTS) {
    throw new ShapeError(op, "a tensor has fewer than 2^32 elements", [shape]);
  }
}

/**
 * Checks lists that have one whole number for each axis.
 *
 * @param op The function that was called
 * @param lists The lists by name
 * @param shape Shape of the tensor
 * @throws {InputError} When one is not a list
 * @throws {ShapeError} When one has another length, or a number is negative or not whole
 */
export function checkLists(
  op: string,
  lists: Readonly<Record<string, readonly number[]>>,
  shape: readonly number[],
): void {
  for (const [name, list] of Object.entries(lists)) {
    if (!Array.isArray(list)) refuse(op, `"${name}" must be a list of numbers`, list);
    if (!list.every((n) => typeof n === "number")) refuse(op, `"${name}" must be a list of numbers`, list);
    if (list.length !== shape.length || !list.every((n) => Number.isInteger(n) && n >= 0)) {
      throw new ShapeError(op, `"${name}" must have a whole number from 0 for each axis, not [${list}]`, [
        shape,
      ]);
    }
  }
}

/**
 * Finds an axis: negative numbers count from the end.
 *
 * @param op The function that was called
 * @param axis What it got
 * @param shape Shape of the tensor
 * @returns The axis, counted from 0
 * @throws {InputError} When it is not a whole number
 * @throws {ShapeError} When it does not exist
 */
export function axisOf(op: string, axis: number, shape: readonly number[]): number {
  if (!Number.isInteger(axis)) refuse(op, "an axis is a whole number", axis);
  const rank = shape.length, place = axis < 0 ? axis + rank : axis;
  if (place >= 0 && place < rank) return place;
  const range = rank === 0 ? "a scalar has no axes" : `axes go from ${-rank} to ${rank - 1}`;
  throw new ShapeError(op, `${range}, not ${axis}`, [shape]);
}

/**
 * Finds different axes: negative numbers count from the end.
 *
 * @param op The function that was called
 * @param axes What it got: an axis or a list
 * @param shape Shape of the tensor
 * @returns The axes, counted from 0, in the order given
 * @throws {InputError} When they are neither a whole number nor a list of such
 * @throws {ShapeError} When one does not exist or is named twice
 */
export function axesOf(op: string, axes: number | readonly number[], shape: readonly number[]): number[] {
  const list = typeof axes === "number" ? [axes] : axes;
  if (!Array.isArray(list)) refuse(op, "axes are a whole number or a list of such", axes);
  const places = list.map((axis) => axisOf(op, axis, shape));
  if (new Set(places).size !== places.length) throw new ShapeError(op, `axes [${list}] must differ`, [shape]);
  return places;
}
