/**
 * Tokenizers of Hugging Face checkpoints.
 *
 * @module
 */

import { DataError, InputError, NotFoundError } from "../../errors.ts";
import type { FileSystemOptions } from "../../host/file_system.ts";
import { readJson } from "../../host/json_file.ts";
import { memoryFileSystem } from "../../host/memory_file_system.ts";
import { pathInFolder } from "../../host/path_in_folder.ts";
import { findGguf } from "../gguf/find_gguf.ts";
import { ggufFiles } from "../gguf/gguf_files.ts";
import { addedTokensOf, cutter } from "./added_tokens.ts";
import { cleanUp, decoderOf } from "./decoder.ts";
import { type Fields, fieldsOf, isWhole } from "./fields.ts";
import { type Frame, frameOf } from "./frame.ts";
import { modelOf, MOST_ENTRIES } from "./model.ts";
import { normalizerOf } from "./normalizer.ts";
import { preTokenizerOf } from "./pre_tokenizer.ts";
import {
  checkSettings,
  framed,
  namedId,
  placeholders,
  statedIds,
  type Vocabulary,
} from "./special_tokens.ts";
import { stretches } from "./stretches.ts";
import { cached } from "./word_cache.ts";

/** Converts text to token ids and back. */
export interface Tokenizer {
  /** Ids of a text and nothing around it. See `encodeDocument` and `encodePrompt` for what begins and ends a text. */
  encode(text: string): number[];
  /** The text of ids, without special tokens. */
  decode(ids: ArrayLike<number>): string;
  /** Size of the vocabulary: one more than the highest id. */
  readonly vocabSize: number;
  /** Id of the token that begins a text; null when there is none. */
  readonly bos: number | null;
  /** Id of the token that ends a text; null when there is none. */
  readonly eos: number | null;
  /** Ids that the tokenizer puts before a text by itself. */
  readonly before: readonly number[];
  /** Ids that the tokenizer puts after a text by itself. */
  readonly after: readonly number[];
  /** Ids that end a generated text: `eos` and those that the model's files name. */
  readonly stop: readonly number[];
}

/** Options of {@link loadTokenizer}. */
export interface LoadTokenizerOptions extends FileSystemOptions {
  /** The model that will see the ids; that of the folder's `config.json` when absent. */
  readonly model?: { readonly source: Readonly<Record<string, unknown>> };
}

/**
 * Loads the tokenizer of a checkpoint folder: `tokenizer.json`, and `tokenizer_config.json` where there is one. That of a
 * GGUF file is made from its metadata.
 *
 * `bos` and `eos` come from `tokenizer_config.json`, or else from `config.json`. What the tokenizer puts around a text
 * comes from its post-processor, and `add_bos_token` of `tokenizer_config.json` where it is given. Every id is compared
 * with the model's `vocab_size`; a token for images or sounds that a model of text has no id for is left out. Ids and texts are those of the Rust library `tokenizers`; a part of `tokenizer.json`
 * that would come out otherwise is refused.
 *
 * @param folder The checkpoint: a folder, or a GGUF file
 * @param options The model and the file system
 * @returns The tokenizer
 * @throws {NotFoundError} When the folder has no `tokenizer.json`
 * @throws {DataError} When a file is damaged or of an unsupported kind, or an id is not one of the model's
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadTokenizer } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * assertEquals(tokenizer.decode(tokenizer.encode("The state of the union")), "The state of the union");
 * ```
 */
export async function loadTokenizer(
  folder: string,
  options: LoadTokenizerOptions = {},
): Promise<Tokenizer> {
  const gguf = await findGguf(folder, options);
  return gguf === null ? await fromFolder(folder, options) : await fromGguf(gguf, options);
}

async function fromFolder(folder: string, options: LoadTokenizerOptions): Promise<Tokenizer> {
  const path = await pathInFolder(folder, "tokenizer.json", options);
  const [settings, config, generation] = [
    await readOptional(folder, "tokenizer_config.json", options),
    await readOptional(folder, "config.json", options),
    await readOptional(folder, "generation_config.json", options),
  ];
  const fields = fieldsOf(await readJson(path, options), { path });
  const { source = config.json } = options.model ?? {};
  const size = sizeOf(fieldsOf(source, { path: `${folder}/config.json` }));
  const built = build(fields, { settings, size });
  if (size !== null && built.vocabSize > size) {
    const top = built.vocabSize - 1;
    throw new DataError(
      `Cannot use "${path}" as ids must be below the vocab_size ${size} of the model: "${
        built.tokenOf(top)
      }" has ${top}; take tokenizer and model from one checkpoint, or remove the token`,
    );
  }
  checkSettings(settings, built);
  const most = (size ?? MOST_ENTRIES) - 1;
  const stated = (name: string): readonly number[] =>
    [config, generation].flatMap((file) => statedIds(file, name, most));
  const [bos, eos] = (["bos", "eos"] as const).map((which) =>
    namedId(settings, { which, vocabulary: built }) ?? statedIds(config, `${which}_token_id`, most)[0] ?? null
  );
  stated("bos_token_id");
  stated("pad_token_id");
  const stop = [...new Set([...eos === null ? [] : [eos], ...stated("eos_token_id")])];
  const { encode, decode, vocabSize } = built;
  return { encode, decode, vocabSize, bos, eos, stop, ...framed(built.frame, { settings, bos, eos }) };
}

async function fromGguf(path: string, options: LoadTokenizerOptions): Promise<Tokenizer> {
  const files = [...await ggufFiles(path, options)];
  if (!files.some(([name]) => name === "tokenizer.json")) {
    throw new DataError(
      `Cannot load the tokenizer of "${path}" as it must have one: it has none; load that of its folder`,
    );
  }
  const fileSystem = memoryFileSystem(
    Object.fromEntries(files.map(([name, text]) => [`${path}/${name}`, text])),
  );
  // In errors, the files stand in the path of the GGUF file.
  return await fromFolder(path, { ...options, fileSystem });
}

/** `vocab_size`, of the part for text where a model has several; null where there is none. */
function sizeOf(config: Fields): number | null {
  if ((config.json.vocab_size ?? null) !== null) return config.whole("vocab_size", { most: 2 ** 31 });
  const text = config.object("text_config");
  return text === null || (text.json.vocab_size ?? null) === null ? null : sizeOf(text);
}

/** A file that need not be there. */
async function readOptional(folder: string, name: string, options: FileSystemOptions): Promise<Fields> {
  try {
    const path = await pathInFolder(folder, name, options);
    return fieldsOf(await readJson(path, options), { path });
  } catch (error) {
    if (error instanceof NotFoundError) return fieldsOf({}, { path: `${folder}/${name}` });
    throw error;
  }
}

interface Built extends Pick<Tokenizer, "encode" | "decode" | "vocabSize">, Vocabulary {
  readonly frame: Frame;
}

/** Puts the parts of `tokenizer.json` together. */
function build(
  fields: Fields,
  { settings, size }: { readonly settings: Fields; readonly size: number | null },
): Built {
  const clean = settings.flag("clean_up_tokenization_spaces", false), images = placeholders(settings);
  const description = fields.object("model");
  if (description === null) throw fields.error("model", "an object", null);
  const model = modelOf(description);
  const added = addedTokensOf(fields, MOST_ENTRIES - 1)
    .filter(({ id, content }) => size === null || id < size || !images.has(content));
  const ids = new Map(model.vocabulary), tokens = new Map([...ids].map(([token, id]) => [id, token]));
  for (const { id, content } of added) {
    const other = ids.get(content) ?? id, holder = tokens.get(id) ?? content;
    if (other !== id) throw fields.error("added_tokens", `a list whose "${content}" has its id ${other}`, id);
    if (holder !== content) {
      throw fields.error("added_tokens", "a list with ids of their own", [holder, content]);
    }
    ids.set(content, id);
    tokens.set(id, content);
  }
  const normalize = normalizerOf(fields.object("normalizer")), cut = cutter(added, normalize);
  const texts = new Map(tokens), before = fields.object("pre_tokenizer"), words = preTokenizerOf(before);
  for (const token of added) if (token.normalized) texts.set(token.id, normalize(token.content));
  const join = decoderOf(fields.object("decoder"));
  const special = new Set(added.filter((token) => token.special).map(({ id }) => id));
  const vocabSize = [...tokens.keys()].reduce((top, id) => Math.max(top, id), -1) + 1;
  const apart = stretches(model, before), encodeWord = cached(model.encode);
  return {
    vocabSize,
    frame: frameOf(fields.object("post_processor"), vocabSize - 1),
    idOf: (token) => ids.get(token),
    tokenOf: (id) => tokens.get(id),
    encode(text) {
      const result: number[] = [];
      for (const section of cut(text.toWellFormed())) {
        if (section.token) {
          result.push(section.token.id);
          continue;
        }
        apart(section.text).forEach((part, i) => {
          for (const word of words(part, section.first && i === 0)) {
            for (const id of encodeWord(word)) result.push(id);
          }
        });
      }
      return result;
    },
    decode(encoded) {
      const list = Array.from(encoded), bad = list.find((id) => !isWhole(id, Infinity));
      if (bad !== undefined) {
        throw new InputError(`Cannot decode as ids are whole numbers from 0: got ${bad}`);
      }
      const shown = list.filter((id) => texts.has(id) && !special.has(id)).map((id) => texts.get(id)!);
      const text = join(shown);
      return clean ? cleanUp(text) : text;
    },
  };
}
