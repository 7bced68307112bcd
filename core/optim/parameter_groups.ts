/**
 * One optimizer with other settings for some parameters.
 *
 * @module
 */

import { checkRange } from "../arguments.ts";
import type { PathPattern } from "./glob.ts";
import type { Optimizer } from "./optimizer.ts";
import { partition } from "./partition.ts";
import { printRate, type Schedule } from "./schedules.ts";

/** Options of an optimizer that has a rate. */
export interface RateOptions {
  /** Rate, or rate by step. */
  readonly learningRate: number | Schedule;
}

/** Settings of a group: a factor of the rate, and options in place of those of all. */
export type GroupSettings<O extends RateOptions> = Partial<O> & {
  /** Factor of the rate of all others; 1 when absent. */
  readonly rate?: number;
};

/**
 * Makes an optimizer whose settings differ for some parameters. The first group that matches a path counts.
 *
 * @param make What makes the optimizer, such as `adamW`
 * @param options Its options for all others
 * @param groups Globs over paths, and what is different there
 * @returns A {@link partition}
 * @throws {InputError} When a factor is no number from 0, or an option is one that the optimizer refuses
 *
 * @example A table that learns slower, and adapters that do not decay
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW } from "@firn/train";
 * import { parameterGroups } from "@firn/train/optim";
 *
 * const optimizer = parameterGroups(adamW, { learningRate: 0.1 }, [
 *   ["*embed*", { rate: 0.5 }],
 *   ["*.lora_*", { weightDecay: 0 }],
 * ]);
 * assertEquals(
 *   optimizer.name,
 *   'partition(["*embed*"]: adamW(0.05, weightDecay 0.01), ["*.lora_*"]: adamW(0.1, weightDecay 0), ' +
 *     '["*"]: adamW(0.1, weightDecay 0.01))',
 * );
 * ```
 */
export function parameterGroups<O extends RateOptions>(
  make: (options: O) => Optimizer,
  options: NoInfer<O>,
  groups: readonly (readonly [pattern: PathPattern, settings: GroupSettings<NoInfer<O>>])[],
): Optimizer {
  const parts = groups.map(([pattern, { rate = 1, ...settings }]) => {
    checkRange("parameterGroups", { rate }, { least: 0 });
    const learningRate = times(options.learningRate, rate);
    return [pattern, make({ ...options, learningRate, ...settings })] as const;
  });
  return parts.length === 0 ? make(options) : partition([...parts, ["*", make(options)]]);
}

/**
 * A multiple of a rate.
 *
 * @param rate Rate, or rate by step
 * @param factor The factor
 * @returns The product
 */
export function times(rate: number | Schedule, factor: number): number | Schedule {
  if (typeof rate !== "function") return rate * factor;
  if (factor === 1) return rate;
  const description = `${factor} * ${printRate(rate)}`;
  return Object.assign((step: number): number => factor * rate(step), { description });
}
