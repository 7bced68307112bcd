/**
 * The file that remembers what was measured.
 *
 * @module
 */

import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import { DataError, NotFoundError } from "../errors.ts";
import type { FileSystem } from "../host/file_system.ts";

/** A file of measured variants. */
export interface TuneCache {
  /** The file; it need not exist. */
  readonly path: string;
  /** Where it is. */
  readonly fileSystem: FileSystem;
}

type Record = { readonly [name: string]: unknown };

const isRecord = (value: unknown): value is Record =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Measured products are kept in a file that anybody may edit or cut short. */
function unusable(path: string, cause: Error): Error {
  return new DataError(
    `Cannot keep measured products in "${path}" as it must be a JSON file that can be read and written: ${cause.message}; delete it, or choose another "tuneCache"`,
    { cause },
  );
}

async function readAdapters({ path, fileSystem }: TuneCache): Promise<Record> {
  let text: string;
  try {
    text = new TextDecoder().decode(await fileSystem.read(path));
  } catch (error) {
    if (error instanceof NotFoundError) return {};
    throw unusable(path, error as Error);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (isRecord(value)) return value;
    throw new TypeError(`it holds ${text.slice(0, 40)}`);
  } catch (error) {
    throw unusable(path, error as Error);
  }
}

const entriesOf = (adapters: Record, adapter: string): Record => {
  const own = Object.hasOwn(adapters, adapter) ? adapters[adapter] : null;
  return isRecord(own) ? own : {};
};

/**
 * Reads what was measured on an adapter.
 *
 * @param cache The file
 * @param adapter Name of the adapter
 * @returns By product what the file holds: variants, as far as nobody changed it
 * @throws {DataError} When the file holds no JSON object
 */
export async function loadVariants(cache: TuneCache, adapter: string): Promise<Map<string, unknown>> {
  return new Map(Object.entries(entriesOf(await readAdapters(cache), adapter)));
}

/**
 * Adds variants of an adapter to the file; what it says of others stays. The file changes whole or not at all. Of two
 * processes that add at the same time one is forgotten, and measures again another time.
 *
 * @param cache The file; it and its folder are made when missing
 * @param measured Variants by product, and the name of the adapter
 * @throws {DataError} When it cannot be written
 */
export async function saveVariants(
  cache: TuneCache,
  { adapter, variants }: { readonly adapter: string; readonly variants: ReadonlyMap<string, MatmulVariant> },
): Promise<void> {
  const { path, fileSystem } = cache, adapters = await readAdapters(cache);
  const own = { ...entriesOf(adapters, adapter), ...Object.fromEntries(variants) };
  try {
    const folder = path.replace(/[^/\\]*$/, "");
    if (folder !== "") await fileSystem.makeFolder(folder, { parents: true });
    await fileSystem.write(path, JSON.stringify({ ...adapters, [adapter]: own }, null, 1) + "\n");
  } catch (error) {
    throw unusable(path, error as Error);
  }
}
