/**
 * What training is told: which of it is refused, and how it prints.
 *
 * @module
 */

import type { Gpu } from "../runtime/device.ts";
import type { Precision } from "../plan/types.ts";
import { type Signal, SIGNALS } from "../policy.ts";
import { type Moment, momentPath, type Optimizer } from "../optim/optimizer.ts";
import type { Spec } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
import type { TensorTree, TrainingOptions } from "./types.ts";

/** Updates of the warm-up of what thawed. */
export const THAW_WARMUP = 10;
/** Steps between looks. */
export const LOOK_EVERY = 10;

/** Paths of what is no parameter. */
const RESERVED = /^(loss|ring|(batch|best|optimizer|previous|scaling)(\..*)?)$/;

/**
 * Refuses options that training cannot follow.
 *
 * @throws {RangeError} When a number of steps is none, or the policy asks for a signal that there is not
 */
export function checkOptions(options: TrainingOptions<TensorTree>): void {
  const { steps, lookEvery = LOOK_EVERY, thawWarmup = THAW_WARMUP } = options;
  if (!(Number.isInteger(steps) && steps >= 1)) {
    throw new RangeError(`Cannot train for ${steps} steps as "steps" must be a whole number above 0`);
  }
  if (!(Number.isInteger(lookEvery) && lookEvery >= 1)) {
    throw new RangeError(
      `Cannot look every ${lookEvery} steps as "lookEvery" must be a whole number above 0`,
    );
  }
  const { cachePrefix, policy } = options;
  if (
    typeof cachePrefix === "object" && !(Number.isSafeInteger(cachePrefix.bytes) && cachePrefix.bytes >= 1)
  ) {
    throw new RangeError(
      `Cannot cache ${cachePrefix.bytes} bytes as "cachePrefix.bytes" must be a whole number above 0`,
    );
  }
  if (!(Number.isInteger(thawWarmup) && thawWarmup >= 0)) {
    throw new RangeError(
      `Cannot warm up for ${thawWarmup} steps as "thawWarmup" must be a whole number, 0 or more`,
    );
  }
  const unknown = policy?.signals.find((signal) => !SIGNALS.includes(signal));
  if (unknown !== undefined) {
    throw new RangeError(
      `Cannot measure "${unknown}" for "${policy!.name}" as the signals are ${SIGNALS.join(", ")}`,
    );
  }
}

/**
 * Refuses a precision that a device does not have.
 *
 * @throws {TypeError} When it is f16 and the adapter has no shader-f16
 */
export function checkPrecision({ name, features }: Gpu, precision: Precision = "f32"): void {
  if (precision === "f32" || features.has("shader-f16")) return;
  throw new TypeError(`Cannot train with precision "f16" as "${name}" has no shader-f16: use "f32"`);
}

/**
 * Finds the moment that a signal measures: the one of its meaning that has the shape of the parameter.
 *
 * @param optimizer The optimizer
 * @param signal The signal
 * @returns The moment; undefined where the signal measures none, or the optimizer keeps none of that meaning
 */
export function momentOf({ moments }: Optimizer, signal: Signal): Moment | undefined {
  return moments.find(({ meaning, shape }) => meaning === signal && shape === undefined);
}

/**
 * Refuses an optimizer whose state is not what it declares, and a policy that asks for moments which the optimizer does
 * not keep: that policy would wait for them forever.
 *
 * @param options Policy and optimizer
 * @param params Parameters that are trained
 * @throws {TypeError} When it is so
 */
export function checkMoments(
  { policy, optimizer }: Pick<TrainingOptions<TensorTree>, "policy" | "optimizer">,
  params: Leaves,
): void {
  const trainable = [...params.keys()];
  const declared = new Set(
    trainable.flatMap((path) => optimizer.moments.map((moment) => momentPath(moment, path))),
  );
  const shared = optimizer.init(new Map(), trainable);
  for (const path of optimizer.init(params, trainable).keys()) {
    if (declared.has(path) || shared.has(path)) continue;
    throw new TypeError(
      `Cannot train with "${optimizer.name}" as its state "${path}" is neither a moment that it declares nor shared ` +
        "state that stays when all parameters are frozen",
    );
  }
  for (const signal of policy?.signals ?? []) {
    if ((signal !== "firstMoment" && signal !== "secondMoment") || momentOf(optimizer, signal)) continue;
    throw new TypeError(
      `Cannot measure "${signal}" for "${
        policy!.name
      }" as "${optimizer.name}" keeps no such moment: train with adamW`,
    );
  }
}

/** The training in words: only one that prints the same can go on with a saved state. */
export function settingsOf(options: TrainingOptions<TensorTree>): string {
  const { optimizer, policy, steps, lookEvery = LOOK_EVERY, thawWarmup = THAW_WARMUP } = options;
  const { validation, precision = "f32" } = options;
  return [
    optimizer.name,
    policy?.name ?? "no policy",
    `${steps} steps`,
    `a look every ${lookEvery}`,
    ...(thawWarmup === THAW_WARMUP ? [] : [`${thawWarmup} steps of warm-up after a thaw`]),
    ...(validation === undefined ? [] : [`a validation every ${validation.every}`]),
    ...(precision === "f32" ? [] : [precision]),
  ].join(", ");
}

/**
 * Refuses a parameter whose name training needs itself.
 *
 * @throws {TypeError} When it does
 */
export function checkName(path: Path): void {
  if (!RESERVED.test(path)) return;
  throw new TypeError(
    `Cannot train "${path}" as training keeps values of its own under that name: rename it`,
  );
}

/**
 * Refuses to train what is stored as bf16.
 *
 * @throws {TypeError} When it is
 */
export function checkTrained(path: Path, { dtype }: Spec): void {
  if (dtype !== "bf16") return;
  throw new TypeError(
    `Cannot train "${path}" as it is stored as bf16, which holds no small changes: ` +
      'train a LoRA adapter, or load the model with storage "f32"',
  );
}
