/**
 * Which values of a graph keep the samples of a batch apart.
 *
 * A value does when its elements, row-major, fall into as many equal parts as there are samples, and each part depends on
 * its own sample alone, wherever in the batch that is. What is not known to do so is taken not to.
 *
 * Legend: B samples.
 *
 * @module
 */

import { broadcastOp, type ReduceAttrs } from "../../ops/broadcast.ts";
import { embeddingOp } from "../../ops/embedding.ts";
import { matmulOp, matmulSumOp, type ProductAttrs } from "../../ops/matmul.ts";
import { fillOp, hostOp, leafOp, sizeOf, type Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import { isAlias } from "../alias.ts";
import { isElement, isReduction } from "../predicates.ts";
import type { LeafKind } from "../types.ts";

/**
 * What a value depends on: `apart` on the batch, each part on its own sample; `fixed` on nothing that changes between
 * steps; `repeated` neither, with all parts equal.
 */
export type Dependence = "apart" | "fixed" | "repeated";

/**
 * Tells what the values of a graph depend on.
 *
 * @param order Nodes, inputs first
 * @param options B, and what leaves are
 * @returns By node; absent is what changes between steps, or may mix samples
 */
export function dependences(
  order: readonly Tensor[],
  options: { readonly samples: number; readonly kindOf: LeafKind },
): Map<Tensor, Dependence> {
  const known = new Map<Tensor, Dependence>();
  for (const node of order) {
    const found = dependenceOf(node, { ...options, known });
    if (found !== null) known.set(node, found);
  }
  return known;
}

interface Options {
  readonly samples: number;
  readonly kindOf: LeafKind;
  readonly known: ReadonlyMap<Tensor, Dependence>;
}

function dependenceOf(node: Tensor, { samples, kindOf, known }: Options): Dependence | null {
  const { op, inputs, attrs, shape } = node;
  if (op === leafOp) {
    const kind = kindOf((attrs as { path: Path }).path);
    if (kind === "batch") return shape[0] === samples ? "apart" : null;
    return kind;
  }
  if (op === fillOp) return sizeOf(shape) % samples === 0 ? "repeated" : "fixed";
  if (op === hostOp) return "fixed";
  if (op.distinct || inputs.length === 0) return null;
  const of = inputs.map((input) => known.get(input));
  if (of.some((dependence) => dependence === undefined)) return null;
  // It has a buffer of what it shows.
  if (isAlias(node)) return of[0]!;
  if (of.every((dependence) => dependence !== "apart")) {
    return op === broadcastOp && isRepeated(node, { samples, known }) ? "repeated" : "fixed";
  }
  // With one sample there is nothing to mix.
  if (samples === 1) return "apart";
  return keepsApart(node, { samples, of: of as Dependence[] }) ? "apart" : null;
}

/** Whether a copy of something fixed has equal parts. */
function isRepeated(
  { inputs: [x], shape }: Tensor,
  { samples, known }: Pick<Options, "samples" | "known">,
): boolean {
  const axis = shape.findIndex((size) => size > 1);
  if (axis < 0 || shape[axis] % samples !== 0) return false;
  const size = sizeAlong(x, { axis, rank: shape.length });
  return size === 1 || (size === shape[axis] && known.get(x) === "repeated");
}

/** Size of a tensor along an axis of what it is broadcast to. */
function sizeAlong(
  { shape }: Tensor,
  { axis, rank }: { readonly axis: number; readonly rank: number },
): number {
  return shape[axis - (rank - shape.length)] ?? 1;
}

interface Inputs {
  readonly samples: number;
  /** What each input depends on; one at least is `apart`. */
  readonly of: readonly Dependence[];
}

/** Whether an op keeps apart what its inputs do. */
function keepsApart(node: Tensor, { samples, of }: Inputs): boolean {
  const { op, inputs, attrs, shape } = node;
  const whole = (count: number): boolean => count % samples === 0;
  /** The first input alone is of the batch, and its rows along the last axes lie in one part each. */
  const byRows = (rows: number): boolean => whole(rows) && of.every((o, i) => (i === 0) === (o === "apart"));
  if (isElement(node)) return keepsElementsApart(node, { samples, of });
  if (op === matmulOp) return keepsProductApart(node, { samples, of });
  if (op === matmulSumOp) {
    const count = inputs.length / 2;
    return inputs.slice(0, count).every((a, i) =>
      keepsProductApart({ ...node, inputs: [a, inputs[count + i]] }, { samples, of: [of[i], of[count + i]] })
    );
  }
  if (op === embeddingOp) return of[0] !== "apart";
  if (isReduction(node)) return whole(sizeOf(inputs[0].shape.slice(0, (attrs as ReduceAttrs).axis)));
  const [first] = inputs[0].shape;
  switch (op.name) {
    case "rmsNorm":
      return byRows(sizeOf(inputs[0].shape.slice(0, -1)));
    case "rotary":
      return byRows(first);
    case "attention":
      return whole(first) && of.every((o) => o === "apart");
    case "permute":
      return whole(first) && (attrs as { axes: readonly number[] }).axes[0] === 0;
    case "slice":
    case "pad":
      return whole(first) && first === shape[0];
    case "concat":
      return whole(first) && (attrs as { axis: number }).axis > 0 && of.every((o) => o !== "fixed");
    default:
      return false;
  }
}

/** Parts lie along the first axis that has more than one element; what is not of the batch is the same in all of them. */
function keepsElementsApart({ inputs, shape }: Tensor, { samples, of }: Inputs): boolean {
  const axis = shape.findIndex((size) => size > 1);
  if (axis < 0 || shape[axis] % samples !== 0) return false;
  return inputs.every((input, i) => {
    const size = sizeAlong(input, { axis, rank: shape.length });
    return of[i] === "fixed" ? size === 1 : of[i] === "repeated" || size === shape[axis];
  });
}

/** Rows of the batch by one matrix, or stacks of matrices. */
function keepsProductApart({ inputs: [a], attrs, shape }: Tensor, { samples, of }: Inputs): boolean {
  const { transposeA, padA, padOut, limit } = attrs as ProductAttrs;
  if (padA !== undefined || padOut !== undefined || limit !== undefined) return false;
  const stack = sizeOf(shape.slice(0, -2));
  if (stack > 1) return stack % samples === 0 && of.every((o) => o !== "fixed");
  return of[0] === "apart" && of[1] !== "apart" && !transposeA && a.shape.at(-2)! % samples === 0;
}
