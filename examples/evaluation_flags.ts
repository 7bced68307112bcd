/**
 * Flags of evaluation while a model trains.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { followBest, type FollowBestOptions } from "@firn/train/evaluation";
import { type Flag, fromZero, text, texts, topic, UsageError, type Values, whole } from "./flags.ts";

/** The set that is held out of the data. */
export const HELD_OUT = "held-out";

/** Flags of how often, and of the best. */
export const EVERY_FLAGS: {
  readonly "evaluate-every": Flag<number | null>;
  readonly best: Flag<string | null>;
  readonly "stop-after": Flag<number | null>;
  readonly "min-delta": Flag<number>;
} = topic("evaluation", {
  "evaluate-every": everyFlag(),
  best: text(
    "METRIC",
    `keep and save the state that is best by it: loss, perplexity or accuracy, of ${HELD_OUT} or as in SET/loss`,
    null,
  ),
  "stop-after": whole(
    "evaluations without a better --best after which training ends; never when absent",
    null,
  ),
  "min-delta": fromZero("by how much a value must be better to count", 0),
});

/** Flags of sets and samples, besides. */
export const EVALUATION_FLAGS: typeof EVERY_FLAGS & {
  readonly "evaluate-on": Flag<readonly string[]>;
  readonly sample: Flag<readonly string[]>;
} = {
  ...EVERY_FLAGS,
  ...topic("evaluation", {
    "evaluate-on": texts(
      "NAME=FILE",
      `another set for --evaluate-every, besides what is held out: text or rows; may be given several times`,
      [],
    ),
    sample: texts("TEXT", "is continued at each --evaluate-every; may be given several times", []),
  }),
};

function everyFlag(): Flag<number | null> {
  return {
    placeholder: "N|X",
    about: "steps from one evaluation to the next, or their share of all steps, as in 0.1; none when absent",
    fallback: null,
    read: (value) => {
      const n = value.trim() === "" ? NaN : Number(value);
      if (n > 0 && (n < 1 || Number.isSafeInteger(n))) return n;
      throw new InputError("a whole number from 1, or a share below 1");
    },
  };
}

/** Values of {@link EVERY_FLAGS}. */
export type EveryFlags = Values<typeof EVERY_FLAGS>;

/** Values of {@link EVALUATION_FLAGS}. */
export type EvaluationFlags = Values<typeof EVALUATION_FLAGS>;

/** A set that a flag names. */
export interface NamedSet {
  readonly name: string;
  readonly path: string;
}

/**
 * The sets that flags name.
 *
 * @param flags The flags
 * @returns Names and paths
 * @throws {UsageError} When one has no name, or two have the same
 */
export function setsOf({ "evaluate-on": on }: Pick<EvaluationFlags, "evaluate-on">): readonly NamedSet[] {
  const sets = on.map((given) => {
    const [, name, path] = /^([\w.-]+)=(.+)$/.exec(given) ?? [];
    if (name === undefined) throw new UsageError(`--evaluate-on must be NAME=FILE: got "${given}"`);
    return { name, path };
  });
  const names = [HELD_OUT, ...sets.map(({ name }) => name)];
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice === undefined) return sets;
  throw new UsageError(`--evaluate-on must name each set anew: there are two of "${twice}"`);
}

/**
 * Refuses flags that would do nothing, or do not go together.
 *
 * @param flags The flags, and those that `--evaluate-every` may stand beside
 * @param options `sets`: names of the sets; `metrics`: what each is judged by
 * @throws {UsageError} When they do not
 */
export function checkEvaluation(
  flags: EveryFlags & Partial<EvaluationFlags> & { readonly "keep-best"?: boolean },
  { sets, metrics }: { readonly sets: readonly string[]; readonly metrics: readonly string[] },
): void {
  const { best } = flags;
  const idle = (["evaluate-on", "sample", "best"] as const).find((name) => {
    const value = flags[name];
    return Array.isArray(value) ? value.length > 0 : value !== null && value !== undefined;
  });
  if (flags["evaluate-every"] === null && idle !== undefined) {
    throw new UsageError(`--${idle} needs evaluations: add --evaluate-every N`);
  }
  const alone = flags["stop-after"] !== null ? "stop-after" : flags["min-delta"] !== 0 ? "min-delta" : null;
  if (best === null) {
    if (alone !== null) throw new UsageError(`--${alone} needs to know what is better: add --best METRIC`);
    return;
  }
  if (flags["keep-best"]) {
    throw new UsageError("--best and --keep-best both say which state is kept: give one");
  }
  const known = sets.flatMap((set) => metrics.map((metric) => `${set}/${metric}`));
  if (known.includes(metricOf(best))) return;
  throw new UsageError(`--best must be one of ${[...metrics, ...known].join(", ")}: got "${best}"`);
}

/** The name that evaluations have for what `--best` says. */
function metricOf(best: string): string {
  return best.includes("/") ? best : `${HELD_OUT}/${best}`;
}

/**
 * Follows the best state, where flags ask for it.
 *
 * @param flags The flags
 * @param better Which values are better, by name
 * @returns The reducer; null where they do not
 */
export function followOf(
  { best, "stop-after": patience, "min-delta": minDelta }: EveryFlags,
  better: Readonly<Record<string, FollowBestOptions["better"]>>,
): ReturnType<typeof followBest> | null {
  if (best === null) return null;
  const metric = metricOf(best);
  return followBest({ metric, better: better[metric], minDelta, ...patience !== null && { patience } });
}
