/**
 * Buffers that change places with those of leaves after each step, so that what a leaf keeps for the next step is not
 * copied.
 *
 * @module
 */

import type { Launch, Plan } from "../plan/plan.ts";

/** The buffers of a recording, which {@link turnTaker} changes in place. */
export interface Places {
  /** By number, as the plan has them. */
  readonly buffers: (GPUBuffer | null)[];
  readonly slots: (GPUBuffer | undefined)[];
  /** What the recording frees. */
  readonly owned: GPUBuffer[];
}

/** Changes places. */
export interface TurnTaker {
  /** Whether a launch binds what takes turns. */
  touches(launch: Launch): boolean;
  /**
   * Makes the slots the leaves' buffers and the other way round. All buffers must be there.
   *
   * @returns From the buffers that leaves had to those that they have
   */
  turn(): ReadonlyMap<GPUBuffer, GPUBuffer>;
}

/**
 * Prepares the turns of a plan.
 *
 * @param plan The plan
 * @param places The buffers of its recording
 * @returns What makes them change places
 */
export function turnTaker(plan: Plan, { buffers, slots, owned }: Places): TurnTaker {
  const usersOf = new Map(plan.turns.map(({ slot }) => [slot, [] as number[]]));
  plan.buffers.forEach(({ source }, i) => source.kind === "slot" && usersOf.get(source.slot)?.push(i));
  const turns = plan.turns.map(({ slot, leaf }) => ({
    slot,
    leaf,
    users: usersOf.get(slot)!,
  }));
  const turning = new Set(turns.flatMap(({ leaf, users }) => [leaf, ...users]));
  /** Where each slot's buffer is among what is owned. */
  let ownedAt: number[] | null = null;
  return {
    touches: ({ bindings }) => bindings.some((b) => turning.has(b)),
    turn() {
      ownedAt ??= turns.map(({ slot }) => owned.indexOf(slots[slot]!));
      return new Map(turns.map(({ slot, leaf, users }, k) => {
        const [from, to] = [buffers[leaf]!, slots[slot]!];
        slots[slot] = owned[ownedAt![k]] = from;
        for (const i of users) buffers[i] = from;
        buffers[leaf] = to;
        return [from, to];
      }));
    },
  };
}
