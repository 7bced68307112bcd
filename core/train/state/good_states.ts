/**
 * The last state of each run that was good, to go back to.
 *
 * @module
 */

import { destroyBuffer } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { isConstant, storageOf } from "../../runtime/residents.ts";
import type { Tensor } from "../../tensor.ts";
import { flatten, type Leaves, type TensorTree } from "../../tree.ts";
import type { TrainingState } from "../types.ts";
import { snapshot } from "./snapshot.ts";

/** How often a run goes back to one state before it gives up. */
const MOST_RETURNS = 3;

/** Copies of good states, by the owner of their run. */
export interface GoodStates<P extends TensorTree> {
  /** Keeps a copy of a state in place of the one before. */
  keep(owner: object, state: TrainingState<P>): void;
  /** Whether there is one. */
  has(owner: object): boolean;
  /**
   * Copies the values of the kept state into the buffers of another one.
   *
   * @returns The kept state; null when there is none, or the run went back to it too often
   */
  restore(owner: object, now: { readonly params: Leaves; readonly leaves: Leaves }): TrainingState<P> | null;
  /** Frees all. */
  free(): void;
}

/** Makes the memory of a training, at first empty. */
export function goodStates<P extends TensorTree>(gpu: Gpu): GoodStates<P> {
  const kept = new Map<object, { readonly state: TrainingState<P>; returns: number }>();
  const own = (state: TrainingState<P>): Tensor[] =>
    [...flatten(state.params).values(), ...state.leaves.values()].filter((t) => !isConstant(t));
  const drop = (owner: object): void => {
    const good = kept.get(owner);
    if (good !== undefined) { for (const t of own(good.state)) destroyBuffer(storageOf(t).buffer); }
    kept.delete(owner);
  };
  const copy = (pairs: readonly (readonly [from: Tensor, to: Tensor])[]): void => {
    const encoder = gpu.device.createCommandEncoder();
    for (const [from, to] of pairs) {
      const { buffer } = storageOf(from);
      encoder.copyBufferToBuffer(buffer, 0, storageOf(to).buffer, 0, buffer.size);
    }
    gpu.device.queue.submit([encoder.finish()]);
    gpu.counts.submits++;
  };
  return {
    has: (owner) => kept.has(owner),
    keep(owner, state) {
      const good = kept.get(owner), paths = [...state.leaves.keys()].join();
      if (good === undefined || [...good.state.leaves.keys()].join() !== paths) {
        drop(owner);
        kept.set(owner, { state: snapshot(gpu, state), returns: 0 });
        return;
      }
      const to = own(good.state);
      copy(own(state).map((from, i) => [from, to[i]] as const));
      const { params, leaves } = good.state;
      kept.set(owner, { state: { ...state, params, leaves, loss: null }, returns: 0 });
    },
    restore(owner, now) {
      const good = kept.get(owner);
      if (good === undefined || good.returns === MOST_RETURNS) return null;
      good.returns++;
      const { params, leaves } = good.state, to = new Map([...now.params, ...now.leaves]);
      const from = [...flatten(params), ...leaves].filter(([, t]) => !isConstant(t));
      copy(from.map(([path, t]) => [t, to.get(path)!] as const));
      return good.state;
    },
    free() {
      for (const owner of [...kept.keys()]) drop(owner);
    },
  };
}
