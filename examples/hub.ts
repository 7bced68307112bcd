/**
 * Models of a hub on the command line: a name stands where a folder may.
 *
 * @module
 */

import { hostFileSystem } from "@firn/train/data";
import { downloadDataset, downloadModel, isModelName, pinnedName } from "@firn/train/hub";
import { type Flag, text } from "./flags.ts";
import { stage, type Stream, transferBar } from "./progress.ts";

/** The flag of a model. */
export const MODEL: Flag<string> = text(
  "DIR|NAME",
  "Hugging Face folder of the model, or its name on the hub: owner/name, owner/name@revision",
  "examples/models/sotu",
);

/** A name for people: of a commit its first 7 digits. */
export const shortName = (name: string): string => name.replace(/(@[0-9a-f]{7})[0-9a-f]{33}$/, "$1");

/** A model as a command line names it, and where it lies. */
export interface Located {
  /** As it was named; of a model of a hub with its commit, so that a run that goes on takes the same one. */
  readonly name: string;
  readonly folder: string;
}

/**
 * Finds a model: a local folder, or a name of a hub, which is brought into the cache of Hugging Face when it is not there.
 *
 * @param model A folder, or `owner/name`, or `owner/name@revision`
 * @param options `refresh`: whether the hub is asked for what is new; `to`: where a line shows how far it is
 * @returns Its name and its folder
 */
export async function locateModel(
  model: string,
  { refresh = false, to }: { readonly refresh?: boolean; readonly to?: Stream } = {},
): Promise<Located> {
  // What is no name is refused where it is opened, as a folder that there is not.
  if (await hostFileSystem().stat(model) !== null || !isModelName(model)) {
    return { name: model, folder: model };
  }
  const folder = await stage(`finding     ${model}`, (say) =>
    downloadModel(model, {
      refresh,
      onProgress: transferBar(say),
    }), { to });
  return { name: pinnedName(model, folder), folder };
}

/** What stands before the name of a dataset. */
const PREFIX = "hub:";

/**
 * Finds data: `hub:owner/name[/path][@revision]` stands for files of a dataset of a hub; what else is named stays as it is.
 *
 * @param sources Files, patterns, and names behind `hub:`
 * @param options As of {@link locateModel}
 * @returns The sources, with local paths for names of a hub
 */
export async function locateData(
  sources: readonly string[],
  { refresh = false, to }: { readonly refresh?: boolean; readonly to?: Stream } = {},
): Promise<readonly string[]> {
  const found: string[] = [];
  for (const source of sources) {
    if (!source.startsWith(PREFIX)) {
      found.push(source);
      continue;
    }
    found.push(
      ...await stage(`finding     ${source}`, (say) =>
        downloadDataset(source.slice(PREFIX.length), {
          refresh,
          onProgress: transferBar(say),
        }), { to }),
    );
  }
  return found;
}
