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
  /** Whether the weight may change between runs of a plan. */
  readonly changes: boolean;
}

const keptCopyOp: Op<KeptCopyAttrs> = { name: "kept f16", infer: (_, { spec }) => [spec] };

/** The copy of a leaf; `changes`: whether that may change between runs of a plan. */
export function keptCopy(of: Tensor, { changes }: Pick<KeptCopyAttrs, "changes">): Tensor {
  const { path } = of.attrs as { readonly path: Path };
  return apply(keptCopyOp, [], { of, path, spec: { shape: of.shape, dtype: of.dtype }, changes });
}

/** Whether a node is a copy that outlives a step. */
export function isKeptCopy({ op }: Tensor): boolean {
  return op === keptCopyOp;
}

/** Whether the leaf that a copy is of may change between runs of a plan. */
export function isChanging(copy: Tensor): boolean {
  return (copy.attrs as KeptCopyAttrs).changes;
}

/** The leaf that a copy is of. */
export function copiedLeaf(copy: Tensor): Tensor {
  return (copy.attrs as KeptCopyAttrs).of;
}
