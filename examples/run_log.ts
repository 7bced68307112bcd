/**
 * The log of a run, `metrics.jsonl`: one JSON object a line, complete up to the last look whatever happens to the
 * process, and all that the report is made of.
 *
 * @module
 */

import { type Component, type FreezeEvent, writeAtomic } from "@firn/train";
import type { MetricRow, RunReport } from "./report.ts";

/** First line: what the run was started with, and the model before it. */
export interface StartLine {
  readonly kind: "start";
  readonly config: Readonly<Record<string, unknown>>;
  readonly adapter: string;
  readonly perplexity: number;
  readonly sample: string;
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
export interface FreezeLine extends FreezeEvent {
  readonly kind: "freeze";
}

/** Last line: the model after the run. */
export interface EndLine {
  readonly kind: "end";
  readonly perplexity: number;
  readonly sample: string;
}

/** Any line. */
export type Line = StartLine | StepLine | FreezeLine | EndLine;

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
    const text = await Deno.readTextFile(path);
    // A line that was cut short by the end of the process has no newline.
    for (const row of text.split("\n").slice(0, -1)) {
      const line: Line = JSON.parse(row);
      if (line.kind === "start" || (line.kind !== "end" && line.step <= upTo)) lines.push(line);
    }
  }
  await writeAtomic(path, lines.map((line) => JSON.stringify(line) + "\n").join(""));
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
 * Makes the content of the report.
 *
 * @param lines The whole log
 * @param options Title, figures at the top, components of the model, and the threshold of the policy
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
  const { title, summary, components, threshold } = options;
  const start = lines.find((line) => line.kind === "start")!,
    end = lines.find((line) => line.kind === "end")!;
  const steps = lines.filter((line) => line.kind === "step"),
    events = lines.filter((line) => line.kind === "freeze");
  const frozenAt: Record<string, number> = {};
  for (const { step, frozen, thawed } of events) {
    for (const path of thawed) delete frozenAt[path];
    for (const path of frozen) frozenAt[path] = step;
  }
  const read = new Set<string>();
  const values = threshold === undefined
    ? []
    : steps.flatMap(({ step, readings }) =>
      Object.entries(readings[threshold.signal] ?? {}).map(([path, value]) => {
        read.add(path);
        return { path, step, value };
      })
    );
  return {
    title,
    summary,
    config: start.config,
    rows: steps.map((line) => ({ ...line, learningRate: line.learningRate ?? NaN })),
    events,
    components: components.filter(({ path }) => read.size === 0 || read.has(path)),
    frozenAt,
    readings: threshold === undefined ? undefined : { ...threshold, values },
    samples: { before: start.sample, after: end.sample },
    perplexity: { before: start.perplexity, after: end.perplexity },
  };
}
