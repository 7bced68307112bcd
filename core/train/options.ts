/**
 * The options of a training: defaults, checks, and how they print.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Gpu } from "../runtime/device.ts";
import type { Precision } from "../plan/types.ts";
import type { Schedule } from "../optim/schedules.ts";
import { SIGNALS } from "../policy.ts";
import type { Spec } from "../spec.ts";
import { fingerprint, wordsOf } from "../fingerprint.ts";
import { type HostData, hostValues } from "../sources.ts";
import { flatten, type Path, type TensorTree } from "../tree.ts";
import type { TrainingOptions } from "./types.ts";

/** Default number of warm-up updates after a thaw. */
export const THAW_WARMUP = 10;
/** Default number of steps between looks. */
export const LOOK_EVERY = 10;

/**
 * Refuses options that training cannot follow.
 *
 * @throws {InputError} When a number is out of its range, or the policy asks for an unknown signal
 */
export function checkOptions(options: TrainingOptions<TensorTree>): void {
  const { steps, lookEvery = LOOK_EVERY, thawWarmup = THAW_WARMUP } = options;
  if (!(Number.isInteger(steps) && steps >= 1)) {
    throw new InputError(`Cannot train for ${steps} steps as "steps" must be a whole number above 0`);
  }
  if (!(Number.isInteger(lookEvery) && lookEvery >= 1)) {
    throw new InputError(
      `Cannot look every ${lookEvery} steps as "lookEvery" must be a whole number above 0`,
    );
  }
  const { cachePrefix, policy } = options;
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
  const unknown = policy?.signals.find((signal) => !SIGNALS.includes(signal));
  if (unknown !== undefined) {
    throw new InputError(
      `Cannot measure "${unknown}" for "${policy!.name}" as the signals are ${SIGNALS.join(", ")}`,
    );
  }
}

/**
 * Refuses a precision that a device does not support.
 *
 * @throws {InputError} When it is f16 and the adapter has no shader-f16
 */
export function checkPrecision({ name, features }: Gpu, precision: Precision = "f32"): void {
  if (precision === "f32" || features.has("shader-f16")) return;
  throw new InputError(`Cannot train with precision "f16" as "${name}" has no shader-f16: use "f32"`);
}

/** The settings of a training as text: a saved state can continue only under equal settings. */
export function settingsOf(options: TrainingOptions<TensorTree>): string {
  const { optimizer, policy, steps, lookEvery = LOOK_EVERY, thawWarmup = THAW_WARMUP } = options;
  const { validation, precision = "f32" } = options, { learningRate } = optimizer;
  return [
    optimizer.name,
    policy?.name ?? "no policy",
    `${steps} steps`,
    `a look every ${lookEvery}`,
    ...(thawWarmup === THAW_WARMUP ? [] : [`${thawWarmup} steps of warm-up after a thaw`]),
    ...(validation === undefined
      ? []
      : [`a validation every ${validation.every}`, `validated by ${fingerprintOf(validation.batches)}`]),
    ...(precision === "f32" ? [] : [precision]),
    ...(options.data === undefined ? [] : [`data ${options.data}`]),
    // A schedule of one's own has no name, but it has rates.
    ...(learningRate === undefined ? [] : [`rates ${fingerprint(ratesOf(learningRate, steps))}`]),
  ].join(", ");
}

/**
 * The settings of a run: those of the training, and which parameters it trains.
 *
 * @param settings Settings of the training
 * @param params Paths of all parameters
 * @param trainable Which of them are trained
 * @returns The settings as text
 */
export function settingsOfRun(
  settings: string,
  params: Iterable<Path>,
  trainable: (path: Path) => boolean,
): string {
  const all = [...params], trained = all.filter(trainable);
  const hash = fingerprint(trained.map(wordsOf));
  return `${settings}, trainable ${trained.length} of ${all.length} parameters ${hash}`;
}

/** The bits of the rates of the planned steps; of some of them, evenly spaced, when there are many. */
function ratesOf(rate: Schedule, steps: number): Uint32Array[] {
  const length = Math.min(steps, 10_000);
  const rates = Float64Array.from({ length }, (_, i) => rate(Math.ceil((i + 1) * steps / length)));
  return [new Uint32Array(rates.buffer)];
}

/** A fingerprint of batches: their names, shapes and values. */
function fingerprintOf(batches: readonly TensorTree[]): string {
  function* parts(): Generator<HostData | number> {
    for (const batch of batches) {
      for (const [path, t] of flatten(batch)) {
        yield wordsOf(path);
        yield* t.shape;
        yield hostValues(t, path);
      }
    }
  }
  return fingerprint(parts());
}

/** Parts of settings: what stands between commas outside of parentheses. */
function partsOf(settings: string): string[] {
  const parts: string[] = [];
  let depth = 0, begin = 0;
  for (let i = 0; i < settings.length; i++) {
    if (settings[i] === "(") depth++;
    else if (settings[i] === ")") depth--;
    else if (depth === 0 && settings.startsWith(", ", i)) {
      parts.push(settings.slice(begin, i));
      begin = i + 2;
    }
  }
  return [...parts, settings.slice(begin)];
}

/**
 * Refuses a saved state of a training with other settings.
 *
 * @param saved Settings of the saved state
 * @param settings Settings of this training
 * @param options `newRate`: whether the learning rate may be another
 * @throws {InputError} When they differ; the error names what differs
 */
export function checkSettings(
  saved: string,
  settings: string,
  { newRate = false }: { readonly newRate?: boolean } = {},
): void {
  const plain = newRate ? withoutRate : (text: string): string => text;
  const differ = (now: string): readonly (readonly string[])[] => differences(plain(saved), plain(now));
  const older = !partsOf(saved).some(isAdded);
  if (older && /\(schedule\b/.test(saved) && differ(briefly(settings)).flat().length === 0) return;
  const [gone, come] = differ(settings);
  if (gone.length + come.length === 0) return;
  const list = (parts: readonly string[]): string => {
    // The name of a schedule says more than the fingerprint of its rates.
    const named = parts.filter((part) => !part.startsWith("rates ")),
      shown = named.length > 0 ? named : parts;
    return shown.slice(0, 4).map((part) => `"${part.slice(0, 400)}"`).join(", ") || "nothing";
  };
  throw new InputError(
    `Cannot resume as the training must be that of the saved run: it has ${list(come)} where that had ${
      list(gone)
    }`,
  );
}

/** Parts that only saved settings have, and parts that only the present ones have. */
function differences(saved: string, settings: string): readonly [readonly string[], readonly string[]] {
  const before = partsOf(saved), now = partsOf(settings), older = !before.some(isAdded);
  return [
    before.filter((part) => !now.includes(part)),
    now.filter((part) => !before.includes(part) && !(older && isAdded(part))),
  ];
}

/** Whether a part is one that older checkpoints lack. */
function isAdded(part: string): boolean {
  return /^(validated by|data|rates|trainable) /.test(part);
}

/** Settings without learning rates: those that optimizers begin with, and the fingerprint. */
function withoutRate(settings: string): string {
  let text = "", at = 0;
  for (const { 0: call, index } of settings.matchAll(/\b(adamW|sgd)\(/g)) {
    let end = index + call.length, depth = 0;
    while (end < settings.length && (depth > 0 || !",)".includes(settings[end]))) {
      depth += settings[end] === "(" ? 1 : settings[end] === ")" ? -1 : 0;
      end++;
    }
    text += `${settings.slice(at, index)}${call}rate`;
    at = end;
  }
  return (text + settings.slice(at)).replace(/, rates [0-9a-f]{16}\b/, "");
}

/** Settings as older checkpoints have them, which say only `schedule` for a schedule, and nothing of Adam's betas and eps. */
function briefly(settings: string): string {
  return settings.replace(/\b(constantRate|linearRate|cosine)\([^)]*\)/g, "schedule")
    .replace(/, (beta1|beta2|eps) [^,)]+/g, "");
}

/**
 * Refuses to train a parameter that is stored as bf16.
 *
 * @throws {InputError} When it is
 */
export function checkTrained(path: Path, { dtype }: Spec): void {
  if (dtype !== "bf16") return;
  throw new InputError(
    `Cannot train "${path}" as it is stored as bf16, which holds no small changes: ` +
      'train a LoRA adapter, or load the model with storage "f32"',
  );
}
