/**
 * What `cachePrefix` saves on tasks of several epochs: the lower half frozen, its forward pass taken once.
 *
 * @module
 */

import { hostFileSystem } from "@firn/train/data";
import type { StudyLine } from "./study_lines.ts";
import type { Subject } from "./study_models.ts";
import type { Arm, StudyTask } from "./study_plan.ts";
import { type StudyLab, trainCourse } from "./study_train.ts";

/** Passes over the rows. */
const EPOCHS = 6;
/** Tasks whose rows fill whole batches. */
const NAMES = ["instruction-full", "banking77-smollm2", "banking77-minilm"];
const ARMS_COMPARED: readonly Arm[] = ["full", "bottom 50 %"];

/** Full training and the lower half frozen, side by side. */
export interface CacheResult {
  readonly task: string;
  readonly epochs: number;
  readonly full: StudyLine;
  readonly cached: StudyLine;
}

/**
 * Times both trainings of each task.
 *
 * @param lab Device
 * @param options Tasks of the plan, what opens them, the folder of `cache_prefix.jsonl`, who is told
 */
export async function measureCache(
  lab: StudyLab,
  { tasks, subjectOf, out, say }: {
    readonly tasks: readonly StudyTask[];
    subjectOf(task: StudyTask): Promise<Subject>;
    readonly out: string;
    readonly say: (line: string) => void;
  },
): Promise<void> {
  const named = tasks.filter(({ name }) => NAMES.includes(name)), results: CacheResult[] = [];
  for (const task of named.length > 0 ? named : tasks.slice(0, 1)) {
    const epoch = Math.floor(task.rows / task.batch), steps = EPOCHS * epoch;
    const own: StudyLab = { ...lab, steps, look: Math.max(1, Math.floor(epoch / 4)), judge: epoch };
    const subject = await subjectOf(task), lines: StudyLine[] = [];
    for (const arm of ARMS_COMPARED) {
      const run = {
        task: { ...task, steps: undefined },
        arm,
        rate: task.rates[1],
        seed: 1,
        purpose: "final",
      } as const;
      lines.push(...await trainCourse(own, { subject, run, arms: [arm], tau: null }));
    }
    const [full, cached] = lines;
    results.push({ task: task.name, epochs: EPOCHS, full, cached });
    say(cacheLine(results.at(-1)!));
    await hostFileSystem().write(
      `${out}/cache_prefix.jsonl`,
      results.map((r) => JSON.stringify(r) + "\n").join(""),
    );
  }
}

/** Seconds of the epochs behind the first. */
function laterSeconds({ curve, planned }: StudyLine, epochs: number): number {
  const first = curve.find(([, step]) => step === planned / epochs)!;
  return curve.at(-1)![0] - first[0];
}

/** Numbers of a comparison. */
export function cacheNumbers({ full, cached, epochs }: CacheResult): {
  readonly times: number;
  /** How many times as fast the epochs behind the first are. */
  readonly later: number;
  /** Test loss over that of full training, less one. */
  readonly loss: number;
} {
  return {
    times: full.seconds / cached.seconds,
    later: laterSeconds(full, epochs) / laterSeconds(cached, epochs),
    loss: cached.loss / full.loss - 1,
  };
}

/** A comparison in words. */
export function cacheLine(result: CacheResult): string {
  const { times, later, loss } = cacheNumbers(result), { task, epochs, full, cached } = result;
  return `${task}, ${epochs} epochs: ${full.seconds.toFixed(2)} s in full, ${
    cached.seconds.toFixed(2)
  } s with the lower ` +
    `half frozen and cached: ${times.toFixed(2)} times as fast, ${
      later.toFixed(2)
    } behind the first epoch; test loss ` +
    `${full.loss.toFixed(4)} and ${cached.loss.toFixed(4)} (${loss < 0 ? "" : "+"}${
      (100 * loss).toFixed(2)
    } %)`;
}
