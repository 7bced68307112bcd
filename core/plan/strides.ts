/**
 * Strides of tensors in the iteration space of a kernel.
 *
 * @module
 */

import type { Expression, Operand } from "../../kernels/expression.ts";
import type { StoredSpec } from "../spec.ts";

/** The expression that loads every element of a tensor. */
export function loadAll(x: StoredSpec): Expression {
  return {
    shape: x.shape,
    inputs: [{ type: operandType(x), strides: stridesIn(x.shape, x.shape) }],
    steps: [{ kind: "load", input: 0 }],
  };
}

/** Element type of an operand of an expression. `apply` widens what is stored in fewer bytes. */
export function operandType({ dtype }: StoredSpec): Operand["type"] {
  return dtype as Operand["type"];
}

/** Strides of a row-major tensor in a space that it broadcasts to; 0 along axes that repeat. */
export function stridesIn(shape: readonly number[], space: readonly number[]): number[] {
  const strides = space.map(() => 0);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1) strides[d + space.length - shape.length] = step;
    step *= shape[d];
  }
  return strides;
}
