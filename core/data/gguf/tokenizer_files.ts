/**
 * The tokenizer in a GGUF file, as the files of a Hugging Face folder.
 *
 * @module
 */

import type { Fields } from "../tokenizer/fields.ts";
import { MOST_ENTRIES } from "../tokenizer/model.ts";
import { sentencePieceParts } from "./sentence_piece.ts";
import type { MetadataFields } from "./metadata.ts";
import { PRE_TOKENIZERS } from "./pre_tokenizers.ts";
import { TOKEN, type TokenizerParts, type Tokens } from "./token_types.ts";

/** Content of JSON files by name. */
type JsonFiles = Readonly<Record<string, unknown>>;

const KEY = "tokenizer.ggml.";

/**
 * Makes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json` of a file.
 *
 * @param fields Its metadata
 * @returns Content by name; none where the file has no tokenizer
 * @throws {DataError} When the tokenizer is of another kind, or a value is missing or wrong
 */
export function tokenizerFiles(fields: MetadataFields): JsonFiles {
  if (["none", "no_vocab"].includes(String(fields.json[`${KEY}model`] ?? "none"))) return {};
  const kind = fields.word(`${KEY}model`, ["gpt2", "llama"]), tokens = tokensOf(fields);
  const parts = kind === "gpt2" ? byteLevelParts(fields, tokens) : sentencePieceParts(fields, tokens);
  const special = specialTokens(fields, tokens), { bos, eos } = special;
  const addBos = fields.flag(`${KEY}add_bos_token`, parts.addBos) && bos !== undefined;
  const addEos = fields.flag(`${KEY}add_eos_token`, false) && eos !== undefined;
  const { types, texts } = tokens, before = addBos ? [bos] : [], after = addEos ? [eos] : [];
  const kept = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return {
    "tokenizer.json": {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: texts.flatMap((content, id) =>
        isAdded(types[id]) ? [{ id, content, ...kept, special: types[id] !== TOKEN.userDefined }] : []
      ),
      normalizer: parts.normalizer,
      pre_tokenizer: parts.preTokenizer,
      post_processor: before.length + after.length === 0 ? null : template({ before, after, texts }),
      decoder: parts.decoder,
      model: parts.model,
    },
    "tokenizer_config.json": {
      tokenizer_class: "PreTrainedTokenizerFast",
      clean_up_tokenization_spaces: false,
      add_bos_token: addBos,
      add_eos_token: addEos,
      ...Object.fromEntries(Object.entries(special).map(([name, id]) => [`${name}_token`, texts[id]])),
      ...chatTemplate(fields),
    },
    "generation_config.json": generation(fields, special, texts.length),
  };
}

const isAdded = (type: number): boolean =>
  [TOKEN.unknown, TOKEN.control, TOKEN.userDefined].includes(type as 2);

function tokensOf(fields: Fields): Tokens {
  const texts = fields.list(`${KEY}tokens`, MOST_ENTRIES),
    known = fields.json[`${KEY}token_type`] !== undefined;
  const types = known ? fields.list(`${KEY}token_type`, MOST_ENTRIES) : texts.map(() => TOKEN.normal);
  const bad = texts.findIndex((text) => typeof text !== "string");
  if (bad >= 0) throw fields.error(`${KEY}tokens`, "a list of texts", texts[bad]);
  if (types.length !== texts.length) {
    throw fields.error(`${KEY}token_type`, `a list of ${texts.length}, as there are tokens`, types);
  }
  const other = types.find((type) => !Object.values(TOKEN).includes(type as 1));
  if (other !== undefined) throw fields.error(`${KEY}token_type`, "a list of 1 to 6", other);
  return { texts: texts as string[], types: types as number[] };
}

/** Ids of special tokens by the names of Hugging Face. */
function specialTokens(fields: Fields, { texts }: Tokens): Readonly<Record<string, number>> {
  const names = { bos: "bos", eos: "eos", unk: "unknown", pad: "padding" };
  return Object.fromEntries(
    Object.entries(names).flatMap(([name, gguf]) => {
      const key = `${KEY}${gguf}_token_id`, absent = fields.json[key] === undefined;
      // Some converters write an id beyond the vocabulary, or 2^32 - 1, where there is no such token.
      return absent || gguf === "unknown" && fields.json[key] === 2 ** 32 - 1
        ? []
        : [[name, fields.whole(key, { most: texts.length - 1 })]];
    }),
  );
}

function byteLevelParts(fields: Fields, { texts, types }: Tokens): TokenizerParts {
  const key = `${KEY}pre`,
    { preTokenizer, normalizer, ignoreMerges, addBos } =
      PRE_TOKENIZERS[fields.word(key, Object.keys(PRE_TOKENIZERS), "default")];
  const vocab = new Map<string, number>();
  texts.forEach((text, id) => {
    if (types[id] === TOKEN.unused) return;
    if (vocab.has(text)) throw fields.error(`${KEY}tokens`, "a list of texts that differ", text);
    vocab.set(text, id);
  });
  return {
    normalizer,
    preTokenizer,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab: Object.fromEntries(vocab),
      merges: fields.list(`${KEY}merges`, 2 ** 22),
    },
    addBos,
  };
}

/** What is put around a text. */
function template(
  { before, after, texts }: {
    readonly before: readonly number[];
    readonly after: readonly number[];
    readonly texts: readonly string[];
  },
): unknown {
  const token = (id: number) => ({ SpecialToken: { id: texts[id], type_id: 0 } });
  const text = (id: string, type: number) => ({ Sequence: { id, type_id: type } });
  const around = (...inner: readonly unknown[]) => [...before.map(token), ...inner, ...after.map(token)];
  return {
    type: "TemplateProcessing",
    single: around(text("A", 0)),
    pair: around(text("A", 0), text("B", 1)),
    special_tokens: Object.fromEntries(
      [...before, ...after].map((id) => [texts[id], { id: texts[id], ids: [id], tokens: [texts[id]] }]),
    ),
  };
}

/** The chat template: one, or several with names. */
function chatTemplate(fields: Fields): JsonFiles {
  const key = "tokenizer.chat_template", prefix = `${key}.`;
  const named = Object.keys(fields.json).filter((name) => name.startsWith(prefix))
    .map((name) => ({ name: name.slice(prefix.length), template: fields.text(name) }));
  if (fields.json[key] === undefined && named.length === 0) return {};
  if (named.length === 0) return { chat_template: fields.text(key) };
  const own = fields.json[key] === undefined ? [] : [{ name: "default", template: fields.text(key) }];
  return { chat_template: [...own, ...named] };
}

/** Ids that begin, end and fill up texts; the end of a turn ends a generated one too. */
function generation(
  fields: Fields,
  { bos, eos, pad }: Readonly<Record<string, number>>,
  count: number,
): JsonFiles {
  const turns = ["eot", "eom"].flatMap((name) => {
    const key = `${KEY}${name}_token_id`;
    return fields.json[key] === undefined ? [] : [fields.whole(key, { most: count - 1 })];
  });
  const ends = [...new Set([...eos === undefined ? [] : [eos], ...turns])];
  return {
    ...bos !== undefined && { bos_token_id: bos },
    ...ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0] : ends },
    ...pad !== undefined && { pad_token_id: pad },
  };
}
