/**
 * The options of a training: defaults and checks.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { productUnit } from "../../kernels/matrix_unit.ts";
import { InputError } from "../errors.ts";
import type { Gpu } from "../runtime/device.ts";
import type { Precision } from "../plan/types.ts";
import { isPacked, type Spec } from "../spec.ts";
import type { Path, TensorTree } from "../tree.ts";
import type { TrainingOptions } from "./types.ts";

/** Default number of warm-up updates after a thaw. */
export const THAW_WARMUP = 10;
/** What training can do where a loss or a gradient is not finite. */
const NON_FINITE: readonly string[] = ["stop", "skip", "rollback"];
/** Default number of bytes of a cache of a frozen prefix. */
export const PREFIX_BYTES = 2 ** 30;
/** Default number of steps between looks. */
export const LOOK_EVERY = 10;

/**
 * Refuses options that training cannot follow.
 *
 * @throws {InputError} When a number is out of its range
 */
export function checkOptions(options: TrainingOptions<TensorTree>): void {
  if (typeof options !== "object" || options === null) {
    throw new InputError(`Cannot train as "options" must be a record: got ${shown(options)}`);
  }
  const { steps, lookEvery = LOOK_EVERY, thawWarmup = THAW_WARMUP } = options;
  if (!(Number.isInteger(steps) && steps >= 1)) {
    throw new InputError(`Cannot train for ${steps} steps as "steps" must be a whole number above 0`);
  }
  if (!(Number.isInteger(lookEvery) && lookEvery >= 1)) {
    throw new InputError(
      `Cannot look every ${lookEvery} steps as "lookEvery" must be a whole number above 0`,
    );
  }
  const { cachePrefix } = options;
  if (
    typeof cachePrefix === "object" && !(Number.isSafeInteger(cachePrefix.bytes) && cachePrefix.bytes >= 1)
  ) {
    throw new InputError(
      `Cannot cache ${cachePrefix.bytes} bytes as "cachePrefix.bytes" must be a whole number above 0`,
    );
  }
  if (!(Number.isInteger(thawWarmup) && thawWarmup >= 0)) {
    throw new InputError(
      `Cannot warm up for ${thawWarmup} steps as "thawWarmup" must be a whole number, 0 or more`,
    );
  }
  const { accumulate = 1 } = options;
  if (!(Number.isInteger(accumulate) && accumulate >= 1)) {
    throw new InputError(
      `Cannot accumulate ${accumulate} batches as "accumulate" must be a whole number above 0`,
    );
  }
  if (accumulate > 1 && (cachePrefix ?? false) !== false) {
    throw new InputError('Cannot accumulate batches as "cachePrefix" caches whole steps: drop one of both');
  }
  checkRanks(options);
  memoryLimit(options);
  const { nonFinite = "stop" } = options;
  if (!NON_FINITE.includes(nonFinite)) {
    throw new InputError(
      `Cannot train as "nonFinite" must be one of ${NON_FINITE.join(", ")}: got ${shown(nonFinite)}`,
    );
  }
}

/** Refuses ranks with options that do not go with them. */
function checkRanks(
  { ranks, cachePrefix = false }: Pick<TrainingOptions<TensorTree>, "ranks" | "cachePrefix">,
): void {
  if (ranks === undefined) return;
  const isRank = Number.isInteger(ranks.size) && ranks.rank >= 0 && ranks.rank < ranks.size;
  if (!isRank) throw new InputError('Cannot train as "ranks" must be what openRanks() gives');
  if (cachePrefix !== false) {
    throw new InputError(
      'Cannot train on several ranks as "cachePrefix" caches whole steps: drop one of both',
    );
  }
}

/** What a training may take on the device. */
export interface MemoryLimit {
  /** Bytes in all. */
  readonly budget: number;
  /** Bytes of them for cached values of a frozen prefix. */
  readonly reserved: number;
}

/** Bytes of a unit of memory. */
const UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/**
 * The bytes that training may take.
 *
 * @throws {InputError} When `memory` is neither a number of bytes nor a number with a unit
 */
export function memoryLimit(
  { memory, cachePrefix = false }: Pick<TrainingOptions<TensorTree>, "memory" | "cachePrefix">,
): MemoryLimit | null {
  if (memory === undefined) return null;
  const [, number, unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B)?\s*$/i.exec(`${memory}`) ?? [];
  const budget = Math.floor(Number(number) * (UNITS[unit.toUpperCase() || "B"] ?? NaN));
  if (Number.isSafeInteger(budget) && budget >= 1) {
    const reserved = cachePrefix === true ? PREFIX_BYTES : cachePrefix === false ? 0 : cachePrefix.bytes;
    return { budget, reserved };
  }
  throw new InputError(
    `Cannot train in ${
      shown(memory)
    } of memory as "memory" must be a number of bytes, or one with a unit, such as "8 GiB"`,
  );
}

/**
 * Refuses a precision that a device does not support.
 *
 * @throws {InputError} When it is f16 and the adapter has no shader-f16, or f32x3 and it has no matrix units
 */
export function checkPrecision(
  { name, features, target }: Gpu,
  precision: Precision = "f32",
): void {
  if (precision === "f32x3") {
    if (productUnit(target) !== undefined) return;
    // A device of Dawn has been asked for what it has.
    const dawn = name.includes("(dawn") ? "" : 'open it with gpu: "dawn" (--gpu dawn), or ';
    throw new InputError(
      `Cannot train with precision "f32x3" as "${name}" offers no matrix units of f16 operands and f32 sums: ` +
        `${dawn}use "f32"`,
    );
  }
  if (precision === "f32" || features.has("shader-f16")) return;
  throw new InputError(`Cannot train with precision "f16" as "${name}" has no shader-f16: use "f32"`);
}

/**
 * Refuses to train a parameter that is stored in fewer bytes than f32.
 *
 * @throws {InputError} When it is
 */
export function checkTrained(path: Path, { dtype }: Spec): void {
  if (!isPacked(dtype)) return;
  throw new InputError(
    `Cannot train "${path}" as it is stored as ${dtype}, which holds no small changes: ` +
      'train a LoRA adapter, or load the model with storage "f32"',
  );
}
