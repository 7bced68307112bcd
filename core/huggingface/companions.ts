/**
 * The files of a model folder beside its weights and its configuration.
 *
 * @module
 */

import { findGguf } from "../data/gguf/find_gguf.ts";
import { ggufFiles } from "../data/gguf/gguf_files.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { pathInFolder } from "../host/path_in_folder.ts";

/** Tokenizers, templates and settings; no weights and no code. */
const COMPANIONS: readonly string[] = [
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  "generation_config.json",
  "merges.txt",
  "preprocessor_config.json",
  "processor_config.json",
  "sentencepiece.bpe.model",
  "special_tokens_map.json",
  "spiece.model",
  "tekken.json",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "vocab.json",
  "vocab.txt",
];

/** Files with other endings: licences, which go where weights go, and vocabularies of tiktoken. */
const PATTERN = /^(LICEN[CS]E|NOTICE|USE_POLICY)(\.(txt|md))?$|^[\w-]+\.tiktoken$/;

/** A folder of named chat templates. */
const TEMPLATES = "additional_chat_templates";
const TEMPLATE = /^[\w-]+\.jinja$/;

/** Whether a file of that name, or path in the folder, goes along with the weights. */
export function isCompanion(path: string): boolean {
  const [folder, name = "", ...rest] = path.split("/");
  if (folder === TEMPLATES) return rest.length === 0 && TEMPLATE.test(name);
  return COMPANIONS.includes(path) || PATTERN.test(path);
}

/** Bytes that one of them may have. */
const LIMIT = 2 ** 28;

/**
 * Reads the files that go along when a model is saved again: its tokenizer, its templates, its settings.
 *
 * @param folder A model folder, or a GGUF file, of which they are made
 * @param options The file system
 * @returns Those that exist, by name
 * @throws {DataError} When one is a link that leads out of the folder
 * @throws {FileError} When one is no file, or is too large
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { companionFiles } from "@firn/train/hub";
 *
 * const files = await companionFiles("examples/models/sotu");
 * assertEquals(files.has("tokenizer.json"), true);
 * ```
 */
export async function companionFiles(
  folder: string,
  options: FileSystemOptions = {},
): Promise<ReadonlyMap<string, Uint8Array>> {
  const { fileSystem = hostFileSystem() } = options, gguf = await findGguf(folder, options);
  if (gguf !== null) {
    const made = [...await ggufFiles(gguf, options)].filter(([name]) => COMPANIONS.includes(name));
    return new Map(made.map(([name, text]) => [name, new TextEncoder().encode(text)]));
  }
  const there = (await fileSystem.list(folder)).map(({ name }) => name);
  const names = there.filter(isCompanion);
  const templates = there.includes(TEMPLATES)
    ? await fileSystem.list(await pathInFolder(folder, TEMPLATES, options))
    : [];
  for (const { name } of templates) if (TEMPLATE.test(name)) names.push(`${TEMPLATES}/${name}`);
  const files = new Map<string, Uint8Array>();
  for (const name of names.toSorted()) {
    files.set(name, await fileSystem.read(await pathInFolder(folder, name, options), { limit: LIMIT }));
  }
  return files;
}
