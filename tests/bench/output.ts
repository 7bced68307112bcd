/**
 * The file that a measurement leaves.
 *
 * @module
 */

import { InputError } from "@firn/train";

/**
 * Finds out whether a file can be written, before what it shall hold is measured; a file that is there stays as it is.
 *
 * @param path The file
 * @throws {InputError} When it cannot: why
 */
export async function checkOutput(path: string): Promise<void> {
  const refuse = (rule: string, error: unknown = null): never => {
    throw new InputError(`Cannot write "${path}" as ${rule}; choose another file`, { cause: error });
  };
  const folder = path.match(/^(.+)[/\\][^/\\]*$/)?.[1] ?? ".";
  const known = await Deno.stat(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return null;
    return refuse(`it must be a file in a folder: ${error.message}`, error);
  });
  // A device would be replaced by the file.
  if (known?.isFile === false) {
    refuse(`it must be a file: it is a ${known.isDirectory ? "folder" : "device"}`);
  }
  // What is written in one go begins as a sibling.
  const sibling = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    (await Deno.open(sibling, { write: true, createNew: true })).close();
    await Deno.remove(sibling);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      refuse(`its folder must exist: there is no "${folder}"`, error);
    }
    const { message } = error as Error;
    refuse(`its folder "${folder}" must take files: ${message}`, error);
  }
}
