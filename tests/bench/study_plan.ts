/**
 * The plan of the study: tasks, arms, rates, seeds. All constants, so that no result can change them.
 *
 * @module
 */

import { shareOf } from "../../policies/share_of.ts";

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
  /** Rows that are trained on: a run has one epoch of Moby-Dick, about three of all else. */
  readonly rows: number;
  /** Largest learning rates, of which each arm takes the best. */
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

/** Arms without freezing: training for a shorter time, with a schedule of its own. */
export const SHORTER: readonly Arm[] = ["1/2 of the steps", "3/4 of the steps", "full"];

/** Arms that stop full training at a share of its steps, which a user who trains shorter may do, too. */
export const STOPPED: readonly Arm[] = ["stop at alpha T", "stop at 4/5 T"];

/**
 * Arms that are read off the full training of the same rate and seed: until they end they are the same training, bit for bit.
 * Only early stopping pays for validation and for copies of its best weights.
 */
export const OF_FULL: readonly Arm[] = ["full", "stop at alpha T", "stop at 4/5 T", "early stopping"];

const SMOLLM2 = { model: "smollm2", rank: null, rates: [2e-5, 6e-5, 1.8e-4] } as const;
/** A new head takes a higher rate than all else. */
const CLASSES = { ...SMOLLM2, rates: [5e-5, 1.5e-4, 4.5e-4] } as const;
const LORA = { model: "smollm2", rank: 8, rates: [3e-4, 1e-3, 3e-3] } as const;
const MINILM = { model: "minilm", rank: null, rates: [1e-4, 3e-4, 1e-3] } as const;
const MOBY = { data: "moby", batch: 8, length: 256, rows: 960 } as const;
const INSTRUCTION = { data: "instruction", batch: 16, length: 128, rows: 640 } as const;
const BANKING = { batch: 64, length: 32, rows: 2560 } as const;
const SPAM = { batch: 32, length: 64, rows: 1280 } as const;

/** The core tasks. */
export const TASKS: readonly StudyTask[] = [
  { name: "moby-full", ...SMOLLM2, ...MOBY },
  { name: "moby-lora", ...LORA, ...MOBY },
  { name: "instruction-full", ...SMOLLM2, ...INSTRUCTION },
  { name: "instruction-lora", ...LORA, ...INSTRUCTION },
  { name: "banking77-minilm", ...MINILM, ...BANKING, data: "banking77-minilm" },
  { name: "banking77-smollm2", ...CLASSES, ...BANKING, data: "banking77-smollm2" },
  { name: "spam-minilm", ...MINILM, ...SPAM, data: "spam-minilm" },
  { name: "spam-smollm2", ...CLASSES, ...SPAM, data: "spam-smollm2" },
];

/** How long all train, and by what. */
export interface StudyLength {
  /** Planned optimizer steps, T. */
  readonly steps: number;
  /** Steps between looks; early stopping validates at each, 5 % of the steps as in the paper of GradES. */
  readonly look: number;
  /** Steps between points of a curve. */
  readonly judge: number;
}

/** The whole plan. */
export interface StudyPlan extends StudyLength {
  readonly tasks: readonly StudyTask[];
  readonly arms: readonly Arm[];
  /** Seed by which rates and tau are chosen; no final run uses it. */
  readonly tuningSeed: number;
  readonly finalSeeds: readonly number[];
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
  judge: 30,
  tuningSeed: 100,
  finalSeeds: [1, 2, 3, 4, 5],
};

/** One seed of what else is of interest, at the rate that is best for full training. */
export const BREADTH: StudyPlan = {
  ...PLAN,
  arms: BREADTH_ARMS,
  finalSeeds: [1],
};

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
