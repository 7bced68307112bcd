/**
 * Prints the flags of a file of `--config`, one a line, for the launcher: what a run may read and write follows from them.
 *
 * @module
 */

import { flagsIn } from "./config.ts";
import { runMain } from "./flags.ts";
import { print } from "./print.ts";

if (import.meta.main) {
  await runMain(async ([path]) => {
    for (const flag of await flagsIn(path)) print(flag);
  }, "config");
}
