/**
 * What the states of one run have in common, and which run a state belongs to.
 *
 * @module
 */

import { ConsumedError } from "../../errors.ts";
import type { Component, RunInfo } from "../../policy.ts";
import type { Spec } from "../../spec.ts";
import type { Leaves, Path } from "../../tree.ts";
import type { IsMeasured } from "../freeze/signals.ts";

/** What does not change from step to step of a run. A record: the first step makes a new one, with its components. */
export interface Run {
  /** Identity of the run's buffers: two runs of equal layout share plans, but no recording. */
  readonly owner: object;
  /** Specs of the parameters, trained or not. */
  readonly params: ReadonlyMap<Path, Spec>;
  /** Their names, shapes and types as text: runs of equal layout have equal steps. */
  readonly layout: string;
  /** Components of the model, found in the graph of the loss; none before the first step. */
  readonly components: readonly Component[];
  /** What a policy is told of it; null before the first step. */
  readonly info: RunInfo | null;
  /** Which readings steps take; all before the first step. */
  readonly isMeasured: IsMeasured;
  /** Whether the leaves of its states are known to be those that its steps need. */
  readonly checked: boolean;
  /** Whether it goes on from a saved state, which may come from anyone. */
  readonly resumed: boolean;
}

/** Begins a run with some parameters, or goes on with one. */
export function newRun(
  params: ReadonlyMap<Path, Spec>,
  { resumed = false }: { readonly resumed?: boolean } = {},
): Run {
  return {
    owner: {},
    params: new Map([...params].map(([path, { shape, dtype }]) => [path, { shape, dtype }])),
    layout: describe(params),
    components: [],
    info: null,
    isMeasured: () => true,
    checked: false,
    resumed,
  };
}

/** Names, shapes and types of some tensors, as text. */
export function describe(tree: ReadonlyMap<Path, Spec>): string {
  return [...tree].map(([path, t]) => `${path} ${t.shape} ${t.dtype}`).join("; ");
}

/** The states of a training and their runs. */
export interface RunRegistry {
  /** Notes the run of a state. */
  register<S extends object>(state: S, run: Run): S;
  /** The run of a state; undefined when training did not make the state. */
  runOf(state: object): Run | undefined;
  /**
   * Takes a step of a state, unless one is being taken.
   *
   * @throws {ConsumedError} When a step of the state is being taken
   */
  consume<T>(state: { readonly step: number }, take: () => Promise<T>): Promise<T>;
  /** Leaves that the first step of a state added, made once: a step that fails may be tried again. */
  firstLeaves(state: object, make: () => Leaves): Leaves;
}

/** Makes a registry. It keeps no state alive. */
export function runRegistry(): RunRegistry {
  const runs = new WeakMap<object, Run>(),
    consumed = new WeakSet<object>(),
    first = new WeakMap<object, Leaves>();
  return {
    register(state, run) {
      runs.set(state, run);
      return state;
    },
    runOf: (state) => runs.get(state),
    async consume(state, take) {
      if (consumed.has(state)) throw new ConsumedError(state.step, state.step + 1);
      consumed.add(state);
      try {
        return await take();
      } finally {
        consumed.delete(state);
      }
    },
    firstLeaves(state, make) {
      const leaves = first.get(state) ?? make();
      first.set(state, leaves);
      return leaves;
    },
  };
}
