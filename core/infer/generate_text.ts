/**
 * Generated text as it comes.
 *
 * @module
 */

import { encodePrompt, type Encoder } from "../data/tokenizer/documents.ts";
import type { Model } from "../models/model.ts";
import type { Gpu } from "../runtime/device.ts";
import { generate, type GenerateOptions } from "./generate.ts";
import { type IdDecoder, textDecoder } from "./text_decoder.ts";

/** Options of {@link generateText}. */
export interface GenerateTextOptions extends Omit<GenerateOptions, "prompt"> {
  /** Turns text into ids and back. */
  readonly tokenizer: Encoder & IdDecoder & { readonly stop: readonly number[] };
  /** The text to continue. */
  readonly prompt: string;
  /** Strings that end the text, which does not have them; none when absent. */
  readonly stopStrings?: readonly string[];
}

/**
 * Continues a text, piece by piece. No piece ends within a character.
 *
 * @param gpu The device
 * @param model The model
 * @param options Tokenizer, prompt, length, sampling, what ends the text
 * @returns The new text, as it comes
 * @throws {InputError} When the prompt has no token, or an option is out of its range
 * @throws {NonFiniteError} When the scores of a token are not finite
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu } from "@firn/train";
 * import { generateText } from "@firn/train/infer";
 * import { loadTokenizer } from "@firn/train/data";
 * import { loadModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const model = await loadModel(gpu, "examples/models/sotu");
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const pieces = generateText(gpu, model, { tokenizer, prompt: "The state of", maxTokens: 2 });
 * assertEquals((await Array.fromAsync(pieces)).join(""), " the Union");
 * ```
 */
export async function* generateText(
  gpu: Gpu,
  model: Model,
  { tokenizer, prompt, stopStrings, ...options }: GenerateTextOptions,
): AsyncGenerator<string, void, undefined> {
  const ids = encodePrompt(tokenizer, prompt),
    decoder = textDecoder(tokenizer, { before: ids, stop: stopStrings });
  for await (const id of generate(gpu, model, { stop: tokenizer.stop, ...options, prompt: ids })) {
    const text = decoder.add([id]);
    if (text !== "") yield text;
    if (decoder.stopped) return;
  }
  const rest = decoder.end();
  if (rest !== "") yield rest;
}
