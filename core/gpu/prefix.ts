/**
 * The prefix of a step: launches whose values for a sample are the same in every step, until a parameter below changes.
 *
 * A plan is cut in two, and its launches stay as they are: a step that takes the values of the prefix from elsewhere runs
 * the other launches on the same bits.
 *
 * @module
 */

import { topological } from "../graph.ts";
import { fillOp, hostOp, leafOp, sizeOf, type Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { type Fusion, isElement, isSource } from "./fuse.ts";
import type { Unit } from "./lower.ts";
import type { Cost, Launch, Plan, Source } from "./plan.ts";
import { type Dependence, dependences, type LeafKind } from "./rows.ts";

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
  const known = dependences(options.fusion.order, options);
  const cuts = cutsOf(units, { ...options, known });
  if (cuts.length === 0) return whyNone({ ...options, known });
  const most = Math.max(...cuts.map((cut) => cut.saved));
  const [{ taken, kept }] = cuts.filter((cut) => cut.saved >= SHARE * most)
    .sort((a, b) => sampleBytes(a.kept) - sampleBytes(b.kept) || b.saved - a.saved);
  const rest = units.filter((unit) => !taken.includes(unit));
  return { order: [...units.filter((unit) => taken.includes(unit)), ...rest], launches: taken.length, kept };
}

/** Bytes of a sample in all values. */
export function sampleBytes(kept: readonly KeptValue[]): number {
  return kept.reduce((n, { bytes }) => n + bytes, 0);
}

/** A place to cut, and the floating-point operations of matrix products that it saves. */
interface Candidate {
  readonly taken: readonly Unit[];
  readonly kept: readonly KeptValue[];
  readonly saved: number;
}

type Known = ReadonlyMap<Tensor, Dependence>;

/** Cuts after each unit that depends on the batch, with what it needs, where all that others read can be kept. */
function cutsOf(
  units: readonly Unit[],
  { fusion, buffers, bufferOf, roots, samples, known }: Planned & PrefixOptions & { readonly known: Known },
): Candidate[] {
  const nodeIn = new Map<number, Tensor>();
  for (const node of fusion.order) {
    if (isSource(node) || node.op.name === "reshape") continue;
    if (!isElement(node) || fusion.stored.has(node)) nodeIn.set(bufferOf(node), node);
  }
  /** Bytes of a sample in a buffer; null when they cannot be copied. */
  const partOf = (b: number): number | null => {
    const node = nodeIn.get(b);
    if (node === undefined || known.get(node) !== "apart") return null;
    const elements = sizeOf(node.shape), bytes = buffers[b].bytes / samples;
    // Buffers hold whole groups of four elements, and copies whole words.
    return elements % 4 === 0 && elements >= 8 && bytes % 4 === 0 ? bytes : null;
  };

  // Who still has to run of those that read a buffer; roots are read at the end.
  const waiting = new Map<number, number>();
  const count = (b: number, by: number): number => {
    waiting.set(b, (waiting.get(b) ?? 0) + by);
    return waiting.get(b)!;
  };
  for (const { reads } of units) for (const b of new Set(reads)) count(b, 1);
  for (const b of roots) count(b, 1);

  const writer = constantUnits(units, { buffers, nodeIn, known });
  const taken = new Set<Unit>(), open = new Set<number>(), found: Candidate[] = [];
  let saved = 0;
  const take = (unit: Unit): void => {
    if (taken.has(unit)) return;
    taken.add(unit);
    saved += unit.matmulFlops;
    for (const b of new Set(unit.reads)) {
      const before = writer.get(b)?.unit;
      if (before !== undefined) take(before);
      if (count(b, -1) === 0) open.delete(b);
    }
    for (const b of unit.writes) if ((waiting.get(b) ?? 0) > 0) open.add(b);
  };
  for (const unit of units) {
    if (!unit.writes.some((b) => writer.get(b)?.batch)) continue;
    take(unit);
    const kept = [...open].map((buffer) => ({ buffer, bytes: partOf(buffer) }));
    if (saved === 0 || kept.some(({ bytes }) => bytes === null)) continue;
    found.push({ taken: [...taken], kept: kept as KeptValue[], saved });
  }
  return found;
}

/** Units that depend on the batch and on what is fixed alone, by the buffers that they write; and whether on the batch. */
function constantUnits(
  units: readonly Unit[],
  { buffers, nodeIn, known }: Pick<Planned, "buffers"> & {
    readonly nodeIn: ReadonlyMap<number, Tensor>;
    readonly known: Known;
  },
): ReadonlyMap<number, { readonly unit: Unit; readonly batch: boolean }> {
  const writer = new Map<number, { readonly unit: Unit; readonly batch: boolean }>();
  const isConstant = (b: number): boolean => {
    const { source } = buffers[b];
    if (source === null) return writer.has(b);
    return source.kind === "host" || (source.kind === "leaf" && known.has(source.node));
  };
  const isOfBatch = (b: number): boolean => {
    const { source } = buffers[b];
    return source?.kind === "leaf" ? known.get(source.node) === "apart" : writer.get(b)?.batch === true;
  };
  for (const unit of units) {
    const { reads, writes } = unit;
    // What has no node are partial results, which only depend on what the unit reads.
    const own = writes.every((b) => {
      const node = nodeIn.get(b);
      return buffers[b].source === null && (node === undefined || known.has(node));
    });
    if (!own || !reads.every(isConstant)) continue;
    const batch = reads.some(isOfBatch);
    for (const b of writes) writer.set(b, { unit, batch });
  }
  return writer;
}

/** Why there is no cut, in words. */
function whyNone(
  { fusion: { order }, known, kindOf }: Pick<Planned, "fusion"> & PrefixOptions & { readonly known: Known },
): string {
  // What changes with the batch alone.
  const constant = new Set<Tensor>();
  for (const node of order) {
    const own = node.op === leafOp
      ? kindOf((node.attrs as { path: Path }).path) !== null
      : node.op === hostOp || node.op === fillOp ||
        (node.inputs.length > 0 && node.inputs.every((input) => constant.has(input)));
    if (own) constant.add(node);
  }
  const product = order.find((node) =>
    node.op.matmulFlops !== undefined && constant.has(node) && (known.get(node) ?? "apart") === "apart"
  );
  if (product === undefined) return "no matrix product lies below all that is trained";
  const mixed = topological([product]).find((node) => !known.has(node));
  if (mixed === undefined) return "what is read of the frozen bottom is too small to be copied by sample";
  const name = mixed.op === leafOp ? (mixed.attrs as { path: Path }).path : mixed.op.name;
  return `the frozen bottom must keep samples apart: "${name}" of shape [${mixed.shape.join(", ")}] may not`;
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
