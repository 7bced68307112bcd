/**
 * The optimizer contract and how optimizers are chained.
 *
 * @module
 */

import type { Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
import type { Schedule } from "./schedules.ts";

/** Gradients turned into updates, and the state that goes with them. */
export interface OptimizerStep {
  /** What is added to each parameter. */
  readonly updates: Leaves;
  /** The next state, with the same paths. */
  readonly state: Leaves;
}

/**
 * A gradient transformation. Frozen parameters are absent from every argument: skipping an update is not updating
 * with a zero gradient.
 */
export interface Optimizer {
  /** Prints as its own composition. */
  readonly name: string;
  /** Learning rate by 1-based step, where it has one. */
  readonly learningRate?: Schedule;
  /** Zero-filled state for some parameters: paths are `<slot>.<parameter>`, shapes as given. */
  init(params: Leaves): Leaves;
  /** One step, as a graph. */
  next(state: Leaves, grads: Leaves, params: Leaves): OptimizerStep;
}

/**
 * Chains transformations: the updates of one are the gradients of the next.
 *
 * @param parts Optimizers, first to last
 * @returns One optimizer; its `init` throws a `TypeError` when two parts keep state under one path
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW, chain, clipByGlobalNorm } from "@firn/train";
 *
 * const optimizer = chain(clipByGlobalNorm(1), adamW({ learningRate: 0.001 }));
 * assertEquals(optimizer.name, "clipByGlobalNorm(1) > adamW(0.001, weightDecay 0.01)");
 * ```
 */
export function chain(...parts: readonly Optimizer[]): Optimizer {
  return {
    name: parts.map((p) => p.name).join(" > "),
    learningRate: parts.findLast((p) => p.learningRate !== undefined)?.learningRate,
    init(params) {
      const state = new Map<Path, Tensor>();
      for (const part of parts) {
        for (const [path, value] of part.init(params)) {
          if (state.has(path)) {
            throw new TypeError(`Cannot chain "${part.name}" as another part keeps "${path}" too`);
          }
          state.set(path, value);
        }
      }
      return state;
    },
    next(state, grads, params) {
      let updates = grads;
      const all = new Map<string, Tensor>();
      for (const part of parts) {
        const step = part.next(state, updates, params);
        updates = step.updates;
        for (const [path, value] of step.state) all.set(path, value);
      }
      return { updates, state: all };
    },
  };
}
