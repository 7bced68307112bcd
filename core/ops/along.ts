/**
 * Tensors as `[outer, length, inner]` around an axis, as kernels see them.
 *
 * @module
 */

import { rowThreads, type Threads } from "../../kernels/rows.ts";
import type { Target } from "../kernel_call.ts";
import { sizeOf, type Spec } from "../spec.ts";
import type { BatchRule } from "../tensor.ts";

/** An axis, and the sizes around it. */
export interface Along {
  /** Product of the sizes before the axis. */
  readonly outer: number;
  /** Size of the axis. */
  readonly length: number;
  /** Product of the sizes after it. */
  readonly inner: number;
}

/** The sizes around an axis. */
export function along(shape: readonly number[], axis: number): Along {
  return {
    outer: sizeOf(shape.slice(0, axis)),
    length: shape[axis],
    inner: sizeOf(shape.slice(axis + 1)),
  };
}

/** The threads of a column: many where its elements are neighbours in memory, one where those of other columns are. */
export function columnThreads(
  { software }: Target,
  { length, inner }: Along,
  options: { readonly reads?: number } = {},
): Threads {
  return inner === 1 ? rowThreads(software, length, options) : 1;
}

/** What an op does along an axis, it does for each index of the axes before. */
export function batchAlong([{ shape }]: readonly Spec[], { axis }: { readonly axis: number }): BatchRule {
  return { parts: sizeOf(shape.slice(0, axis)), inputs: ["split"] };
}
