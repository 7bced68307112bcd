/**
 * The rates of dropout that a configuration names.
 *
 * @module
 */

import { type Dropouts, dropouts } from "../nn/dropout.ts";
import type { ConfigReader } from "./config_reader.ts";

/**
 * What is dropped in training. `"config"`, the default of losses, is what `transformers` does after `model.train()`: the rates of
 * `config.json`, with the defaults of the family. A number takes the place of all of them, 0 for none.
 */
export type DropoutSetting = "config" | number;

/**
 * Keys of `config.json`, `text_config.attention_dropout` for one in a record of it, with the rates of absent keys; the name of another
 * key stands for its rate.
 */
export type DropoutDefaults = Readonly<Record<string, number | string>>;

/** A model, as far as its rates depend on it. */
interface RatedModel {
  readonly family: { readonly dropouts?: DropoutDefaults };
  readonly source: Readonly<Record<string, unknown>>;
}

/** First streams of random numbers: those of adapters count from 0, and noise has 2^31. */
const STREAMS = { hidden: 2 ** 30, head: 2 ** 30 + 2 ** 29 };

/**
 * Refuses rates that are none.
 *
 * @param read Makes the error
 * @param model The family and its `config.json`
 * @throws {InputError} When a rate is no number from 0 to below 1
 */
export function checkDropouts(
  read: ConfigReader,
  { family: { dropouts: defaults = {} }, source }: RatedModel,
): void {
  for (const key of Object.keys(defaults)) {
    const rate = valueAt(source, key) ?? 0;
    if (typeof rate === "number" && rate >= 0 && rate < 1) continue;
    throw read.error(key, "it must be at least 0 and below 1", rate);
  }
}

/**
 * The rates of a model.
 *
 * @param model Its family and `config.json`
 * @param setting What is dropped
 * @returns Rates by key, those of 0 left out
 */
export function dropoutRates(
  { family, source }: RatedModel,
  setting: DropoutSetting = "config",
): Readonly<Record<string, number>> {
  const defaults = family.dropouts ?? {};
  const rateOf = (key: string): number => {
    if (setting !== "config") return setting;
    const fallback = defaults[key];
    return (valueAt(source, key) as number | null | undefined) ??
      (typeof fallback === "string" ? rateOf(fallback) : fallback);
  };
  return Object.fromEntries(
    Object.keys(defaults).map((key) => [key, rateOf(key)] as const).filter(([, rate]) => rate > 0),
  );
}

/** A value of a configuration, or of a record in it. */
function valueAt(source: RatedModel["source"], key: string): unknown {
  return key.split(".").reduce<unknown>(
    (record, name) => (record as RatedModel["source"] | undefined)?.[name],
    source,
  );
}

/** What a model drops in its hidden states or before its head; undefined where it drops nothing. */
export function dropoutsOf(
  model: RatedModel & {
    readonly training?: boolean;
    readonly dropout?: { readonly setting: DropoutSetting; readonly seed: number };
  },
  part: keyof typeof STREAMS,
): Dropouts | undefined {
  const { training = false, dropout } = model;
  if (!training || dropout === undefined) return undefined;
  const { setting, seed } = dropout, rates = dropoutRates(model, setting);
  return Object.keys(rates).length === 0 ? undefined : dropouts(rates, { seed, stream: STREAMS[part] });
}
