/**
 * Globs over paths of parameters.
 *
 * @module
 */

import type { Path } from "../tree.ts";

/** A glob over whole paths, in which `*` stands for any characters, dots included; or several of them. */
export type PathPattern = string | readonly string[];

/** Tables of embeddings, as families of models name them. */
export const TABLES: readonly string[] = ["*embed*", "wte.*", "*.wte.*", "wpe.*", "*.wpe.*"];

/**
 * Makes a test of paths, as groups of parameters have it.
 *
 * @param pattern One glob or several
 * @returns Whether a path matches one of them
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { globs } from "@firn/train/optim";
 *
 * const isBias = globs("*.bias");
 * assertEquals(["head.bias", "head.weight"].map(isBias), [true, false]);
 * ```
 */
export function globs(pattern: PathPattern): (path: Path) => boolean {
  const tests = [pattern].flat().map(glob);
  return (path) => tests.some((test) => test.test(path));
}

function glob(pattern: string): RegExp {
  const literals = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${literals.join(".*")}$`);
}
