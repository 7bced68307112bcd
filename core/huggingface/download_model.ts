/**
 * Models and adapters of a hub, in the cache of Hugging Face.
 *
 * @module
 */

import { InputError, NotFoundError } from "../errors.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { readJson } from "../host/json_file.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import { type DownloadOptions, fetchFiles, type Wanted } from "../hub/fetch_files.ts";
import { hubName, isHubName, nameText } from "../hub/name.ts";
import { isCompanion } from "./companions.ts";
import { otherRemoteWeights } from "./other_weights.ts";
import { weightMap } from "./shards.ts";

/** What is read of a model beside its weights and its companions: its card, and how sentences are embedded. */
const SETTINGS: readonly string[] = [
  "config.json",
  "README.md",
  "modules.json",
  "sentence_bert_config.json",
  "config_sentence_transformers.json",
];
const POOLING = /^\d+_[A-Z][A-Za-z]+\/config\.json$/;

/** Whether a file, by its path in the folder, is one that is read beside weights and companions. */
export function isSetting(path: string): boolean {
  return SETTINGS.includes(path) || POOLING.test(path);
}

const SINGLE = "model.safetensors", INDEX = "model.safetensors.index.json";
const ADAPTER = ["adapter_config.json", "adapter_model.safetensors"];

/**
 * Brings a model or an adapter of a hub into the cache of Hugging Face, which `transformers` and `huggingface_hub` for
 * Python share. Only files that are needed come: configuration, tokenizer, templates, card, weights in safetensors. A
 * download that was cut off goes on where it stopped, checksums are compared, and of several processes one downloads.
 *
 * What the cache knows is taken without asking the hub: the same name gives the same bits until `refresh` asks anew. A
 * local folder of that name wins, so that a command can take both.
 *
 * @param name `owner/name`, or `owner/name@revision`: a branch, a tag or the hash of a commit; of a repository with GGUF
 * files `owner/name/file.gguf`
 * @param options The cache, the hub, the token; by default as `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` and
 * `HF_HUB_OFFLINE` say
 * @returns The folder, for {@link loadModel}; the path of the file when the name has one
 * @throws {InputError} When it is neither a folder nor a name
 * @throws {NotFoundError} When there is no such model or revision, when it has no safetensors, or when the cache lacks it and
 * nothing else may be asked
 * @throws {HubError} When the hub refuses, or cannot be reached; what has arrived is kept
 * @throws {DataError} When an answer is not one of a hub, or a checksum differs
 * @throws {FileError} When the machine refuses it, such as for a full disk
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { downloadModel } from "@firn/train/hub";
 *
 * // Away from here: const model = await loadModel(gpu, await downloadModel("HuggingFaceTB/SmolLM2-135M"));
 * assertEquals(await downloadModel("examples/models/sotu"), "examples/models/sotu"); // a local folder
 * ```
 */
export async function downloadModel(name: string, options: DownloadOptions = {}): Promise<string> {
  const { fileSystem = hostFileSystem() } = options;
  if (await fileSystem.stat(name) !== null) return name;
  if (!isModelName(name)) {
    throw new InputError(
      `Cannot find "${name}" as a model is a folder on this machine or has the name owner/name on a hub: ` +
        "there is no such folder, and it is no such name; check the path",
    );
  }
  const parsed = hubName(name, "model"), { path } = parsed;
  const wanted = path === "" ? filesOf(name, options) : oneFile(name, path);
  const { folder } = await fetchFiles(parsed, { ...options, ...wanted });
  return path === "" ? folder : await pathInFolder(folder, path, options);
}

/**
 * Whether text can be the name of a model of a hub: `owner/name`, `owner/name@revision`, `owner/name/file.gguf`.
 *
 * @param text The text
 * @returns Whether it can
 */
export function isModelName(text: string): boolean {
  return isHubName(text) && /^(\/.*\.gguf)?$/i.test(hubName(text, "model").path.replace(/^(?=.)/, "/"));
}

/**
 * The name of a model with the commit that the cache has of it: the same bits wherever it is used again.
 *
 * @param name The name
 * @param folder What {@link downloadModel} returned for it
 * @returns `owner/name@commit`; the name as it is when it is that of a local folder
 */
export function pinnedName(name: string, folder: string): string {
  const revision = /[\\/]snapshots[\\/]([0-9a-f]{40})(?:[\\/]|$)/.exec(folder)?.[1];
  return folder === name || revision === undefined ? name : nameText({ ...hubName(name, "model"), revision });
}

const question = (name: string): Wanted["question"] => ({
  action: `download "${name}"`,
  seen: "there is no folder of that name",
});

function oneFile(name: string, path: string): Wanted {
  const fail = () =>
    new NotFoundError(
      `Cannot download "${name}" as the repository must have "${path}": it has not; check the path`,
    );
  return {
    async *choose(paths) {
      if (!paths.includes(path)) throw fail();
      yield await Promise.resolve([path]);
    },
    isEnough: (paths) => paths.includes(path),
    question: question(name),
  };
}

function filesOf(name: string, options: DownloadOptions): Wanted {
  return {
    async *choose(paths, folder) {
      const small = paths.filter((path) => isSetting(path) || isCompanion(path) || path === ADAPTER[0]);
      const single = [paths.includes(SINGLE) ? SINGLE : "", paths.includes(ADAPTER[1]) ? ADAPTER[1] : ""];
      const weights = single.filter((path) => path !== ""),
        isSharded = weights.length === 0 && paths.includes(INDEX);
      if (weights.length === 0 && !isSharded) throw noWeights(name, paths);
      if (!paths.includes("config.json") && !paths.includes(ADAPTER[0])) {
        throw new NotFoundError(
          `Cannot download "${name}" as a model has a config.json and an adapter an adapter_config.json: ` +
            "it has neither; check the name",
        );
      }
      // Weights come last: where they are, all else is.
      yield isSharded ? [...small, INDEX] : small;
      if (!isSharded) return yield weights;
      const index = await pathInFolder(folder, INDEX, options);
      yield [...new Set(Object.values(weightMap(index, await readJson(index, options))))];
    },
    isEnough: (paths) =>
      paths.some((path) => /^(tokenizer|vocab|preprocessor_config|adapter_config)\b/.test(path)),
    question: question(name),
  };
}

function noWeights(name: string, paths: readonly string[]): Error {
  const gguf = paths.find((path) => /\.gguf$/i.test(path));
  const seen = gguf !== undefined
    ? `it has GGUF; name one of its files, as in "${name.replace(/@.*$/, "")}/${gguf}"`
    : otherRemoteWeights({ ...hubName(name, "model"), paths }) ??
      "it has no weights that can be read; check the name";
  return new NotFoundError(`Cannot download "${name}" as weights must be safetensors: ${seen}`);
}
