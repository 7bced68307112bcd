/**
 * Files by pattern.
 *
 * @module
 */

import { InputError, NotFoundError } from "../../errors.ts";
import type { FileSystem } from "../../host/file_system.ts";
import { slashed } from "../../host/paths.ts";

/**
 * The files that a pattern names: `*` and `?` stand for characters of a name, `**` for folders, `[ab]` and `{a,b}` for
 * choices. A path that exists is itself, whatever its characters.
 *
 * @param pattern The pattern
 * @param fileSystem Where the files are
 * @returns Their paths, in order of their names
 * @throws {NotFoundError} When there is none
 * @throws {InputError} When it is no pattern, such as `[b-a]`
 */
export async function filesOf(pattern: string, fileSystem: FileSystem): Promise<readonly string[]> {
  if (!/[*?[{]/.test(pattern) || await fileSystem.stat(pattern) !== null) return [pattern];
  const [first, ...others] = slashed(pattern).split("/"),
    parts = [first, ...others.filter((part) => part !== "")];
  // What stands before the first mark is opened as it stands: a run may be allowed to read no more, and a drive is no folder.
  const marked = parts.findIndex((part) => /[*?[{]/.test(part)), rest = parts.slice(marked);
  const begin = parts.slice(0, marked).map((part) => `${part}/`).join("");
  const isThere = begin === "" || (await fileSystem.stat(begin))?.kind === "folder";
  const found = isThere ? [...new Set(await matches(begin, rest, fileSystem))].sort() : [];
  if (found.length > 0) return found;
  throw new NotFoundError(`Cannot find a file as "${pattern}" matches none: check the pattern`);
}

async function matches(
  folder: string,
  [part, ...rest]: readonly string[],
  fileSystem: FileSystem,
): Promise<string[]> {
  const join = (name: string): string =>
    folder === "" || folder.endsWith("/") ? folder + name : `${folder}/${name}`;
  if (!/[*?[{]/.test(part)) {
    const path = join(part), info = await fileSystem.stat(path);
    if (info === null) return [];
    if (rest.length > 0) return info.kind === "folder" ? matches(path, rest, fileSystem) : [];
    return info.kind === "file" ? [path] : [];
  }
  const entries = await fileSystem.list(folder === "" ? "." : folder);
  const result = part === "**" && rest.length > 0 ? await matches(folder, rest, fileSystem) : [];
  const named = part === "**" ? /^[^.]/ : nameOf(part);
  for (const { name, kind } of entries) {
    // As in a shell, what is hidden is matched only by a pattern that begins with a dot.
    if (!named.test(name) || (name.startsWith(".") && !part.startsWith("."))) continue;
    const path = join(name), info = await fileSystem.stat(path);
    if (part === "**") {
      // A link may lead back up.
      if (kind === "folder") result.push(...await matches(path, ["**", ...rest], fileSystem));
      else if (info?.kind === "file" && rest.length === 0) result.push(path);
    } else if (info?.kind === "folder" && rest.length > 0) {
      result.push(...await matches(path, rest, fileSystem));
    } else if (info?.kind === "file" && rest.length === 0) result.push(path);
  }
  return result;
}

/** Marks of a pattern as marks of an expression; all other characters stand for themselves. */
const MARKS: ReadonlyMap<string, string> = new Map([["*", ".*"], ["?", "."]]);

/** The expression of a part of a pattern. */
function nameOf(part: string): RegExp {
  const source = part.replace(
    /\{([^{}]*)\}|\[(!?)([^\]]+)\]|./gsu,
    (mark, choices?: string, not?: string, set?: string) => {
      if (choices !== undefined) {
        return `(?:${choices.split(",").map((text) => nameOf(text).source.slice(1, -1)).join("|")})`;
      }
      if (set !== undefined) return `[${not === "" ? "" : "^"}${set.replace(/[\\\]^]/g, "\\$&")}]`;
      return MARKS.get(mark) ?? mark.replace(/[\\^$.|?*+()[\]{}\/]/g, "\\$&");
    },
  );
  try {
    return new RegExp(`^${source}$`, "su");
  } catch (error) {
    throw new InputError(
      `Cannot find files as "${part}" must be a pattern: ${(error as Error).message}; mend it`,
      { cause: error },
    );
  }
}
