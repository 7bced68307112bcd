/**
 * Tokenizers.
 *
 * @module
 */

import { encodeDocument, encodePrompt, loadTokenizer, type Tokenizer } from "@firn/train/data";
import { CONFIG, makeModel, TEXT } from "../small_model.ts";
import { type Draw, oneOf } from "../draw.ts";
import { mutateJson, mutateJsonFile } from "../mutate_json.ts";
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

/** Loads a tokenizer for a model of some entries. */
async function load({ folder }: Context, size = CONFIG.vocab_size as number): Promise<void> {
  useTokenizer(await loadTokenizer(folder, { model: { source: { vocab_size: size } } }), size);
}

const format = (name: string, count: number): Format => ({
  name,
  count,
  file: name,
  make: ({ folder }) => makeModel(folder),
  mutate: mutateJsonFile,
  load: (context) => load(context),
});

/** Tokenizers of all kinds, as `tokenizers` of Rust writes them. */
const KINDS: readonly string[] = JSON.parse(
  Deno.readTextFileSync(new URL("../../fixtures/tokenizers/cases.json", import.meta.url)),
).map(({ tokenizer }: { readonly tokenizer: unknown }) => JSON.stringify(tokenizer));

/** Expressions that are slow, wrong, or mean something else in Rust. */
const EXPRESSIONS = [
  "(a+)+$",
  "(a|a)*b",
  "(\\w+\\s?)*$",
  "([a-z]+)*\\d",
  "(.*)*z",
  "a{1,9999}{1,9999}",
  "(?=(a+))\\1+b",
]
  .concat([
    "[",
    "(?<n>a)\\k<n>+",
    "(?i:",
    "",
    "^",
    "\\b",
    "\\p{Greek}+",
    "(?s).",
    "a*?a*?a*?a*?a*?b",
    "(x+x+)+y",
  ])
  .map((expression) => JSON.stringify(expression));

/** Damages a tokenizer of any kind: an expression, or anything else. */
function mutateKind(_: Uint8Array, draw: Draw): Uint8Array {
  const text = oneOf(draw, KINDS), expression = /(?<="Regex":)"(?:[^"\\]|\\.)*"/;
  return new TextEncoder().encode(
    draw(4) === 0 && expression.test(text)
      ? text.replace(expression, () => oneOf(draw, EXPRESSIONS))
      : mutateJson(text, draw),
  );
}

/** The formats of tokenizers. */
export const tokenizer: readonly Format[] = [
  format("tokenizer.json", 180),
  format("tokenizer_config.json", 80),
  {
    name: "tokenizers of all kinds",
    count: 400,
    file: "tokenizer.json",
    make: ({ folder }) => Deno.writeTextFile(`${folder}/tokenizer.json`, KINDS[0]),
    mutate: mutateKind,
    load: (context) => load(context, 300),
  },
];
