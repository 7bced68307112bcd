/**
 * Data files of dataset repositories of a hub, in the cache of Hugging Face.
 *
 * @module
 */

import { InputError, NotFoundError } from "../errors.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import { type DownloadOptions, fetchFiles } from "../hub/fetch_files.ts";
import { hubName } from "../hub/name.ts";

/** Endings of data files; where a repository has the same rows in several formats, the first one counts. */
const FORMATS: readonly string[] = ["parquet", "jsonl", "ndjson", "json", "csv", "tsv", "txt"];

/** Files about the data, not of it. */
const ABOUT = /(^|\/)(dataset_infos?|dataset_dict|state|config|README)\.\w+$/;

const word = (words: string): RegExp => new RegExp(`(^|[^a-z])(${words})([^a-z]|$)`, "i");
const TRAIN = word("train|training"), OTHER = word("test|testing|eval|evaluation|dev|valid|validation|val");

/**
 * Brings data files of a dataset repository into the cache of Hugging Face, which `datasets` and `huggingface_hub` for Python
 * share. As `downloadModel` does, it transfers what is missing, compares checksums, and asks no hub for what the cache has.
 *
 * @param name `owner/name[/path][@revision]`. The path is a file, a folder, or a pattern in which `*` stands for characters
 * but `/`. Of a folder, and of all without a path, come the files of the training split, which say `train` in their paths;
 * where none does, all that are not those of another split
 * @param options The cache, the hub, the token; by default as the environment says
 * @returns Paths of the files, in the order of their names
 * @throws {InputError} When it is no name, or does not tell which of several sets of files is meant
 * @throws {NotFoundError} When there is no such repository, revision or file, or the cache lacks it and nothing else may be
 * asked
 * @throws {HubError} When the hub refuses, or cannot be reached; what has arrived is kept
 * @throws {DataError} When an answer is not one of a hub, or a checksum differs
 * @throws {FileError} When the machine refuses it, such as for a full disk
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * import { InputError } from "@firn/train";
 * import { downloadDataset } from "@firn/train/hub";
 *
 * // With a network: await openRows(await downloadDataset("openai/gsm8k/main"))
 * await assertRejects(() => downloadDataset("gsm8k"), InputError, "owner/name");
 * ```
 */
export async function downloadDataset(
  name: string,
  options: DownloadOptions = {},
): Promise<readonly string[]> {
  const parsed = hubName(name.replace(/\/+(?=@|$)/, ""), "dataset"), { path } = parsed;
  const { folder, paths } = await fetchFiles(parsed, {
    ...options,
    async *choose(all) {
      yield await Promise.resolve(chosenData(name, { path, all }));
    },
    // Only a file that is named is known to be all.
    isEnough: (all) => all.includes(path),
    question: { action: `download "${name}"` },
  });
  return await Promise.all(paths.map((one) => pathInFolder(folder, one, options)));
}

/**
 * Chooses data files.
 *
 * @param name The name, for errors
 * @param options The path in it, and all files
 * @returns Paths of the files
 */
export function chosenData(
  name: string,
  { path, all }: { readonly path: string; readonly all: readonly string[] },
): readonly string[] {
  const found = path.includes("*") || all.includes(path)
    ? all.filter((one) => one === path || patternOf(path).test(one))
    : splitOf(name, all.filter((one) => isData(one) && (path === "" || one.startsWith(`${path}/`))));
  if (found.length > 0) return found.toSorted();
  const there = all.filter(isData);
  throw new NotFoundError(
    `Cannot download "${name}" as the repository must have ${
      path === "" ? "data files" : `"${path}"`
    }: it has ${there.length === 0 ? `none in ${FORMATS.join(", ")}` : listed(there)}; check the name`,
  );
}

const isData = (path: string): boolean => FORMATS.includes(endOf(path)) && !ABOUT.test(path);

/** The training split; everything, where the files do not say of which split they are. */
function splitOf(name: string, files: readonly string[]): readonly string[] {
  const train = files.filter((path) => TRAIN.test(path));
  const split = train.length > 0 ? train : files.filter((path) => !OTHER.test(path));
  const format = FORMATS.find((ending) => split.some((path) => endOf(path) === ending));
  const found = split.filter((path) => endOf(path) === format);
  const sets = new Set(found.map((path) => path.replace(/[^/]*$/, "")));
  if (sets.size <= 1) return found;
  throw new InputError(
    `Cannot download "${name}" as it must tell which files are meant: there are several sets, ${
      listed([...sets].map((set) => set.replace(/\/$/, "") || "those of no folder"))
    }; name one, as in "${name.replace(/@.*$/, "")}/${
      [...sets].find((set) => set !== "")!.replace(/\/$/, "")
    }"`,
  );
}

const endOf = (path: string): string => /\.([^./]*)$/.exec(path)?.[1].toLowerCase() ?? "";

const listed = (paths: readonly string[]): string =>
  paths.slice(0, 8).map((path) => `"${path}"`).join(", ") +
  (paths.length > 8 ? ` and ${paths.length - 8} more` : "");

/** The expression of a path in which `*` stands for characters of a name. */
function patternOf(path: string): RegExp {
  return new RegExp(
    `^${path.split("*").map((text) => text.replace(/[\\^$.|?+()[\]{}]/g, "\\$&")).join("[^/]*")}$`,
  );
}
