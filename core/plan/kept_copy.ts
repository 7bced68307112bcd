/**
 * Copies of weights as f16 that outlive a step. To the graph of a step such a copy is a source, as the weight is.
 *
 * @module
 */

import type { Spec } from "../spec.ts";
import { apply, type Op, type Path, type Tensor } from "../tensor.ts";

interface KeptCopyAttrs {
  /** The leaf that is copied. */
  readonly of: Tensor;
  /** Its path. */
  readonly path: Path;
  readonly spec: Spec;
}

const keptCopyOp: Op<KeptCopyAttrs> = { name: "kept f16", infer: (_, { spec }) => [spec] };

/** The copy of a leaf. */
export function keptCopy(of: Tensor): Tensor {
  const { path } = of.attrs as { readonly path: Path };
  return apply(keptCopyOp, [], { of, path, spec: { shape: of.shape, dtype: of.dtype } });
}

/** Whether a node is a copy that outlives a step. */
export function isKeptCopy({ op }: Tensor): boolean {
  return op === keptCopyOp;
}

/** The leaf that a copy is of. */
export function copiedLeaf(copy: Tensor): Tensor {
  return (copy.attrs as KeptCopyAttrs).of;
}
