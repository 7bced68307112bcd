/**
 * Evenly spaced numbers.
 *
 * @module
 */

import { checkNumber, checkOptions, refuse } from "../arguments.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";

/** Options of {@link arange}. */
export interface ArangeOptions {
  /** The first number; 0 when absent. */
  readonly start?: number;
  /** The difference of neighbours, not 0; 1 when absent. */
  readonly step?: number;
  /** i32 as ids are, or f32; i32 when absent. */
  readonly dtype?: "i32" | "f32";
}

/** Most numbers: they are made on the host. */
const MOST = 2 ** 28;

/**
 * Evenly spaced numbers from a start up to, but without, a stop.
 *
 * @param stop Where to stop
 * @param options Start, step and type
 * @returns i32 or f32 [N], at least one number
 * @throws {InputError} When there is no number, or one is not whole although the type is i32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, readAll } from "@firn/train";
 * import { arange } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const [ids, halves] = await readAll(gpu, [arange(3), arange(1, { step: 0.5, dtype: "f32" })]);
 * assertEquals([[...ids], [...halves]], [[0, 1, 2], [0, 0.5]]);
 * ```
 */
export function arange(stop: number, options: ArangeOptions = {}): Tensor {
  checkOptions("arange", options);
  const { start = 0, step = 1, dtype = "i32" } = options;
  for (const [name, value] of Object.entries({ stop, start, step })) checkNumber("arange", name, value);
  if (dtype !== "i32" && dtype !== "f32") refuse("arange", '"dtype" must be i32 or f32', dtype);
  const length = Math.ceil((stop - start) / step);
  if (!(length >= 1 && length <= MOST)) {
    refuse("arange", `it makes 1 to ${MOST} numbers, not ${length}`, [start, stop, step]);
  }
  const at = (_: unknown, i: number): number => start + i * step;
  if (dtype === "f32") return tensor(Array.from({ length }, at));
  const whole = (n: number): boolean => Number.isInteger(n) && Math.abs(n) < 2 ** 31;
  if (![start, step, at(null, length - 1)].every(whole)) {
    refuse("arange", 'numbers of "dtype" i32 must be whole and below 2^31', [start, stop, step]);
  }
  return tensor(Int32Array.from({ length }, at));
}
