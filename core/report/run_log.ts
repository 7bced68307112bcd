/**
 * The log of a run, `metrics.jsonl`: one JSON object a line. It is complete up to the last look, whatever happens to the
 * process, and the report is made of nothing else.
 *
 * | `kind` | when | what |
 * |---|---|---|
 * | `start` | first | `config`, `adapter`, `threshold` of the policy, quality of the model before |
 * | `components` | after the first step | `components`, each with its `cost` in FLOPs and its `depth`, and `run`, what the policy was told |
 * | `step` | for each step of a look | `loss`, `learningRate`, `validation`, `metrics`, `clip`, `skipped`, `readings` by signal and component, and what the step cost |
 * | `freeze` | after a look that changed the frozen set | `frozen`, `thawed`, `reasons`, cost of a step `before` and `after` |
 * | `evaluation`, `sample` | while it trains | what the model is judged by, and what it writes |
 * | `end` | last | quality of the model after, why it ended |
 *
 * Numbers that were not measured are absent or null. The lines `components`, `step` and `freeze` have all that a policy saw:
 * {@link replayOf} makes the looks of them anew.
 *
 * @module
 */

import { AlreadyExistsError, DataError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import type { Look } from "../policy.ts";
import type { Training, TrainingState } from "../train/types.ts";
import type { TensorTree } from "../tree.ts";
import { type Logger, logLines, recorder } from "./logger.ts";
import { readLog } from "./read_log.ts";
import type { ComponentsLine, Line, StepLine } from "./types.ts";

/** An open log. */
export interface RunLog {
  /** Lines so far. */
  readonly lines: readonly Line[];
  /** Appends lines to the file. */
  add(lines: readonly Line[]): Promise<void>;
}

/** Options of {@link openLog}. */
export interface LogOptions extends FileSystemOptions {
  /** Of a run that is resumed, the step of the last look before its checkpoint; later lines are dropped. */
  readonly upTo?: number;
  /** With `upTo`, the step of the checkpoint: samples and evaluations up to there are kept, too; `upTo` when absent. */
  readonly at?: number;
  /** Is handed what is added, too, once it is in the file. */
  readonly logger?: Logger;
}

const textOf = (lines: readonly Line[]): string => lines.map((line) => JSON.stringify(line) + "\n").join("");

/**
 * Opens the log of a run.
 *
 * @param path The file
 * @param options Which lines of an older log are kept, and the file system
 * @returns The log, with the lines that are kept
 * @throws {AlreadyExistsError} When the file holds something, and `upTo` does not say what of it is kept
 * @throws {DataError} When an older log is no log, or does not reach the step up to which it is kept
 */
export async function openLog(path: string, options: LogOptions = {}): Promise<RunLog> {
  const { upTo, at = upTo, logger, fileSystem = hostFileSystem() } = options;
  let lines: Line[] = [];
  if (upTo !== undefined) {
    // Steps are logged at looks, samples and evaluations at once.
    const last = (kind: Line["kind"]): number => kind === "step" || kind === "freeze" ? upTo : at!;
    const kept = (line: Line): boolean =>
      line.kind !== "end" && (!("step" in line) || line.step <= last(line.kind));
    lines = (await readLog(path, options)).filter(kept);
    const reached = lines.reduce((last, line) => line.kind === "step" ? Math.max(last, line.step) : last, 0);
    if (reached < upTo) {
      throw new DataError(
        `Cannot go on with the log "${path}" as it must reach step ${upTo} of the checkpoint: it ends at step ${reached}; ` +
          "it was cut short, so start another run",
      );
    }
  } else if (((await fileSystem.stat(path))?.size ?? 0) > 0) {
    throw new AlreadyExistsError(
      `Cannot begin the log "${path}" as it must be new or empty: it holds a run; choose another path, or go on with "upTo"`,
    );
  }
  await fileSystem.write(path, textOf(lines));
  const early = (line: Line): boolean => !("step" in line) || line.step <= upTo!;
  const recordOf = recorder(lines.filter(early));
  // A logger drops what it has of steps after the last look.
  const late = lines.filter((line) => !early(line));
  if (logger !== undefined) await logLines(late, { recordOf, logger });
  return {
    lines,
    async add(more) {
      // On the disk before the checkpoint that follows: a checkpoint is never ahead of its log.
      await fileSystem.append(path, textOf(more), { flush: true });
      lines.push(...more);
      if (logger !== undefined) await logLines(more, { recordOf, logger });
    },
  };
}

/**
 * Makes the line of what a policy may freeze, and of what it is told of the run.
 *
 * @param training The training, after its first step
 * @returns The line
 */
export function componentsLine(
  training: Pick<Training<TensorTree, never>, "components" | "info">,
): ComponentsLine {
  const run = training.info();
  return { kind: "components", components: training.components(), ...run !== null && { run } };
}

/**
 * Makes the lines of the steps that a look covers.
 *
 * @param state The state that brought the look
 * @param pace Milliseconds a step since the look before, those of the exchange between ranks, and tokens a second and bytes on the
 * device where the run counts them
 * @returns One line a step
 */
export function stepLines(
  state: TrainingState<object>,
  pace: Pick<
    StepLine,
    "stepMs" | "tokensPerSecond" | "memoryBytes" | "exchangeMs" | "exchangeWaitedMs"
  >,
): StepLine[] {
  const look = state.look! as Look & { readonly metrics?: Readonly<Record<string, ArrayLike<number>>> };
  const { steps, loss, learningRate, readings, validation, metrics, clip, skipped } = look,
    { launches, flops, exchanged } = state.cost!;
  const frozen = state.event === null
    ? state.frozen.length
    : state.frozen.length - state.event.frozen.length + state.event.thawed.length;
  return steps.map((step, i) => ({
    kind: "step",
    step,
    loss: Number.isNaN(loss[i]) ? null : loss[i],
    ...Number.isFinite(validation?.[i]) && { validation: validation![i] },
    learningRate: Number.isNaN(learningRate[i]) ? null : learningRate[i],
    ...metrics !== undefined && { metrics: metricsAt(metrics, i) },
    ...Number.isFinite(clip?.[i]) && { clip: clip![i] },
    ...skipped?.includes(step) && { skipped: true as const },
    ...pace,
    launches,
    flops,
    frozen,
    ...exchanged !== undefined && { exchanged },
    readings: readingsAt(readings, i),
  }));
}

function metricsAt(metrics: Readonly<Record<string, ArrayLike<number>>>, i: number): StepLine["metrics"] {
  const found = Object.entries(metrics).map(([name, values]) => [name, values[i]] as const);
  return Object.fromEntries(found.filter(([, value]) => Number.isFinite(value)));
}

function readingsAt(readings: Look["readings"], i: number): StepLine["readings"] {
  return Object.fromEntries(
    Object.entries(readings).map(([signal, paths]) => [
      signal,
      Object.fromEntries(
        Object.entries(paths).flatMap(([path, v]) => Number.isNaN(v[i]) ? [] : [[path, v[i]]]),
      ),
    ]),
  );
}
