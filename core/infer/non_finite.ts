/**
 * Finds the tensor that a number which is not finite comes from.
 *
 * @module
 */

import { indexOfNonFinite } from "../data/floats.ts";
import type { Gpu } from "../runtime/device.ts";
import type { Leaves, Path } from "../tree.ts";
import { read } from "./read.ts";

/** An element that is infinite or NaN. */
export interface NonFinite {
  /** The tensor. */
  readonly path: Path;
  /** Index of the element, row-major. */
  readonly index: number;
  /** Its value. */
  readonly value: number;
}

/**
 * Finds the first element that is not finite. It reads one tensor after the other, so that not all are on the host at once.
 *
 * @param gpu The device
 * @param tensors Tensors by path
 * @returns The element; null when all are finite
 */
export async function firstNonFinite(gpu: Gpu, tensors: Leaves): Promise<NonFinite | null> {
  for (const [path, tensor] of tensors) {
    const values = await read(gpu, tensor), index = indexOfNonFinite(values);
    if (index >= 0) return { path, index, value: values[index] };
  }
  return null;
}

/**
 * Finds the first element that is not finite or larger than a number, as {@link firstNonFinite} does.
 *
 * @param gpu The device
 * @param tensors Tensors by path
 * @param largest The largest number that is none
 * @returns The element; null when there is none
 */
export async function firstBeyond(gpu: Gpu, tensors: Leaves, largest: number): Promise<NonFinite | null> {
  for (const [path, tensor] of tensors) {
    const values = await read(gpu, tensor), index = values.findIndex((x) => !(Math.abs(x) <= largest));
    if (index >= 0) return { path, index, value: values[index] };
  }
  return null;
}

/**
 * Says whether a loss that is not finite comes from the parameters or from the data.
 *
 * @param gpu The device
 * @param params Parameters by path
 * @param data The data, for people: `that batch`
 * @returns What was seen and what to try, for a message
 */
export async function sourceOfNonFinite(gpu: Gpu, params: Leaves, data: string): Promise<string> {
  const found = await firstNonFinite(gpu, params);
  return found === null
    ? `all parameters are finite; look at ${data}`
    : `element ${found.index} of the parameter "${found.path}" is ${found.value}; load weights that are finite`;
}
