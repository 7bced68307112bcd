/**
 * Compares generated tokens with those of another implementation, as `generate.json` has them.
 *
 * @module
 */

import { type Gpu, logits, type Model, read, tensor } from "@firn/train";
import { defineGeneration, type Sampling } from "@firn/train/infer";
import { compare } from "./conformance_compare.ts";

/** The content of `generate.json`: prompts, and lists of new tokens for each, by how they were chosen. */
export type Generated = Readonly<Record<string, unknown>> & {
  readonly prompts: readonly (readonly number[])[];
  /** Of the first new token after the first prompt. */
  readonly first_logprobs?: readonly number[];
};

/** What a key of `generate.json` asks for; null for one that holds no tokens. */
function samplingOf(key: string): Sampling | null {
  if (key === "greedy") return {};
  const [, penalty] = key.match(/^penalty_(\d+(?:_\d+)?)$/) ?? [];
  if (penalty !== undefined) return { repetitionPenalty: Number(penalty.replace("_", ".")) };
  const [, size] = key.match(/^no_repeat_ngram_(\d+)$/) ?? [];
  return size === undefined ? null : { noRepeatNgram: Number(size) };
}

/**
 * Checks the tokens of all prompts at once and of each alone.
 *
 * @param gpu The device
 * @param model The model
 * @param wanted What the other implementation gives
 * @returns Whether all tokens are the same, the error of the log-probabilities, and the first keys whose tokens differ
 */
export async function checkGenerated(
  gpu: Gpu,
  model: Model,
  wanted: Generated,
): Promise<{ generated: boolean; first_logprobs: number | null; differs?: readonly string[] }> {
  const { prompts, first_logprobs } = wanted, differs: string[] = [];
  for (const [key, lists] of Object.entries(wanted)) {
    const sampling = samplingOf(key);
    if (sampling === null) continue;
    const tokens = lists as readonly (readonly number[])[];
    const groups = [prompts.map((_, i) => i), ...prompts.map((_, i) => [i])];
    for (const group of groups) {
      using generation = defineGeneration(gpu, model, { ...sampling, stop: [] });
      const state = await generation.next(
        await generation.init(group.map((i) => prompts[i])),
        tokens[0].length,
      );
      const seen = state.sequences.map(({ tokens, generated }) => tokens.slice(tokens.length - generated));
      if (JSON.stringify(seen) !== JSON.stringify(group.map((i) => tokens[i]))) {
        differs.push(`${key} of ${group}`);
      }
    }
  }
  const error = first_logprobs === undefined
    ? null
    : await logprobError(gpu, model, { prompt: prompts[0], first_logprobs });
  return {
    generated: differs.length === 0,
    first_logprobs: error,
    ...(differs.length > 0 && { differs }),
  };
}

async function logprobError(gpu: Gpu, model: Model, { prompt, first_logprobs }: {
  readonly prompt: readonly number[];
  readonly first_logprobs: readonly number[];
}): Promise<number> {
  const scores = await read(gpu, logits(model, tensor(Int32Array.from(prompt), [1, prompt.length])));
  const last = Array.from(scores.slice(-first_logprobs.length)), most = Math.max(...last);
  const total = most + Math.log(last.reduce((sum, score) => sum + Math.exp(score - most), 0));
  return compare(Float32Array.from(last, (score) => score - total), Float32Array.from(first_logprobs));
}
