/**
 * Puts small launches that do not depend on each other into one: a launch costs some microseconds, however small it is, and
 * one that is too small for the device leaves a part of it idle.
 *
 * Every kernel computes what it would compute alone, so that results have the same bits.
 *
 * @module
 */

import { sharedBindings, sharedMemory, sideBySide } from "../../../kernels/side_by_side.ts";
import {
  type ArrayType,
  arrayType,
  bytesOfArray,
  type TextParts,
  textParts,
} from "../../../kernels/text_parts.ts";
import type { KernelText, Target } from "../../kernel_call.ts";
import type { Buffer, TextCache, Unit } from "../types.ts";
import { neededLater } from "./by_level.ts";
import { frequent } from "./frequent.ts";
import { depthFirst, predecessors } from "./order.ts";

/** What decides about shared launches. */
export interface ShareOptions {
  readonly buffers: readonly Buffer[];
  readonly target: Pick<Target, "software" | "maxBindings" | "workgroupBytes">;
  readonly texts: TextCache;
}

/** A launch that moves more bytes, or has more arithmetic, takes long enough on its own. */
const LIGHT_BYTES = 24 * 2 ** 20, LIGHT_FLOPS = 4e9;
/** So do launches that move so many bytes together. */
const MOST_BYTES = 48 * 2 ** 20;
/** A launch in the making: units that will share it, and where it stands in the order. */
interface Group {
  readonly members: number[];
  readonly first: Candidate | null;
  /** What it binds. */
  readonly reads: Set<string>;
  bindings: number;
  bytes: number;
  /** Its arrays in workgroup memory. */
  memory: readonly ArrayType[];
  place: number;
  /** Whether a unit that was seen depends on it, so that it cannot move to a later place. */
  used: boolean;
}

/** A unit that may share a launch. */
interface Candidate {
  /** Equal for units that may share a launch: threads of a workgroup, and whether it is a product. */
  readonly kind: string;
  /** Whether a later product needs what it computes. */
  readonly needed: boolean;
  /** For a product, attention among them, the buffers of its operands. */
  readonly operands: readonly number[];
  /** Buffers that it reads, with their types, and how many others it binds. */
  readonly reads: readonly string[];
  readonly writes: number;
  /** Bytes of all that it binds. */
  readonly bytes: number;
  /** Its arrays in workgroup memory. */
  readonly memory: readonly ArrayType[];
}

/**
 * Puts units into shared launches: units that move few bytes, and matrix products, those of gradients of weights with others
 * that read the same operand.
 *
 * @param order Units in an order in which they can run
 * @param options Buffers, and what the device is; `window`: units that are further apart in the order stay apart, as what the
 * first of them writes would be kept for long
 * @returns Fewer units in an order in which they can run; the same ones on a software adapter
 */
export function shareLaunches(
  order: readonly Unit[],
  options: ShareOptions & { readonly window: number },
): readonly Unit[] {
  if (options.target.software) return order;
  const known = options.texts.remembered(newMemory)(null);
  const before = predecessors(order), needed = neededLater(order, before);
  const candidates = order.map((unit, at) => candidateOf(unit, { ...options, known, needed: needed[at] }));
  const groups = frequent(groupsOf(before, { candidates, ...options }), { order, needed });
  if (groups.length === 0) return order;
  const taken = new Set(groups.flatMap(({ members }) => members));
  return depthFirst([
    ...groups.map(({ members, place }) =>
      shared(members.map((at) => order[at]).sort(byText), { place, known })
    ),
    ...order.flatMap((unit, at) => taken.has(at) ? [] : [{ ...unit, priority: at }]),
  ]);
}

/** A kernel that can become part of another one. */
interface KernelParts extends TextParts {
  /** The types of its arrays in workgroup memory. */
  readonly arrays: readonly ArrayType[];
}

/** What is known of kernels from earlier plans. */
interface Memory {
  readonly parts: Map<KernelText, KernelParts | null>;
  readonly numbers: Map<KernelText, number>;
  readonly combined: Map<string, KernelText>;
}

function newMemory(_: null): Memory {
  return { parts: new Map(), numbers: new Map(), combined: new Map() };
}

function numberOf(kernel: KernelText, { numbers }: Memory): number {
  if (!numbers.has(kernel)) numbers.set(kernel, numbers.size);
  return numbers.get(kernel)!;
}

function partsOf({ code }: KernelText): KernelParts | null {
  const parts = textParts(code);
  return parts && { ...parts, arrays: parts.memory.map(({ type }) => arrayType(type, parts.structs)) };
}

function candidateOf(
  { kernel, bindings, overwrites, matmulFlops, operands }: Unit,
  { buffers, known, needed }: Pick<ShareOptions, "buffers"> & {
    readonly known: Memory;
    readonly needed: boolean;
  },
): Candidate | null {
  if (overwrites.length > 0 || (matmulFlops > 0 && operands === undefined)) return null;
  const bytes = [...new Set(bindings)].reduce((n, b) => n + buffers[b].bytes, 0);
  if (operands === undefined ? bytes > LIGHT_BYTES : kernel.flops > LIGHT_FLOPS) return null;
  if (!known.parts.has(kernel)) known.parts.set(kernel, partsOf(kernel));
  const parts = known.parts.get(kernel)!;
  if (parts === null) return null;
  const reads = new Set<string>();
  parts.bindings.forEach(({ access, type }, i) => access === "read" && reads.add(`${bindings[i]} ${type}`));
  return {
    kind: operands !== undefined
      ? `product ${parts.threads}`
      : needed
      ? `${parts.threads}`
      : `own ${numberOf(kernel, known)}`,
    needed,
    operands: operands ?? [],
    reads: [...reads],
    writes: parts.bindings.filter(({ access }) => access === "read_write").length,
    bytes,
    memory: parts.arrays,
  };
}

/** Finds units for each launch, from the first unit on. Where none of the units found so far fits, a unit begins a launch. */
function groupsOf(
  before: readonly (readonly number[])[],
  { candidates, target, window }: Pick<ShareOptions, "target"> & {
    readonly candidates: readonly (Candidate | null)[];
    readonly window: number;
  },
): Group[] {
  const groups: Group[] = [], groupOf: Group[] = [], openOf = new Map<string, Group[]>();
  before.forEach((others, at) => {
    const own = candidates[at];
    let first = 0;
    for (const other of others) {
      const group = groupOf[other];
      group.used = true;
      first = Math.max(first, group.place + 1);
    }
    const open = own === null
      ? []
      : (openOf.get(own.kind) ?? []).filter((group) => group.place >= at - window);
    const found = open.find((group) =>
      (group.place >= first || !group.used) && fits(group, { own: own!, candidates, target })
    );
    const group: Group = found ?? newGroup(own, at);
    group.members.push(at);
    groupOf.push(group);
    if (found === undefined) groups.push(group);
    if (group.place < first) group.place = at;
    if (own === null) return;
    if (found === undefined) open.push(group);
    openOf.set(own.kind, open);
    for (const read of own.reads) group.reads.add(read);
    group.memory = sharedMemory(group.memory, own.memory).arrays;
    group.bindings += own.writes;
    group.bytes += own.bytes;
  });
  return groups.filter(({ members }) => members.length > 1);
}

function newGroup(first: Candidate | null, place: number): Group {
  return {
    members: [],
    first,
    reads: new Set(),
    memory: [],
    bindings: 0,
    bytes: 0,
    place,
    used: false,
  };
}

function fits(
  { first, reads, bindings, bytes, members, memory }: Group,
  { own, candidates, target: { maxBindings, workgroupBytes } }: Pick<ShareOptions, "target"> & {
    readonly own: Candidate;
    readonly candidates: readonly (Candidate | null)[];
  },
): boolean {
  if (bytes + own.bytes > MOST_BYTES) return false;
  const more = own.reads.filter((read) => !reads.has(read)).length;
  if (reads.size + more + bindings + own.writes > maxBindings) return false;
  const { arrays } = sharedMemory(memory, own.memory);
  if (arrays.reduce((n, array) => n + bytesOfArray(array), 0) > workgroupBytes) return false;
  return own.operands.length === 0 || (own.needed && first!.needed) ||
    members.some((at) => candidates[at]!.operands.some((b) => own.operands.includes(b)));
}

/** Kernels in an order that does not depend on the plan. */
function byText({ kernel: a }: Unit, { kernel: b }: Unit): number {
  return a === b ? 0 : a.name < b.name || (a.name === b.name && a.code < b.code) ? -1 : 1;
}

/** The launch that units share. */
function shared(
  units: readonly Unit[],
  { place, known }: { readonly place: number; readonly known: Memory },
): Unit {
  const bound = units.map(({ kernel, bindings }) => ({ kernel, bindings }));
  const parts = units.map(({ kernel }) => known.parts.get(kernel)!);
  const { buffers: bindings, places } = sharedBindings(parts, units.map((unit) => unit.bindings));
  const key = `${units.map(({ kernel }) => numberOf(kernel, known))} ${places.join(" ")}`;
  if (!known.combined.has(key)) known.combined.set(key, sideBySide(bound).kernel);
  return {
    kernel: known.combined.get(key)!,
    bindings,
    parts: bound,
    reads: units.flatMap(({ reads }) => reads),
    writes: units.flatMap(({ writes }) => writes),
    overwrites: [],
    priority: place,
    matmulFlops: units.reduce((n, unit) => n + unit.matmulFlops, 0),
  };
}
