/**
 * What `cachePrefix` saves on tasks of several epochs: the lower half frozen, its forward pass taken once.
 *
 * @module
 */

import { DataError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { counted } from "../../core/counted.ts";
import type { StudyLine } from "./study_lines.ts";
import type { Subject } from "./study_models.ts";
import type { Arm, StudyTask } from "./study_plan.ts";
import { meanOf, medianOf } from "./study_statistics.ts";
import { type StudyLab, trainCourse } from "./study_train.ts";

/** Passes over the rows. */
const EPOCHS = 6;
/** Tasks whose rows fill whole batches: classes first, as they are what takes several epochs. */
const NAMES = ["banking77-minilm", "banking77-smollm2", "instruction-full"];
const ARMS_COMPARED: readonly Arm[] = ["full", "bottom 50 %"];
const SEEDS: readonly number[] = [1, 2, 3];
/** What a later epoch may have of the operations of the first one: it has no forward pass of the frozen half. */
const MOST = 0.95;

/** Full training and the lower half frozen, side by side: a pair for each seed. */
export interface CacheResult {
  readonly task: string;
  readonly epochs: number;
  readonly pairs: readonly { readonly full: StudyLine; readonly cached: StudyLine }[];
}

/**
 * Times both trainings of each task.
 *
 * @param lab Device
 * @param options Tasks of the plan, what opens them, the best rate of full training, the folder of `cache_prefix.jsonl`, seconds
 * of the process at which all must have ended, who is told
 */
export async function measureCache(
  lab: StudyLab,
  { tasks, subjectOf, rateOf, out, seconds, say }: {
    readonly tasks: readonly StudyTask[];
    subjectOf(task: StudyTask): Promise<Subject>;
    rateOf(task: StudyTask): number;
    readonly out: string;
    readonly seconds: number;
    readonly say: (line: string) => void;
  },
): Promise<void> {
  const results: CacheResult[] = [], now = (): number => performance.now() / 1000;
  const named = NAMES.flatMap((name) => tasks.find((task) => task.name === name) ?? []);
  for (const each of named.length > 0 ? named : tasks) {
    // As long as its epochs are, not as its runs in the core.
    const task: StudyTask = { ...each, steps: undefined }, epoch = Math.floor(task.rows / task.batch);
    const own = { ...lab, steps: EPOCHS * epoch, look: Math.max(1, Math.floor(epoch / 4)), judge: epoch };
    const pairs: CacheResult["pairs"][number][] = [], result = { task: task.name, epochs: EPOCHS, pairs };
    results.push(result);
    let longest = 0;
    for (const seed of SEEDS) {
      const began = now();
      if (began + longest > seconds) break;
      const subject = await subjectOf(each), lines: StudyLine[] = [];
      for (const arm of ARMS_COMPARED) {
        const run = { task, arm, rate: rateOf(each), seed, purpose: "final" } as const;
        lines.push(...await trainCourse(own, { subject, run, arms: [arm], tau: null }));
      }
      checkCached(lines[1]);
      pairs.push({ full: lines[0], cached: lines[1] });
      longest = Math.max(longest, now() - began);
      say(cacheLine(result));
      await hostFileSystem().write(
        `${out}/cache_prefix.jsonl`,
        results.filter(({ pairs }) => pairs.length > 0).map((result) => JSON.stringify(result) + "\n").join(
          "",
        ),
      );
    }
  }
}

/** Refuses a run whose later epochs compute as much as the first one. */
function checkCached({ task, curve }: StudyLine): void {
  const [first, last] = [1, curve.length - 1].map((at) => curve[at][2] - curve[at - 1][2]);
  if (last <= MOST * first) return;
  throw new DataError(
    `Cannot tell what "cachePrefix" saves as later epochs must compute less: ${task} has ${last} operations in the last ` +
      `epoch and ${first} in the first; see training.prefix()`,
  );
}

/** Seconds of the epochs behind the first. */
function laterSeconds({ curve, planned }: StudyLine, epochs: number): number {
  const first = curve.find(([, step]) => step === planned / epochs)!;
  return curve.at(-1)![0] - first[0];
}

/** Numbers of a comparison: medians of times, means of losses. */
export function cacheNumbers({ pairs, epochs }: CacheResult): {
  readonly times: number;
  /** How many times as fast the epochs behind the first are. */
  readonly later: number;
  /** How many times as few operations there are. */
  readonly flops: number;
  /** Test loss over that of full training, less one. */
  readonly loss: number;
} {
  return {
    times: medianOf(pairs.map(({ full, cached }) => full.seconds / cached.seconds)),
    later: medianOf(
      pairs.map(({ full, cached }) => laterSeconds(full, epochs) / laterSeconds(cached, epochs)),
    ),
    flops: medianOf(pairs.map(({ full, cached }) => full.flops / cached.flops)),
    loss: meanOf(pairs.map(({ full, cached }) => cached.loss / full.loss - 1)),
  };
}

/** A comparison in words. */
export function cacheLine(result: CacheResult): string {
  const { times, later, flops, loss } = cacheNumbers(result), { task, epochs, pairs } = result;
  const mean = (of: (pair: CacheResult["pairs"][number]) => number, digits: number): string =>
    meanOf(pairs.map(of)).toFixed(digits);
  const median = (of: (pair: CacheResult["pairs"][number]) => number): string =>
    medianOf(pairs.map(of)).toFixed(2);
  const rated = pairs.every(({ full }) => full.quality >= 0)
    ? `, accuracy ${mean(({ full }) => 100 * full.quality, 2)} and ${
      mean(({ cached }) => 100 * cached.quality, 2)
    } %`
    : "";
  return `${task}, ${epochs} epochs, rate ${pairs[0].full.rate}, ${counted(pairs.length, "seed")}: ` +
    `${median(({ full }) => full.seconds)} s in full, ${
      median(({ cached }) => cached.seconds)
    } s with the lower half frozen and cached: ` +
    `${times.toFixed(2)} times as fast, ${later.toFixed(2)} behind the first epoch, by ${
      flops.toFixed(2)
    } times as few ` +
    `operations; test loss ${mean(({ full }) => full.loss, 4)} and ${mean(({ cached }) => cached.loss, 4)} ` +
    `(${loss < 0 ? "" : "+"}${(100 * loss).toFixed(2)} %)${rated}`;
}
