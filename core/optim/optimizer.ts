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
 * A gradient transformation. Frozen parameters are absent from state, gradients and parameters: skipping an update is
 * not updating with a zero gradient. Only the list of all that may be trained names them, for state that is of no single
 * parameter.
 */
export interface Optimizer {
  /** Prints as its own composition. */
  readonly name: string;
  /** Learning rate by 1-based step, where it has one. */
  readonly learningRate?: Schedule;
  /**
   * Zero-filled state for some parameters. What is of one has the path `<slot>.<parameter>`, and goes when that freezes;
   * what is of all is a slot alone and has a shape that does not depend on what is frozen.
   *
   * @param params Those that are active
   * @param trainable Paths of all that may be, in order; those of `params` when absent
   */
  init(params: Leaves, trainable?: readonly Path[]): Leaves;
  /**
   * One step, as a graph.
   *
   * @param state As `init` made it, or the step before
   * @param grads Gradients of active parameters
   * @param params Values of active parameters
   * @param trainable Paths of all that may be active, in order; those of `grads` when absent
   */
  next(state: Leaves, grads: Leaves, params: Leaves, trainable?: readonly Path[]): OptimizerStep;
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
    init(params, trainable) {
      const state = new Map<Path, Tensor>();
      for (const part of parts) {
        for (const [path, value] of part.init(params, trainable)) {
          if (state.has(path)) {
            throw new TypeError(`Cannot chain "${part.name}" as another part keeps "${path}" too`);
          }
          state.set(path, value);
        }
      }
      return state;
    },
    next(state, grads, params, trainable) {
      let updates = grads;
      const all = new Map<string, Tensor>();
      for (const part of parts) {
        const step = part.next(state, updates, params, trainable);
        updates = step.updates;
        for (const [path, value] of step.state) all.set(path, value);
      }
      return { updates, state: all };
    },
  };
}
