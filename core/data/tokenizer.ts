/**
 * Tokenizers of Hugging Face checkpoints.
 *
 * @module
 */

import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { DataError, NotFoundError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { readJson } from "../host/json_file.ts";
import { pathInFolder } from "../host/path_in_folder.ts";

/** Converts text to token ids and back. */
export interface Tokenizer {
  /** Ids of a text, with the special tokens that the tokenizer adds. */
  encode(text: string): number[];
  /** The text of ids, without special tokens. */
  decode(ids: ArrayLike<number>): string;
  /** Size of the vocabulary: one more than the highest id. */
  readonly vocabSize: number;
  /** Id of the token that begins a text; null when there is none. */
  readonly bos: number | null;
  /** Id of the token that ends a text; null when there is none. */
  readonly eos: number | null;
}

/**
 * Loads the tokenizer of a checkpoint folder: `tokenizer.json`, and `tokenizer_config.json` where there is one.
 * `bos` and `eos` come from `tokenizer_config.json`, or else from `config.json`.
 *
 * @param folder The checkpoint
 * @param options The file system
 * @returns The tokenizer
 * @throws {NotFoundError} When the folder has no `tokenizer.json`
 * @throws {DataError} When a file is damaged or of an unsupported kind
 */
export async function loadTokenizer(folder: string, options: FileSystemOptions = {}): Promise<Tokenizer> {
  const path = await pathInFolder(folder, "tokenizer.json", options);
  const settings = await readOptional(folder, "tokenizer_config.json", options);
  const model = await readOptional(folder, "config.json", options);
  const tokenizer = construct(path, await readJson(path, options), settings);
  const ids = [...tokenizer.get_vocab().values()];
  return {
    encode: (text) => tokenizer.encode(text).ids,
    decode: (tokens) =>
      tokens.length === 0 ? "" : tokenizer.decode(Array.from(tokens), { skip_special_tokens: true }),
    vocabSize: ids.reduce((top, id) => Math.max(top, id), -1) + 1,
    bos: specialId("bos", { folder, tokenizer, settings, model }),
    eos: specialId("eos", { folder, tokenizer, settings, model }),
  };
}

type JsonObject = Record<string, unknown>;

async function readOptional(folder: string, name: string, options: FileSystemOptions): Promise<JsonObject> {
  try {
    return await readJson(await pathInFolder(folder, name, options), options);
  } catch (error) {
    if (error instanceof NotFoundError) return {};
    throw error;
  }
}

function construct(path: string, content: JsonObject, settings: JsonObject): HuggingFaceTokenizer {
  try {
    // Decoding must return the text, so spaces before punctuation stay unless the checkpoint says otherwise.
    return new HuggingFaceTokenizer(content, { clean_up_tokenization_spaces: false, ...settings });
  } catch (error) {
    throw new DataError(
      `Cannot use "${path}" as it must be a tokenizer that @huggingface/tokenizers supports: ` +
        `${(error as Error).message}; save it again with a current version of its tool`,
      { cause: error },
    );
  }
}

interface SpecialSources {
  readonly folder: string;
  readonly tokenizer: HuggingFaceTokenizer;
  readonly settings: JsonObject;
  readonly model: JsonObject;
}

function specialId(
  which: "bos" | "eos",
  { folder, tokenizer, settings, model }: SpecialSources,
): number | null {
  const named = settings[`${which}_token`] as string | { content: string } | null | undefined;
  if (named === null || named === undefined) {
    const id = [model[`${which}_token_id`]].flat()[0];
    return typeof id === "number" ? id : null;
  }
  const text = typeof named === "string" ? named : named.content;
  const id = tokenizer.token_to_id(text);
  if (id === undefined) {
    throw new DataError(
      `Cannot use "${folder}/tokenizer_config.json" as its ${which}_token must be in tokenizer.json: "${text}" is not; ` +
        `take both files from one checkpoint`,
    );
  }
  return id;
}
