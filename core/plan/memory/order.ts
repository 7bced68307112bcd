/**
 * Orders launches so that memory is freed as early as dependencies allow.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { Unit } from "../types.ts";

/** What a schedule depends on besides the units. */
export interface ScheduleOptions {
  /** Buffers whose values must exist at the end. */
  readonly roots: readonly number[];
  /** Bytes that a buffer takes while its value lives; 0 for buffers that live as long as the plan. */
  bytesOf(buffer: number): number;
  /** Whether units that work for few overwritten buffers run as soon as they can; false when absent. */
  readonly prompt?: boolean;
}

/** With `prompt`, a unit works for an update if it leads to so many units that overwrite a buffer: queries, keys and values share. */
const FEW = 3;

/** A unit that allocates at most so many bytes may run early: scalars, partial sums. */
const SMALL = 16384;
/** A unit that runs early may allocate at most this share of its largest input. */
const SHARE = 1 / 8;

/**
 * Orders the units that roots need: each unit after the units that write its inputs, and a unit that overwrites a buffer
 * after every other reader of it.
 *
 * The order is depth-first from the first unit, with one exception: a unit that frees at least as many bytes as it
 * allocates, or allocates little, runs as soon as its inputs exist. So the gradient of a weight does not wait for the end
 * of the backward pass and keep activations alive until then.
 *
 * @param units Units in any order
 * @param options Roots, and sizes of buffers
 * @returns The units that roots need, in order; the same for the same units
 * @throws {InputError} When two updates need each other's old value
 */
export function schedule(units: readonly Unit[], options: ScheduleOptions): Unit[] {
  const { roots, bytesOf, prompt = false } = options;
  const order = reached(depthFirst(units), roots);
  const before = predecessors(order);
  const after = order.map((): number[] => []);
  const waits = before.map((all, at) => {
    for (const other of all) after[other].push(at);
    return all.length;
  });

  // For each buffer the number of units that still use it, its writer included, and the sum of their indices: when one
  // unit is left, the sum is its index.
  const users = new Map<number, { left: number; places: number }>();
  const gain = order.map(() => 0);
  const bound = order.map(({ bindings }) => [...new Set(bindings)]);
  bound.forEach((buffers, at) => {
    for (const buffer of buffers) {
      if (bytesOf(buffer) === 0) continue;
      const known = users.get(buffer);
      if (known === undefined) {
        users.set(buffer, { left: 1, places: at });
        gain[at] -= bytesOf(buffer);
      } else {
        known.left++;
        known.places += at;
      }
    }
  });
  const updates = prompt ? updatesAfter(order, after) : order.map(() => Infinity);
  // What each unit may allocate and still run early.
  const little = order.map(({ reads, early = false }, at) =>
    early || updates[at] <= FEW ? Infinity : Math.max(SMALL, ...reads.map((b) => bytesOf(b) * SHARE))
  );
  for (const root of roots) users.delete(root);
  for (const [buffer, { left, places }] of users) if (left === 1) gain[places] += bytesOf(buffer);

  const result: Unit[] = [], done = order.map(() => false);
  const eager: number[] = [];
  const consider = (at: number): void => {
    if (waits[at] === 0 && gain[at] >= -little[at] && !done[at] && !eager.includes(at)) eager.push(at);
  };
  const run = (at: number): void => {
    done[at] = true;
    result.push(order[at]);
    for (const other of after[at]) {
      waits[other]--;
      consider(other);
    }
    for (const buffer of bound[at]) {
      const use = users.get(buffer);
      if (use === undefined) continue;
      use.left--;
      use.places -= at;
      if (use.left !== 1) continue;
      gain[use.places] += bytesOf(buffer);
      consider(use.places);
    }
  };
  order.forEach((_, at) => consider(at));
  for (let next = 0; next < order.length;) {
    if (eager.length > 0) {
      const first = eager.reduce((a, b) =>
        updates[b] < updates[a] || (updates[b] === updates[a] && b < a) ? b : a
      );
      run(eager.splice(eager.indexOf(first), 1)[0]);
    } else if (done[next]) next++;
    // Everything before it has run, so it is ready.
    else run(next);
  }
  return result;
}

/** How many units that overwrite a buffer wait for each unit; infinite where more than a few do. */
function updatesAfter(order: readonly Unit[], after: readonly (readonly number[])[]): number[] {
  const found: Set<number>[] = [];
  for (let at = order.length - 1; at >= 0; at--) {
    found[at] = new Set(order[at].overwrites.length > 0 ? [at] : []);
    for (const other of after[at]) {
      for (const update of found[other]) if (found[at].size <= FEW) found[at].add(update);
    }
  }
  return found.map(({ size }) => size <= FEW ? size : Infinity);
}

/** For each unit the indices of the units that must run before it. */
export function predecessors(units: readonly Unit[]): number[][] {
  const writers: number[][] = [], readers: number[][] = [];
  for (let at = 0; at < units.length; at++) {
    const { reads, writes, overwrites } = units[at];
    for (const b of writes) if (!overwrites.includes(b)) (writers[b] ??= []).push(at);
    for (const b of reads) (readers[b] ??= []).push(at);
  }
  /** For each unit the last one that was found to wait for it. */
  const seen = new Int32Array(units.length).fill(-1);
  return units.map(({ reads, overwrites }, at) => {
    const before: number[] = [];
    seen[at] = at;
    const wait = (others: readonly number[] = []): void => {
      for (const other of others) {
        if (seen[other] === at) continue;
        seen[other] = at;
        before.push(other);
      }
    };
    for (const b of reads) wait(writers[b]);
    for (const b of overwrites) wait(readers[b]);
    return before;
  });
}

/** Units by priority, each after the units that must run before it. */
export function depthFirst(units: readonly Unit[]): Unit[] {
  const before = predecessors(units);
  const order: Unit[] = [], state: ("open" | "done" | undefined)[] = [];
  const visit = (at: number): void => {
    if (state[at] === "done") return;
    if (state[at] === "open") {
      throw new InputError(
        `Cannot plan "${units[at].kernel.name}" as two updates each need the other's old value`,
      );
    }
    state[at] = "open";
    for (const other of before[at]) visit(other);
    state[at] = "done";
    order.push(units[at]);
  };
  const places = units.map((_, at) => at).sort((a, b) => units[a].priority - units[b].priority || a - b);
  for (const at of places) visit(at);
  return order;
}

/** Drops units that no root needs: a kernel does not bind inputs that only unwanted outputs depend on. */
function reached(order: readonly Unit[], roots: readonly number[]): Unit[] {
  const live = new Set(roots);
  return order.toReversed().filter(({ reads, writes }) => {
    const used = writes.some((b) => live.has(b));
    if (used) { for (const b of reads) live.add(b); }
    return used;
  }).toReversed();
}
