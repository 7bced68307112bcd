/**
 * The log of a run, `metrics.jsonl`: one JSON object a line, complete up to the last look whatever happens to the
 * process, and all that the report is made of.
 *
 * @module
 */

import type { Component, Ending, FreezeEvent, Look, TrainingState } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { explain } from "./explanation.ts";
import type { MetricRow, RunReport } from "./report.ts";

/** What is measured of a model before and after a run; which of it depends on the example. */
export interface Quality {
  /** Of held-out text. */
  readonly perplexity?: number;
  /** Generated text. */
  readonly sample?: string;
  /** Share of held-out images that were recognised. */
  readonly accuracy?: number;
}

/** First line: what the run was started with, and the model before it. */
export interface StartLine extends Quality {
  readonly kind: "start";
  readonly config: Readonly<Record<string, unknown>>;
  readonly adapter: string;
}

/** What the policy may freeze, known after the first step. */
export interface ComponentsLine {
  readonly kind: "components";
  readonly components: readonly Component[];
}

/** A step, and what the policy read in it. */
export interface StepLine extends Omit<MetricRow, "learningRate"> {
  readonly kind: "step";
  /** Null when the optimizer has none. */
  readonly learningRate: number | null;
  /** By signal and component; only what was measured. */
  readonly readings: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** A change of the frozen set. */
export interface FreezeLine extends Omit<FreezeEvent, "reasons"> {
  readonly kind: "freeze";
  /** Why each component was frozen, as far as the policy said; absent in older logs. */
  readonly reasons?: FreezeEvent["reasons"];
}

/** Last line: the model after the run. */
export interface EndLine extends Quality {
  readonly kind: "end";
  /** Absent in logs of before there was any. */
  readonly ending?: Ending;
}

/** Any line. */
export type Line = StartLine | ComponentsLine | StepLine | FreezeLine | EndLine;

/** An open log. */
export interface RunLog {
  /** Lines so far. */
  readonly lines: readonly Line[];
  /** Appends lines to the file. */
  add(lines: readonly Line[]): Promise<void>;
}

/**
 * Opens the log of a run.
 *
 * @param path The file
 * @param options `upTo`: of a run that is resumed, the last look before its checkpoint; later lines are dropped
 * @returns The log, with the lines that are kept
 */
export async function openLog(path: string, { upTo }: { readonly upTo?: number } = {}): Promise<RunLog> {
  const lines: Line[] = [];
  if (upTo !== undefined) {
    const kept = (line: Line): boolean => line.kind !== "end" && (!("step" in line) || line.step <= upTo);
    lines.push(...(await readLog(path)).filter(kept));
  }
  await hostFileSystem().write(path, lines.map((line) => JSON.stringify(line) + "\n").join(""));
  return {
    lines,
    async add(more) {
      lines.push(...more);
      await Deno.writeTextFile(path, more.map((line) => JSON.stringify(line) + "\n").join(""), {
        append: true,
      });
    },
  };
}

/**
 * Reads a log, of a finished run or of one that is under way.
 *
 * @param path The file
 * @returns Its lines
 * @throws {Deno.errors.InvalidData} When it is no log of a run
 */
export async function readLog(path: string): Promise<Line[]> {
  // A line that is being written, or was cut short by the end of the process, has no newline.
  const rows = (await Deno.readTextFile(path)).split("\n").slice(0, -1);
  return rows.map((row, i) => {
    let line: Partial<Line> | null = null;
    try {
      line = JSON.parse(row);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    if (typeof line?.kind === "string" && (line.kind === "start") === (i === 0)) return line as Line;
    const rule = `line ${i + 1} must be ${i === 0 ? "the start" : "a step, a freeze or the end"} of a run`;
    throw new Deno.errors.InvalidData(`Cannot read the log "${path}" as ${rule}: ${row.slice(0, 40)}`);
  });
}

/**
 * Makes the lines of the steps that a look covers.
 *
 * @param state The state that brought the look
 * @param pace Milliseconds a step since the look before, and tokens a second where the run counts tokens
 * @returns One line a step
 */
export function stepLines(
  state: TrainingState<object>,
  pace: { readonly stepMs: number; readonly tokensPerSecond?: number },
): StepLine[] {
  const { steps, loss, learningRate, readings, validation } = state.look!, { launches, flops } = state.cost!;
  const frozen = state.event === null
    ? state.frozen.length
    : state.frozen.length - state.event.frozen.length + state.event.thawed.length;
  return steps.map((step, i) => ({
    kind: "step",
    step,
    loss: loss[i],
    ...Number.isFinite(validation?.[i]) && { validation: validation![i] },
    learningRate: Number.isNaN(learningRate[i]) ? null : learningRate[i],
    ...pace,
    launches,
    flops,
    frozen,
    readings: readingsAt(readings, i),
  }));
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

/**
 * Makes the content of the report.
 *
 * @param lines The whole log
 * @param options Title, figures at the top, components of the model, and the threshold of the policy; when that is absent,
 * the one that the reasons name
 * @returns What `renderReport` takes
 */
export function reportOf(
  lines: readonly Line[],
  options: {
    readonly title: string;
    readonly summary: RunReport["summary"];
    readonly components: readonly Component[];
    readonly threshold?: { readonly signal: string; readonly tau: number };
  },
): RunReport {
  const { title, summary, components } = options;
  const start = lines.find((line) => line.kind === "start")!,
    end = lines.find((line) => line.kind === "end")!;
  const steps = lines.filter((line) => line.kind === "step"),
    events = lines.filter((line) => line.kind === "freeze");
  const threshold = options.threshold ?? thresholdOf(events, steps);
  const frozenAt: Record<string, number> = {};
  for (const { step, frozen, thawed } of events) {
    for (const path of thawed) delete frozenAt[path];
    for (const path of frozen) frozenAt[path] = step;
  }
  const values = threshold === undefined
    ? []
    : steps.flatMap(({ step, readings }) =>
      Object.entries(readings[threshold.signal] ?? {}).map(([path, value]) => ({ path, step, value }))
    );
  return {
    title,
    summary,
    config: start.config,
    rows: steps.map((line) => ({ ...line, learningRate: line.learningRate ?? NaN })),
    events,
    changes: explain(lines).changes,
    components,
    frozenAt,
    readings: threshold === undefined ? undefined : { ...threshold, values },
    samples: pair(start.sample, end.sample),
    perplexity: pair(start.perplexity, end.perplexity),
  };
}

/** What the reasons compare with, where all compare one signal, as it was measured, with one number. */
function thresholdOf(
  events: readonly FreezeLine[],
  steps: readonly StepLine[],
): { readonly signal: string; readonly tau: number } | undefined {
  const [first, ...others] = events.flatMap(({ reasons }) => Object.values(reasons ?? {}));
  if (first === undefined || !(first.threshold! > 0)) return undefined;
  const { signal, threshold: tau } = first;
  const alike = others.every((reason) => reason.signal === signal && reason.threshold === tau);
  return alike && steps.some(({ readings }) => signal in readings) ? { signal, tau: tau! } : undefined;
}

function pair<T>(before: T | undefined, after: T | undefined): { before: T; after: T } | undefined {
  return before === undefined || after === undefined ? undefined : { before, after };
}
