/**
 * Tokenizers.
 *
 * @module
 */

import { encodeDocument, encodePrompt, loadTokenizer, type Tokenizer } from "@firn/train/data";
import { CONFIG, makeModel, TEXT } from "../small_model.ts";
import { mutateJsonFile } from "../mutate_json.ts";
import { type Context, demand, type Format } from "./types.ts";

const TEXTS = [
  TEXT.slice(0, 200),
  "héllo ½ ② \u{1f4a5}\ufeff x",
  "<|end|> a<|end|>",
  " \n\t ",
  "a".repeat(300),
];

/** Checks that all ids are those of a model, and texts are texts. */
export function useTokenizer(tokenizer: Tokenizer, size: number): void {
  const { vocabSize, bos, eos, before, after, stop } = tokenizer;
  const isId = (id: number): boolean => Number.isSafeInteger(id) && id >= 0 && id < size;
  demand(vocabSize <= size, `${vocabSize} entries for a model of ${size}`);
  const special = Object.entries({ bos: [bos ?? 0], eos: [eos ?? 0], before, after, stop });
  for (const [name, ids] of special) demand(ids.every(isId), `${name} ${ids}`);
  for (const text of TEXTS) {
    const ids = [...encodeDocument(tokenizer, text), ...encodePrompt(tokenizer, text)];
    demand(ids.every(isId), `id ${ids.find((id) => !isId(id))}`);
    demand(typeof tokenizer.decode(ids) === "string", "no text");
  }
}

async function load({ folder }: Context): Promise<void> {
  useTokenizer(await loadTokenizer(folder), CONFIG.vocab_size as number);
}

const format = (name: string, count: number): Format => ({
  name,
  count,
  file: name,
  make: ({ folder }) => makeModel(folder),
  mutate: mutateJsonFile,
  load,
});

/** The formats of tokenizers. */
export const tokenizer: readonly Format[] = [
  format("tokenizer.json", 180),
  format("tokenizer_config.json", 80),
];
