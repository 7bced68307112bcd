/**
 * What a policy saw of a run, from its log.
 *
 * @module
 */

import { DataError } from "../errors.ts";
import type { Component, Look, RunInfo } from "../policy.ts";
import { startOf } from "./explain.ts";
import type { Line, StepLine } from "./types.ts";

/** A run as its policy saw it: what `init` was given, and the looks that `next` was given. */
export interface Replay {
  /** What was known of the run before its first step. */
  readonly run: RunInfo;
  /** What could freeze, with what it costs in a step. */
  readonly components: readonly Component[];
  /** The looks, in order. What was frozen in a step has no readings of it. */
  readonly looks: readonly Look[];
}

/**
 * Makes the looks of a run anew, so that a policy can be asked again without the model. A policy that is asked what it was asked
 * then decides the same. Looks do not tell how long steps took, as their lines do.
 *
 * @param lines The log, from its start; the run may be under way
 * @returns The looks. Each step of an older log, which does not tell when training looked, is a look of its own
 * @throws {DataError} When the log has no start or no components, or more signals and components than a run has
 *
 * @example A policy sees the run of another one
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW, defineTraining, mean, multiply, openGpu, scan, type Tensor, tensor } from "@firn/train";
 * import { memoryFileSystem } from "@firn/train/data";
 * import { below } from "@firn/train/policies";
 * import { logged, openLog, replayOf } from "@firn/train/report";
 *
 * await using gpu = await openGpu();
 * const training = defineTraining(gpu, ({ w }: { w: Tensor }) => mean(multiply(w, w)), {
 *   optimizer: adamW({ learningRate: 0.1 }),
 *   policy: below("gradNorm", 1e-9),
 *   steps: 4,
 *   lookEvery: 2,
 * });
 * const log = await openLog("metrics.jsonl", { fileSystem: memoryFileSystem() });
 * await log.add([{ kind: "start", config: { steps: 4 }, adapter: gpu.name }]);
 * const states = scan(training, await training.init({ w: tensor([1, 2]) }), [{}, {}, {}, {}]);
 * for await (const _ of logged(states, { log, training }));
 *
 * const { run, components, looks } = replayOf(log.lines), other = below("gradNorm", 2.9);
 * const sets: (readonly string[])[] = [];
 * let state = other.init(components, run);
 * for (const look of looks) sets.push(other.frozen(state = other.next(state, look)));
 * assertEquals(sets, [["w"], ["w"]]);
 * assertEquals(looks.map(({ steps }) => steps), [[1, 2], [3, 4]]);
 * ```
 */
export function replayOf(lines: readonly Line[]): Replay {
  const { config } = startOf(lines), found = lines.find((line) => line.kind === "components");
  if (found === undefined) {
    throw new DataError(
      "Cannot replay the log as it must tell the components of the model: it has no such line; take a log that has one step or more",
    );
  }
  const steps = lines.filter((line) => line.kind === "step");
  const planned = typeof config.steps === "number" ? config.steps : steps.length;
  const { components, run = { steps: planned } } = found, { lookEvery = 1 } = run;
  const portions = Map.groupBy(steps, ({ step }) => Math.ceil(step / lookEvery));
  const seen: Seen = {
    signals: [...new Set(steps.flatMap(({ readings }) => Object.keys(readings)))],
    paths: components.map(({ path }) => path),
    metrics: [...new Set(steps.flatMap(({ metrics = {} }) => Object.keys(metrics)))],
    clipped: steps.some(({ clip }) => clip !== undefined),
    validated: steps.some(({ validation }) => validation !== undefined),
  };
  checkSize(seen);
  const thawedBefore = thawsOf(lines);
  const looks = [...portions.values()].map((portion) => {
    const thawed = thawedBefore(portion[0].step);
    return { ...lookOf(portion, seen), ...thawed.size > 0 && { thawed: Object.fromEntries(thawed) } };
  });
  return { run, components, looks };
}

/** Signals times components: far more than any run has, and few enough for memory. */
const MOST = 1_000_000;

function checkSize({ signals, paths }: Seen): void {
  if (signals.length * paths.length <= MOST) return;
  throw new DataError(
    `Cannot replay the log as signals times components must be ${MOST} at most: it has ${signals.length} and ${paths.length}; ` +
      "take a log that Firn wrote",
  );
}

/** What the looks of a run have. */
interface Seen {
  readonly signals: readonly string[];
  readonly paths: readonly string[];
  readonly metrics: readonly string[];
  /** Whether gradients were clipped. */
  readonly clipped: boolean;
  /** Whether validation losses were computed. */
  readonly validated: boolean;
}

function lookOf(steps: readonly StepLine[], { signals, paths, metrics, clipped, validated }: Seen): Look {
  const skipped = steps.filter((line) => line.skipped).map(({ step }) => step), none = steps.map(() => NaN);
  const valuesOf = (signal: string, path: string): readonly number[] =>
    steps.some(({ readings }) => known(readings, signal, path))
      ? steps.map(({ readings }) => known(readings, signal, path) ? readings[signal][path] : NaN)
      : none;
  const readings = Object.fromEntries(signals.map((signal) => [
    signal,
    Object.fromEntries(paths.map((path) => [path, valuesOf(signal, path)])),
  ]));
  return {
    steps: steps.map(({ step }) => step),
    loss: steps.map(({ loss }) => loss ?? NaN),
    learningRate: steps.map(({ learningRate }) => learningRate ?? NaN),
    readings,
    ...clipped && { clip: steps.map(({ clip }) => clip ?? NaN) },
    ...validated && { validation: steps.map(({ validation }) => validation ?? NaN) },
    ...metrics.length > 0 && {
      metrics: Object.fromEntries(
        metrics.map((name) => [name, steps.map((line) => line.metrics?.[name] ?? NaN)]),
      ),
    },
    ...skipped.length > 0 && { skipped },
  };
}

/** Whether a step has a reading: a stranger's log may name a component like a method of objects. */
function known(readings: StepLine["readings"], signal: string, path: string): boolean {
  return Object.hasOwn(readings, signal) && Object.hasOwn(readings[signal], path);
}

/**
 * The step after which each component thawed that was not frozen again, of those before a step. Steps are asked for in order, so
 * that each line is seen once.
 */
function thawsOf(lines: readonly Line[]): (before: number) => ReadonlyMap<string, number> {
  const events = lines.filter((line) => line.kind === "freeze"), since = new Map<string, number>();
  let next = 0;
  return (before) => {
    for (; next < events.length && events[next].step < before; next++) {
      const { step, frozen, thawed } = events[next];
      for (const path of frozen) since.delete(path);
      for (const path of thawed) since.set(path, step);
    }
    return since;
  };
}

/** How fast a step is that takes other milliseconds than it took. */
export function atPace(
  { stepMs: taken, tokensPerSecond }: StepLine,
  stepMs: number,
): Pick<StepLine, "stepMs" | "tokensPerSecond"> {
  return {
    stepMs,
    ...tokensPerSecond !== undefined && { tokensPerSecond: tokensPerSecond * taken / stepMs },
  };
}
