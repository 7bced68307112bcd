/**
 * The template of chats that a checkpoint brings.
 *
 * @module
 */

import { DataError, NotFoundError } from "../../errors.ts";
import type { FileSystem, FileSystemOptions } from "../../host/file_system.ts";
import { hostFileSystem } from "../../host/host_file_system.ts";
import { readJson } from "../../host/json_file.ts";
import { memoryFileSystem } from "../../host/memory_file_system.ts";
import { pathInFolder } from "../../host/path_in_folder.ts";
import { isRecord } from "../../json_rules.ts";
import { findGguf } from "../gguf/find_gguf.ts";
import { ggufFiles } from "../gguf/gguf_files.ts";
import { type ChatTemplate, chatTemplate, type ChatTemplateOptions } from "./chat_template.ts";

/** Options of {@link loadChatTemplate}. */
export interface LoadChatTemplateOptions
  extends FileSystemOptions, Pick<ChatTemplateOptions, "variables" | "now"> {
  /** A file with the template, in place of the folder's own. */
  readonly file?: string;
}

/** Bytes that a template may have. */
const LIMIT = 2 ** 20;

/** Special tokens that templates are told of. */
const TOKENS = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"].map((name) => `${name}_token`);

/**
 * Loads the template of a checkpoint, a GGUF file or a folder: `chat_template.jinja` with those of `additional_chat_templates`, or else what
 * `chat_template.json` or `tokenizer_config.json` has, a text or a list of texts with names.
 *
 * @param folder The checkpoint
 * @param options A file in place of its template, the date, the file system
 * @returns The template; null when the folder has none
 * @throws {NotFoundError} When the file that is named does not exist
 * @throws {DataError} When a file is damaged, or the template cannot be read
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadChatTemplate, memoryFileSystem } from "@firn/train/data";
 *
 * const fileSystem = memoryFileSystem({
 *   "m/tokenizer_config.json": JSON.stringify({ bos_token: "<s>", chat_template: "{{ bos_token }}{{ messages[0].content }}" }),
 * });
 * const template = await loadChatTemplate("m", { fileSystem });
 * assertEquals(template!.render({ messages: [{ role: "user", content: "Hi" }] }).text, "<s>Hi");
 * ```
 */
export async function loadChatTemplate(
  folder: string,
  { file, variables, now, fileSystem: given = hostFileSystem() }: LoadChatTemplateOptions = {},
): Promise<ChatTemplate | null> {
  const gguf = await findGguf(folder, { fileSystem: given });
  const fileSystem = gguf === null ? given : await filesOfGguf(gguf, { folder, fileSystem: given });
  const path = `${folder}/tokenizer_config.json`;
  const settings = await jsonIn(folder, "tokenizer_config.json", fileSystem) ?? {};
  const options = { tokens: tokensOf(settings), variables, now };
  if (file !== undefined) {
    const text = await readText(file, given);
    return chatTemplate(/\.json$/i.test(file) ? sourcesOf(parsed(text, file), file)! : text, {
      ...options,
      path: file,
    });
  }
  const own = await textIn(folder, "chat_template.jinja", fileSystem);
  if (own !== null) {
    const named = await additional(folder, fileSystem);
    return chatTemplate(new Map([...named, ["default", own]]), {
      ...options,
      path: `${folder}/chat_template.jinja`,
    });
  }
  const processor = await jsonIn(folder, "chat_template.json", fileSystem);
  const found = sourcesOf(processor, `${folder}/chat_template.json`) ?? sourcesOf(settings, path);
  return found === null ? null : chatTemplate(found, { ...options, path });
}

/** The files of text that a GGUF file stands for. */
async function filesOfGguf(
  path: string,
  { folder, fileSystem }: { readonly folder: string; readonly fileSystem: FileSystem },
): Promise<FileSystem> {
  const files = [...await ggufFiles(path, { fileSystem })];
  return memoryFileSystem(Object.fromEntries(files.map(([name, text]) => [`${folder}/${name}`, text])));
}

/** Sources by name, from the key `chat_template`; null where there is none. */
function sourcesOf(json: unknown, path: string): ReadonlyMap<string, string> | null {
  const value = isRecord(json) ? json.chat_template ?? null : null;
  if (value === null) return null;
  if (typeof value === "string") return new Map([["default", value]]);
  const entries = Array.isArray(value)
    ? value
    : isRecord(value)
    ? Object.entries(value).map(([name, template]) => ({ name, template }))
    : [];
  const named = entries.map((entry) => isRecord(entry) ? [entry.name, entry.template] : []);
  if (
    named.length > 0 && named.every(([name, text]) => typeof name === "string" && typeof text === "string")
  ) {
    return new Map(named as [string, string][]);
  }
  throw new DataError(
    `Cannot use "${path}" as "chat_template" must be a text, or a list of texts with names: it is neither; get the file again`,
  );
}

/** Texts of the special tokens that the settings name. */
function tokensOf(settings: Readonly<Record<string, unknown>>): Record<string, string> {
  const texts = TOKENS.map((name): [string, unknown] => {
    const token = settings[name];
    return [name, isRecord(token) ? token.content : token];
  });
  return Object.fromEntries(texts.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

async function additional(folder: string, fileSystem: FileSystem): Promise<[string, string][]> {
  const at = "additional_chat_templates";
  if ((await fileSystem.stat(`${folder}/${at}`))?.kind !== "folder") return [];
  const names = (await fileSystem.list(`${folder}/${at}`)).map(({ name }) => name).filter((name) =>
    name.endsWith(".jinja")
  );
  return await Promise.all(
    names.sort().map(async (name): Promise<[string, string]> => {
      return [name.slice(0, -".jinja".length), (await textIn(folder, `${at}/${name}`, fileSystem))!];
    }),
  );
}

async function jsonIn(
  folder: string,
  name: string,
  fileSystem: FileSystem,
): Promise<Record<string, unknown> | null> {
  try {
    return await readJson(await pathInFolder(folder, name, { fileSystem }), { fileSystem });
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}

async function textIn(folder: string, name: string, fileSystem: FileSystem): Promise<string | null> {
  try {
    return await readText(await pathInFolder(folder, name, { fileSystem }), fileSystem);
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}

async function readText(path: string, fileSystem: FileSystem): Promise<string> {
  const bytes = await fileSystem.read(path, { limit: LIMIT });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new DataError(`Cannot read "${path}" as text must be UTF-8: it is not; save it as UTF-8`, {
      cause: error,
    });
  }
}

function parsed(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DataError(`Cannot read "${path}" as it must be JSON: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
