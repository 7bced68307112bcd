/**
 * The settings of a run: a saved state goes on only under equal ones.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import { fingerprint, wordsOf } from "../fingerprint.ts";
import type { Schedule } from "../optim/schedules.ts";
import { type HostData, hostValues } from "../sources.ts";
import { flatten, type Path, type TensorTree } from "../tree.ts";
import { LOOK_EVERY, THAW_WARMUP } from "./options.ts";
import type { RunSettings, TrainingOptions } from "./types.ts";

/** The settings of a training: those of its runs, but for the parameters, which a run brings. */
export type TrainingSettings = Omit<RunSettings, "trained" | "parameters" | "trainable">;

/** What a training knows of itself besides its options. */
interface Known {
  /** That of the configuration, as its loss gives it. */
  readonly model?: string | null;
  /** How ranks exchange parameters; null where they do not, as when absent. */
  readonly exchange?: string | null;
}

/**
 * The settings of a training.
 *
 * @throws {InputError} When a learning rate is no number from 0
 */
export function settingsOf(
  options: TrainingOptions<TensorTree>,
  { model = null, exchange = null }: Known = {},
): TrainingSettings {
  const { optimizer, steps, policy, validation, data } = options, { learningRate } = optimizer;
  return {
    optimizer: optimizer.name,
    // A schedule of one's own has no name, but it has rates.
    rates: learningRate === undefined ? null : fingerprint(ratesOf(learningRate, steps)),
    policy: policy?.name ?? null,
    steps,
    lookEvery: options.lookEvery ?? LOOK_EVERY,
    thawWarmup: options.thawWarmup ?? THAW_WARMUP,
    precision: options.precision ?? "f32",
    accumulate: options.accumulate ?? 1,
    ...optimizer.clips && { clips: true },
    validateEvery: validation?.every ?? null,
    validation: validation === undefined ? null : fingerprintOf(validation.batches),
    data: data ?? null,
    model,
    exchange,
  };
}

/**
 * The settings of a run: those of the training, and which parameters it trains.
 *
 * @param settings Settings of the training
 * @param params Paths of all parameters
 * @param trainable Which of them are trained
 * @returns The settings
 */
export function settingsOfRun(
  settings: TrainingSettings,
  params: Iterable<Path>,
  trainable: (path: Path) => boolean,
): RunSettings {
  const all = [...params], trained = all.filter(trainable);
  return {
    ...settings,
    trained: trained.length,
    parameters: all.length,
    trainable: fingerprint(trained.map(wordsOf)),
  };
}

/** The bits of the rates of the planned steps; of some of them, evenly spaced, when there are many. */
function ratesOf(rate: Schedule, steps: number): Uint32Array[] {
  const length = Math.min(steps, 10_000);
  const rates = Float64Array.from({ length }, (_, i) => {
    const step = Math.ceil((i + 1) * steps / length), value: unknown = rate(step);
    if (typeof value === "number" && value >= 0 && value < Infinity) return value;
    throw new InputError(
      `Cannot train as learning rates must be numbers from 0: that of step ${step} is ${shown(value)}`,
    );
  });
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

/**
 * Refuses a saved state of a run with other settings.
 *
 * @param saved Settings of the saved state; an earlier version of Firn saved fewer
 * @param settings Settings of this run
 * @param options `newRate`: whether the learning rate may be another
 * @throws {InputError} When they differ; the error names each field that differs, with both values
 */
export function checkSettings(
  saved: Partial<RunSettings>,
  settings: RunSettings,
  { newRate = false }: { readonly newRate?: boolean } = {},
): void {
  const plain = (all: Partial<RunSettings>): Readonly<Record<string, unknown>> => // Before steps had parts, each was one batch.
  ({ accumulate: 1, ...all, ...newRate && { optimizer: withoutRate(all.optimizer ?? ""), rates: null } });
  const [old, now] = [saved, settings].map(plain);
  const differ = (key: string): boolean => old[key] !== now[key] && !isBrief(key, { old, now });
  // What an earlier version did not save cannot differ. What a later one saved besides does.
  const keys = Object.keys(old).filter(differ);
  if (keys.length === 0) return;
  // The name of a schedule says more than the fingerprint of its rates.
  const named = keys.length > 1 ? keys.filter((key) => key !== "rates") : keys;
  const printed = (value: unknown): string =>
    value === undefined ? "absent" : JSON.stringify(value).slice(0, 400);
  throw new InputError(
    `Cannot resume as the training must be that of the saved run: ${
      named.map((key) => `"${key}" is ${printed(now[key])} where that had ${printed(old[key])}`).join("; ")
    }`,
  );
}

/** Whether an earlier version named an optimizer with fewer words. */
function isBrief(
  key: string,
  { old, now }: {
    readonly old: Readonly<Record<string, unknown>>;
    readonly now: Readonly<Record<string, unknown>>;
  },
): boolean {
  return key === "optimizer" && old.rates === undefined && /\(schedule\b/.test(String(old[key])) &&
    old[key] === briefly(String(now[key]));
}

/** The name of an optimizer in the oldest words: only `schedule` for a schedule, and nothing of Adam's betas and eps. */
function briefly(name: string): string {
  return name.replace(/\b(constantRate|linearRate|cosine)\([^)]*\)/g, "schedule")
    .replace(/, (beta1|beta2|eps) [^,)]+/g, "");
}

/** The name of an optimizer without the learning rates that optimizers begin with. */
function withoutRate(name: string): string {
  let text = "", at = 0;
  for (
    const { 0: call, index } of name.matchAll(
      /\b(adafactor|adam|adamW|adamW8bit|lion|muon|scheduleFreeAdamW|sgd)\(/g,
    )
  ) {
    let end = index + call.length, depth = 0;
    while (end < name.length && (depth > 0 || !",)".includes(name[end]))) {
      depth += name[end] === "(" ? 1 : name[end] === ")" ? -1 : 0;
      end++;
    }
    text += `${name.slice(at, index)}${call}rate`;
    at = end;
  }
  return text + name.slice(at);
}
