/**
 * Output folders of the examples.
 *
 * @module
 */

import { AlreadyExistsError, InputError } from "@firn/train";
import { LOCK_FILE } from "@firn/train/data";

const CHECKPOINT = "checkpoint.safetensors";

/** Path of the checkpoint in an output folder; there is none once the run is finished. */
export function lastCheckpoint(folder: string): string {
  return `${folder.replace(/\/+$/, "")}/${CHECKPOINT}`;
}

/**
 * Makes an output folder, and finds out early whether it can be written.
 *
 * @param folder The folder
 * @param options `resumed`: it holds a run that goes on
 * @returns The folder
 * @throws {AlreadyExistsError} When it holds something: nothing is overwritten
 * @throws {InputError} When it cannot be written
 */
export async function claimFolder(
  folder: string,
  { resumed }: { readonly resumed: boolean },
): Promise<string> {
  const place = folder.replace(/(?<=.)\/+$/, "");
  try {
    await Deno.mkdir(place, { recursive: true });
    const probe = await Deno.makeTempFile({ dir: place, prefix: ".firn-" });
    await Deno.remove(probe);
  } catch (error) {
    const seen = (error as Error).message;
    throw new InputError(
      `Cannot write to "${place}" as it must be a folder that can be written: ${seen}; choose another --out`,
      {
        cause: error,
      },
    );
  }
  // A lock tells who has the folder.
  const entries = resumed ? [] : await Array.fromAsync(Deno.readDir(place));
  const held = entries.filter(({ name }) => name !== LOCK_FILE);
  if (held.length > 0) {
    const resumable = held.some(({ name }) => name === CHECKPOINT);
    throw new AlreadyExistsError(
      `Cannot write to "${place}" as it must be empty: it holds "${held[0].name}"; choose another --out${
        resumable ? `, or go on with --resume ${place}` : ""
      }`,
    );
  }
  return place;
}

/**
 * Finds a name for an output folder.
 *
 * @param stem What comes before the number
 * @returns The first of `stem-1`, `stem-2` and so on that does not exist
 */
export async function nextFree(stem: string): Promise<string> {
  for (let n = 1;; n++) {
    try {
      await Deno.lstat(`${stem}-${n}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return `${stem}-${n}`;
      throw error;
    }
  }
}
