/**
 * Where the log of a run lies.
 *
 * @module
 */

import { hostFileSystem, trimmedPath } from "@firn/train/data";

/**
 * The log of an output folder, or of what is the log itself.
 *
 * @param place The folder, or the file
 * @returns Path of `metrics.jsonl`; it need not exist
 */
export async function logOf(place: string): Promise<string> {
  const info = await hostFileSystem().stat(place);
  return info?.kind === "folder" ? `${trimmedPath(place)}/metrics.jsonl` : place;
}
