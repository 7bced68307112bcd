/**
 * The prefix of a step: launches at its frozen bottom, whose values for a sample are the same in every step.
 *
 * Launches are only reordered. A step that gets the values of the prefix from a cache runs the other launches on the same
 * bits.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import { isHost } from "../../sources.ts";
import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { isKeptCopy } from "../kept_copy.ts";
import { isConstant, isElement, isLeaf, isReshape, isSource, isStepScalar, pathOf } from "../predicates.ts";
import type { Buffer, Fusion, KeptValue, Prefix, PrefixOptions, Unit } from "../types.ts";
import { type Dependence, dependences } from "./batch_dependence.ts";

/** A plan cut into head, prefix and rest. */
export interface Cut extends Pick<Prefix, "head" | "launches" | "kept" | "given" | "reads"> {
  /** All units: the head, the prefix, the rest. */
  readonly order: readonly Unit[];
}

/** A cut must save this share of the most that any cut saves; of such cuts the one that keeps the fewest bytes is taken. */
const SHARE = 0.9;

/** The plan that is cut. */
export interface Planned {
  readonly fusion: Fusion;
  readonly buffers: readonly Buffer[];
  bufferOf(node: Tensor): number;
  /** Buffers whose values must exist at the end. */
  readonly roots: readonly number[];
}

/**
 * Finds the prefix that is worth caching.
 *
 * @param units Units in an order in which they can run
 * @param options The plan, the number of samples, and what leaves are
 * @returns The cut, or the reason why there is none
 */
export function cutPrefix(units: readonly Unit[], options: Planned & PrefixOptions): Cut | string {
  const { fusion, bufferOf, roots } = options;
  const known = dependences(fusion.order, options), nodeIn = new Map<number, Tensor>();
  for (const node of fusion.order) {
    if (isSource(node) || isReshape(node)) continue;
    if (!isElement(node) || fusion.stored.has(node)) nodeIn.set(bufferOf(node), node);
  }
  const kinds = kindsOf(units, { ...options, known, nodeIn });
  const cuts = cutsOf(units, { ...options, known, nodeIn, kinds });
  if (cuts.length === 0) return whyNone({ ...options, known });
  const most = Math.max(...cuts.map((cut) => cut.saved));
  const [{ taken, kept }] = cuts.filter((cut) => cut.saved >= SHARE * most)
    .sort((a, b) => sampleBytes(a.kept) - sampleBytes(b.kept) || b.saved - a.saved);

  const { head, prefix } = divide(units, { taken, kinds, roots });
  const fromHead = new Set([...head].flatMap(({ writes }) => writes));
  /** The node of a buffer that the prefix is given, and that the plan says nothing of but its bytes. */
  const givenIn = (b: number): Tensor | undefined => {
    const { source } = options.buffers[b];
    if (source?.kind === "leaf" && isKeptCopy(source.node)) return source.node;
    return fromHead.has(b) ? nodeIn.get(b)! : undefined;
  };
  const given = new Map<number, Tensor>();
  for (const { reads } of prefix) {
    for (const b of reads) {
      const node = givenIn(b);
      if (node !== undefined) given.set(b, node);
    }
  }
  const rest = units.filter((unit) => !head.has(unit) && !prefix.has(unit));
  return {
    order: [...units.filter((unit) => head.has(unit)), ...units.filter((unit) => prefix.has(unit)), ...rest],
    head: head.size,
    launches: prefix.size,
    kept,
    given,
    reads: topological(kept.map(({ buffer }) => nodeIn.get(buffer)!))
      .flatMap((node) => isLeaf(node) ? [pathOf(node)] : []),
  };
}

/** Adds the early units that the taken ones need. An early unit that others need too belongs to the head. */
function divide(
  units: readonly Unit[],
  { taken, kinds, roots }: Pick<Planned, "roots"> & {
    readonly taken: readonly Unit[];
    readonly kinds: Kinds;
  },
): { readonly head: ReadonlySet<Unit>; readonly prefix: ReadonlySet<Unit> } {
  const head = new Set<Unit>(), prefix = new Set(taken);
  const needed = new Set(taken.flatMap(({ reads }) => reads)), others = new Set(roots);
  for (const unit of units.toReversed()) {
    if (prefix.has(unit)) continue;
    const early = kinds.get(unit) === "early" && unit.writes.some((b) => needed.has(b));
    const own = early && !unit.writes.some((b) => others.has(b));
    if (early) (own ? prefix : head).add(unit);
    for (const b of unit.reads) {
      if (early) needed.add(b);
      if (!own) others.add(b);
    }
  }
  return { head, prefix };
}

/** Bytes of a sample in all values. */
export function sampleBytes(kept: readonly KeptValue[]): number {
  return kept.reduce((n, { bytes }) => n + bytes, 0);
}

interface Known {
  /** Node of each buffer that is no leaf and no partial result. */
  readonly nodeIn: ReadonlyMap<number, Tensor>;
  readonly known: ReadonlyMap<Tensor, Dependence>;
}

/**
 * What units depend on. `early`: on no sample, so that they may run first. `perSample`: on samples and fixed values only. All
 * other units are absent.
 */
type Kinds = ReadonlyMap<Unit, "early" | "perSample">;

function kindsOf(
  units: readonly Unit[],
  { buffers, nodeIn, known }: Pick<Planned, "buffers"> & Known,
): Kinds {
  const kinds = new Map<Unit, "early" | "perSample">(), writer = new Map<number, Unit>();
  const isEarly = (b: number): boolean => {
    const { source } = buffers[b];
    if (source?.kind === "leaf") return known.get(source.node) !== "perSample";
    return source !== null || kinds.get(writer.get(b)!) === "early";
  };
  const isConstant = (b: number): boolean => {
    const { source } = buffers[b], unit = writer.get(b), node = nodeIn.get(b);
    if (source !== null) return source.kind === "host" || (source.kind === "leaf" && known.has(source.node));
    // A buffer without a node holds partial results, which depend only on what their unit reads.
    return node === undefined ? kinds.get(unit!) === "perSample" : known.has(node) && kinds.has(unit!);
  };
  for (const unit of units) {
    const { reads, writes } = unit;
    for (const b of writes) writer.set(b, unit);
    if (writes.some((b) => buffers[b].source !== null)) continue;
    if (reads.every(isEarly)) kinds.set(unit, "early");
    else if (reads.every(isConstant) && writes.every((b) => !nodeIn.has(b) || known.has(nodeIn.get(b)!))) {
      kinds.set(unit, "perSample");
    }
  }
  return kinds;
}

/** A possible cut: units before it, values to keep, and the floating-point operations of matrix products that it saves. */
interface Candidate {
  readonly taken: readonly Unit[];
  readonly kept: readonly KeptValue[];
  readonly saved: number;
}

/** The cuts after units that depend on samples, where every value that later units read can be kept. */
function cutsOf(
  units: readonly Unit[],
  { buffers, roots, samples, known, nodeIn, kinds }: Planned & PrefixOptions & Known & {
    readonly kinds: Kinds;
  },
): Candidate[] {
  /** Bytes of one sample in a buffer; null when a sample cannot be copied on its own. */
  const partOf = (b: number): number | null => {
    const node = nodeIn.get(b);
    if (node === undefined || known.get(node) !== "perSample") return null;
    const elements = sizeOf(node.shape), bytes = buffers[b].bytes / samples;
    // Buffers are rounded up to groups of four elements, and copies are of whole words.
    return elements % 4 === 0 && elements >= 8 && bytes % 4 === 0 ? bytes : null;
  };
  // How many readers of a buffer have not run yet; roots are read at the end.
  const waiting = new Map<number, number>();
  const count = (b: number, by: number): number => {
    waiting.set(b, (waiting.get(b) ?? 0) + by);
    return waiting.get(b)!;
  };
  for (const { reads } of units) for (const b of new Set(reads)) count(b, 1);
  for (const b of roots) count(b, 1);

  const cuttable = cuttableUnits(units, { kinds, roots, canKeep: (b) => partOf(b) !== null });
  const taken: Unit[] = [], open = new Set<number>(), found: Candidate[] = [];
  let saved = 0;
  for (const unit of units) {
    if (!cuttable.has(unit)) continue;
    taken.push(unit);
    saved += unit.matmulFlops;
    for (const b of new Set(unit.reads)) if (count(b, -1) === 0) open.delete(b);
    for (const b of unit.writes) if ((waiting.get(b) ?? 0) > 0) open.add(b);
    const kept = [...open].map((buffer) => ({ buffer, bytes: partOf(buffer) }));
    if (saved === 0 || kept.some(({ bytes }) => bytes === null)) continue;
    found.push({ taken: [...taken], kept: kept as KeptValue[], saved });
  }
  return found;
}

/**
 * Units that may lie below a cut: not those of which a unit that depends on more than samples reads what cannot be kept, such as
 * partial sums of a count of labels.
 */
function cuttableUnits(
  units: readonly Unit[],
  { kinds, roots, canKeep }: Pick<Planned, "roots"> & {
    readonly kinds: Kinds;
    canKeep(buffer: number): boolean;
  },
): Set<Unit> {
  const readAbove = new Set(roots), found = new Set<Unit>();
  for (const unit of units.toReversed()) {
    if (kinds.get(unit) === "perSample" && unit.writes.every((b) => !readAbove.has(b) || canKeep(b))) {
      found.add(unit);
    } else for (const b of unit.reads) readAbove.add(b);
  }
  return found;
}

/** The reason why there is no cut. */
function whyNone(options: Pick<Planned, "fusion"> & PrefixOptions & Pick<Known, "known">): string {
  const { fusion: { order }, known } = options;
  const product = productOf(order, { ...options, draws: false });
  if (product === undefined) {
    return productOf(order, { ...options, draws: true }) === undefined
      ? "no matrix product lies below all that is trained"
      : "the frozen bottom must make the same of a sample in each step: it draws random numbers, as dropout does; " +
        "train without, such as by a loss with { dropout: 0 }";
  }
  const mixed = topological([product]).find((node) => !known.has(node));
  if (mixed === undefined) return "what is read of the frozen bottom is too small to be copied by sample";
  const name = isLeaf(mixed) ? pathOf(mixed) : mixed.op.name;
  return `the frozen bottom must keep samples apart: "${name}" of shape [${mixed.shape.join(", ")}] may not`;
}

/** A matrix product of values that depend on the batch and on fixed values alone, and with `draws` on random numbers, too. */
function productOf(
  order: readonly Tensor[],
  { known, kindOf, draws }: Pick<PrefixOptions, "kindOf"> & Pick<Known, "known"> & {
    readonly draws: boolean;
  },
): Tensor | undefined {
  const own = new Set<Tensor>();
  for (const node of order) {
    const is = isLeaf(node)
      ? kindOf(pathOf(node)) !== null
      : isHost(node) || isConstant(node) || (draws && isStepScalar(node)) ||
        (node.inputs.length > 0 && node.inputs.every((input) => own.has(input)));
    if (is) own.add(node);
  }
  return order.find((node) =>
    node.op.matmulFlops !== undefined && own.has(node) && (known.get(node) ?? "perSample") === "perSample"
  );
}
