/**
 * The plan of the study: tasks, arms, rates, seeds. All constants, so that no result can change them.
 *
 * @module
 */

import { shareOf } from "../../policies/share_of.ts";
import type { StudyLine } from "./study_lines.ts";

/** Something to train on, and how. */
export interface StudyTask {
  readonly name: string;
  readonly model: "smollm2" | "minilm" | "vit" | "llama" | "smolvlm";
  /** Rows of token ids, as `study_prepare.ts` writes them. */
  readonly data: string;
  /** Rank of the adapter; null where all weights are trained. */
  readonly rank: number | null;
  /** Sequences in a batch, B, and tokens in each, T. */
  readonly batch: number;
  readonly length: number;
  /** Rows that are trained on. */
  readonly rows: number;
  /** Planned optimizer steps, T, where they are not those of the plan. */
  readonly steps?: number;
  /** Peak learning rates, each about three times the last. Each arm takes its best one; {@link beyond} adds a fourth to some. */
  readonly rates: readonly number[];
}

/** What is compared, in the order of the table. */
export const ARMS = [
  "full",
  "3/4 of the steps",
  "1/2 of the steps",
  "stop at alpha T",
  "stop at 4/5 T",
  "early stopping",
  "GradES",
  "auto",
  "bottom 50 %",
  "random 50 %",
] as const;

/** Arms of one seed. */
export const BREADTH_ARMS = [
  "GradES gradNorm",
  "GradES gradDelta",
  "GradES weightDelta",
  "costAware",
  "prefix",
  "bottom 25 %",
  "top 25 %",
  "top 50 %",
  "rotate",
  "autoTau",
  "gradientProbe",
  "AdaGradSelect",
  "biases and norms",
  "spectral stop",
] as const;

/** The name of an arm. */
export type Arm = typeof ARMS[number] | typeof BREADTH_ARMS[number];

/** The arm that is put forward. */
export const PRIMARY: Arm = "auto";

/** Arms that freeze, besides the one that is put forward. All others are controls, which need no policy. */
export const FREEZING: readonly Arm[] = ["GradES", "bottom 50 %", "random 50 %"];

/** Tasks with final runs of a first look, by which the arm that is put forward was settled. */
const SEEN = ["banking77-minilm", "spam-minilm", "spam-smollm2"];

/**
 * Whether an arm was designed with a task in sight: `auto()` by a first look, and where it ends by trials on Moby-Dick. What it does
 * there is shown, and counts for nothing.
 */
export function isExploratory({ task, arm }: { readonly task: StudyTask; readonly arm: Arm }): boolean {
  return arm === PRIMARY && (task.data === "moby" || SEEN.includes(task.name));
}

/** Arms without freezing: training for a shorter time, with a schedule of its own. */
export const SHORTER: readonly Arm[] = ["1/2 of the steps", "3/4 of the steps", "full"];

/** Arms that stop full training at a share of its steps, which a user who trains shorter may do, too. */
export const STOPPED: readonly Arm[] = ["stop at alpha T", "stop at 4/5 T"];

/**
 * Arms that are read off the full training of the same rate and seed: until they end they are the same training, bit for bit.
 * Only early stopping pays for validation and for copies of its best weights.
 */
export const OF_FULL: readonly Arm[] = ["full", "stop at alpha T", "stop at 4/5 T", "early stopping"];

const SMOLLM2 = { model: "smollm2", rank: null, rates: [1e-5, 3e-5, 1e-4] } as const;
/** A new head takes a higher rate than all else. */
const CLASSES = { ...SMOLLM2, steps: 160, rates: [3e-5, 1e-4, 3e-4] } as const;
const LORA = { model: "smollm2", rank: 8, rates: [3e-4, 1e-3, 3e-3] } as const;
/** Steps of a small model are short: more of them, so that a run lasts seconds. */
const MINILM = { model: "minilm", rank: null, steps: 480 } as const;
const MOBY = { data: "moby", batch: 8, length: 256, rows: 960 } as const;
const INSTRUCTION = { data: "instruction", batch: 16, length: 128, rows: 640 } as const;
const BANKING = { batch: 64, length: 32 } as const;
const SPAM = { batch: 32, length: 64 } as const;

/** The core tasks. */
export const TASKS: readonly StudyTask[] = [
  { name: "moby-full", ...SMOLLM2, ...MOBY },
  { name: "moby-lora", ...LORA, ...MOBY },
  { name: "instruction-full", ...SMOLLM2, ...INSTRUCTION },
  { name: "instruction-lora", ...LORA, ...INSTRUCTION },
  {
    name: "banking77-minilm",
    ...MINILM,
    ...BANKING,
    data: "banking77-minilm",
    rows: 7680,
    rates: [3e-4, 1e-3, 3e-3],
  },
  { name: "banking77-smollm2", ...CLASSES, ...BANKING, data: "banking77-smollm2", rows: 2560, steps: 120 },
  { name: "spam-minilm", ...MINILM, ...SPAM, data: "spam-minilm", rows: 3840, rates: [1e-4, 3e-4, 1e-3] },
  { name: "spam-smollm2", ...CLASSES, ...SPAM, data: "spam-smollm2", rows: 1280 },
];

/** How long all train, and by what. */
export interface StudyLength {
  /** Planned optimizer steps, T. */
  readonly steps: number;
  /** Steps between looks; early stopping validates at each, 5 % of the steps as in the paper of GradES. */
  readonly look: number;
  /** Steps between points of the curve of a final run. */
  readonly judge: number;
}

/** Points of a curve, the start aside. */
const POINTS = 5;

/** How long a task trains: looks and points of the curve lie at the same shares of the steps for all. */
export function lengthOf<L extends StudyLength>(length: L, { steps }: Pick<StudyTask, "steps">): L {
  return steps === undefined ? length : { ...length, steps, look: steps / 20, judge: steps / POINTS };
}

/** The whole plan. */
export interface StudyPlan extends StudyLength {
  readonly tasks: readonly StudyTask[];
  readonly arms: readonly Arm[];
  /** Seed by which rates and tau are chosen; no final run uses it. */
  readonly tuningSeed: number;
  readonly finalSeeds: readonly number[];
  /** Whether arms have no tuning of their own: they take the rate that is best for full training. */
  readonly untuned?: true;
  /** Finished runs that rates and tau are taken from, where none is tuned: of any precision. */
  readonly tuned?: readonly StudyLine[];
}

/** Share of the steps in which GradES freezes nothing, as published, and after which a baseline stops. */
export const ALPHA = 0.55;
/** Share of the steps in which the rate rises, as published. */
export const WARMUP = 0.05;
/** Of AdamW, as published. */
export const WEIGHT_DECAY = 0.01;

/** The core of the study. */
export const PLAN: StudyPlan = {
  tasks: TASKS,
  arms: ARMS,
  steps: 120,
  look: 6,
  judge: 24,
  // Runs with the seeds 100 and 200, 1 to 3 and 11 to 15 were a first look.
  tuningSeed: 300,
  finalSeeds: [21, 22, 23, 24, 25],
};

/** What else is of interest, at the rate that is best for full training. */
export const BREADTH: StudyPlan = { ...PLAN, arms: BREADTH_ARMS, untuned: true };

/** Steps that an arm plans. */
export function plannedSteps(arm: Arm, { steps }: Pick<StudyLength, "steps">): number {
  const share = arm === "1/2 of the steps" ? 0.5 : arm === "3/4 of the steps" ? 0.75 : 1;
  return Math.round(share * steps);
}

/** Shares of the planned steps after which an arm stops, with a schedule for all of them. */
const STOPS: Partial<Record<Arm, number>> = { "stop at alpha T": ALPHA, "stop at 4/5 T": 0.8 };

/** The last step of an arm that stops at a share of T: the first look from there on; null for other arms. */
export function stopStep(arm: Arm, { steps, look }: StudyLength): number | null {
  const share = STOPS[arm];
  return share === undefined ? null : Math.min(steps, Math.ceil(shareOf(share, steps) / look) * look);
}

/** A run to be made. */
export interface PlannedRun {
  readonly task: StudyTask;
  readonly arm: Arm;
  readonly rate: number;
  readonly seed: number;
  readonly purpose: "tune" | "final";
}

/**
 * The tuning runs, such that a break leaves all tasks and arms as far as each other: the middle rates of all, then the lowest,
 * then the highest.
 */
export function tuningRuns({ tasks, arms, tuningSeed }: StudyPlan): PlannedRun[] {
  return [1, 0, 2].flatMap((at) =>
    arms.flatMap((arm) =>
      tasks.map((task): PlannedRun => ({
        task,
        arm,
        rate: task.rates[at],
        seed: tuningSeed,
        purpose: "tune",
      }))
    )
  );
}

/**
 * The rate beyond the edge of a task's rates that the best one lies at, as far from it as its neighbour; null where the best one has
 * neighbours on both sides. An arm whose best rate lies at an edge is tuned at this one, too, once.
 */
export function beyond({ rates }: Pick<StudyTask, "rates">, best: number): number | null {
  const at = rates.indexOf(best), inner = at === 0 ? 1 : rates.length - 2;
  return at > 0 && at < rates.length - 1 ? null : Number((best * best / rates[inner]).toPrecision(3));
}

/** Whether an arm is defined on a task: an adapter has neither biases nor norms. */
function applies(arm: Arm, { rank }: StudyTask): boolean {
  return arm !== "biases and norms" || rank === null;
}

/** The final runs, seed by seed, at the rates that tuning chose; null where it chose none yet. */
export function finalRuns(
  { tasks, arms, finalSeeds }: StudyPlan,
  rateOf: (task: StudyTask, arm: Arm) => number | null,
): PlannedRun[] {
  return finalSeeds.flatMap((seed) =>
    arms.flatMap((arm) =>
      tasks.flatMap((task): PlannedRun[] => {
        const rate = rateOf(task, arm);
        return rate === null || !applies(arm, task) ? [] : [{ task, arm, rate, seed, purpose: "final" }];
      })
    )
  );
}
