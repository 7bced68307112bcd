/**
 * Finished runs of the study: one JSON line each, in a file that only grows.
 *
 * @module
 */

import { DataError, InputError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import type { PlannedRun, StudyPlan } from "./study_plan.ts";

/** A point of a run: seconds, steps, FLOPs so far, and the quality there. */
export type CurvePoint = readonly [seconds: number, step: number, flops: number, quality: number];

/** A finished run. */
export interface StudyLine {
  readonly task: string;
  readonly arm: string;
  readonly rate: number;
  readonly seed: number;
  readonly purpose: "tune" | "final";
  /** Steps planned and taken; quality is that of the step `best`, the last one but for early stopping. */
  readonly planned: number;
  readonly steps: number;
  readonly best: number;
  /**
   * Seconds of the steps with looks, decisions, and the planning and recording of changed sets; of early stopping with its
   * validations. Without compiling, and without the first step.
   */
  readonly seconds: number;
  /** Seconds of the first step: planning, compiling, recording. All arms alike have them. */
  readonly setup: number;
  /** Seconds in which later steps compiled kernels, or measured products, that the process had not seen. */
  readonly compiling: number;
  /** Seconds in which changed frozen sets were planned and recorded, in `seconds`: how many they are does not depend on T. */
  readonly changing: number;
  /** Seconds of validations, in `seconds`; 0 for all but early stopping. */
  readonly validating: number;
  readonly flops: number;
  /** Joules in `seconds`; null where nvidia-smi does not tell. */
  readonly joules: number | null;
  /** Peak bytes of buffers on the device, beyond the model that was loaded. */
  readonly peakBytes: number;
  /** On the test part: accuracy of classes, else minus the loss, so that more is better. */
  readonly quality: number;
  readonly loss: number;
  /** The same quality on the validation part, by which rates are chosen. */
  readonly validation: number;
  /** Quality before the first step. */
  readonly start: number;
  /** Perplexity of the State of the Union before and after; null for a model that predicts no tokens. */
  readonly perplexity: readonly [number, number] | null;
  /** Components frozen at the end, and how many there are. */
  readonly frozen: number;
  readonly components: number;
  /** Threshold of GradES. */
  readonly tau: number | null;
  readonly policy: string | null;
  readonly curve: readonly CurvePoint[];
  /** Seconds of the whole training, with judging, and how many runs were read off it; absent in runs of the first look. */
  readonly wall?: number;
  readonly together?: number;
  readonly precision: string;
  readonly versions: { readonly [name: string]: string | null };
  readonly date: string;
}

/** What makes a run that run. */
type Key = Pick<StudyLine, "task" | "arm" | "rate" | "seed" | "purpose">;

/** A name for a run: no two of the plan share it. */
export function keyOf({ task, arm, rate, seed, purpose }: Key): string {
  return JSON.stringify([task, arm, rate, seed, purpose]);
}

/** The name of a planned run. */
export function keyOfPlanned({ task, ...run }: PlannedRun): string {
  return keyOf({ ...run, task: task.name });
}

/** Numbers as they are written: six digits are more than a run repeats. */
function rounded(_: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
}

/** A run as a line. */
export function lineOf(line: StudyLine): string {
  return `${JSON.stringify(line, rounded)}\n`;
}

/**
 * Reads lines. The last one may have been cut off as its process ended: it is left out, and its run is made again.
 *
 * @throws {DataError} When another line is no JSON
 */
export function parseLines(text: string, path: string): StudyLine[] {
  return text.split("\n").slice(0, -1).filter((line) => line !== "").map((line, i): StudyLine => {
    try {
      return JSON.parse(line);
    } catch {
      throw new DataError(
        `Cannot read line ${i + 1} of "${path}" as it must be a run in JSON: delete that line`,
      );
    }
  });
}

/**
 * Joins the runs of several folders, as of processes that share the work.
 *
 * @param parts Folders and their runs
 * @returns All runs
 * @throws {InputError} When two folders have the same run
 */
export function joinLines(
  parts: readonly { readonly folder: string; readonly lines: readonly StudyLine[] }[],
): StudyLine[] {
  const folders = new Map<string, string>();
  return parts.flatMap(({ folder, lines }) =>
    lines.map((line) => {
      const key = keyOf(line), other = folders.get(key);
      if (other !== undefined) {
        throw new InputError(
          `Cannot use the runs in ${
            other === folder ? `"${folder}"` : `"${other}" and "${folder}"`
          } as none may count twice: there are two lines of ${key}; delete one`,
        );
      }
      folders.set(key, folder);
      return line;
    })
  );
}

/**
 * Refuses runs that cannot stand in one table.
 *
 * @param lines Finished runs
 * @param options `plan`: tasks and seeds; `primary`: name of the policy that is put forward; precision and adapter of the runs, null
 *   for any one
 * @throws {InputError} When runs are of another policy, precision or adapter, or of a seed that the plan has not
 */
export function checkAlike(
  lines: readonly StudyLine[],
  { folder, plan, primary, precision, adapter }: {
    readonly folder: string;
    readonly plan: Pick<StudyPlan, "tasks" | "tuningSeed" | "finalSeeds">;
    readonly primary: string;
    readonly precision: string | null;
    readonly adapter: string | null;
  },
): void {
  const refuse = (rule: string, seen: string): never => {
    throw new InputError(
      `Cannot use the runs in "${folder}" as ${rule}: one is of ${seen}; take another --out or --kept`,
    );
  };
  const seeds = [plan.tuningSeed, ...plan.finalSeeds];
  const first = lines.find(({ task, seed }) =>
    plan.tasks.some(({ name }) => name === task) && !seeds.includes(seed)
  );
  if (first !== undefined) refuse(`its seeds must be of ${seeds.join(", ")}`, `${first.seed}`);
  const other = lines.find(({ arm, policy }) => arm === "auto" && policy !== null && policy !== primary);
  if (other !== undefined) refuse(`its runs of auto must be of ${primary}`, other.policy!);
  const [wanted, card] = [precision ?? lines[0]?.precision, adapter ?? lines[0]?.versions.adapter];
  const mixed = lines.find((line) => line.precision !== wanted);
  if (mixed !== undefined) refuse(`all must be of one precision, here ${wanted}`, mixed.precision);
  const elsewhere = lines.find(({ versions }) => versions.adapter !== card);
  if (elsewhere !== undefined) {
    refuse(`all must be of one kind of GPU, here ${card}`, `${elsewhere.versions.adapter}`);
  }
}

/** The finished runs of a folder. */
export interface LineFile {
  readonly lines: readonly StudyLine[];
  /** Adds a run; on the disk when it returns. */
  add(line: StudyLine): Promise<void>;
}

/**
 * Opens the runs of a folder. Of a file that ends in half a line that half is dropped.
 *
 * @param folder The folder
 * @param options `make`: makes the folder where it is missing, as by default
 * @returns The runs
 * @throws {InputError} When a run has two lines
 */
export async function openLines(
  folder: string,
  { make = true }: { readonly make?: boolean } = {},
): Promise<LineFile> {
  const files = hostFileSystem(), path = `${folder}/lines.jsonl`;
  if (make) await files.makeFolder(folder, { parents: true });
  const names = (await files.list(folder)).map(({ name }) => name);
  const text = names.includes("lines.jsonl") ? new TextDecoder().decode(await files.read(path)) : "";
  const lines = joinLines([{ folder, lines: parseLines(text, path) }]);
  let kept = text.slice(0, text.lastIndexOf("\n") + 1);
  return {
    lines,
    async add(line) {
      lines.push(line);
      kept += lineOf(line);
      await files.write(path, kept);
    },
  };
}
