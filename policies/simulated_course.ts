import { type FreezePolicy, type Json, type Look, type Reason, signalName } from "../core/policy.ts";
import type { Replay } from "../core/report/replay_of.ts";
import { checkPaths } from "../core/train/freeze/check_paths.ts";
import { measuredPaths } from "./measured_paths.ts";

/** A change of the frozen set that a policy would have made. */
export interface SimulatedChange {
  /** Step after which it holds. */
  readonly step: number;
  /** Paths that freeze. */
  readonly frozen: readonly string[];
  /** Paths that thaw. */
  readonly thawed: readonly string[];
  /** Why, of those that freeze. */
  readonly reasons: { readonly [path: string]: Reason };
}

/** Why and where a policy ends training. */
export interface SimulatedEnding {
  /** All planned steps, everything is frozen, or the policy says so. */
  readonly reason: "steps" | "frozen" | "stopped";
  /** Last step. */
  readonly step: number;
  /** Step whose parameters are the best; null for the last ones. */
  readonly best: number | null;
}

/** The course of a simulated run. */
export interface Course {
  readonly changes: readonly SimulatedChange[];
  /** What is active in each step, probes included, and what is frozen. */
  readonly sets: readonly { readonly active: ReadonlySet<string>; readonly frozen: readonly string[] }[];
  readonly frozen: readonly string[];
  readonly ending: SimulatedEnding | null;
  /** Readings that the policy would take, and those among them that the log has. */
  readonly wanted: number;
  readonly found: number;
}

/**
 * Asks a policy at each look of a run, as training does.
 *
 * @param policy The policy
 * @param replay The run as its own policy saw it
 * @returns What the policy decides
 * @throws {InputError} When the policy freezes what is no component of the run
 */
export function courseOf(policy: FreezePolicy, { run, components, looks }: Replay): Course {
  const paths = components.map(({ path }) => path), sets: Course["sets"][number][] = [];
  const measured = policy.signals.map((signal): Measured => ({
    name: signalName(signal),
    paths: new Set(measuredPaths(policy, { signal, components })),
    probes: typeof signal === "string" ? PROBED.includes(signal) : signal.needs.length === 0,
    compares: typeof signal === "string"
      ? COMPARING.includes(signal)
      : signal.needs.includes("previousGradient"),
  }));
  const changes: SimulatedChange[] = [];
  let state: Json = policy.init(components, run),
    frozen: ReadonlySet<string> = new Set(),
    probed: ReadonlySet<string> = new Set();
  let thawed: { readonly [path: string]: number } = {}, wanted = 0, found = 0;
  let ending: SimulatedEnding | null = null;
  for (const look of looks) {
    const seen = seenBy({ look, measured, frozen, probed, thawed, paths });
    wanted += seen.wanted;
    found += seen.found;
    const active = new Set(paths.filter((path) => !frozen.has(path) || probed.has(path)));
    const taken = { active, frozen: [...frozen] };
    for (const _ of look.steps) sets.push(taken);
    const step = look.steps[look.steps.length - 1];
    state = policy.next(state, seen.look);
    const next = new Set(policy.frozen(state)), listed = [...next];
    checkPaths(listed, { policy, from: "frozen", components });
    const change = changeOf(frozen, next, { step, reason: (path) => policy.reason?.(state, path) ?? null });
    if (change !== null) {
      changes.push(change);
      const kept = Object.entries(thawed).filter(([path]) => !next.has(path));
      thawed = Object.fromEntries([...kept, ...change.thawed.map((path) => [path, step] as const)]);
    }
    frozen = change === null ? frozen : next;
    probed = new Set(policy.probed?.(state).filter((path) => next.has(path)));
    const stops = policy.stopped?.(state, listed) ?? false;
    const reason = stops ? "stopped" : paths.every((path) => next.has(path)) ? "frozen" : null;
    if (reason === null && step < run.steps) continue;
    ending = { reason: reason ?? "steps", step, best: policy.best?.(state) ?? null };
    break;
  }
  return { changes, sets, frozen: [...frozen], ending, wanted, found };
}

/** A signal that a policy reads. */
interface Measured {
  readonly name: string;
  /** Components that it is measured of. */
  readonly paths: ReadonlySet<string>;
  /** Whether probes measure it. One of a policy's own that reads the update has no readings of probes in the log of its own run. */
  readonly probes: boolean;
  /** Whether it needs the gradient before. */
  readonly compares: boolean;
}

/** Signals that a probe measures. */
const PROBED: readonly string[] = ["gradNorm", "gradSquare", "weightNorm"];

/** Signals that need the gradient before. */
const COMPARING: readonly string[] = ["gradDelta", "gradDot"];

/** The look that training would bring, and how many of its readings the log has. */
function seenBy(
  { look, measured, frozen, probed, thawed, paths }: {
    readonly look: Look;
    readonly measured: readonly Measured[];
    readonly frozen: ReadonlySet<string>;
    readonly probed: ReadonlySet<string>;
    readonly thawed: { readonly [path: string]: number };
    readonly paths: readonly string[];
  },
): { readonly look: Look; readonly wanted: number; readonly found: number } {
  let wanted = 0, found = 0;
  const none = look.steps.map(() => NaN), { thawed: _, ...rest } = look;
  const readings = Object.fromEntries(measured.map(({ name, paths: own, probes, compares }) => {
    const known = (look.readings as Readings)[name] ?? {};
    return [
      name,
      Object.fromEntries(paths.map((path) => {
        const rests = frozen.has(path) && !(probed.has(path) && probes);
        if (!own.has(path) || rests) return [path, none];
        // The first step after a thaw has no gradient before it.
        const fresh = (i: number): boolean => compares && look.steps[i] === (thawed[path] ?? 0) + 1;
        const values = look.steps.map((step, i) => {
          if (look.skipped?.includes(step)) return known[path]?.[i] ?? NaN;
          const value = fresh(i) ? NaN : known[path]?.[i] ?? NaN;
          if (!fresh(i)) wanted++;
          if (!Number.isNaN(value)) found++;
          return value;
        });
        return [path, values];
      })),
    ];
  }));
  const woken = Object.keys(thawed).length > 0 ? { thawed } : {};
  return { look: { ...rest, readings, ...woken }, wanted, found };
}

type Readings = { readonly [signal: string]: { readonly [path: string]: readonly number[] } };

function changeOf(
  before: ReadonlySet<string>,
  after: ReadonlySet<string>,
  { step, reason }: { readonly step: number; readonly reason: (path: string) => Reason | null },
): SimulatedChange | null {
  const frozen = [...after].filter((path) => !before.has(path)),
    thawed = [...before].filter((path) => !after.has(path));
  if (frozen.length + thawed.length === 0) return null;
  const reasons = frozen.flatMap((path) => {
    const why = reason(path);
    return why === null ? [] : [[path, why] as const];
  });
  return { step, frozen, thawed, reasons: Object.fromEntries(reasons) };
}
