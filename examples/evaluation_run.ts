/**
 * Evaluations of a run: logged and printed, with samples, the best state kept as a file.
 *
 * @module
 */

import {
  freeState,
  type Gpu,
  loadCheckpoint,
  saveCheckpoint,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import { type Best, type Evaluation, evaluator, type Metrics } from "@firn/train/evaluation";
import type { RunLog } from "@firn/train/report";
import { type EvaluationFlags, followOf } from "./evaluation_flags.ts";
import { bestCheckpoint } from "./output.ts";
import { quoted } from "./sample.ts";

/** Evaluations of a run. */
export interface RunEvaluations {
  /**
   * Evaluates a state where it is time.
   *
   * @returns Whether the run is to end
   */
  after(state: TrainingState<object>, run: EvaluatedRun): Promise<boolean>;
  /**
   * Ends the run: with the best state, where flags ask for it; the given one is then freed.
   *
   * @returns The state to be saved, and what is told of the last one
   */
  finish(state: TrainingState<object>, folder: string): Promise<Finished>;
}

/** How a run ended. */
export interface Finished {
  /** The state whose weights are saved. */
  readonly saved: TrainingState<object>;
  /** The last state with the ending of the run, for its log. */
  readonly told: TrainingState<object>;
}

/** The run that is evaluated. */
export interface EvaluatedRun {
  readonly folder: string;
  readonly log: RunLog;
  /** Prints a line. */
  readonly say: (line: string) => void;
}

/**
 * Makes the evaluations that flags ask for.
 *
 * @param gpu The device
 * @param options The training, flags, sets and metrics; `write` continues a text
 * @returns The evaluations; undefined where flags ask for none
 */
export function runEvaluations(
  gpu: Gpu,
  { training, flags, sets, metrics, write }: {
    readonly training: Training<object, TokenBatch>;
    readonly flags: EvaluationFlags & { readonly steps: number };
    readonly sets: { readonly [name: string]: readonly TokenBatch[] };
    readonly metrics: Metrics<object, TokenBatch>;
    readonly write: (params: object, prompt: string) => Promise<string>;
  },
): RunEvaluations | undefined {
  const every = flags["evaluate-every"];
  if (every === null) return undefined;
  const judge = evaluator(gpu, training, { sets, metrics, every, steps: flags.steps });
  const follow = followOf(flags, judge.better);
  let best: Best | null = null;
  return {
    async after(state, { folder, log, say }) {
      // What a run that goes on found before is in its log.
      best ??= follow && evaluationsIn(log.lines).reduce(follow.next, follow.init);
      const found = await judge.after(state);
      if (found === null) return false;
      const lines = linesOf(found);
      await log.add(lines);
      for (const { set, metrics } of lines) {
        const values = Object.entries(metrics).map(([name, value]) =>
          `${name} ${value?.toPrecision(5) ?? "not finite"}`
        );
        say(`step ${state.step}: ${set}: ${values.join(", ")}`);
      }
      for (const prompt of flags.sample) {
        const text = await training.withWeights(state, (params) => write(params, prompt));
        await log.add([{ kind: "sample", step: state.step, text }]);
        say(`step ${state.step}: ${quoted(text)}`);
      }
      if (follow === null || best === null) return false;
      best = follow.next(best, found);
      if (best.step === state.step) {
        await saveCheckpoint(gpu, state, { path: bestCheckpoint(folder), keep: 1 });
      }
      if (best.stop) {
        say(`step ${state.step}: no better ${flags.best} in ${best.since} evaluations: training ends`);
      }
      return best.stop;
    },
    async finish(state, folder) {
      const { step } = state, isLast = best === null || best.step === null || best.step === step;
      const ending = {
        ...state.ending ?? { reason: "stopped", step } as const,
        ...!isLast && { best: best!.step },
      };
      const told = { ...state, ending: { best: null, ...ending } };
      if (isLast) return { saved: state, told };
      freeState(state);
      const checkpoint = await loadCheckpoint(bestCheckpoint(folder));
      return { saved: await training.resume(checkpoint, { newRate: true }) as TrainingState<object>, told };
    },
  };
}

/** The lines of an evaluation: one a set. */
function linesOf({ step, values }: Evaluation) {
  const sets = [...new Set(Object.keys(values).map((name) => name.slice(0, name.lastIndexOf("/"))))];
  return sets.map((set) => {
    const own = Object.entries(values).filter(([name]) => name.startsWith(`${set}/`));
    const metrics = Object.fromEntries(
      own.map(([name, value]) => [name.slice(set.length + 1), Number.isFinite(value) ? value : null]),
    );
    return { kind: "evaluation", step, set, metrics } as const;
  });
}

/** The evaluations of a log. */
function evaluationsIn(lines: RunLog["lines"]): readonly Evaluation[] {
  const found = new Map<number, Record<string, number>>();
  for (const line of lines) {
    if (line.kind !== "evaluation") continue;
    const values = found.get(line.step) ?? {};
    for (const [name, value] of Object.entries(line.metrics)) values[`${line.set}/${name}`] = value ?? NaN;
    found.set(line.step, values);
  }
  return [...found].map(([step, values]) => ({ step, values }));
}
