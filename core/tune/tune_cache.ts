/**
 * The file that remembers what was measured.
 *
 * @module
 */

import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import { writeAtomic } from "../host/atomic.ts";

type Record = { readonly [name: string]: unknown };

const isRecord = (value: unknown): value is Record =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Measured products are kept in a file that anybody may edit or cut short. */
function unusable(path: string, cause: Error): Error {
  return new Deno.errors.InvalidData(
    `Cannot keep measured products in "${path}" as it must be a JSON file that can be read and written: ${cause.message}; delete it, or choose another "tuneCache"`,
    { cause },
  );
}

async function readAdapters(path: string): Promise<Record> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
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
 * @param path The file; it need not exist
 * @param adapter Name of the adapter
 * @returns By product what the file holds: variants, as far as nobody changed it
 * @throws {Deno.errors.InvalidData} When the file holds no JSON object
 */
export async function loadVariants(path: string, adapter: string): Promise<Map<string, unknown>> {
  return new Map(Object.entries(entriesOf(await readAdapters(path), adapter)));
}

/**
 * Adds variants of an adapter to the file; what it says of others stays. The file changes whole or not at all. Of two
 * processes that add at the same time one is forgotten, and measures again another time.
 *
 * @param path The file; it and its folder are made when missing
 * @param adapter Name of the adapter
 * @param variants Variants by product
 * @throws {Deno.errors.InvalidData} When it cannot be written
 */
export async function saveVariants(
  path: string,
  adapter: string,
  variants: ReadonlyMap<string, MatmulVariant>,
): Promise<void> {
  const adapters = await readAdapters(path);
  const own = { ...entriesOf(adapters, adapter), ...Object.fromEntries(variants) };
  try {
    const folder = path.replace(/[^/\\]*$/, "");
    if (folder !== "") await Deno.mkdir(folder, { recursive: true });
    await writeAtomic(path, JSON.stringify({ ...adapters, [adapter]: own }, null, 1) + "\n");
  } catch (error) {
    throw unusable(path, error as Error);
  }
}
