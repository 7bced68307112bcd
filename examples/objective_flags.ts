/**
 * Flags of objectives besides the next token: preferences, feedback, a reward head, a teacher.
 *
 * @module
 */

import type { Gpu, LossOn, Model, TokenBatch } from "@firn/train";
import {
  distillationLoss,
  dpoLoss,
  type FullPairBatch,
  ktoLoss,
  type Objective,
  orpoLoss,
  rewardLoss,
} from "@firn/train/objectives";
import {
  type Flag,
  fromZero,
  oneOf,
  positive,
  share,
  text,
  toggle,
  topic,
  UsageError,
  type Values,
} from "./flags.ts";
import { locateModel } from "./hub.ts";
import { loadShown } from "./load_model.ts";

/** Flags of objectives. */
export const OBJECTIVE_FLAGS: {
  readonly dpo: Flag<boolean>;
  readonly orpo: Flag<boolean>;
  readonly kto: Flag<boolean>;
  readonly reward: Flag<boolean>;
  readonly distill: Flag<string | null>;
  readonly beta: Flag<number>;
  readonly "loss-type": Flag<"sigmoid" | "ipo" | "hinge">;
  readonly "desirable-weight": Flag<number>;
  readonly "undesirable-weight": Flag<number>;
  readonly "center-rewards": Flag<number>;
  readonly divergence: Flag<"forward" | "reverse" | "jsd">;
  readonly "distill-temperature": Flag<number>;
  readonly "distill-labels": Flag<number>;
} = topic("objective", {
  dpo: toggle(
    "prefer the better of two answers (DPO): rows with chosen and rejected, and perhaps a prompt; with --lora the reference " +
      "is the model with the adapter off",
  ),
  orpo: toggle("the same without a reference, beside learning the better answer (ORPO)"),
  kto: toggle(
    "learn answers that are good or not (KTO): rows with prompt, completion and label, or with chosen and rejected",
  ),
  reward: toggle(
    "learn a reward head of one output from rows with chosen and rejected, and perhaps a margin",
  ),
  distill: text("DIR|NAME", "learn the distributions of that model, which has the same vocabulary", null),
  beta: positive("how much --dpo and --kto pay to leave the reference; weight of the odds of --orpo", 0.1),
  "loss-type": oneOf(
    ["sigmoid", "ipo", "hinge"],
    "what --dpo makes of the margin; --label-smoothing goes with sigmoid",
    "sigmoid",
  ),
  "desirable-weight": fromZero("weight of good answers of --kto", 1),
  "undesirable-weight": fromZero("weight of the others", 1),
  "center-rewards": fromZero("factor by which --reward keeps rewards about 0; 0.01 is usual", 0),
  divergence: oneOf(
    ["forward", "reverse", "jsd"],
    "how --distill compares: KL from teacher to student or back, or the Jensen-Shannon divergence",
    "forward",
  ),
  "distill-temperature": positive("what --distill divides scores of both models by", 1),
  "distill-labels": share(
    "share of the labels in the loss of --distill, below 1; the rest is the teacher's",
    0.5,
  ),
});

/** Values of {@link OBJECTIVE_FLAGS}. */
export type ObjectiveFlags = Values<typeof OBJECTIVE_FLAGS>;

/** Objectives of pairs. */
export type PairObjective = "dpo" | "orpo" | "kto" | "reward";

const PAIR_OBJECTIVES: readonly PairObjective[] = ["dpo", "orpo", "kto", "reward"];

/** Flags that belong to some objectives. */
const OF: { readonly [name in keyof ObjectiveFlags]?: readonly (PairObjective | "distill")[] } = {
  beta: ["dpo", "orpo", "kto"],
  "loss-type": ["dpo"],
  "desirable-weight": ["kto"],
  "undesirable-weight": ["kto"],
  "center-rewards": ["reward"],
  divergence: ["distill"],
  "distill-temperature": ["distill"],
  "distill-labels": ["distill"],
};

/** The objective of pairs that is asked for; null for tokens. */
export function pairObjective(flags: Partial<ObjectiveFlags>): PairObjective | null {
  return PAIR_OBJECTIVES.find((name) => flags[name] === true) ?? null;
}

/** What evaluations of a run judge by. */
export function judgedBy(flags: Partial<ObjectiveFlags>): readonly string[] {
  const name = pairObjective(flags);
  if (name === null) return ["loss", "perplexity"];
  return name === "kto" ? ["loss", "margins"] : ["loss", "accuracies", "margins"];
}

/** What {@link checkObjective} looks at. */
type Checked = ObjectiveFlags & {
  readonly batch: number | "auto";
  readonly pack: boolean;
  readonly long: string;
  readonly loss: string;
  readonly "show-batch": number | null;
  readonly validate: number | null;
  readonly policy: string;
  readonly sample: readonly string[];
  readonly "sample-every": number | null;
  readonly "evaluate-on": readonly string[];
  readonly "label-smoothing": number;
  readonly "z-loss": number;
  readonly neftune: number;
  readonly dropout: number | "config";
};

/**
 * Refuses flags that would do nothing, or do not go together.
 *
 * @param flags The flags
 * @throws {UsageError} When they do not
 */
export function checkObjective(flags: Checked): void {
  const asked = [
    ...PAIR_OBJECTIVES.filter((name) => flags[name]),
    ...flags.distill === null ? [] : ["distill"],
  ];
  if (asked.length > 1) throw new UsageError(`--${asked[0]} and --${asked[1]} are two objectives: give one`);
  const [name] = asked;
  for (const [flag, owners] of Object.entries(OF)) {
    const key = flag as keyof ObjectiveFlags;
    if (flags[key] === OBJECTIVE_FLAGS[key].fallback || owners.some((owner) => owner === name)) continue;
    throw new UsageError(
      `--${flag} is for ${owners.map((owner) => `--${owner}`).join(", ")}: add one of them`,
    );
  }
  if (name === undefined) return;
  if (flags["distill-labels"] === 1) throw new UsageError("--distill-labels must be below 1");
  if (flags.batch === "auto") throw new UsageError(`--${name} needs the size of a batch: --batch N`);
  const smooths = name === "dpo" && flags["loss-type"] === "sigmoid";
  const odd = [
    !smooths && flags["label-smoothing"] !== 0 && "label-smoothing",
    flags["z-loss"] !== 0 && "z-loss",
    flags.neftune !== 0 && "neftune",
    flags.dropout !== "config" && flags.dropout !== 0 && "dropout",
    ...name === "distill" ? [] : [
      flags.pack && "pack",
      flags.long === "split" && "long split",
      flags.loss !== "auto" && "loss",
      flags["show-batch"] !== null && "show-batch",
      (flags.validate !== null || flags.policy === "earlyStopping") && "validate",
      flags["evaluate-on"].length > 0 && "evaluate-on",
      ...name === "reward"
        ? [flags.sample.length > 0 && "sample", flags["sample-every"] !== null && "sample-every"]
        : [],
    ],
  ].find((flag) => flag !== false);
  if (odd !== undefined) throw new UsageError(`--${odd} does not go with --${name}: drop one of both`);
}

/**
 * The objective of pairs that flags ask for.
 *
 * @param model The model
 * @param flags The flags
 * @returns The objective
 */
export function pairObjectiveOf(
  model: Model,
  flags: ObjectiveFlags & { readonly "label-smoothing": number },
): Objective<object, FullPairBatch> {
  const { beta } = flags;
  switch (pairObjective(flags)!) {
    case "dpo":
      return dpoLoss(model, { beta, type: flags["loss-type"], labelSmoothing: flags["label-smoothing"] });
    case "orpo":
      return orpoLoss(model, { beta });
    case "kto": {
      const weights = {
        desirableWeight: flags["desirable-weight"],
        undesirableWeight: flags["undesirable-weight"],
      };
      return ktoLoss(model, { beta, ...weights }) as Objective<object, FullPairBatch>;
    }
    case "reward":
      return rewardLoss(model, { centerCoefficient: flags["center-rewards"] }) as Objective<
        object,
        FullPairBatch
      >;
  }
}

/**
 * The loss of a student, where flags name a teacher.
 *
 * @param gpu The device
 * @param options The student, and the flags
 * @returns The loss; undefined where there is no teacher
 */
export async function distilled(
  gpu: Gpu,
  { base, flags }: { readonly base: Model; readonly flags: ObjectiveFlags },
): Promise<(Objective<object, TokenBatch> & LossOn<TokenBatch>) | undefined> {
  if (flags.distill === null) return undefined;
  const { folder } = await locateModel(flags.distill), teacher = await loadShown(gpu, folder);
  return distillationLoss(base, {
    teacher,
    divergence: flags.divergence,
    temperature: flags["distill-temperature"],
    labels: flags["distill-labels"],
  }) as Objective<object, TokenBatch> & LossOn<TokenBatch>;
}
