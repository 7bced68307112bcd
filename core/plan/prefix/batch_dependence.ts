/**
 * What the values of a graph depend on, and whether they keep the samples of a batch apart.
 *
 * A value does so when its elements, row-major, fall into as many equal parts as there are samples, and each part depends
 * on its own sample alone, wherever in the batch that sample is. Every op says itself how it treats a batch; one that says
 * nothing is taken to mix samples.
 *
 * @module
 */

import { isHost } from "../../sources.ts";
import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { isAlias, isConstant, isElement, isLeaf, pathOf } from "../predicates.ts";
import type { LeafKind } from "../types.ts";

/**
 * What a value depends on. `perSample`: on the batch, each part on its own sample. `fixed`: on nothing that changes between
 * steps. `repeated`: fixed, and all of its parts are equal.
 */
export type Dependence = "perSample" | "fixed" | "repeated";

/**
 * Tells what the values of a graph depend on.
 *
 * @param order Nodes, inputs first
 * @param options The number of samples, and what leaves are
 * @returns Dependences by node; nodes that change between steps or may mix samples are absent
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
  const { inputs, shape } = node;
  if (isLeaf(node)) {
    const kind = kindOf(pathOf(node));
    if (kind === "batch") return shape[0] === samples ? "perSample" : null;
    return kind;
  }
  if (isConstant(node)) return sizeOf(shape) % samples === 0 ? "repeated" : "fixed";
  if (isHost(node)) return "fixed";
  if (inputs.length === 0) return null;
  const of = inputs.map((input) => known.get(input));
  if (of.some((dependence) => dependence === undefined)) return null;
  if (isAlias(node)) return of[0]!;
  if (of.every((dependence) => dependence !== "perSample")) {
    return isElement(node) && isRepeated(node, { samples, known }) ? "repeated" : "fixed";
  }
  // One sample cannot mix with another.
  if (samples === 1) return "perSample";
  return isPerSample(node, { samples, of: of as Dependence[] }) ? "perSample" : null;
}

/** Whether an elementwise node of fixed values has equal parts. */
function isRepeated(
  { inputs, shape }: Tensor,
  { samples, known }: Pick<Options, "samples" | "known">,
): boolean {
  const axis = shape.findIndex((size) => size > 1);
  if (axis < 0 || shape[axis] % samples !== 0) return false;
  return inputs.every((input) => {
    const size = sizeAlong(input, { axis, rank: shape.length });
    return size === 1 || (size === shape[axis] && known.get(input) === "repeated");
  });
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
  /** What each input depends on; at least one is `perSample`. */
  readonly of: readonly Dependence[];
}

/** Whether a node keeps the samples of its inputs apart. */
function isPerSample(node: Tensor, { samples, of }: Inputs): boolean {
  const { op, inputs, attrs } = node;
  if (isElement(node)) return keepsElementsApart(node, { samples, of });
  const rule = op.batch?.(inputs, attrs) ?? null;
  if (rule === null || rule.parts % samples !== 0) return false;
  return of.every((dependence, i) =>
    rule.inputs[Math.min(i, rule.inputs.length - 1)] === "split"
      ? dependence !== "fixed"
      : dependence !== "perSample"
  );
}

/** Whether an elementwise node does: its parts lie along the first axis of more than one element. */
function keepsElementsApart({ inputs, shape }: Tensor, { samples, of }: Inputs): boolean {
  const axis = shape.findIndex((size) => size > 1);
  if (axis < 0 || shape[axis] % samples !== 0) return false;
  return inputs.every((input, i) => {
    const size = sizeAlong(input, { axis, rank: shape.length });
    return of[i] === "fixed" ? size === 1 : of[i] === "repeated" || size === shape[axis];
  });
}
