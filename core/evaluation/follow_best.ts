/**
 * Which evaluation was the best, and when none gets better any more: a reducer over evaluations.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Evaluation } from "./evaluator.ts";

/** Options of {@link followBest}. */
export interface FollowBestOptions {
  /** The value that decides, by the name that evaluations have: `"held-out/loss"`. */
  readonly metric: string;
  /** Which values are better; lower ones when absent. */
  readonly better?: "lower" | "higher";
  /** Evaluations without improvement after which training is to stop; never when absent. */
  readonly patience?: number;
  /** By how much a value must be better to count; 0 when absent. */
  readonly minDelta?: number;
}

/** What is known of the best evaluation so far. JSON. */
export type Best = {
  /** Its step; null before the first one with a finite value. */
  readonly step: number | null;
  /** Its value. */
  readonly value: number | null;
  /** Evaluations since then. */
  readonly since: number;
  /** Whether training is to stop. */
  readonly stop: boolean;
};

/** A reducer over evaluations. */
export interface BestReducer {
  /** What is known before the first one. */
  readonly init: Best;
  /**
   * What is known after one more. It is the best so far where `step` is its step. A value that is not finite is no improvement.
   *
   * @throws {InputError} When it has no such value
   */
  next(best: Best, evaluation: Evaluation): Best;
}

/**
 * Follows the best evaluation, as `EarlyStoppingCallback` of transformers does: an evaluation that is better than the best one
 * by more than `minDelta` becomes the best one; after `patience` others training is to stop.
 *
 * @param options The value, and when to stop
 * @returns The reducer
 * @throws {InputError} When `patience` is not a whole number from 1, or `minDelta` not a number from 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { followBest } from "@firn/train/evaluation";
 *
 * const { init, next } = followBest({ metric: "held-out/loss", patience: 2 });
 * const losses = [3, 2, 2.5, 2], steps = losses.map((loss, i) => ({ step: 10 * i, values: { "held-out/loss": loss } }));
 * assertEquals(steps.reduce(next, init), { step: 10, value: 2, since: 2, stop: true });
 * ```
 */
export function followBest(
  { metric, better = "lower", patience = Infinity, minDelta = 0 }: FollowBestOptions,
): BestReducer {
  if (!(patience === Infinity || Number.isSafeInteger(patience) && patience >= 1)) {
    throw new InputError(`Cannot stop early as "patience" must be a whole number from 1: got ${patience}`);
  }
  if (!(minDelta >= 0 && minDelta < Infinity)) {
    throw new InputError(`Cannot stop early as "minDelta" must be a number from 0: got ${minDelta}`);
  }
  return {
    init: { step: null, value: null, since: 0, stop: false },
    next(best, { step, values }) {
      if (!Object.hasOwn(values, metric)) {
        throw new InputError(
          `Cannot find the best by "${metric}" as it must be one of ${Object.keys(values).join(", ")}`,
        );
      }
      const value = values[metric],
        gain = best.value === null ? Infinity : better === "lower" ? best.value - value : value - best.value;
      if (Number.isFinite(value) && gain > minDelta) return { step, value, since: 0, stop: false };
      const since = best.since + 1;
      return { ...best, since, stop: since >= patience };
    },
  };
}
