import type { FreezePolicy, Json } from "../core/policy.ts";
import { addReading, type Average } from "./average.ts";
import type { StepLook } from "./define_policy.ts";
import type { FrozenReasons } from "./frozen_reasons.ts";

/** A policy, and the options of `thaw`. */
export interface Thawing {
  readonly policy: FreezePolicy;
  readonly count: number;
  readonly every: number;
  readonly readings: number;
  readonly wake: number;
}

/** Weight of a reading in the average that a probe is compared with: about 10 steps, as single readings are noisy. */
const WEIGHT = 0.1;

/** The average before a component froze, how long it waits for a probe, and the step from which it may be probed. */
export type Track = { readonly average: Average | null; readonly wait: number; readonly due: number };

/** The state of `thaw`. */
export type ThawState = {
  /** The first copy of the policy, which judges everything but woken components. */
  readonly inner: Json;
  /** The second copy, which judges woken components. */
  readonly again: Json;
  /** The initial state of the second copy. */
  readonly fresh: Json;
  /** Woken components, each with the step from which it can freeze. */
  readonly awake: { readonly [path: string]: number };
  readonly tracks: { readonly [path: string]: Track };
  /** Readings of the current probes so far. */
  readonly probe: { readonly [path: string]: readonly number[] };
  /** The highest learning rate since a component froze. */
  readonly rate: number | null;
  /** Reasons of components that the second copy froze. */
  readonly reasons: FrozenReasons;
};

/** Frozen components: those that the first copy freezes and that are not awake. */
export function frozenOf(
  { policy }: Pick<Thawing, "policy">,
  { inner, awake, tracks }: Pick<ThawState, "inner" | "awake" | "tracks">,
): string[] {
  const known = (path: string): boolean => Object.hasOwn(tracks, path) && !Object.hasOwn(awake, path);
  return [...new Set(policy.frozen(inner))].filter(known);
}

/** Steps both copies. Components that the second one freezes, or the first one no longer does, return to the first one. */
export function judge({ policy }: Thawing, state: ThawState, { step, look }: StepLook): ThawState {
  const inner = policy.next(state.inner, look), own = policy.frozen(inner);
  const kept = Object.entries(state.reasons).filter(([path]) => own.includes(path));
  const reasons: Record<string, FrozenReasons[string]> = Object.fromEntries(kept);
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

/** Updates the averages of active components, and lists the probed ones that have grown. */
export function measure(
  thawing: Thawing,
  state: ThawState,
  { now: { step, read }, before }: { readonly now: StepLook; readonly before: ReadonlySet<string> },
): ThawState & { readonly grown: readonly string[] } {
  const { every, readings, wake } = thawing;
  const frozen = new Set(frozenOf(thawing, state)), grown: string[] = [];
  const tracks = { ...state.tracks }, probe: Record<string, readonly number[]> = {};
  for (const [path, { average, wait }] of Object.entries(state.tracks)) {
    const reading = read("gradNorm", path), measured = Number.isFinite(reading);
    if (!before.has(path)) {
      const next = measured ? addReading(average ?? undefined, { reading, weight: WEIGHT }) : average;
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

/** Wakes components: a new second copy judges everything awake. */
export function wakeUp(
  { every }: Thawing,
  state: ThawState,
  { step, paths }: { readonly step: number; readonly paths: readonly string[] },
): ThawState {
  if (paths.length === 0) return state;
  const until = paths.map((path) => [path, step + every] as const);
  return {
    ...state,
    again: state.fresh,
    awake: { ...state.awake, ...Object.fromEntries(until) },
    probe: Object.fromEntries(Object.entries(state.probe).filter(([path]) => !paths.includes(path))),
  };
}

/** Chooses the components to probe next. */
export function probeFrom(thawing: Thawing, state: ThawState, step: number): ThawState["probe"] {
  const { count, every } = thawing;
  if (step % every !== 0 || Object.keys(state.probe).length > 0) return state.probe;
  const due = frozenOf(thawing, state).filter((path) => state.tracks[path].due <= step)
    .sort((a, b) => state.tracks[a].due - state.tracks[b].due);
  return Object.fromEntries(due.slice(0, count).map((path) => [path, []]));
}
