/**
 * Rows of tensors that are larger than one binding: such a tensor has one buffer, and a launch binds a range of it.
 *
 * @module
 */

import { elementBytes, type Spec } from "../spec.ts";
import { apply, type Op, type Path, type Tensor } from "../tensor.ts";

/** A range of rows: of places along the first axis. */
export interface Rows {
  readonly start: number;
  readonly size: number;
}

/** What rules for computing by rows ask for: tensors of the new graph, by nodes of the old one. */
export interface Splitting {
  /** Whether a tensor is larger than one binding. */
  isLarge(x: Tensor): boolean;
  /** The ranges of rows that a large tensor is cut into. */
  cut(x: Tensor): readonly Rows[];
  /** A tensor of one buffer. */
  whole(x: Tensor): Tensor;
  /** Some rows of a tensor, large or not, that are not large themselves. */
  rows(x: Tensor, rows: Rows): Tensor;
  /** Any rows of a tensor, as the tensors to be joined for it. */
  pieces(x: Tensor, rows: Rows): readonly Tensor[];
}

interface PartAttrs {
  /** The tensor in whose buffer the rows are. */
  readonly of: Tensor;
  readonly start: number;
  /** Its path, or a name for people. */
  readonly path: Path;
  readonly spec: Spec;
}

const partOp: Op<PartAttrs> = { name: "rows", infer: (_, { spec }) => [spec] };
const resultOp: Op<{ readonly path: Path; readonly spec: Spec }> = {
  name: "result",
  infer: (_, { spec }) => [spec],
};

/** Rows of a source, in the buffer of that source. */
export function partOf(of: Tensor, { start, size }: Rows): Tensor {
  const { path } = of.attrs as { path: Path };
  return apply(partOp, [], { of, start, path, spec: { shape: of.shape.with(0, size), dtype: of.dtype } });
}

/** A source whose rows launches write: the buffer of a root that is larger than one binding. */
export function resultOf({ op, shape, dtype }: Tensor): Tensor {
  return apply(resultOp, [], { path: op.name, spec: { shape, dtype } });
}

/** Whether a node is some rows of a source. */
export function isPart({ op }: Tensor): boolean {
  return op === partOp;
}

/** Whether a node is the buffer of a root, or some rows of one. */
export function isResult(node: Tensor): boolean {
  return wholeOf(node).op === resultOp;
}

/** The source in whose buffer a part is; any other node itself. */
export function wholeOf(node: Tensor): Tensor {
  return isPart(node) ? (node.attrs as PartAttrs).of : node;
}

/** The byte at which a part begins in the buffer of its source; 0 for any other node. */
export function offsetOf(node: Tensor): number {
  if (!isPart(node)) return 0;
  const { start } = node.attrs as PartAttrs;
  return start * rowBytes(node);
}

/** Bytes of one row. */
export function rowBytes({ shape, dtype }: Spec): number {
  return elementBytes({ shape: shape.with(0, 1), dtype });
}

/** What a device binds, for an error. */
export function bindingLimit(bytes: number): string {
  const [size, unit] = bytes < 2 ** 20 ? [bytes, "bytes"] : [(bytes / 2 ** 20).toFixed(0), "MiB"];
  return `a launch binds ${size} ${unit} of a tensor at most`;
}
