/**
 * How the next token is chosen: options of a sequence, and their values for the rows of a batch.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import type { HostData } from "../sources.ts";
import type { Text } from "./prompt_chunks.ts";

/** How the next token of a sequence is chosen. The order of the steps is that of `transformers`. */
export interface Sampling {
  /** 0 is greedy; above, scores are divided by it. 0 when absent. */
  readonly temperature?: number;
  /** Only this many best tokens are drawn from; all when absent. */
  readonly topK?: number;
  /** Only the likeliest tokens whose probabilities add up to it are drawn from, at least one; 1, all, when absent. */
  readonly topP?: number;
  /** Only tokens that are at least this share as likely as the likeliest are drawn from; 0, all, when absent. */
  readonly minP?: number;
  /**
   * Only the tokens whose surprise is nearest to the expected one are drawn from, until their probabilities add up to it; 1,
   * all, when absent. Source: Meister et al., arXiv 2202.00666.
   */
  readonly typicalP?: number;
  /**
   * Scores of tokens that the sequence has are divided by it, or multiplied where they are negative; 1 when absent. Source:
   * Keskar et al., arXiv 1909.05858.
   */
  readonly repetitionPenalty?: number;
  /** Taken from the scores of tokens that were generated; 0 when absent. */
  readonly presencePenalty?: number;
  /** Taken from the score of a token for each time that it was generated; 0 when absent. */
  readonly frequencyPenalty?: number;
  /** No run of this many tokens comes twice; any may when absent. */
  readonly noRepeatNgram?: number;
  /** Added to the scores of some tokens, by id; minus infinity forbids one. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Seed of the draws; 0 when absent. */
  readonly seed?: number;
  /** How many of the likeliest tokens are told beside each that is chosen, from 0 to 20; nothing is told when absent. */
  readonly logProbs?: number;
}

/** The steps that choose a token. Only those that a sequence of the batch needs are computed. */
export type SamplingStep =
  | "bias"
  | "repetition"
  | "presence"
  | "ngrams"
  | "topK"
  | "topP"
  | "minP"
  | "typicalP"
  | "draw"
  | "best"
  | "told"
  | "likeliest";

/** What a step reads for each sequence: an entry of it where the sequence does not ask for the step. */
interface Column {
  readonly steps: readonly SamplingStep[];
  readonly dtype: "f32" | "i32";
  /** The value of a sequence. */
  readonly of: (sampling: Sampling) => number;
}

/** The lowest score: no score below it is a number. */
export const LOWEST = -3.4e38;

/** A change of a score that outweighs all others, and that f32 holds also after the division by a temperature. */
const FAR = 1e28;

/** Most tokens that are told beside one, as in OpenAI's API. */
export const MOST_TOLD = 20;

/** A share of probability that the likeliest token has in any vocabulary. */
const LEAST = 1e-9;

function clamp(x: number, least: number, most: number): number {
  return Math.min(Math.max(x, least), most);
}

/** Values of each sequence that the device reads, by name. */
export const COLUMNS: Readonly<Record<string, Column>> = {
  temperature: { steps: ["draw"], dtype: "f32", of: ({ temperature = 0 }) => Math.min(temperature, 1e20) },
  seed: { steps: ["draw"], dtype: "i32", of: ({ seed = 0 }) => seed },
  topK: { steps: ["topK"], dtype: "f32", of: ({ topK }) => topK ?? 2 ** 24 },
  // A sum of probabilities may be a little above 1.
  topP: { steps: ["topP"], dtype: "f32", of: ({ topP = 1 }) => topP < 1 ? Math.max(topP, LEAST) : 2 },
  logMinP: { steps: ["minP"], dtype: "f32", of: ({ minP = 0 }) => minP > 0 ? Math.log(minP) : LOWEST },
  typicalP: { steps: ["typicalP"], dtype: "f32", of: ({ typicalP = 1 }) => typicalP < 1 ? typicalP : 2 },
  repetition: {
    steps: ["repetition"],
    dtype: "f32",
    of: ({ repetitionPenalty = 1 }) => clamp(repetitionPenalty, 1e-20, 1e20),
  },
  presence: {
    steps: ["presence"],
    dtype: "f32",
    of: ({ presencePenalty = 0 }) => clamp(presencePenalty, -FAR, FAR),
  },
  frequency: {
    steps: ["presence"],
    dtype: "f32",
    of: ({ frequencyPenalty = 0 }) => clamp(frequencyPenalty, -FAR, FAR),
  },
  ngram: { steps: ["ngrams"], dtype: "i32", of: ({ noRepeatNgram = 0 }) => Math.min(noRepeatNgram, 2 ** 30) },
};

/** Which steps some sequences need, by what they ask for. */
const NEEDED: Readonly<Record<SamplingStep, (sampling: Sampling) => boolean>> = {
  bias: ({ logitBias = {} }) => Object.keys(logitBias).length > 0,
  repetition: ({ repetitionPenalty = 1 }) => repetitionPenalty !== 1,
  presence: ({ presencePenalty = 0, frequencyPenalty = 0 }) =>
    presencePenalty !== 0 || frequencyPenalty !== 0,
  ngrams: ({ noRepeatNgram = 0 }) => noRepeatNgram > 0,
  topK: (sampling) => draws(sampling) && sampling.topK !== undefined,
  topP: (sampling) => draws(sampling) && (sampling.topP ?? 1) < 1,
  minP: (sampling) => draws(sampling) && (sampling.minP ?? 0) > 0,
  typicalP: (sampling) => draws(sampling) && (sampling.typicalP ?? 1) < 1,
  draw: draws,
  best: (sampling) => !draws(sampling),
  told: ({ logProbs }) => logProbs !== undefined,
  likeliest: ({ logProbs = 0 }) => logProbs > 0,
};

function draws({ temperature = 0 }: Sampling): boolean {
  return temperature > 0;
}

/**
 * The steps that choose the tokens of a batch.
 *
 * @param samplings How each sequence is sampled
 * @returns The steps, in order
 */
export function stepsOf(samplings: readonly Sampling[]): readonly SamplingStep[] {
  return (Object.keys(NEEDED) as SamplingStep[]).filter((step) => samplings.some(NEEDED[step]));
}

/** What each option must be. */
const RULES: Readonly<Record<string, { readonly rule: string; readonly holds: (x: number) => boolean }>> = {
  temperature: { rule: "a number from 0", holds: (x) => x >= 0 && x < Infinity },
  topK: { rule: "a whole number above 0", holds: (x) => Number.isSafeInteger(x) && x >= 1 },
  topP: { rule: "a number from 0 to 1", holds: (x) => x >= 0 && x <= 1 },
  minP: { rule: "a number from 0 to 1", holds: (x) => x >= 0 && x <= 1 },
  typicalP: { rule: "a number above 0 and at most 1", holds: (x) => x > 0 && x <= 1 },
  repetitionPenalty: { rule: "a number above 0", holds: (x) => x > 0 && x < Infinity },
  presencePenalty: { rule: "a number", holds: Number.isFinite },
  frequencyPenalty: { rule: "a number", holds: Number.isFinite },
  noRepeatNgram: { rule: "a whole number from 0", holds: (x) => Number.isSafeInteger(x) && x >= 0 },
  logProbs: {
    rule: `a whole number from 0 to ${MOST_TOLD}`,
    holds: (x) => Number.isSafeInteger(x) && x >= 0 && x <= MOST_TOLD,
  },
  seed: { rule: "a whole number from 0", holds: (x) => Number.isSafeInteger(x) && x >= 0 },
};

/**
 * Checks how a sequence is sampled.
 *
 * @param sampling The options
 * @param vocabSize Entries of the vocabulary
 * @throws {InputError} When an option is out of its range
 */
export function checkSampling(sampling: Sampling, vocabSize: number): void {
  for (const [name, { rule, holds }] of Object.entries(RULES)) {
    const value: unknown = sampling[name as keyof Sampling];
    if (value === undefined || (typeof value === "number" && holds(value))) continue;
    throw new InputError(`Cannot generate as "${name}" must be ${rule}: got ${shown(value)}`);
  }
  for (const [id, bias] of Object.entries(sampling.logitBias ?? {})) {
    checkIds("logitBias", [Number(id)], vocabSize);
    if (typeof bias === "number" && bias < Infinity) continue;
    throw new InputError(
      `Cannot generate as "logitBias" of ${id} must be a number, or minus infinity: got ${shown(bias)}`,
    );
  }
}

/**
 * Checks ids of tokens.
 *
 * @param name What they are
 * @param ids The ids
 * @param vocabSize Entries of the vocabulary
 * @throws {InputError} When they are no list, or one is not in the vocabulary
 */
export function checkIds(name: string, ids: readonly number[], vocabSize: number): void {
  if (!Array.isArray(ids)) {
    throw new InputError(`Cannot generate as "${name}" must be a list of ids: got ${shown(ids)}`);
  }
  const bad = ids.find((id) => !(Number.isSafeInteger(id) && id >= 0 && id < vocabSize));
  if (bad === undefined) return;
  throw new InputError(
    `Cannot generate as "${name}" must hold whole numbers from 0 to ${vocabSize - 1}: got ${bad}`,
  );
}

/** Sizes and steps of a batch. */
interface BatchOptions {
  readonly steps: readonly SamplingStep[];
  readonly vocab: number;
}

/**
 * What the device reads of the options of each sequence.
 *
 * @param samplings How each sequence is sampled
 * @param options Sizes and steps
 * @returns Values by the path of their leaf
 */
export function samplingValues(
  samplings: readonly Sampling[],
  { steps, vocab }: BatchOptions,
): Readonly<Record<string, HostData>> {
  const values: Record<string, HostData> = {};
  for (const [name, { steps: readers, dtype, of }] of Object.entries(COLUMNS)) {
    if (!readers.some((step) => steps.includes(step))) continue;
    const list = samplings.map(of);
    values[`sampling.${name}`] = dtype === "i32" ? Int32Array.from(list) : Float32Array.from(list);
  }
  if (steps.includes("bias")) {
    const bias = new Float32Array(samplings.length * vocab);
    samplings.forEach(({ logitBias = {} }, r) => {
      for (const [id, value] of Object.entries(logitBias)) {
        bias[r * vocab + Number(id)] = clamp(value, LOWEST, FAR);
      }
    });
    values["sampling.bias"] = bias;
  }
  return values;
}

/**
 * What the device notes of each text before its first step.
 *
 * @param texts The texts
 * @param options Sizes and steps
 * @returns Values by the path of their leaf
 */
export function noteValues(
  texts: readonly Text[],
  { steps, vocab, capacity, processors }: BatchOptions & {
    readonly capacity: number;
    readonly processors: readonly unknown[];
  },
): Readonly<Record<string, HostData>> {
  const values: Record<string, HostData> = {};
  const perToken = (name: string, note: (counts: Float32Array, text: Text) => void): void => {
    const all = values[name] = new Float32Array(texts.length * vocab);
    texts.forEach((text, r) => note(all.subarray(r * vocab, (r + 1) * vocab), text));
  };
  if (steps.includes("repetition")) {
    perToken("seen", (seen, { tokens }) => tokens.forEach((id) => seen[id] = 1));
  }
  if (steps.includes("presence")) {
    perToken("generated", (counts, { tokens, generated }) => {
      for (const id of tokens.slice(tokens.length - generated)) counts[id]++;
    });
  }
  if (steps.includes("ngrams") || processors.length > 0) {
    const history = values.history = new Int32Array(texts.length * capacity);
    texts.forEach(({ tokens }, r) => history.set(tokens, r * capacity));
  }
  return values;
}
