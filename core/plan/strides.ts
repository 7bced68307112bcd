/**
 * Expressions that take a tensor as it is, row by row.
 *
 * @module
 */

import type { Expression, Operand } from "../../kernels/expression.ts";
import type { StoredSpec } from "../tensor.ts";

/** Loads every element of a tensor. */
export function loadAll(x: StoredSpec): Expression {
  return {
    shape: x.shape,
    inputs: [{ type: operandType(x), strides: stridesIn(x.shape, x.shape) }],
    steps: [{ kind: "load", input: 0 }],
  };
}

/** Element type of what an expression reads: `apply` lets no bf16 pass. */
export function operandType({ dtype }: StoredSpec): Operand["type"] {
  return dtype as Operand["type"];
}

/** Strides of a row-major tensor seen in a space that it broadcasts to. */
export function stridesIn(shape: readonly number[], space: readonly number[]): number[] {
  const strides = space.map(() => 0);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1) strides[d + space.length - shape.length] = step;
    step *= shape[d];
  }
  return strides;
}
