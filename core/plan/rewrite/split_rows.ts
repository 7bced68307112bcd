/**
 * Computes tensors that are larger than one binding by rows.
 *
 * A large tensor, in the forward pass or the backward, is a list of parts: ranges along its first axis. All tensors with as
 * many rows are cut at the same rows, so that an update of a parameter reads and writes parts of one range each. Only plans
 * know: a parameter, its gradient and its moments are one tensor each for all else.
 *
 * @module
 */

import { rowLayout, SHARED_SCALES } from "../../../kernels/blocks.ts";
import { OutOfMemoryError } from "../../errors.ts";
import { topological } from "../../graph.ts";
import { concat, slice } from "../../ops/movement.ts";
import { fill, isHost, tensor } from "../../sources.ts";
import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { constant, dataOf, isConstant, isElement, isLeaf, isSource, pathOf } from "../predicates.ts";
import { bindingLimit, partOf, resultOf, rowBytes, type Rows, type Splitting } from "../rows.ts";
import { bytesOf } from "../storage.ts";
import type { PlanOptions } from "../types.ts";
import { COMBINE } from "./combine_rows.ts";
import { elementRows, ROWS } from "./rows_of_ops.ts";

/** A graph without tensors that are larger than one binding. */
export interface SplitGraph extends Required<Pick<PlanOptions, "updates" | "doubleBuffered">> {
  readonly roots: readonly Tensor[];
  /** For each root of the old graph its first one in the new graph. */
  readonly places: readonly number[];
}

/** What every adapter can do. */
const ALIGNMENT = 256;

/**
 * Replaces tensors that are larger than one binding by their parts.
 *
 * @param roots Roots of the graph, in ops that have a kernel
 * @param options The device; which roots overwrite a leaf
 * @returns Roots, of which each is one part where the old root was large
 * @throws {OutOfMemoryError} When a large tensor cannot be split
 */
export function splitRows(
  roots: readonly Tensor[],
  { target, updates = new Map(), doubleBuffered = new Set() }: PlanOptions,
): SplitGraph {
  const { maxBindingBytes: most = Infinity, bindingAlignment = ALIGNMENT } = target;
  const order = topological(roots);
  const rooted = new Set(roots);
  const splitting = splitter([...new Set([...order, ...updates.values()])], {
    most,
    // A part of a source or of a root is a range of its buffer; any other part has its own.
    alignmentOf: (x) => isSource(x) || rooted.has(x) ? bindingAlignment : 1,
  });
  const split: Tensor[] = [], places: number[] = [];
  const newUpdates = new Map<number, Tensor>(), swapped = new Set<number>();
  roots.forEach((root, i) => {
    const leaf = updates.get(i);
    places.push(split.length);
    if (!splitting.isLarge(root)) {
      if (doubleBuffered.has(i)) swapped.add(split.length);
      if (leaf !== undefined) newUpdates.set(split.length, leaf);
      split.push(splitting.whole(root));
      return;
    }
    const to = leaf ?? resultOf(root);
    for (const rows of splitting.cut(root)) {
      newUpdates.set(split.length, leaf === undefined ? partOf(to, rows) : splitting.rows(to, rows));
      split.push(splitting.rows(root, rows));
    }
  });
  return { roots: split, places, updates: newUpdates, doubleBuffered: swapped };
}

/** Computes the parts of large nodes and the other nodes, inputs first. */
function splitter(
  order: readonly Tensor[],
  { most, alignmentOf }: Cutting,
): Splitting {
  const isLarge = (x: Tensor): boolean => bytesOf(x) > most;
  const cuts = cutsOf(order.filter(isLarge), { most, alignmentOf });
  const wholes = new Map<Tensor, Tensor>(), parts = new Map<Tensor, readonly Tensor[]>();
  /** The node whose rule is asked. */
  let reader = order[0];
  const splitting: Splitting = {
    isLarge,
    cut: (x) => cuts.get(x.shape[0]) ?? refuse(x, { reader, most }),
    whole: (x) => wholes.get(x) ?? refuse(x, { reader, most }),
    rows: (x, rows) => concat(splitting.pieces(x, rows), 0),
    pieces(x, { start, size }) {
      if (!isLarge(x)) return [slicedRows(splitting.whole(x), { start, size })];
      return splitting.cut(x).flatMap((own, k) => {
        const from = Math.max(start, own.start), to = Math.min(start + size, own.start + own.size);
        if (from >= to) return [];
        return slicedRows(parts.get(x)![k], { start: from - own.start, size: to - from });
      });
    },
  };
  for (const node of order) {
    reader = node;
    if (isLarge(node)) {
      parts.set(
        node,
        splitting.cut(node).map((rows) => partsRule(node, rows, splitting) ?? refuse(node, { reader, most })),
      );
    } else if (node.inputs.some(isLarge)) {
      const large = node.inputs.find(isLarge)!;
      wholes.set(node, COMBINE.get(node.op)?.(node, splitting) ?? refuse(large, { reader, most }));
    } else {
      const moved = node.inputs.some((x) => wholes.get(x) !== x);
      wholes.set(node, moved ? { ...node, inputs: node.inputs.map((x) => wholes.get(x)!) } : node);
    }
  }
  return splitting;
}

/** Some rows of a large node; null where its op has no rule. */
function partsRule(node: Tensor, rows: Rows, splitting: Splitting): Tensor | null {
  if (isHost(node) || isConstant(node)) return slicedRows(node, rows);
  if (isSource(node)) return partOf(node, rows);
  const rule = isElement(node) ? elementRows : ROWS.get(node.op);
  return rule?.(node, { rows, splitting }) ?? null;
}

/** Some rows of a tensor of one buffer, or of values that need none. */
function slicedRows(x: Tensor, { start, size }: Rows): Tensor {
  if (start === 0 && size === x.shape[0]) return x;
  const shape = x.shape.with(0, size), width = sizeOf(x.shape.slice(1));
  if (isConstant(x)) return fill(constant(x)!, shape);
  if (isHost(x)) return tensor(dataOf(x).subarray(start * width, (start + size) * width), shape);
  return slice(x, { starts: x.shape.map((_, d) => d === 0 ? start : 0), sizes: shape });
}

/** What decides where to cut. */
interface Cutting {
  /** Bytes that a part can have. */
  readonly most: number;
  /** A power of two that divides the byte at which a part of a tensor begins. */
  alignmentOf(x: Tensor): number;
}

/**
 * Where to cut, by the number of rows: the fewest parts that fit, as equal as the alignment of bindings allows. A number of
 * rows is absent where not even the fewest aligned rows fit.
 */
function cutsOf(
  large: readonly Tensor[],
  { most, alignmentOf }: Cutting,
): ReadonlyMap<number, readonly Rows[]> {
  const cuts = new Map<number, readonly Rows[]>();
  for (const [count, alike] of Map.groupBy(large, ({ shape }) => shape[0])) {
    const widths = alike.map(rowBytes);
    const unit = Math.max(
      ...alike.map((x) => alignmentOf(x) / commonPower(rowBytes(x), alignmentOf(x))),
      ...alike.map(sharingRows),
    );
    const fitting = Math.floor(most / Math.max(...widths) / unit);
    if (fitting === 0) continue;
    const parts = Math.ceil(count / (fitting * unit)), size = Math.ceil(count / parts / unit) * unit;
    cuts.set(
      count,
      Array.from({ length: Math.ceil(count / size) }, (_, k) => ({
        start: k * size,
        size: Math.min(size, count - k * size),
      })),
    );
  }
  return cuts;
}

/** The rows after which blocks of nf4 begin to share a scale anew: parts are counted from there. */
function sharingRows({ shape, dtype }: Tensor): number {
  if (dtype !== "nf4") return 1;
  const blocks = rowLayout(dtype, shape.at(-1)!).blocks * sizeOf(shape.slice(1, -1));
  return SHARED_SCALES / commonPower(blocks, SHARED_SCALES);
}

/** The largest power of two that divides a number, up to `most`, itself a power of two. */
function commonPower(number: number, most: number): number {
  let power = 1;
  while (power < most && number % (2 * power) === 0) power *= 2;
  return power;
}

function refuse(x: Tensor, { reader, most }: { readonly reader: Tensor; readonly most: number }): never {
  const name = isLeaf(x) ? pathOf(x) : `${x.op.name} [${x.shape.join(", ")}]`;
  const rule = reader === x ? "it cannot be split by rows" : `"${reader.op.name}" cannot read it by rows`;
  throw new OutOfMemoryError(
    name,
    bytesOf(x),
    `${bindingLimit(most)}, and ${rule}`,
    isLeaf(x) ? "use a smaller model, or a device that binds more" : undefined,
  );
}
