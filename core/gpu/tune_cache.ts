/**
 * The file that remembers what was measured.
 *
 * @module
 */

import type { MatmulVariant } from "../../kernels/matmul.ts";
import { writeAtomic } from "../data/atomic.ts";
import { readJson } from "../data/json_file.ts";

type Entries = { readonly [product: string]: MatmulVariant };

async function readAdapters(path: string): Promise<{ readonly [adapter: string]: Entries }> {
  try {
    await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
  return await readJson(path) as { readonly [adapter: string]: Entries };
}

/**
 * Reads the variants of an adapter.
 *
 * @param path The file; it need not exist
 * @param adapter Name of the adapter
 * @returns Variants by product
 * @throws {Deno.errors.InvalidData} When the file holds no JSON object
 */
export async function loadVariants(path: string, adapter: string): Promise<Map<string, MatmulVariant>> {
  const adapters = await readAdapters(path);
  return new Map(Object.hasOwn(adapters, adapter) ? Object.entries(adapters[adapter]) : []);
}

/**
 * Adds variants of an adapter to the file; what it says of others stays. The file changes whole or not at all.
 *
 * @param path The file; it and its folder are made when missing
 * @param adapter Name of the adapter
 * @param variants Variants by product
 */
export async function saveVariants(
  path: string,
  adapter: string,
  variants: ReadonlyMap<string, MatmulVariant>,
): Promise<void> {
  const folder = path.replace(/[^/\\]*$/, "");
  if (folder !== "") await Deno.mkdir(folder, { recursive: true });
  const adapters = await readAdapters(path);
  const own = {
    ...(Object.hasOwn(adapters, adapter) ? adapters[adapter] : {}),
    ...Object.fromEntries(variants),
  };
  await writeAtomic(path, JSON.stringify({ ...adapters, [adapter]: own }, null, 1) + "\n");
}
