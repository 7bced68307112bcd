/**
 * Replays freeze policies over the log of a finished run, without training: what each would have frozen when, and saved.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/simulate.ts out/finetune-1 --policy gradES,auto
 * ```
 *
 * @module
 */

import { AlreadyExistsError, type FreezePolicy, InputError, NotFoundError } from "@firn/train";
import { hostFileSystem, parentOf } from "@firn/train/data";
import { simulate, type Simulation } from "@firn/train/policies";
import { bytesText, isComparison, type Line, readLog, renderComparison } from "@firn/train/report";
import { readFlags, runMain, text, topic, UsageError } from "./flags.ts";
import { GRAD_ES_FLAGS } from "./freezing_flags.ts";
import { helpOf } from "./help.ts";
import { OBSERVE_FLAGS } from "./observe_flags.ts";
import { POLICY_NAMES, policyOf } from "./policies.ts";
import { print } from "./print.ts";
import { logOf } from "./run_places.ts";

const FLAGS = {
  ...topic("policies", {
    policy: text(
      "NAMES",
      `with commas: ${POLICY_NAMES}, or modules of this machine whose default export is a freeze policy`,
      "gradES,snr,prefix,costAware,auto",
    ),
    ...GRAD_ES_FLAGS,
  }),
  ...topic("output", {
    out: text("FILE", "the page; an older comparison there is replaced", "out/simulation.html"),
  }),
};

const USAGE = `usage: ./firn simulate FOLDER [flags]
       deno run --allow-read --allow-write examples/simulate.ts FOLDER [flags]

Replays freeze policies over what the run in an output folder, or in a metrics.jsonl, measured, without training: what each
would have frozen when, and saved, by the costs of components and the measured pace. What the loss would have been is not
known. A policy needs its signals in the log: ./firn finetune --record all measures them.`;

/** Settings that say where a run is and how it is watched, not what it is. */
const IGNORED: readonly string[] = ["out", "resume", "config", ...Object.keys(OBSERVE_FLAGS)];

/** What the page says of its runs. */
const NOTE =
  "Replayed over what the recorded run measured, without training. A loss is known up to the step from which on " +
  "another set is frozen than was. Times of all but the recorded run are by the pace of its steps, without those that compiled: " +
  "compare them with “no freeze”.";

/** How the row of a policy begins whose signals nobody measured. */
const MISSING = "the log has no";

/** The run without a freeze, at the same pace. */
const NOTHING: FreezePolicy = {
  name: "no freeze",
  signals: [],
  init: () => null,
  next: () => null,
  frozen: () => [],
};

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const [place, ...rest] = args;
  if (place === undefined) throw new UsageError("name the output folder of a run, before any flag");
  const named = !place.startsWith("-"), { values, help } = readFlags(named ? rest : args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (!named) throw new UsageError("name the output folder of a run, before any flag");
  const lines = await logIn(place), { out, policy, ...options } = values;
  const names = policy.split(",");
  await checkPage(out);
  const rows: string[][] = [[
    "policy",
    "freezes",
    "after",
    "ends after",
    "FLOPs",
    "seconds",
    "optimizer",
    "readings",
  ]];
  const runs: { readonly name: string; readonly lines: readonly Line[] }[] = [
    { name: "recorded", lines },
    { name: "no freeze", lines: simulate(NOTHING, lines).lines },
  ];
  for (const name of names) {
    const simulation = replayed(await namedPolicy(name, options), { lines, alone: names.length === 1 });
    rows.push(typeof simulation === "string" ? [name, simulation] : rowOf(name, simulation));
    if (typeof simulation !== "string" && simulation.missing.length === 0) {
      runs.push({ name, lines: simulation.lines });
    }
  }
  printTable(rows);
  const unread = rows.some(([, said]) => said.startsWith(MISSING));
  if (unread) print("\nsignals     train with --record all, and the log has those of every policy");
  const files = hostFileSystem(), folder = parentOf(out);
  if (folder !== ".") await files.makeFolder(folder, { parents: true });
  // Beside the run, and the one without a freeze.
  const count = runs.length - 2, shown = count === names.length ? `${count}` : `${count} of ${names.length}`;
  const title = `${shown} ${names.length === 1 ? "policy" : "policies"}, simulated`;
  await files.write(out, await renderComparison(runs, { title, ignore: IGNORED, note: NOTE }));
  print();
  print(`written     ${out}`);
}

async function logIn(place: string): Promise<Line[]> {
  try {
    return await readLog(await logOf(place));
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    const rule = "it must be the output folder of a run, or its metrics.jsonl";
    throw new NotFoundError(`Cannot simulate "${place}" as ${rule}: it is not there`, { cause: error });
  }
}

async function checkPage(out: string): Promise<void> {
  const files = hostFileSystem(), info = await files.stat(out);
  if (info === null) return;
  if (info.kind === "file" && isComparison(new TextDecoder().decode(await files.read(out)))) return;
  throw new AlreadyExistsError(
    `Cannot write "${out}" as it must be new, or an older comparison: it is something else; choose another --out`,
  );
}

async function namedPolicy(name: string, options: Parameters<typeof policyOf>[1]): Promise<FreezePolicy> {
  const { policy } = await policyOf(name, options);
  if (policy !== undefined) return policy;
  throw new InputError(`Cannot simulate "${name}" as a policy must decide something: it freezes nothing`);
}

/** What a policy would have done. Of several, one that refuses the run has the reason in its row, and the others are shown. */
function replayed(
  policy: FreezePolicy,
  { lines, alone }: { readonly lines: readonly Line[]; readonly alone: boolean },
): Simulation | string {
  try {
    return simulate(policy, lines);
  } catch (error) {
    if (alone || !(error instanceof InputError)) throw error;
    return error.message;
  }
}

function rowOf(name: string, simulation: Simulation): string[] {
  const { missing, changes, frozen, share, steps, ending, flops, seconds, freed, known } = simulation;
  if (missing.length > 0) return [name, `${MISSING} ${missing.join(", ")}`];
  const first = changes.find((change) => change.frozen.length > 0);
  const saved = (of: typeof flops): string =>
    of === null ? "–" : `${(100 * (of.simulated / of.full - 1)).toFixed(1).replace(/^-0\.0$/, "0.0")} %`;
  return [
    name,
    `${frozen.length} (${(100 * share).toFixed(0)} %)`,
    first === undefined ? "–" : `${first.step}`,
    ending === null ? `${steps} or later` : `${steps}`,
    saved(flops),
    seconds === null ? "–" : `${seconds.simulated.toFixed(1)} (${saved(seconds)})`,
    freed === null ? "–" : `-${bytesText(freed)}`.replace(/^-0 /, "0 "),
    `${(100 * known).toFixed(0)} %`,
  ];
}

/** Prints rows in columns; a row of two cells has a text in place of the others. */
function printTable(rows: readonly (readonly string[])[]): void {
  const full = rows.filter(({ length }) => length > 2);
  const widths = rows[0].map((_, i) => Math.max(...(i === 0 ? rows : full).map((row) => row[i].length)));
  for (const row of rows) {
    print(
      row.map((cell, i) => row.length === 2 && i === 1 ? cell : cell.padEnd(widths[i])).join("  ").trimEnd(),
    );
  }
}

if (import.meta.main) await runMain(main, "simulate");
