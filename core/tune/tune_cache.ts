/**
 * The file that keeps measured variants.
 *
 * @module
 */

import { isRecord } from "../json_rules.ts";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import { DataError, InputError, NotFoundError } from "../errors.ts";
import type { FileSystem } from "../host/file_system.ts";

/** A file of measured variants. */
export interface TuneCache {
  /** The file; it need not exist. */
  readonly path: string;
  /** Where it is. */
  readonly fileSystem: FileSystem;
}

type Entries = { readonly [name: string]: unknown };

/** The error of a file that cannot be read, parsed or written. */
function unusable(path: string, cause: Error): Error {
  return new DataError(
    `Cannot keep measured products in "${path}" as it must be a JSON file that can be read and written: ${cause.message}; delete it, or choose another "tuneCache"`,
    { cause },
  );
}

async function readAdapters({ path, fileSystem }: TuneCache): Promise<Entries> {
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
    throw new InputError(`it holds ${text.slice(0, 40)}`);
  } catch (error) {
    throw unusable(path, error as Error);
  }
}

const entriesOf = (adapters: Entries, adapter: string): Entries => {
  const own = Object.hasOwn(adapters, adapter) ? adapters[adapter] : null;
  return isRecord(own) ? own : {};
};

/**
 * Reads the variants of an adapter.
 *
 * @param cache The file
 * @param adapter Name of the adapter
 * @returns Entries by product; they are not checked
 * @throws {DataError} When the file holds no JSON object
 */
export async function loadVariants(cache: TuneCache, adapter: string): Promise<Map<string, unknown>> {
  return new Map(Object.entries(entriesOf(await readAdapters(cache), adapter)));
}

/**
 * Adds variants of an adapter to the file, atomically. Other entries stay. When two processes add at the same time, the
 * entries of one are lost and measured again later.
 *
 * @param cache The file; it and its folder are created when missing
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
