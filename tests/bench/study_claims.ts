/**
 * The published claims of GradES, each with what the study measured of it.
 *
 * @module
 */

import { counted } from "../../core/counted.ts";
import type { Arm, StudyPlan } from "./study_plan.ts";
import type { Summary } from "./study_summary.ts";
import { pairedDifference } from "./study_statistics.ts";
import { isAccuracy } from "./study_table.ts";
import { undisturbedSeconds } from "./study_times.ts";

/** What became of a claim. */
export interface Claim {
  readonly claim: string;
  /**
   * Confirmed where each task supports it, “so far” where some have no final runs yet. One that does not is enough against it.
   * Not testable here is what needs a model that was not at hand, whatever another one gave.
   */
  readonly verdict:
    | "confirmed"
    | "confirmed so far"
    | "not confirmed"
    | "not measured yet"
    | "not testable here";
  readonly measured: string;
}

/** Summaries with final runs, by task and arm. */
type Found = (task: string, arm: Arm) => Summary | undefined;

/** Seconds of an arm over those of another one, less than 1 for a slower one. */
function timesAsFast(slow: Summary | undefined, fast: Summary | undefined): number | null {
  if (slow === undefined || fast === undefined) return null;
  return slow.undisturbed / fast.undisturbed;
}

/** How much worse than full training still counts as kept: a point of accuracy, or this share of the loss. */
const MARGIN = 0.01;

/** The lower end of the interval of quality beside full training: what is not told from chance need not be equal. */
function keeps(summary: Summary | undefined): number | null {
  if (summary === undefined || summary.toFull === null) return null;
  return summary.toFull.low / (isAccuracy(summary) ? 1 : summary.mean(({ loss }) => loss));
}

/** The lower end of the interval of quality above that of another arm, by seed; null where a seed has no counterpart. */
function leastGain(own: Summary | undefined, other: Summary | undefined): number | null {
  if (own === undefined || other === undefined) return null;
  const gains = own.lines.flatMap(({ seed, quality }) => {
    const pair = other.lines.find((line) => line.seed === seed);
    return pair === undefined ? [] : [quality - pair.quality];
  });
  return gains.length < own.lines.length ? null : pairedDifference(gains)?.low ?? null;
}

/** The least and the greatest value; one alone where they read the same. */
function range(values: readonly number[], digits = 2): string {
  const ends = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits));
  return [...new Set(ends)].join(" to ");
}

/** A claim about numbers of several tasks, each of which supports it or not. */
function judged(
  claim: string,
  { values, holds, text }: {
    readonly values: readonly (number | null)[];
    readonly holds: (value: number) => boolean;
    readonly text: (values: readonly number[]) => string;
  },
): Claim {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return { claim, verdict: "not measured yet", measured: "" };
  const verdict = !known.every(holds)
    ? "not confirmed"
    : known.length < values.length
    ? "confirmed so far"
    : "confirmed";
  const support = `supported by ${known.filter(holds).length} of ${counted(known.length, "task")}`;
  return { claim, verdict, measured: `${text(known)}; ${support}` };
}

/** What GradES costs before it freezes anything: seconds up to the same step, over those of full training, less one. */
function overhead(found: Found, task: string): number | null {
  const [full, graded] = [found(task, "full"), found(task, "GradES")];
  if (full === undefined || graded === undefined) return null;
  // The second of five points of the curve is within the grace period.
  const share = undisturbedSeconds(graded.lines, 2) / undisturbedSeconds(full.lines, 2) - 1;
  return Number.isFinite(share) ? share : null;
}

/**
 * Judges the claims by final runs alone, of two seeds at least.
 *
 * @param plan The plan
 * @param summaries Of the study
 * @returns A row for each claim
 */
export function claimsOf({ tasks }: Pick<StudyPlan, "tasks">, summaries: readonly Summary[]): Claim[] {
  const found: Found = (task, arm) =>
    summaries.find((one) => one.task.name === task && one.arm === arm && one.seeds > 1);
  const whole = tasks.filter(({ rank }) => rank === null).map(({ name }) => name);
  const adapters = tasks.filter(({ rank }) => rank !== null).map(({ name }) => name);
  const speed = (names: readonly string[]) =>
    names.map((name) => timesAsFast(found(name, "full"), found(name, "GradES")));
  const times = (values: readonly number[]): string => `${range(values)} times`;
  const kept = tasks.map(({ name }) => keeps(found(name, "GradES")));
  const against = (arm: Arm) => tasks.map(({ name }) => timesAsFast(found(name, arm), found(name, "GradES")));
  const flops = whole.map((name) => {
    const [full, own] = [found(name, "full"), found(name, "GradES")];
    return full === undefined || own === undefined
      ? null
      : own.mean((l) => l.flops) / full.mean((l) => l.flops);
  });
  const headline = adapters.map((name) =>
    timesAsFast(found(name.replace("-lora", "-full"), "full"), found(name, "GradES"))
  );
  const vision = judged("vision-language models are 1.17 to 1.79 times as fast", {
    values: speed(["digits-smolvlm"]),
    holds: (value) => value >= 1.17,
    text: (values) => `${times(values)}, with a small SmolVLM from nothing`,
  });
  return [
    judged("full fine-tuning with GradES is 1.32 to 1.64 times as fast, like for like", {
      values: speed(whole),
      holds: (value) => value >= 1.32,
      text: times,
    }),
    judged("LoRA with GradES is 0.98 to 1.15 times as fast, like for like", {
      values: speed(adapters),
      holds: (value) => value >= 0.98,
      text: times,
    }),
    judged("the headline, 1.57 to 7.22 times: LoRA with GradES beside full fine-tuning without it", {
      values: headline,
      holds: (value) => value >= 1.57,
      text: times,
    }),
    judged("quality is kept, or rises: -0.02 points in full, +0.31 by LoRA", {
      values: kept,
      holds: (value) => value >= -MARGIN,
      text: (values) =>
        `the lowest interval beside full training begins at ${
          (100 * Math.min(...values)).toFixed(2)
        } % (points of accuracy, or shares of the loss), and -${100 * MARGIN} % is kept`,
    }),
    judged("FLOPs of full fine-tuning fall to 0.55, the share of the grace period", {
      values: flops,
      holds: (value) => value <= 0.65,
      text: (values) => `${range(values)} of full training`,
    }),
    judged("it is faster than classic early stopping, which pays for validation", {
      values: against("early stopping"),
      holds: (value) => value > 1,
      text: times,
    }),
    judged("it is worth more than to stop at the end of the grace period, which costs less", {
      values: tasks.map(({ name }) => leastGain(found(name, "GradES"), found(name, "stop at alpha T"))),
      holds: (value) => value > 0,
      text: () => "better where the interval is above zero",
    }),
    judged("measuring costs about 3 % of the time", {
      values: tasks.map(({ name }) => overhead(found, name)),
      holds: (value) => value <= 0.03,
      text: (values) => `${range(values.map((value) => 100 * value), 1)} % up to two fifths of the steps`,
    }),
    // The claim is about models that were trained before: what a small one from nothing gives is no evidence against it.
    vision.measured === "" ? vision : { ...vision, verdict: "not testable here" },
  ];
}
