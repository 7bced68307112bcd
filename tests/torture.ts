/**
 * Nothing is lost, nothing is torn, nothing dies: kills, failing files and damaged inputs, by the hundred, in one table.
 *
 * ```sh
 * ./firn torture --seed 1 --seconds 60
 * ```
 *
 * @module
 */

import { oneOf, readFlags, runMain, UsageError, whole } from "../examples/flags.ts";
import { helpOf } from "../examples/help.ts";
import { print } from "../examples/print.ts";
import { failSaves } from "./torture/faults.ts";
import { loadInputs } from "./torture/inputs.ts";
import { killRuns } from "./torture/kills.ts";
import { type Row, tableOf } from "./torture/tally.ts";

const FLAGS = {
  seed: whole("what is random follows from it", 1, 0),
  seconds: whole("about how long it may take; as long as all of it needs when absent", null),
  only: oneOf(["all", "kills", "faults", "inputs"], "which part", "all"),
};

const USAGE = `usage: ./firn torture [flags]

Kills runs at random instants, fails each operation of each save, and loads damaged files of every format.
Prints a table; all of its columns but kills must be 0.`;

/** Seconds of a full run at most; it needs a third of them on two idle cores. */
const LONGEST = 1400;

/** Kills of a full run, while there is time, and how many it does at least. */
const KILLS = 150, LEAST_KILLS = 100;

async function main(): Promise<void> {
  const { values: { seed, seconds, only }, help } = readFlags(Deno.args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  if (Deno.build.os === "windows") throw new UsageError("it needs a POSIX shell");
  const folder = await Deno.makeTempDir({ prefix: "firn-torture-" }), began = performance.now();
  const rows: Row[] = [];
  const share = (of: number): number => performance.now() + of * (seconds ?? LONGEST) * 1000;
  if (only === "all" || only === "kills") {
    rows.push(await killRuns({ seed, kills: KILLS, until: share(0.45), slow: seconds === null, folder }));
  }
  if (only === "all" || only === "faults") rows.push(...await failSaves(folder));
  if (only === "all" || only === "inputs") {
    rows.push(...await loadInputs({ seed, until: share(0.4), share: seconds === null ? 1 : 0.15, folder }));
  }
  const failures = rows.flatMap((row) => row.failures);
  for (const { part, number, column, detail } of failures) {
    print(`${column}: ${part} ${number} of --seed ${seed}: ${detail}`);
  }
  print(tableOf(rows));
  print(`${Math.round((performance.now() - began) / 1000)} s`);
  if (failures.length === 0) await Deno.remove(folder, { recursive: true });
  else print(`what failed is kept in ${folder}`);
  const kills = rows.reduce((n, row) => n + row.kills, 0);
  const short = seconds === null && only !== "faults" && only !== "inputs" && kills < LEAST_KILLS;
  if (short) print(`only ${kills} kills of ${LEAST_KILLS}: run it where less else runs`);
  if (failures.length > 0 || short) Deno.exit(1);
}

if (import.meta.main) await runMain(main, "torture");
