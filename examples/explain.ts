/**
 * Shows what a run froze, why, and what that saved: of a finished run or of one that is under way.
 *
 * ```sh
 * deno run --allow-read examples/explain.ts out/finetune-1
 * ```
 *
 * @module
 */

import { NotFoundError } from "@firn/train";
import { explain, explanationText, readLog } from "@firn/train/report";
import { runMain, UsageError } from "./flags.ts";
import { print } from "./print.ts";
import { logOf } from "./run_places.ts";

const USAGE = `usage: ./firn explain FOLDER
       deno run --allow-read examples/explain.ts FOLDER

Shows what the run in an output folder, or in a metrics.jsonl, froze so far, why, and what that saved.
"saves" is what the component's own gradient costs in a step; the line of the step has what all of it saved,
gradients that pass through included, and the median of the measured milliseconds.
`;

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const [place, ...rest] = args;
  if (["--help", "-h"].includes(place)) return print(USAGE);
  if (!place) throw new UsageError("name the output folder of a run");
  if (place.startsWith("-")) throw new UsageError(`there is no flag "${place}"`);
  if (rest.length > 0) throw new UsageError(`one run at a time: "${rest[0]}" is too much`);
  try {
    const lines = await readLog(await logOf(place));
    // The environment variable NO_COLOR counts, and so does where the text goes.
    const color = !Deno.noColor && Deno.stdout.isTerminal();
    console.log(explanationText(explain(lines), { color }).trimEnd());
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    const rule = "it must be the output folder of a run, or its metrics.jsonl";
    throw new NotFoundError(`Cannot explain "${place}" as ${rule}: it is not there`, { cause: error });
  }
}

if (import.meta.main) await runMain(main, "explain");
