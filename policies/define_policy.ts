import { InputError } from "../core/errors.ts";
import {
  type AnySignal,
  type Component,
  type FreezePolicy,
  type Json,
  type Look,
  type Reason,
  type RunInfo,
  signalName,
} from "../core/policy.ts";

/** A look of a single step. */
export interface StepLook {
  /** 1-based number of the step. */
  readonly step: number;
  /** Loss of the step. */
  readonly loss: number;
  /** NaN when the optimizer has none. */
  readonly learningRate: number;
  /** Validation loss after the step; NaN when none was computed, undefined when training has no validation data. */
  readonly validation?: number;
  /**
   * The reading of a component, by its path. A signal of one's own is what defines it, or its name.
   *
   * @returns The reading; NaN when it was not measured
   * @throws {InputError} When the policy does not declare the signal
   */
  read(signal: AnySignal | (string & Record<never, never>), path: string): number;
  /** The same step as a {@link Look}, to hand to an inner policy. */
  readonly look: Look;
}

/** A policy whose `next` sees one step at a time. */
export interface PolicyDefinition<S extends Json> {
  /** Printed in logs; write it as the call that makes the policy. */
  readonly name: string;
  /** What each step measures; nothing when absent. */
  readonly signals?: readonly AnySignal[];
  /**
   * Paths of the components to measure a signal for; all that it is shown when absent. Measuring costs time, and
   * `gradDelta` a copy of the gradient.
   */
  readonly measured?: (signal: AnySignal, components: readonly Component[]) => readonly string[];
  /** The state before the first step. JSON: it is saved with every checkpoint. */
  readonly init: (components: readonly Component[], run: RunInfo) => S;
  /** The state after a step. */
  readonly next: (state: S, now: StepLook) => S;
  /** Paths of the components that are frozen now. */
  readonly frozen: (state: S) => readonly string[];
  /** Paths that are frozen after the next look, null where that is not known before: training plans it while the device works. */
  readonly coming?: (state: S) => readonly string[] | null;
  /** Paths that the next steps measure without training them. Active ones are left out. */
  readonly probed?: (state: S) => readonly string[];
  /** Whether training ends now; `frozen` is what training freezes in the end, other policies considered. */
  readonly stopped?: (state: S, frozen: readonly string[]) => boolean;
  /** The step whose parameters training ends with; null for the last. */
  readonly best?: (state: S) => number | null;
  /** Why a component is frozen; null when unknown. Called for frozen components only. */
  readonly reason?: (state: S, path: string) => Reason | null;
}

/**
 * Makes a freeze policy from plain functions.
 *
 * A look may deliver many steps. They are folded one by one, oldest first, so a policy decides the same however often
 * training looks; only its effect is late.
 *
 * Everything that `next` and `frozen` need must be in the state: after a resume they are called with the saved state,
 * and `init` is not called. Components that `init` does not put into the state are unknown later.
 *
 * TypeScript infers the state from `init`: write `false as boolean` for a flag and `[] as string[]` for an empty list.
 * A named state must be a `type`; an `interface` is not accepted as JSON.
 *
 * @typeParam S State, inferred from `init`
 * @param definition Name, signals, and three functions or more
 * @returns The policy
 *
 * @example Freeze one more layer from the bottom every 200 steps
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { definePolicy } from "@firn/train/policies";
 *
 * function bottomUp(every: number) {
 *   return definePolicy({
 *     name: `bottomUp(${every})`,
 *     init: (components) => ({
 *       step: 0,
 *       layers: components.flatMap(({ path, layer }) => layer === null ? [] : [{ path, layer }]),
 *     }),
 *     next: (state, now) => ({ ...state, step: now.step }),
 *     frozen: ({ step, layers }) => layers.filter((c) => (c.layer + 1) * every <= step).map((c) => c.path),
 *   });
 * }
 *
 * const policy = bottomUp(200);
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const start = policy.init([layer(0), layer(1)], { steps: 600 });
 * const later = policy.next(start, { steps: [199, 200], loss: [2, 1], learningRate: [0.1, 0.1], readings: {} });
 * assertEquals(policy.frozen(start), []);
 * assertEquals(policy.frozen(later), ["layers.0"]);
 * ```
 */
export function definePolicy<S extends Json>(definition: PolicyDefinition<S>): FreezePolicy<S> {
  const { name, signals = [], measured, init, next, frozen, coming, probed, stopped, best, reason } =
    definition;
  const names = signals.map(signalName);

  function stepOf(look: Look, i: number): StepLook {
    return {
      step: look.steps[i],
      loss: look.loss[i],
      learningRate: look.learningRate[i],
      validation: look.validation?.[i],
      read(signal, path) {
        const asked = typeof signal === "string" ? signal : signal.name;
        if (!names.includes(asked)) {
          throw new InputError(
            `Cannot read "${asked}" as "${name}" does not declare it: its signals are [${names.join(", ")}]`,
          );
        }
        return look.readings[asked]?.[path]?.[i] ?? NaN;
      },
      look: look.steps.length === 1 ? look : sliceOf(look, i),
    };
  }

  return {
    name,
    signals,
    ...(measured && { measured }),
    init,
    next: (state, look) => look.steps.reduce((s, _, i) => next(s, stepOf(look, i)), state),
    frozen,
    ...(coming && { coming }),
    ...(probed && {
      probed(state) {
        const own = frozen(state);
        return probed(state).filter((path) => own.includes(path));
      },
    }),
    ...(stopped && { stopped }),
    ...(best && { best }),
    ...(reason && { reason: (state, path) => frozen(state).includes(path) ? reason(state, path) : null }),
  };
}

function sliceOf(look: Look, i: number): Look {
  const step = look.steps[i];
  const readings = Object.entries(look.readings).map(([signal, paths]) => [
    signal,
    Object.fromEntries(Object.entries(paths).map(([path, values]) => [path, [values[i]]])),
  ]);
  return {
    steps: [step],
    loss: [look.loss[i]],
    learningRate: [look.learningRate[i]],
    readings: Object.fromEntries(readings),
    ...(look.skipped && { skipped: look.skipped.filter((skipped) => skipped === step) }),
    ...(look.validation && { validation: [look.validation[i]] }),
    ...(look.metrics && {
      metrics: Object.fromEntries(Object.entries(look.metrics).map(([name, values]) => [name, [values[i]]])),
    }),
    ...(look.clip && { clip: [look.clip[i]] }),
    ...(look.thawed && { thawed: look.thawed }),
    ...(look.stepMs !== undefined && { stepMs: look.stepMs }),
    ...(look.changeMs !== undefined && { changeMs: look.changeMs }),
  };
}
