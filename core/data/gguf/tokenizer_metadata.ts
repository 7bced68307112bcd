/**
 * The tokenizer of a Hugging Face folder as metadata of a GGUF file.
 *
 * Source: `gguf-py/gguf/vocab.py` and `convert_hf_to_gguf.py` of llama.cpp.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import { memoryFileSystem } from "../../host/memory_file_system.ts";
import { type Fields, fieldsOf } from "../tokenizer/fields.ts";
import { loadTokenizer, type Tokenizer } from "../tokenizer/load_tokenizer.ts";
import { PRE_TOKENIZERS } from "./pre_tokenizers.ts";
import { isSentencePiece, sentencePieceScores } from "./sentence_piece.ts";
import { TOKEN, type Tokens } from "./token_types.ts";
import type { TypedValue } from "./write_gguf.ts";

/** Metadata to write. */
type Metadata = Readonly<Record<string, TypedValue>>;

/** Files of a tokenizer by name. */
export type TokenizerTexts = ReadonlyMap<string, string | Uint8Array>;

const KEY = "tokenizer.ggml.";

/** Names of ways to cut texts, for errors. */
const NAMED = "smollm, gpt-2, llama-bpe, qwen2, default";

/**
 * Makes metadata of a tokenizer.
 *
 * @param files `tokenizer.json`, `tokenizer_config.json` and others, by name
 * @param options `source`: content of the model's `config.json`; `vocabSize`: rows of its table of embeddings
 * @returns Values by key; `none` for the kind where there is no `tokenizer.json`
 * @throws {DataError} When llama.cpp has no tokenizer that gives the same ids
 */
export async function tokenizerMetadata(
  files: TokenizerTexts,
  { source, vocabSize }: { readonly source: Readonly<Record<string, unknown>>; readonly vocabSize: number },
): Promise<Metadata> {
  if (!files.has("tokenizer.json")) return { [`${KEY}model`]: ["string", "none"] };
  const fileSystem = memoryFileSystem({
    ...Object.fromEntries(files),
    "config.json": JSON.stringify(source),
  });
  const tokenizer = await loadTokenizer(".", { fileSystem });
  const json = jsonOf(files, "tokenizer.json"), settings = jsonOf(files, "tokenizer_config.json");
  const tokens = tokensOf(json, vocabSize), spm = isSentencePiece(json.json);
  const kind: Metadata = spm
    ? {
      [`${KEY}model`]: ["string", "llama"],
      [`${KEY}scores`]: ["f32", sentencePieceScores(json, tokens)],
      [`${KEY}add_space_prefix`]: ["bool", prefixes(json)],
    }
    : { [`${KEY}model`]: ["string", "gpt2"], [`${KEY}pre`]: ["string", preOf(json)] };
  return {
    ...kind,
    [`${KEY}tokens`]: ["string", tokens.texts],
    [`${KEY}token_type`]: ["i32", tokens.types],
    ...!spm && { [`${KEY}merges`]: ["string", mergesOf(json)] },
    ...special(tokenizer, { json, tokens, pad: source.pad_token_id }),
    ...chatTemplates(files, settings),
  };
}

function jsonOf(files: TokenizerTexts, name: string): Fields {
  const content = files.get(name) ?? "{}";
  const text = typeof content === "string" ? content : new TextDecoder().decode(content);
  return fieldsOf(JSON.parse(text), { path: name });
}

/** Tokens by id. Ids that stand for none fill up the vocabulary of the model. */
function tokensOf(json: Fields, vocabSize: number): Tokens {
  const model = json.object("model")!, unknown = model.json.unk_token;
  const texts = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const types = Array<number>(vocabSize).fill(TOKEN.unused);
  const set = (text: string, id: number, type: number): void => {
    if (id >= vocabSize) {
      throw json.error("model.vocab", `ids below the ${vocabSize} of the model, which llama.cpp counts`, id);
    }
    [texts[id], types[id]] = [text, type];
  };
  const fallback = model.flag("byte_fallback", false);
  for (const [text, id] of Object.entries(model.object("vocab")!.json)) {
    const byte = fallback && /^<0x[0-9A-F]{2}>$/.test(text);
    set(text, id as number, text === unknown ? TOKEN.unknown : byte ? TOKEN.byte : TOKEN.normal);
  }
  const added = json.json.added_tokens ?? null;
  for (const token of added === null ? [] : json.objects("added_tokens", 2 ** 21)) {
    const text = token.text("content"),
      type = token.flag("special", false) ? TOKEN.control : TOKEN.userDefined;
    set(text, token.json.id as number, text === unknown ? TOKEN.unknown : type);
  }
  return { texts, types };
}

/** The name that llama.cpp has for how texts are cut. */
function preOf(json: Fields): string {
  const model = json.object("model")!,
    { normalizer } = json.json,
    parts = stepsOf(json.json.pre_tokenizer).join();
  const kind = model.json.type ?? "BPE", ignore = model.flag("ignore_merges", false);
  const plain = kind === "BPE" && ["", "NFC"].includes((normalizer as { type?: string } | null)?.type ?? "");
  const found = Object.entries(PRE_TOKENIZERS).find(([, { preTokenizer, ignoreMerges }]) =>
    plain && stepsOf(preTokenizer).join() === parts && ignoreMerges === ignore
  );
  if (found !== undefined) return found[0];
  throw new DataError(
    'Cannot write "tokenizer.json" to a GGUF file as llama.cpp must have a tokenizer of its kind: this one is none of ' +
      `${NAMED}, nor SentencePiece; leave it out, and take that of the original GGUF file`,
  );
}

/** How a text is cut, without what changes nothing. */
function stepsOf(part: unknown): readonly string[] {
  const { type, ...rest } = part as Record<string, unknown> ?? {};
  switch (type) {
    case "Sequence":
      return (rest.pretokenizers as readonly unknown[]).flatMap(stepsOf);
    case "ByteLevel":
      return [`bytes ${rest.use_regex ?? true} ${rest.add_prefix_space ?? true}`];
    case "Digits":
      return [`digits ${rest.individual_digits ?? false}`];
    case "Split": {
      const { Regex } = rest.pattern as { readonly Regex?: string };
      return [Regex === "\\p{N}" ? "digits true" : `split ${Regex} ${rest.behavior} ${rest.invert ?? false}`];
    }
    default:
      return [JSON.stringify(part)];
  }
}

function mergesOf(json: Fields): readonly string[] {
  return json.object("model")!.list("merges", 2 ** 22).map((merge) =>
    typeof merge === "string" ? merge : (merge as string[]).join(" ")
  );
}

/** Whether a space is put before a text. */
function prefixes({ json }: Fields): boolean {
  return /"prepend":|"prepend_scheme":"(always|first)"|"add_prefix_space":true/.test(
    JSON.stringify([json.normalizer, json.pre_tokenizer]),
  );
}

/** Special tokens, and what begins and ends a text. */
function special(
  { bos, eos, before, after, stop }: Tokenizer,
  { json, tokens, pad }: { readonly json: Fields; readonly tokens: Tokens; readonly pad: unknown },
): Metadata {
  const id = (name: string, value: unknown): Metadata =>
    typeof value === "number" ? { [`${KEY}${name}_token_id`]: ["u32", value] } : {};
  const begins = before.length === 1 && before[0] === bos, ends = after.length === 1 && after[0] === eos;
  if (before.length > 0 && !begins || after.length > 0 && !ends) {
    throw json.error("post_processor", "BOS before a text and EOS after it, at most", [...before, ...after]);
  }
  const unknown = tokens.types.indexOf(TOKEN.unknown), turn = stop.find((one) => one !== eos);
  return {
    ...id("bos", bos),
    ...id("eos", eos),
    ...id("eot", turn),
    ...id("unknown", unknown < 0 ? null : unknown),
    ...id("padding", pad),
    [`${KEY}add_bos_token`]: ["bool", begins],
    [`${KEY}add_eos_token`]: ["bool", ends],
  };
}

function chatTemplates(files: TokenizerTexts, settings: Fields): Metadata {
  const file = files.get("chat_template.jinja"), key = "tokenizer.chat_template";
  if (file !== undefined) {
    return { [key]: ["string", typeof file === "string" ? file : new TextDecoder().decode(file)] };
  }
  const template = settings.json.chat_template ?? null;
  if (template === null) return {};
  if (typeof template === "string") return { [key]: ["string", template] };
  return Object.fromEntries(
    settings.objects("chat_template").map((one): [string, TypedValue] => {
      const name = one.text("name");
      return [name === "default" ? key : `${key}.${name}`, ["string", one.text("template")]];
    }),
  );
}
