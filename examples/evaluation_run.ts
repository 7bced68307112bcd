/**
 * Evaluations of a run: logged and printed, with samples, the best state kept as a file.
 *
 * @module
 */

import {
  freeState,
  type Gpu,
  InputError,
  snapshot,
  type TensorTree,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { type Best, type Evaluation, evaluator, type Metrics } from "@firn/train/evaluation";
import { counted, type RunLog } from "@firn/train/report";
import { type EvaluationFlags, type EveryFlags, followOf } from "./evaluation_flags.ts";
import { bestCheckpoint } from "./output.ts";
import { print } from "./print.ts";
import { quoted } from "./sample.ts";

/** Evaluations of a run. */
export interface RunEvaluations<P extends TensorTree = object> {
  /**
   * Takes up what the log of a run that goes on has of it.
   *
   * @returns Whether the run is to end already
   */
  begin(lines: RunLog["lines"]): boolean;
  /** Whether it is time after a step. */
  due(step: number): boolean;
  /**
   * Evaluates a state where it is time.
   *
   * @returns Whether the run is to end
   */
  after(state: TrainingState<P>, run: EvaluatedRun): Promise<boolean>;
  /**
   * Ends the run: with the best state, where flags ask for it; the given one is then freed.
   *
   * @returns The state to be saved, and what is told of the last one
   */
  finish(state: TrainingState<P>): Promise<Finished<P>>;
}

/** Where the best state is kept. */
export interface BestStore<P extends TensorTree> {
  keep(state: TrainingState<P>): Promise<void>;
  /** The step of the state that was kept last; null when none was. */
  step(): Promise<number | null>;
  /** The state that was kept last. */
  take(): Promise<TrainingState<P>>;
}

/** How a run ended. */
export interface Finished<P extends TensorTree = object> {
  /** The state whose weights are saved. */
  readonly saved: TrainingState<P>;
  /** The last state with the ending of the run, for its log. */
  readonly told: TrainingState<P>;
}

/** The run that is evaluated. */
export interface EvaluatedRun {
  readonly log?: RunLog;
  /** Prints a line. */
  readonly say: (line: string) => void;
}

/**
 * Makes the evaluations that flags ask for.
 *
 * @param gpu The device
 * @param options The training, flags, sets and metrics; `store` keeps the best state; `write` continues a text
 * @returns The evaluations; undefined where flags ask for none
 */
export function runEvaluations<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  { training, flags, sets, metrics, store, write }: {
    readonly training: Training<P, B>;
    readonly flags: EveryFlags & Partial<Pick<EvaluationFlags, "sample">> & { readonly steps: number };
    readonly sets: { readonly [name: string]: readonly B[] };
    readonly metrics: Metrics<P, B>;
    readonly store: BestStore<P>;
    readonly write?: (params: P, prompt: string) => Promise<string>;
  },
): RunEvaluations<P> | undefined {
  const every = flags["evaluate-every"];
  if (every === null) return undefined;
  const judge = evaluator(gpu, training, { sets, metrics, every, steps: flags.steps });
  const follow = followOf(flags, judge.better);
  let best: Best | null = follow && follow.init;
  return {
    begin(lines) {
      best = follow && evaluationsIn(lines).reduce(follow.next, follow.init);
      return best?.stop ?? false;
    },
    due: judge.due,
    async after(state, { log, say }) {
      const found = await judge.after(state);
      if (found === null) return false;
      const lines = linesOf(found);
      await log?.add(lines);
      for (const { set, metrics } of lines) {
        const values = Object.entries(metrics).map(([name, value]) =>
          `${name} ${value?.toPrecision(5) ?? "not finite"}`
        );
        say(`step ${state.step}: ${set}: ${values.join(", ")}`);
      }
      for (const prompt of write === undefined ? [] : flags.sample ?? []) {
        const text = await training.withWeights(state, (params) => write!(params, prompt));
        await log?.add([{ kind: "sample", step: state.step, text }]);
        say(`step ${state.step}: ${quoted(text)}`);
      }
      if (follow === null || best === null) return false;
      best = follow.next(best, found);
      if (best.step === state.step) {
        await store.keep(state);
      }
      if (best.stop) {
        say(
          `step ${state.step}: no better ${flags.best} in ${
            counted(best.since, "evaluation")
          }: training ends`,
        );
      }
      return best.stop;
    },
    async finish(state) {
      const { step } = state,
        ending = { best: null, ...state.ending ?? { reason: "stopped", step } as const };
      const last = { saved: state, told: { ...state, ending } };
      if (best === null || best.step === null || best.step === step) return last;
      // What a run kept after the checkpoint from which it was resumed may have been taken at another rate.
      if (await store.step() !== best.step) {
        print(
          `best        the state of step ${best.step} is gone: that of a step after it was kept in its place before the run was resumed; the last state is saved`,
        );
        return last;
      }
      freeState(state);
      return { saved: await store.take(), told: { ...state, ending: { ...ending, best: best.step } } };
    },
  };
}

/** Keeps the best state as a file of the folder of a run, where it stays. */
export function bestFile(
  gpu: Gpu,
  { training, folder }: { readonly training: Training<object, never>; readonly folder: string },
): BestStore<object> {
  const path = bestCheckpoint(folder);
  return {
    keep: (state) => saveCheckpoint(gpu, state, { path, keep: 1 }),
    step: async () => (await loadCheckpoint(path)).step,
    take: async () =>
      await training.resume(await loadCheckpoint(path), { newRate: true }) as TrainingState<object>,
  };
}

/** Keeps nothing, where another rank does. */
export const NO_STORE: BestStore<object> = {
  keep: () => Promise.resolve(),
  step: () => Promise.resolve(null),
  take: () => Promise.reject(new InputError("Cannot take the best state as rank 0 alone keeps it")),
};

/** Keeps the best state on the device, beside the one that is trained. */
export function bestCopy<P extends TensorTree>(gpu: Gpu): BestStore<P> {
  let kept: TrainingState<P> | null = null;
  return {
    keep(state) {
      if (kept !== null) freeState(kept);
      kept = snapshot(gpu, state);
      return Promise.resolve();
    },
    step: () => Promise.resolve(kept && kept.step),
    take: () => Promise.resolve(kept!),
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

/** The evaluations of a log, but that before the first step, of which no state is kept. */
function evaluationsIn(lines: RunLog["lines"]): readonly Evaluation[] {
  const found = new Map<number, Record<string, number>>();
  for (const line of lines) {
    if (line.kind !== "evaluation" || line.step === 0) continue;
    const values = found.get(line.step) ?? {};
    for (const [name, value] of Object.entries(line.metrics)) values[`${line.set}/${name}`] = value ?? NaN;
    found.set(line.step, values);
  }
  return [...found].map(([step, values]) => ({ step, values }));
}
