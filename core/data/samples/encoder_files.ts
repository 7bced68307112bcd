/**
 * What encodes examples, made of files, so that a worker can make it too.
 *
 * @module
 */

import { NotFoundError } from "../../errors.ts";
import type { FileSystem, FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { memoryFileSystem } from "../../host/memory_file_system.ts";
import { pathInFolder } from "../../host/path_in_folder.ts";
import { loadChatTemplate } from "../chat/load_chat_template.ts";
import { findGguf } from "../gguf/find_gguf.ts";
import { ggufFiles } from "../gguf/gguf_files.ts";
import type { Example } from "../rows/example.ts";
import { loadTokenizer } from "../tokenizer/load_tokenizer.ts";
import type { Learned, Sample } from "./sample.ts";
import { sampleEncoder } from "./sample_encoder.ts";

/** What a worker needs to encode examples: plain data. */
export interface EncoderFiles {
  /** Folder of the checkpoint. */
  readonly folder: string;
  /** Files of the folder that say how text is encoded, by path. */
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** The file with the template of conversations, in place of the folder's own. */
  readonly chatTemplate?: string;
  /** Which tokens are learned. */
  readonly loss?: Learned;
  /** The date that templates are told, in milliseconds. */
  readonly now: number;
}

/** How a checkpoint encodes examples. */
export interface EncoderOptions extends FileSystemOptions {
  /** A file with the template of conversations, in place of the folder's own. */
  readonly chatTemplate?: string;
  /** Which tokens are learned: those of answers and completions, and all of a text, when absent. */
  readonly loss?: Learned;
  /** The date that templates are told; today when absent. */
  readonly now?: Date;
}

/** Files that say how text is encoded, and the folder of further templates. */
const NAMES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "config.json",
  "generation_config.json",
  "chat_template.jinja",
  "chat_template.json",
];
const MORE = "additional_chat_templates";

/**
 * Reads the files of a checkpoint that say how text is encoded.
 *
 * @param folder The checkpoint: a folder, or a GGUF file
 * @param options Which tokens are learned, the template
 * @returns The files, and the options
 */
export async function encoderFiles(
  folder: string,
  { chatTemplate, loss, now = new Date(), fileSystem = hostFileSystem() }: EncoderOptions = {},
): Promise<EncoderFiles> {
  const gguf = await findGguf(folder, { fileSystem });
  const files: Record<string, Uint8Array> = {};
  if (gguf !== null) {
    for (const [name, content] of await ggufFiles(gguf, { fileSystem })) {
      files[`${folder}/${name}`] = typeof content === "string" ? new TextEncoder().encode(content) : content;
    }
  } else {
    for (const name of [...NAMES, ...await namesIn(folder, fileSystem)]) {
      const content = await contentOf(folder, name, fileSystem);
      if (content !== null) files[`${folder}/${name}`] = content;
    }
  }
  if (chatTemplate !== undefined) {
    files[chatTemplate] = await fileSystem.read(chatTemplate, { limit: 2 ** 20 });
  }
  return { folder, files, chatTemplate, loss, now: now.getTime() };
}

/**
 * Makes what encodes examples.
 *
 * @param from The files
 * @returns From an example to its sample
 * @throws {DataError} When a file is damaged
 */
export async function encoderOf(
  { folder, files, chatTemplate, loss, now }: EncoderFiles,
): Promise<(example: Example) => Sample> {
  const fileSystem = memoryFileSystem(files);
  const tokenizer = await loadTokenizer(folder, { fileSystem });
  const template = await loadChatTemplate(folder, { file: chatTemplate, now: new Date(now), fileSystem });
  return sampleEncoder(tokenizer, { template, loss });
}

async function namesIn(folder: string, fileSystem: FileSystem): Promise<string[]> {
  if ((await fileSystem.stat(`${folder}/${MORE}`))?.kind !== "folder") return [];
  return (await fileSystem.list(`${folder}/${MORE}`)).map(({ name }) => `${MORE}/${name}`);
}

async function contentOf(folder: string, name: string, fileSystem: FileSystem): Promise<Uint8Array | null> {
  try {
    return await fileSystem.read(await pathInFolder(folder, name, { fileSystem }), { limit: 2 ** 27 });
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}
