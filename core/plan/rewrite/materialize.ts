/**
 * Adds copies, so that every value that needs a buffer is computed by a launch.
 *
 * @module
 */

import { rebuild } from "../../graph.ts";
import { broadcast } from "../../ops/broadcast.ts";
import { slice } from "../../ops/movement.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import {
  isConstant,
  isElement,
  isLeaf,
  isReshape,
  isScalarAt,
  isSource,
  isStepScalar,
  isSumEach,
} from "../predicates.ts";
import type { PlanOptions, WrittenRoots } from "../types.ts";

/**
 * Copies constants and step scalars where a kernel reads them as a buffer, and the terms of sums that no elementwise kernel
 * computes.
 *
 * @param roots Roots of the graph
 * @returns Equivalent roots
 */
export function materializeInputs(roots: readonly Tensor[]): Tensor[] {
  return rebuild(
    roots,
    (node) =>
      isElement(node) || !node.inputs.some((x) => needsCopy(x, node))
        ? node
        : { ...node, inputs: node.inputs.map((x) => needsCopy(x, node) ? copyOf(x) : x) },
  );
}

/** Whether a kernel can read an input only after a copy. */
function needsCopy(input: Tensor, reader: Tensor): boolean {
  return isConstant(input) || isStepScalar(input) || isScalarAt(input) ||
    (isSumEach(reader) && !isElement(input));
}

/**
 * Decides how each root gets to its buffer: a root that updates a leaf is written to the buffer of the leaf, or its own
 * buffer is swapped with that; a root that no launch computes is copied.
 *
 * @param roots Roots of the graph
 * @param options Which roots update a leaf, and which of those may be double buffered
 * @returns Roots that launches compute, and where they go
 */
export function materializeRoots(
  roots: readonly Tensor[],
  { updates = new Map(), doubleBuffered: wanted = new Set(), precision = "f32", prefix }: PlanOptions,
): WrittenRoots {
  const allowed = precision !== "f16" && prefix === undefined;
  const doubleBuffered = new Map(
    [...updates].filter(([i]) => allowed && wanted.has(i) && hasOwnBuffer(roots, i)),
  );
  const rings = ringsOfCopies(roots, updates);
  const ready = roots.map((root, i) =>
    (updates.has(i) && !doubleBuffered.has(i)) || isSource(root)
      ? copyOf(rings.has(i) ? copyOf(root) : root)
      : root
  );
  const targets = [...updates].flatMap(([i, leaf]) =>
    doubleBuffered.has(i) ? [] : [[ready[i], leaf] as const]
  );
  return { roots: ready, targets: new Map(targets), doubleBuffered };
}

/** One root of each ring of leaves that get each other's value: it is copied twice, as no copy can be the first. */
function ringsOfCopies(
  roots: readonly Tensor[],
  updates: ReadonlyMap<number, Tensor>,
): ReadonlySet<number> {
  const copied = new Map<Tensor, { readonly from: Tensor; readonly root: number }>();
  for (const [root, leaf] of updates) {
    const from = baseOf(roots[root]);
    if (from !== leaf && isLeaf(from)) copied.set(leaf, { from, root });
  }
  const rings = new Set<number>(), done = new Set<Tensor>();
  for (const start of copied.keys()) {
    const path = new Set<Tensor>();
    let leaf = start;
    while (copied.has(leaf) && !done.has(leaf) && !path.has(leaf)) {
      path.add(leaf);
      leaf = copied.get(leaf)!.from;
    }
    if (path.has(leaf)) rings.add(copied.get(leaf)!.root);
    for (const seen of path) done.add(seen);
  }
  return rings;
}

/** Whether a launch writes a root to a buffer that no other root has. */
function hasOwnBuffer(roots: readonly Tensor[], i: number): boolean {
  const root = roots[i];
  return !isElement(root) && !isSource(root) && !isReshape(root) && root.dtype === "f32" &&
    roots.indexOf(root) === roots.lastIndexOf(root);
}

/** A value as a launch of its own; integers keep their type. */
function copyOf(x: Tensor): Tensor {
  return x.dtype === "f32"
    ? broadcast(x, x.shape)
    : slice(x, { starts: x.shape.map(() => 0), sizes: x.shape });
}
