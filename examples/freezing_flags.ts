/**
 * Flags about freezing.
 *
 * @module
 */

import { flatten, type Model } from "@firn/train";
import { bitFit } from "@firn/train/policies";
import { type Flag, oneOf, positive, share, text, toggle, topic, UsageError } from "./flags.ts";
import { isLora, type LoraFlags } from "./lora_flags.ts";
import { POLICY, VALIDATE } from "./policies.ts";

/** What gradES may compare. */
type Metric = "gradNorm" | "gradDelta" | "weightDelta";

/** The flags about gradES. */
export const GRAD_ES_FLAGS: {
  readonly tau: Flag<number | null>;
  readonly alpha: Flag<number>;
  readonly metric: Flag<Metric>;
} = {
  tau: positive("threshold of gradES; when absent it finds one in the readings of its first steps", null),
  alpha: share("share of the steps in which gradES freezes nothing", 0.5),
  metric: oneOf<Metric>(
    ["gradNorm", "gradDelta", "weightDelta"],
    "what gradES compares with tau",
    "gradNorm",
  ),
};

/** What may train. */
type Trained = "all" | "biases" | "biases+norms";

/** Signals that `--record all` stands for: what the policies by name read, but for the moments that only Adam has. */
const RECORDED = ["gradNorm", "gradSquare", "benefit"];

/** Signals of Adam and of what is made of it. */
const MOMENTS = ["firstMoment", "secondMoment"];

/** The flag about the cache. */
const CACHE_PREFIX: Flag<boolean> = toggle(
  "keep on the device what a frozen bottom makes of each sample, and leave its layers out of later epochs: with a policy that " +
    "freezes from the bottom, such as bottomFreeze, and without dropout",
);

/** The flags about freezing of a command that freezes nothing unless it is asked to. */
export const PLAIN_FREEZING_FLAGS: { readonly policy: Flag<string>; readonly "cache-prefix": Flag<boolean> } =
  topic("freezing", { policy: { ...POLICY, fallback: "none" }, "cache-prefix": CACHE_PREFIX });

/** The flags of a command whose policy may be any. */
export const FREEZING_FLAGS: typeof GRAD_ES_FLAGS & {
  readonly policy: Flag<string>;
  readonly "cache-prefix": Flag<boolean>;
  readonly train: Flag<Trained>;
  readonly record: Flag<string | null>;
  readonly validate: Flag<number | null>;
} = topic("freezing", {
  policy: POLICY,
  ...GRAD_ES_FLAGS,
  "cache-prefix": CACHE_PREFIX,
  train: oneOf<Trained>(
    ["all", "biases", "biases+norms"],
    "which weights train at all: biases (BitFit), also with the gains of norms; with --policy none",
    "all",
  ),
  record: text(
    "SIGNALS",
    "signals to measure besides, with commas, for ./firn simulate; all: those of all policies by name",
    null,
  ),
  validate: VALIDATE,
});

/**
 * A model of which only what `--train` says trains.
 *
 * @param model The model
 * @param flags The flag
 * @returns The model
 * @throws {InputError} When it has nothing of that
 */
export function trainedPart(model: Model, { train }: { readonly train: Trained }): Model {
  return train === "all"
    ? model
    : { ...model, trainable: bitFit(flatten(model.params), { norms: train === "biases+norms" }) };
}

/**
 * Refuses flags that do not go with `--train`.
 *
 * @param flags The flags
 * @throws {UsageError} When they do not
 */
export function checkTrained(
  { train, policy, reward, ...flags }: LoraFlags & {
    readonly train: Trained;
    readonly policy: string;
    readonly reward: boolean;
  },
): void {
  if (train === "all") return;
  if (isLora(flags)) throw new UsageError(`--train ${train} and an adapter both say what trains: give one`);
  if (reward) throw new UsageError(`--reward trains a new head, which --train ${train} would leave as it is`);
  if (policy !== "none") {
    throw new UsageError(
      `--train ${train} leaves no matrices that --policy ${policy} could freeze: add --policy none`,
    );
  }
}

/**
 * Refuses a cache of steps that are none of one batch.
 *
 * @param flags The flags
 * @throws {UsageError} When they do not go together
 */
export function checkCached(
  { "cache-prefix": cached, accumulate }: { readonly "cache-prefix": boolean; readonly accumulate: number },
): void {
  if (cached && accumulate > 1) {
    throw new UsageError(
      "--cache-prefix leaves out parts of whole steps, and --accumulate makes them of several: give one",
    );
  }
}

/**
 * The signals of `--record`.
 *
 * @param flags The flag, and the optimizer's name
 * @returns Their names; none when absent
 * @throws {UsageError} When a name is empty
 */
export function recordedOf(
  { record, optimizer }: { readonly record: string | null; readonly optimizer: string },
): readonly string[] {
  if (record === null) return [];
  if (record === "all") return optimizer.startsWith("adam") ? [...RECORDED, ...MOMENTS] : RECORDED;
  const names = record.split(",");
  if (names.every((name) => name !== "")) return names;
  throw new UsageError(`--record takes names of signals with commas between, or all: got "${record}"`);
}
