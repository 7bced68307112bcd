import type { FreezePolicy, Json } from "../core/policy.ts";
import { type Average, include } from "./average.ts";
import type { StepLook } from "./define_policy.ts";
import type { Held } from "./frozen_reasons.ts";
import { measuredBy } from "./measured_by.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/** Options of {@link thaw}. */
export interface ThawOptions {
  /** Frozen components probed at a time, a whole number above 0; 4 when absent. */
  readonly count?: number;
  /** Steps from one probe to the next, and least steps for which a woken component trains; 50 when absent. */
  readonly every?: number;
  /** Measured steps that a probe is the mean of, a whole number above 0; 3 when absent. */
  readonly readings?: number;
  /** A component wakes when its `gradNorm` has grown by this factor since it froze, above 1; 2 when absent. */
  readonly wake?: number;
  /** All thaw when the learning rate has fallen by this factor since they froze, above 1; never when absent. */
  readonly drop?: number;
}

/** Weight of a reading in the average that a probe is compared with: of about 10 steps, as the last is low by chance. */
const WEIGHT = 0.1;

/**
 * Wakes components that a policy froze too early: a few at a time are measured again, without training them.
 *
 * Every so many steps the frozen components that waited longest are probed. One whose `gradNorm` is still what it was, on
 * average, before it froze is left alone for longer: its wait grows by `every`. One whose `gradNorm` has grown by the
 * factor `wake` thaws, and its wait is halved. A second copy of the policy, begun anew at each wake, judges all that is
 * awake, and freezes it again, after `every` steps at the earliest; the first copy goes on with the others. So it works
 * around {@link sticky} too, whose memory of what is awake does not count. A fall of the learning rate by `drop` wakes
 * all.
 *
 * A probe costs the gradient of what is probed and the chain of gradients down to it, from one look of training to the
 * next. What ends training when all is frozen, {@link untilFrozen}, waits until nothing is awake.
 *
 * Sources: Chen et al., "Communication-Efficient Federated Learning with Adaptive Parameter Freezing" (APF), ICDCS 2021:
 * the waits, which grow by addition and are halved. Wang et al., "Egeria: Efficient DNN Training with Knowledge-Guided
 * Layer Freezing", arXiv 2201.06227: thawing when the learning rate falls. Deviations: APF thaws to see, here it is a
 * probe; both judge by other measures of their own.
 *
 * @param policy The policy
 * @param options When to probe and to wake
 * @returns The policy that thaws; with `drop` its `next` throws a RangeError when the optimizer has no learning rate
 * @throws {RangeError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sticky, stopAt, thaw } from "@firn/train/policies";
 *
 * const policy = thaw(sticky(stopAt(2)), { every: 4, readings: 1 });
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const look = (a: number[], from = 1) =>
 *   ({ steps: a.map((_, i) => from + i), loss: a, learningRate: a, readings: { gradNorm: { a } } });
 * let state = policy.next(policy.init([component], { steps: 20 }), look([1, 1, NaN, NaN, NaN, NaN, NaN, NaN]));
 * assertEquals([policy.frozen(state), policy.probed?.(state)], [["a"], ["a"]]);
 * state = policy.next(state, look([2.5], 9));
 * assertEquals(policy.frozen(state), []); // more than twice what it was
 * ```
 */
export function thaw(policy: FreezePolicy, options: ThawOptions = {}): FreezePolicy {
  const { count = 4, every = 50, readings = 3, wake = 2, drop } = options;
  for (const [name, value] of Object.entries({ count, every, readings })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new RangeError(
      `Cannot thaw what "${policy.name}" freezes as "${name}" must be a whole number above 0: got ${value}`,
    );
  }
  for (const [name, value] of Object.entries({ wake, drop: drop ?? 2 })) {
    if (value > 1 && value < Infinity) continue;
    throw new RangeError(
      `Cannot thaw what "${policy.name}" freezes as "${name}" must be a number above 1: got ${value}`,
    );
  }
  const falls = drop === undefined ? "" : `, drop ${drop}`;

  function frozenOf({ inner, awake, tracks }: Pick<State, "inner" | "awake" | "tracks">): string[] {
    const known = (path: string): boolean => Object.hasOwn(tracks, path) && !Object.hasOwn(awake, path);
    return [...new Set(policy.frozen(inner))].filter(known);
  }

  /** Both copies after a step: what the second one freezes, or the first one no longer does, is the first one's again. */
  function judge(state: State, { step, look }: StepLook): State {
    const inner = policy.next(state.inner, look), own = policy.frozen(inner);
    const kept = Object.entries(state.reasons).filter(([path]) => own.includes(path));
    const reasons: Record<string, Held[string]> = Object.fromEntries(kept);
    if (Object.keys(state.awake).length === 0) return { ...state, inner, reasons };
    const again = policy.next(state.again, look), judged = policy.frozen(again);
    const awake = { ...state.awake };
    for (const [path, from] of Object.entries(awake)) {
      const sleeps = step >= from && judged.includes(path);
      if (sleeps || !own.includes(path)) delete awake[path];
      if (sleeps) reasons[path] = policy.reason?.(again, path) ?? null;
    }
    return { ...state, inner, again, awake, reasons };
  }

  /** The averages of what was active, and what the probes have found. */
  function measure(
    state: State,
    { step, read }: StepLook,
    before: ReadonlySet<string>,
  ): State & { grown: string[] } {
    const frozen = new Set(frozenOf(state)), grown: string[] = [];
    const tracks = { ...state.tracks }, probe: Record<string, readonly number[]> = {};
    for (const [path, { average, wait }] of Object.entries(state.tracks)) {
      const reading = read("gradNorm", path), measured = Number.isFinite(reading);
      if (!before.has(path)) {
        const next = measured ? include(average ?? undefined, { reading, weight: WEIGHT }) : average;
        tracks[path] = { average: next, wait, due: step + wait };
      } else if (frozen.has(path) && Object.hasOwn(state.probe, path)) {
        const seen = measured ? [...state.probe[path], reading] : state.probe[path];
        if (seen.length < readings) {
          probe[path] = seen;
          continue;
        }
        const mean = seen.reduce((sum, value) => sum + value, 0) / seen.length;
        if (average !== null && mean > wake * average.mean) {
          grown.push(path);
          tracks[path] = { average: null, wait: Math.max(every, Math.floor(wait / 2)), due: step };
        } else {
          tracks[path] = {
            average: average ?? { mean, total: 0 },
            wait: wait + every,
            due: step + wait + every,
          };
        }
      }
    }
    return { ...state, tracks, probe, grown };
  }

  /** Wakes some components: a new second copy judges them, and what else is awake. */
  function rouse(state: State, step: number, paths: readonly string[]): State {
    if (paths.length === 0) return state;
    const until = paths.map((path) => [path, step + every] as const);
    return {
      ...state,
      again: state.fresh,
      awake: { ...state.awake, ...Object.fromEntries(until) },
      probe: Object.fromEntries(Object.entries(state.probe).filter(([path]) => !paths.includes(path))),
    };
  }

  /** The components to probe from now on. */
  function probeFrom(state: State, step: number): State["probe"] {
    if (step % every !== 0 || Object.keys(state.probe).length > 0) return state.probe;
    const due = frozenOf(state).filter((path) => state.tracks[path].due <= step)
      .sort((a, b) => state.tracks[a].due - state.tracks[b].due);
    return Object.fromEntries(due.slice(0, count).map((path) => [path, []]));
  }

  return wrapPolicy<State>(policy, {
    name: `thaw(${policy.name}, ${count} every ${every}, mean of ${readings}, wake ${wake}${falls})`,
    signals: [...new Set([...policy.signals, "gradNorm" as const])],
    measured: (signal, components) =>
      signal === "gradNorm" ? components.map(({ path }) => path) : measuredBy(policy, { signal, components }),
    init(components, run) {
      const inner = policy.init(components, run);
      const tracks = components.map(({ path }) => [path, { average: null, wait: every, due: every }]);
      const rest = { awake: {}, probe: {}, rate: null, reasons: {} };
      return { inner, again: inner, fresh: inner, tracks: Object.fromEntries(tracks), ...rest };
    },
    next(state, now) {
      const { step, learningRate } = now;
      if (drop !== undefined && Number.isNaN(learningRate)) {
        throw new RangeError(
          `Cannot tell a fall of the learning rate in step ${step} as the optimizer has none: leave out "drop"`,
        );
      }
      const { grown, ...measured } = measure(judge(state, now), now, new Set(frozenOf(state)));
      const frozen = frozenOf(measured);
      const rate = drop === undefined || frozen.length === 0 ? null : Math.max(state.rate ?? 0, learningRate);
      const fallen = rate !== null && rate > 0 && learningRate * drop! <= rate;
      const next = rouse(measured, step, fallen ? frozen : grown);
      return { ...next, probe: probeFrom(next, step), rate: fallen ? null : rate };
    },
    frozen: frozenOf,
    probed: ({ inner, probe }) => [...new Set([...Object.keys(probe), ...policy.probed?.(inner) ?? []])],
    reason: ({ inner, reasons }, path) => reasons[path] ?? policy.reason?.(inner, path) ?? null,
  });
}

/** The average before a component froze, how long it is left alone, and the step from which it may be probed. */
type Track = { readonly average: Average | null; readonly wait: number; readonly due: number };

type State = {
  /** The first copy of the policy, which judges what is not awake. */
  readonly inner: Json;
  /** The second copy, which judges what is awake, and what it begins with. */
  readonly again: Json;
  readonly fresh: Json;
  /** Woken components, each with the step from which it can freeze. */
  readonly awake: { readonly [path: string]: number };
  readonly tracks: { readonly [path: string]: Track };
  /** Readings so far of what is probed now. */
  readonly probe: { readonly [path: string]: readonly number[] };
  /** The highest learning rate since something froze. */
  readonly rate: number | null;
  /** Why the second copy froze what was awake. */
  readonly reasons: Held;
};
