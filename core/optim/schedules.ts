/**
 * Learning-rate schedules: functions from the 1-based step to a rate.
 *
 * @module
 */

import { checkRange, refuse } from "../arguments.ts";

/** Learning rate by 1-based step. A function of one's own may add the description. */
export interface Schedule {
  (step: number): number;
  /** The call that makes it, with all settings; names of optimizers print it. They print `schedule` when it is absent. */
  readonly description?: string;
}

/**
 * Makes a schedule of a learning rate.
 *
 * @param op The function that was called
 * @param rate Rate, or rate by step
 * @returns Rate by step; those of a schedule are checked when training is defined
 * @throws {InputError} When it is neither a number from 0 nor a function
 */
export function scheduleOf(op: string, rate: number | Schedule): Schedule {
  if (typeof rate === "function") return rate;
  if (!(typeof rate === "number" && rate >= 0 && rate < Infinity)) {
    refuse(op, '"learningRate" must be a number from 0, or a schedule', rate);
  }
  return () => rate;
}

/**
 * How a learning rate prints in the name of an optimizer.
 *
 * @param rate Rate, or rate by step
 * @returns The number, or the description of the schedule
 */
export function printRate(rate: number | Schedule): string {
  return typeof rate === "number" ? `${rate}` : rate.description ?? "schedule";
}

/** Options that every schedule has. */
export interface ScheduleOptions {
  /** Largest rate. */
  readonly peak: number;
  /** Steps of linear warm-up; the rate of step `s <= warmup` is `peak * s / warmup`. 0 when absent. */
  readonly warmup?: number;
}

/** Options of the schedules that fall. */
export interface DecayOptions extends ScheduleOptions {
  /** Planned steps; the last one has rate `floor`. */
  readonly steps: number;
  /** Rate at the end; 0 when absent. */
  readonly floor?: number;
}

/**
 * Adds warm-up to the rates after it, and the description.
 *
 * @param options Peak and warm-up
 * @param rest Name and settings, as they print, and the rate of a step after warm-up
 * @returns The schedule
 * @throws {InputError} When a number is out of its range
 */
export function withWarmup(
  { peak, warmup = 0 }: ScheduleOptions,
  rest: { readonly name: string; readonly settings: string; readonly after: (step: number) => number },
): Schedule {
  const { name, settings, after } = rest;
  checkRange(name, { peak, warmup }, { least: 0 });
  return Object.assign((step: number): number => step <= warmup ? peak * step / warmup : after(step), {
    description: `${name}(${peak}, warmup ${warmup}${settings})`,
  });
}

/**
 * Adds warm-up and description to rates that fall from `peak` to `floor`.
 *
 * @param options Peak, warm-up, length and floor
 * @param fall Name and further settings, as they print, and the share of the fall that is left at a progress from 0 to 1
 * @returns The schedule
 * @throws {InputError} When a number is out of its range
 */
export function decay(
  options: DecayOptions,
  { name, share, more = "" }: {
    readonly name: string;
    readonly share: (progress: number) => number;
    readonly more?: string;
  },
): Schedule {
  const { peak, steps, floor = 0 } = options;
  checkRange(name, { floor }, { least: 0 });
  checkRange(name, { steps }, { least: 1 });
  return withWarmup(options, {
    name,
    settings: `, steps ${steps}, floor ${floor}${more}`,
    after: (step) => floor + (peak - floor) * share(progress(options, step)),
  });
}

/** How far a step is from the end of warm-up (0) to the last step (1). */
function progress({ warmup = 0, steps }: DecayOptions, step: number): number {
  return Math.min(1, Math.max(0, (step - warmup) / Math.max(1, steps - warmup)));
}

/**
 * The same rate throughout, after warm-up.
 *
 * @param options Rate and warm-up
 * @returns The schedule
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { constantRate } from "@firn/train";
 *
 * const rate = constantRate({ peak: 2, warmup: 4 });
 * assertEquals([rate(1), rate(4), rate(100)], [0.5, 2, 2]);
 * ```
 */
export function constantRate(options: ScheduleOptions): Schedule {
  return withWarmup(options, { name: "constantRate", settings: "", after: () => options.peak });
}

/**
 * Falls in a straight line to `floor` at the last step.
 *
 * @param options Rate, warm-up and length
 * @returns The schedule
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { linearRate } from "@firn/train";
 *
 * const rate = linearRate({ peak: 1, steps: 4 });
 * assertEquals([rate(1), rate(2), rate(4)], [0.75, 0.5, 0]);
 * ```
 */
export function linearRate(options: DecayOptions): Schedule {
  return decay(options, { name: "linearRate", share: (progress) => 1 - progress });
}

/**
 * Falls along half a cosine to `floor` at the last step.
 *
 * Source: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5, without restarts.
 *
 * @param options Rate, warm-up and length
 * @returns The schedule
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { cosine } from "@firn/train";
 *
 * const rate = cosine({ peak: 1, warmup: 10, steps: 110 });
 * assertAlmostEquals(rate(5), 0.5);
 * assertAlmostEquals(rate(60), 0.5);
 * assertAlmostEquals(rate(110), 0);
 * ```
 */
export function cosine(options: DecayOptions): Schedule {
  return decay(options, { name: "cosine", share: (progress) => 0.5 * (1 + Math.cos(Math.PI * progress)) });
}

/** Options of {@link polynomialRate}. */
export interface PolynomialOptions extends DecayOptions {
  /** Exponent of the share of steps that are left; 1, a straight line, when absent. */
  readonly power?: number;
}

/**
 * Falls with a power of the steps that are left to `floor` at the last step.
 *
 * @param options Rate, warm-up, length and power
 * @returns The schedule
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { polynomialRate } from "@firn/train/optim";
 *
 * const rate = polynomialRate({ peak: 1, steps: 4, power: 2 });
 * assertEquals([rate(1), rate(2), rate(4)], [0.5625, 0.25, 0]);
 * ```
 */
export function polynomialRate({ power = 1, ...options }: PolynomialOptions): Schedule {
  checkRange("polynomialRate", { power }, { least: 0 });
  return decay(options, {
    name: "polynomialRate",
    share: (progress) => (1 - progress) ** power,
    more: `, power ${power}`,
  });
}

/** Options of {@link inverseRootRate}. */
export interface InverseRootOptions extends ScheduleOptions {
  /** Steps until the rate is the peak over the root of 2, without warm-up; those of warm-up, or 10000, when absent. */
  readonly timescale?: number;
}

/**
 * Falls with one over the root of the step, and never ends.
 *
 * Source: Vaswani et al., "Attention Is All You Need", arXiv 1706.03762, equation 3, as transformers has it.
 *
 * @param options Rate, warm-up and time scale
 * @returns The schedule
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { inverseRootRate } from "@firn/train/optim";
 *
 * const rate = inverseRootRate({ peak: 1, warmup: 4 });
 * assertEquals([rate(2), rate(4), rate(16), rate(64)], [0.5, 1, 0.5, 0.25]);
 * ```
 */
export function inverseRootRate({ timescale, ...options }: InverseRootOptions): Schedule {
  const { peak, warmup = 0 } = options, scale = timescale ?? (warmup || 10_000);
  checkRange("inverseRootRate", { timescale: scale }, { least: Number.MIN_VALUE });
  return withWarmup(options, {
    name: "inverseRootRate",
    settings: `, timescale ${scale}`,
    after: (step) => peak * Math.sqrt(scale / (step + scale - warmup)),
  });
}
