/**
 * Double buffers: a leaf and a slot of a plan swap their buffers after each step, so that the value which the leaf keeps
 * for the next step is not copied.
 *
 * @module
 */

import type { Launch, Plan } from "../plan/types.ts";

/** The buffers of a recording. A swap changes them in place. */
export interface RecordedBuffers {
  /** By number, as in the plan. */
  readonly buffers: (GPUBuffer | null)[];
  /** By slot. */
  readonly slots: (GPUBuffer | undefined)[];
  /** Buffers that the recording destroys. */
  readonly owned: GPUBuffer[];
}

/** The double buffers of a recording. */
export interface DoubleBuffers {
  /** Whether a launch binds a buffer that is swapped. */
  touches(launch: Launch): boolean;
  /**
   * Swaps each leaf's buffer with its slot's. All buffers must exist.
   *
   * @returns The new buffer of each leaf, by its old one
   */
  swap(): ReadonlyMap<GPUBuffer, GPUBuffer>;
}

/**
 * Prepares the swaps of a plan.
 *
 * @param plan The plan
 * @param recorded The buffers of its recording
 * @returns Its double buffers
 */
export function doubleBuffers(plan: Plan, { buffers, slots, owned }: RecordedBuffers): DoubleBuffers {
  const usersOf = new Map(plan.doubleBuffers.map(({ slot }) => [slot, [] as number[]]));
  plan.buffers.forEach(({ source }, i) => source.kind === "slot" && usersOf.get(source.slot)?.push(i));
  const pairs = plan.doubleBuffers.map(({ slot, leaf }) => ({ slot, leaf, users: usersOf.get(slot)! }));
  const swapped = new Set(pairs.flatMap(({ leaf, users }) => [leaf, ...users]));
  /** Index in `owned` of each slot's buffer. */
  let ownedAt: number[] | null = null;
  return {
    touches: ({ bindings }) => bindings.some((b) => swapped.has(b)),
    swap() {
      ownedAt ??= pairs.map(({ slot }) => owned.indexOf(slots[slot]!));
      return new Map(pairs.map(({ slot, leaf, users }, k) => {
        const [from, to] = [buffers[leaf]!, slots[slot]!];
        slots[slot] = owned[ownedAt![k]] = from;
        for (const i of users) buffers[i] = from;
        buffers[leaf] = to;
        return [from, to];
      }));
    },
  };
}
