/**
 * Where the log of a run lies.
 *
 * @module
 */

import { hostFileSystem, trimmedPath } from "@firn/train/data";

/**
 * The log of an output folder, which may come later, or of what is the log itself.
 *
 * @param place The folder, or the file
 * @returns Path of `metrics.jsonl`; it need not exist
 */
export async function logOf(place: string): Promise<string> {
  const info = await hostFileSystem().stat(place);
  const folder = info === null ? !place.endsWith(".jsonl") : info.kind === "folder";
  return folder ? `${trimmedPath(place)}/metrics.jsonl` : place;
}
