/**
 * JSON files of a checkpoint folder.
 *
 * @module
 */

/**
 * Reads a file that holds a JSON object.
 *
 * @param path The file
 * @returns The object
 * @throws {Deno.errors.NotFound} When there is no such file
 * @throws {Deno.errors.InvalidData} When it holds something else
 */
export async function readJson(path: string): Promise<Record<string, unknown>> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Deno.errors.NotFound(`Cannot open "${path}" as there is no such file: check the path`, {
      cause: error,
    });
  }
  const rule = `Cannot read "${path}" as it must be a JSON object in UTF-8`;
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Deno.errors.InvalidData(`${rule}: ${(error as Error).message}; get the file again`, {
      cause: error,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Deno.errors.InvalidData(
      `${rule}: got ${JSON.stringify(value).slice(0, 40)}; get the file again`,
    );
  }
  return value as Record<string, unknown>;
}
