/**
 * Text that a model writes.
 *
 * @module
 */

import type { Gpu, Model } from "@firn/train";
import { generate } from "@firn/train/infer";
import { encodePrompt, type Tokenizer } from "@firn/train/data";
import { UsageError } from "./flags.ts";
import { stage } from "./progress.ts";

/** Tokens of a sample, at most. */
const TOKENS = 48;

/**
 * Continues a text; a line shows how far it is.
 *
 * @param gpu The device
 * @param model The model
 * @param options Its tokenizer, the text to continue, and the seed of the draws; `quiet`: no line
 * @returns The text and what follows it
 * @throws {UsageError} When the text has no token
 */
export async function continueText(
  gpu: Gpu,
  model: Model,
  { tokenizer, prompt, seed, quiet = false }: {
    readonly tokenizer: Tokenizer;
    readonly prompt: string;
    readonly seed: number;
    readonly quiet?: boolean;
  },
): Promise<string> {
  const given = encodePrompt(tokenizer, prompt), ids = [...given];
  if (ids.length === 0) throw new UsageError("--prompt must not be empty");
  const options = {
    prompt: given,
    maxTokens: TOKENS,
    temperature: 0.8,
    topK: 40,
    seed,
    stop: tokenizer.stop,
  };
  async function write(say: (fact: string) => void): Promise<void> {
    say("compiling its kernels");
    for await (const id of generate(gpu, model, options)) {
      ids.push(id);
      say(`${ids.length - given.length} of ${TOKENS} tokens`);
    }
  }
  await (quiet ? write(() => {}) : stage("sampling    a text", write));
  return tokenizer.decode(ids);
}

/** A sample on one line. */
export function quoted(sample: string): string {
  return `“${sample.replace(/\s+/g, " ").trim()}”`;
}
