/**
 * Prints the flags of a file of `--config`, one a line, for the launcher: what a run may read and write follows from them.
 *
 * @module
 */

import { flagsIn } from "./config.ts";
import { runMain } from "./flags.ts";
import { print } from "./print.ts";

/**
 * Prints the flags of a file.
 *
 * @param args The path of the file
 */
export async function main([path]: readonly string[]): Promise<void> {
  for (const flag of await flagsIn(path)) print(flag);
}

if (import.meta.main) await runMain(main, "config");
