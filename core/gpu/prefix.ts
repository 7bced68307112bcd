/**
 * The prefix of a step: launches whose values for a sample are the same in every step, until a parameter below changes.
 *
 * A plan is cut in two, and its launches stay as they are: a step that takes the values of the prefix from elsewhere runs
 * the other launches on the same bits.
 *
 * @module
 */

import { sizeOf, type Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { type Fusion, isElement, isSource } from "./fuse.ts";
import type { Unit } from "./lower.ts";
import type { Cost, Launch, Plan, Source } from "./plan.ts";
import { dependences, type LeafKind } from "./rows.ts";

/** A value of the prefix that other launches read. */
export interface KeptValue {
  /** Its buffer. */
  readonly buffer: number;
  /** Bytes of a sample: those of the samples lie in order. */
  readonly bytes: number;
}

/** The first launches of a plan, which a step may leave out. */
export interface Prefix {
  /** How many. */
  readonly launches: number;
  /** Samples in a batch. */
  readonly samples: number;
  /** What the others need of them. */
  readonly kept: readonly KeptValue[];
  /** Paths of the leaves that it reads. */
  readonly reads: readonly Path[];
  /** What a step costs without it. */
  readonly rest: Cost;
}

/** What must be known to find a prefix. */
export interface PrefixOptions {
  /** B. */
  readonly samples: number;
  readonly kindOf: LeafKind;
}

/** Where to cut. */
export interface Cut {
  /** All units, those of the prefix first. */
  readonly order: readonly Unit[];
  /** How many are the prefix. */
  readonly launches: number;
  readonly kept: readonly KeptValue[];
}

/** Of what a prefix can save at most, this share must be saved; of such cuts the one that keeps least is taken. */
const SHARE = 0.9;

/** What is planned. */
export interface Planned {
  readonly fusion: Fusion;
  readonly buffers: readonly { readonly source: Source | null; readonly bytes: number }[];
  bufferOf(node: Tensor): number;
  /** Buffers whose values must exist at the end. */
  readonly roots: readonly number[];
}

/**
 * Finds the prefix of a step that is worth being left out.
 *
 * @param units Units in an order in which they can run
 * @param options What is planned, B, and what leaves are
 * @returns The cut; or why there is none, in words
 */
export function cutPrefix(units: readonly Unit[], options: Planned & PrefixOptions): Cut | string {
  const { fusion: { order, stored }, buffers, bufferOf, roots, samples } = options;
  const known = dependences(order, options);
  const nodeIn = new Map<number, Tensor>();
  for (const node of order) {
    if (isSource(node) || node.op.name === "reshape" || (isElement(node) && !stored.has(node))) continue;
    nodeIn.set(bufferOf(node), node);
  }

  // Units that only depend on the batch and on what is fixed; values without a node are partial results.
  const chosen = new Set<Unit>(), fixed = new Set<Unit>(), writer = new Map<number, Unit>();
  const isKnown = (b: number): boolean => {
    const { source } = buffers[b];
    if (source === null) return writer.has(b);
    return source.kind === "host" || (source.kind === "leaf" && known.has(source.node));
  };
  const isApart = (b: number): boolean => {
    const { source } = buffers[b], unit = writer.get(b);
    if (source?.kind === "leaf") return known.get(source.node) === "apart";
    return unit !== undefined && !fixed.has(unit);
  };
  for (const unit of units) {
    const { reads, writes, overwrites } = unit;
    const values = writes.flatMap((b) => nodeIn.get(b) ?? []);
    if (overwrites.length > 0 || !reads.every(isKnown) || !values.every((node) => known.has(node))) continue;
    if (writes.some((b) => buffers[b].source !== null)) continue;
    if (!reads.some(isApart)) fixed.add(unit);
    chosen.add(unit);
    for (const b of writes) writer.set(b, unit);
  }

  /** Bytes of a sample in a buffer; null when they cannot be copied. */
  const partOf = (b: number): number | null => {
    const node = nodeIn.get(b);
    if (node === undefined || known.get(node) !== "apart") return null;
    const elements = sizeOf(node.shape), bytes = buffers[b].bytes / samples;
    // Buffers hold whole groups of four elements, and copies whole words.
    return elements % 4 === 0 && elements >= 8 && bytes % 4 === 0 ? bytes : null;
  };
  const waiting = new Map<number, number>();
  const count = (b: number, by: number): number => {
    const now = (waiting.get(b) ?? 0) + by;
    waiting.set(b, now);
    return now;
  };
  for (const { reads } of units) for (const b of new Set(reads)) count(b, 1);
  for (const b of roots) count(b, 1);

  // Cuts after each unit that depends on the batch: what they save, and what they keep.
  const taken = new Set<Unit>(), open = new Set<number>();
  const cuts: { launches: number; kept: KeptValue[]; saved: number; bytes: number }[] = [];
  let saved = 0;
  const take = (unit: Unit): void => {
    if (taken.has(unit)) return;
    taken.add(unit);
    saved += unit.matmulFlops;
    for (const b of new Set(unit.reads)) {
      const before = writer.get(b);
      if (before !== undefined) take(before);
      if (count(b, -1) === 0) open.delete(b);
    }
    for (const b of unit.writes) if ((waiting.get(b) ?? 0) > 0) open.add(b);
  };
  const parts = (): KeptValue[] | null => {
    const kept = [...open].map((buffer) => ({ buffer, bytes: partOf(buffer) }));
    return kept.every(({ bytes }) => bytes !== null) ? kept as KeptValue[] : null;
  };
  for (const unit of units) {
    if (!chosen.has(unit) || fixed.has(unit)) continue;
    take(unit);
    const kept = parts();
    if (saved === 0 || kept === null) continue;
    const bytes = kept.reduce((n, part) => n + part.bytes, 0);
    cuts.push({ launches: taken.size, kept, saved, bytes });
  }
  if (cuts.length === 0) return whyNone(order, known);
  const most = Math.max(...cuts.map((cut) => cut.saved));
  const [best] = cuts.filter((cut) => cut.saved >= SHARE * most)
    .sort((a, b) => a.bytes - b.bytes || b.saved - a.saved);
  const first = new Set([...taken].slice(0, best.launches));
  return {
    order: [...units.filter((unit) => first.has(unit)), ...units.filter((unit) => !first.has(unit))],
    launches: best.launches,
    kept: best.kept,
  };
}

/** The first node that depends on samples and is not known to keep them apart, in words. */
function whyNone(order: readonly Tensor[], known: ReadonlyMap<Tensor, unknown>): string {
  const { op, shape } =
    order.find((node) =>
      !known.has(node) && node.inputs.length > 0 && node.inputs.every((input) => known.has(input)) &&
      node.inputs.some((input) => known.get(input) === "apart")
    ) ?? {};
  const rule = "no matrix product below all that is trained keeps samples apart";
  return op === undefined ? rule : `${rule}: "${op.name}" of shape [${shape!.join(", ")}] may mix them`;
}

/**
 * The leaves that some launches read.
 *
 * @param launches The launches
 * @param buffers Buffers of their plan
 * @returns Paths, without repeats
 */
export function leavesOf(
  launches: readonly Pick<Launch, "bindings">[],
  buffers: Plan["buffers"],
): Path[] {
  const bound = [...new Set(launches.flatMap(({ bindings }) => bindings))];
  return bound.flatMap((b) => {
    const { source } = buffers[b];
    return source.kind === "leaf" ? [(source.node.attrs as { path: Path }).path] : [];
  });
}

/**
 * Whether the prefixes of two plans compute the same values: by the same kernels, from leaves of the same names.
 *
 * @param a A plan with a prefix
 * @param b Another one
 * @returns True when they keep the same bits for the same sample
 */
export function samePrefix(a: Plan, b: Plan): boolean {
  if (a === b) return true;
  const p = a.prefix as Prefix, q = b.prefix as Prefix;
  if (p.launches !== q.launches || p.samples !== q.samples || p.kept.length !== q.kept.length) return false;
  const twin = new Map<number, number>(), back = new Map<number, number>();
  const alike = (x: number, y: number): boolean => {
    if (twin.has(x) || back.has(y)) return twin.get(x) === y && back.get(y) === x;
    twin.set(x, y);
    back.set(y, x);
    return a.buffers[x].bytes === b.buffers[y].bytes && sameSource(a.buffers[x].source, b.buffers[y].source);
  };
  for (let i = 0; i < p.launches; i++) {
    const { kernel, bindings } = a.launches[i], other = b.launches[i];
    if (kernel.code !== other.kernel.code || `${kernel.grid}` !== `${other.kernel.grid}`) return false;
    if (bindings.length !== other.bindings.length) return false;
    if (!bindings.every((x, at) => alike(x, other.bindings[at]))) return false;
  }
  return p.kept.every(({ buffer, bytes }, i) => alike(buffer, q.kept[i].buffer) && bytes === q.kept[i].bytes);
}

function sameSource(a: Source, b: Source): boolean {
  if (a.kind === "leaf" && b.kind === "leaf") {
    return (a.node.attrs as { path: Path }).path === (b.node.attrs as { path: Path }).path;
  }
  if (a.kind === "host" && b.kind === "host") {
    const [x, y] = [a, b].map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return x === y || (x.length === y.length && x.every((byte, i) => byte === y[i]));
  }
  return a.kind === b.kind;
}
