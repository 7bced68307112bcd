/**
 * Puts small launches that do not depend on each other into one: a launch costs some microseconds, however small it is, and
 * one that is too small for the device leaves a part of it idle.
 *
 * Every kernel computes what it would compute alone, so that results have the same bits.
 *
 * @module
 */

import { sharedBindings, sideBySide } from "../../../kernels/side_by_side.ts";
import { bytesOfType, renamed, type TextParts, textParts } from "../../../kernels/text_parts.ts";
import type { KernelText, Target } from "../../kernel_call.ts";
import type { Buffer, TextCache, Unit } from "../types.ts";
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
/** Units that only move so many bytes in each buffer, and that no product needs, may run so many levels late. */
const LITTLE = 2 ** 20, DELAY = 64;
/** A combination of kernels must save so many launches: each is one more shader to compile. */
const LEAST = 3;

/** A launch in the making: units that will share it, and where it stands in the order. */
interface Group {
  readonly members: number[];
  readonly first: Candidate | null;
  /** What it binds. */
  readonly reads: Set<string>;
  bindings: number;
  bytes: number;
  /** Its arrays in workgroup memory: bytes by type. */
  readonly memory: Map<string, number>;
  place: number;
  /** Whether a unit that was seen depends on it, so that it cannot move to a later place. */
  used: boolean;
}

/** A unit that may share a launch. */
interface Candidate {
  /** Equal for units that may share a launch: threads of a workgroup, and whether it is a product. */
  readonly kind: string;
  /** For a product the buffers of its operands: products share a launch where all share an operand. */
  readonly operands: readonly number[] | null;
  /** Buffers that it reads, with their types, and how many others it binds. */
  readonly reads: readonly string[];
  readonly writes: number;
  /** Bytes of all that it binds. */
  readonly bytes: number;
  /** Its arrays in workgroup memory, and their bytes. */
  readonly memory: ReadonlyMap<string, number>;
}

/**
 * Puts units into shared launches: matrix products that read the same operand, and units that move few bytes.
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

/**
 * Orders units by how many others must run before: units that could run at the same time become neighbours. A unit that reads
 * nothing that others write runs right before the first one that reads it.
 *
 * @param order Units in an order in which they can run
 * @param options Buffers
 * @returns The same units in another such order
 */
export function byLevel(order: readonly Unit[], { buffers }: Pick<ShareOptions, "buffers">): readonly Unit[] {
  const before = predecessors(order), level = order.map(() => 0), needed = neededLater(order, before);
  before.forEach((others, at) => {
    for (const other of others) level[at] = Math.max(level[at], level[other] + 1);
    // What it reads can then wait for its like.
    if (!needed[at] && order[at].bindings.every((b) => buffers[b].bytes <= LITTLE)) level[at] += DELAY;
  });
  const least = order.map(() => Infinity);
  before.forEach((others, at) => {
    for (const other of others) least[other] = Math.min(least[other], level[at]);
  });
  before.forEach((others, at) => {
    if (others.length === 0 && least[at] < Infinity) level[at] = least[at] - 1;
  });
  const places = order.map((_, at) => at);
  // Products come last in a level: what they read may then wait for its like.
  const isLate = (at: number): number => order[at].matmulFlops > 0 ? 1 : 0;
  places.sort((a, b) => level[a] - level[b] || isLate(a) - isLate(b) || a - b);
  return places.map((at) => order[at]);
}

/**
 * Whether a product needs what each unit computes. Other units end in updates of leaves, and which of them there are depends
 * on what is frozen. They share launches only with others of the same kernel, and products with those that read the same
 * operand: else each frozen set would need other kernels.
 */
function neededLater(order: readonly Unit[], before: readonly (readonly number[])[]): readonly boolean[] {
  const needed = order.map(() => false);
  for (let at = order.length - 1; at >= 0; at--) {
    if (!needed[at] && order[at].matmulFlops === 0) continue;
    for (const other of before[at]) needed[other] = true;
  }
  return needed;
}

/** What is known of kernels from earlier plans. */
interface Memory {
  readonly parts: Map<KernelText, TextParts | null>;
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
  if (!known.parts.has(kernel)) known.parts.set(kernel, textParts(kernel.code));
  const parts = known.parts.get(kernel)!;
  if (parts === null) return null;
  const reads = new Set<string>();
  parts.bindings.forEach(({ access, type }, i) => access === "read" && reads.add(`${bindings[i]} ${type}`));
  return {
    kind: needed || operands !== undefined
      ? `${needed} ${operands === undefined} ${parts.threads}`
      : `${numberOf(kernel, known)}`,
    operands: needed ? null : operands ?? null,
    reads: [...reads],
    writes: parts.bindings.filter(({ access }) => access === "read_write").length,
    bytes,
    memory: memoryOf(parts),
  };
}

/** The arrays of a kernel in workgroup memory, by type: bytes. Kernels that share a launch share arrays of one type. */
function memoryOf({ memory, structs }: TextParts): ReadonlyMap<string, number> {
  const names = new Map(structs.map(({ name, fields }) => [name, fields]));
  return new Map(memory.map(({ type }, i) => {
    const same = memory.slice(0, i).filter((other) => other.type === type).length;
    return [`${same} ${renamed(type, names)}`, bytesOfType(type, structs)];
  }));
}

/** Finds units for each launch, from the first unit on. Where none of the units found so far fits, a unit begins a launch. */
function groupsOf(
  before: readonly (readonly number[])[],
  { candidates, target, window }: Pick<ShareOptions, "target"> & {
    readonly candidates: readonly (Candidate | null)[];
    readonly window: number;
  },
): Group[] {
  const groups: Group[] = [], groupOf = new Map<number, Group>();
  const open = new Set<Group>();
  before.forEach((others, at) => {
    const needed = new Set(others.map((other) => groupOf.get(other)!)), own = candidates[at];
    let first = 0;
    for (const group of needed) {
      group.used = true;
      first = Math.max(first, group.place + 1);
    }
    for (const group of open) if (group.place < at - window) open.delete(group);
    const found = own === null
      ? undefined
      : open.values().find((group) =>
        (group.place >= first || !group.used) && fits(group, { own, candidates, target })
      );
    const group: Group = found ?? newGroup(own, at);
    group.members.push(at);
    groupOf.set(at, group);
    if (found === undefined) groups.push(group);
    if (group.place < first) group.place = at;
    if (own === null) return;
    open.add(group);
    for (const read of own.reads) group.reads.add(read);
    for (const [type, bytes] of own.memory) group.memory.set(type, bytes);
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
    memory: new Map(),
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
  if (first!.kind !== own.kind || bytes + own.bytes > MOST_BYTES) return false;
  const more = own.reads.filter((read) => !reads.has(read)).length;
  if (reads.size + more + bindings + own.writes > maxBindings) return false;
  const shared = [...new Map([...memory, ...own.memory]).values()].reduce((a, b) => a + b, 0);
  if (shared > workgroupBytes) return false;
  return own.operands === null ||
    own.operands.some((b) => members.every((at) => candidates[at]!.operands!.includes(b)));
}

/**
 * The groups whose combination of kernels comes often enough. Of units that depend on what is frozen a power of two shares a
 * launch, so that few kernels serve any number of them.
 */
function frequent(
  groups: readonly Group[],
  { order, needed }: { readonly order: readonly Unit[]; readonly needed: readonly boolean[] },
): Pick<Group, "members" | "place">[] {
  const numbers = new Map<KernelText, number>();
  for (const { kernel } of order) if (!numbers.has(kernel)) numbers.set(kernel, numbers.size);
  const whole = groups.flatMap(({ members, place }) => {
    if (needed[members[0]] || order[members[0]].operands !== undefined) return [{ members, place }];
    const parts = [];
    for (let at = 0; members.length - at > 1;) {
      const count = 2 ** Math.floor(Math.log2(members.length - at));
      parts.push({ members: members.slice(at, at += count), place });
    }
    return parts;
  });
  const alike = Map.groupBy(
    whole,
    ({ members }) => members.map((at) => numbers.get(order[at].kernel)!).sort((a, b) => a - b).join(" "),
  );
  return [...alike.values()].filter((all) => all.length * (all[0].members.length - 1) >= LEAST).flat();
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
