/**
 * What the commands that generate text have in common: the model, its tokenizer, and flags for how tokens are chosen.
 *
 * @module
 */

import { type Gpu, InputError, type Model } from "@firn/train";
import type { Sampling } from "@firn/train/infer";
import { loadTokenizer, type Tokenizer } from "@firn/train/data";
import { loadAdapter, loadModel, type Storage } from "@firn/train/hub";
import { counted } from "@firn/train/report";
import {
  type Flag,
  fromZero,
  oneOf,
  positive,
  share,
  text,
  texts,
  topic,
  UsageError,
  type Values,
  whole,
} from "./flags.ts";
import { GPU_FLAGS, openDevice } from "./gpu.ts";
import { locateModel } from "./hub.ts";
import { stage, type Stream } from "./progress.ts";

/** Flags of a model that is read, not trained. */
export const READER_FLAGS = {
  ...topic("model", {
    adapter: text("DIR|NAME", "LoRA adapter to put on the model", null),
    storage: oneOf<Storage>(
      ["file", "f32", "int8", "nf4"],
      "how weights are stored on the device: as in the file, or in fewer bits",
      "file",
    ),
  }),
  ...GPU_FLAGS,
};

/** Flags of the choice of tokens. */
export const SAMPLING_FLAGS = topic("sampling", {
  temperature: fromZero(
    "0 takes the best token; above, scores are divided by it before a token is drawn",
    0.7,
  ),
  "top-k": whole("draw from this many best tokens; 0 or absent: from all", null, 0),
  "top-p": share("draw from the likeliest tokens whose probabilities add up to it; 0 takes the best one", 1),
  "min-p": share("draw from tokens at least this share as likely as the likeliest", 0),
  "typical-p": shareAbove0("draw from tokens of typical surprise whose probabilities add up to it", 1),
  "repetition-penalty": positive("divide scores of tokens that the text has by it", 1),
  "presence-penalty": fromZero("take it from scores of tokens that were generated", 0),
  "frequency-penalty": fromZero("take it from scores of tokens for each time that they were generated", 0),
  "no-repeat-ngram-size": whole("no run of so many tokens comes twice; 0 or absent: any may", null, 0),
  stop: texts("TEXT", "ends the text before it; may be given several times", []),
  seed: whole("seed of the draws", 0, 0),
});

function shareAbove0(about: string, fallback: number): Flag<number> {
  const { read, ...flag } = share(about, fallback);
  const above = (n: number): number => {
    if (n > 0) return n;
    throw new InputError("a number above 0 and at most 1");
  };
  return { ...flag, read: (value) => above(read(value)) };
}

/** Reads how tokens are chosen. */
export function samplingOf(flags: Values<typeof SAMPLING_FLAGS>): Sampling {
  return {
    temperature: flags.temperature,
    topK: flags["top-k"] || undefined,
    topP: flags["top-p"],
    minP: flags["min-p"],
    typicalP: flags["typical-p"],
    repetitionPenalty: flags["repetition-penalty"],
    presencePenalty: flags["presence-penalty"],
    frequencyPenalty: flags["frequency-penalty"],
    noRepeatNgram: flags["no-repeat-ngram-size"] || undefined,
    seed: flags.seed,
  };
}

/**
 * Parts a command line into words, which stand before the first flag or after `--`, and flags.
 *
 * @param args The command line
 * @returns Both parts
 */
export function partArgs(
  args: readonly string[],
): { readonly words: readonly string[]; readonly flags: readonly string[] } {
  const border = args.indexOf("--"), before = border < 0 ? args : args.slice(0, border);
  const first = before.findIndex((arg) => arg.startsWith("-")), end = first < 0 ? before.length : first;
  const last = border < 0 ? [] : args.slice(border + 1);
  return { words: [...before.slice(0, end), ...last], flags: before.slice(end) };
}

/** A model that is read. */
export interface Reader {
  readonly gpu: Gpu;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly folder: string;
}

/**
 * Opens the device, and loads a model with its tokenizer and perhaps an adapter.
 *
 * @param name The model: a folder, or a name of a hub
 * @param flags Values of {@link READER_FLAGS}
 * @param options `to`: where lines show how far it is; standard error when absent
 * @returns The model; close its device with `gpu[Symbol.asyncDispose]()`
 */
export async function openReader(
  name: string | undefined,
  flags: Values<typeof READER_FLAGS>,
  { to = Deno.stderr }: { readonly to?: Stream } = {},
): Promise<Reader> {
  if (name === undefined) throw new UsageError("name a model: a folder, or owner/name of a hub");
  const { folder } = await locateModel(name, { to });
  const gpu = await openDevice(flags, { to });
  const model = await stage(`loading     ${folder}`, (say) =>
    loadModel(gpu, folder, {
      storage: flags.storage,
      onProgress: ({ done, total }) => say(`${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`),
    }), { to });
  const tokenizer = await loadTokenizer(folder, { model });
  if (flags.adapter === null) return { gpu, model, tokenizer, folder };
  const { folder: adapter } = await locateModel(flags.adapter, { to });
  return { gpu, model: await loadAdapter(gpu, model, adapter), tokenizer, folder };
}

/** Lets connections and signals have their turn: reading from the device alone may keep them waiting. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Tokens per second as text. The first token comes after the prompt was read and kernels were compiled, and is not timed. */
export function paceText(tokens: number, milliseconds: number): string {
  const timed = Math.max(0, tokens - 1), pace = 1000 * timed / Math.max(milliseconds, 1);
  return `${counted(tokens, "token")}${timed === 0 ? "" : `, ${pace.toFixed(1)} per second after the first`}`;
}
