/**
 * How fast a training step is, beside jax-js and PyTorch, contenders by turns.
 *
 * ```sh
 * deno task bench --help
 * ```
 *
 * @module
 */

import { helpOf, readFlags, runMain, text, toggle, whole } from "../../examples/flags.ts";
import { GPU_FLAGS } from "../../examples/gpu.ts";
import { print, printError } from "../../examples/print.ts";
import { InputError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { measureEntry, type Peers, visitTwin, withPeers } from "./bench.ts";
import { freezingLines, type FreezingTable, measureFreezing, sizeOfFreezing } from "./freezing.ts";
import { machineOf, openBenchDevice, SOFTWARE } from "./machine.ts";
import { checkOutput } from "./output.ts";
import { measureRefreeze, type Refreeze } from "./refreeze.ts";
import {
  fairness,
  HEADS,
  line,
  memoryLines,
  refreezeLine,
  type Results,
  type Row,
  rowLines,
  summary,
} from "./results.ts";
import { SHAPES } from "./shapes.ts";
import { PYTHON } from "./twin.ts";
import { chooseWorks, type Entry, WORKS } from "./works.ts";

const FLAGS = {
  work: text("NAMES", "works with commas between them; all that suit the adapter when absent", null),
  rounds: whole("rounds, in each of which every contender takes its turn", 5),
  turn: whole("milliseconds that a turn lasts at least", 500),
  json: text("FILE", "file for everything that was measured; --json=- prints it instead", null),
  torch: toggle(
    "run the same works in PyTorch too, once before and once after Firn; needs python3 with torch and transformers",
  ),
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn bench [flags]

Times training steps of Firn and its peers by turns: medians over rounds, with the least and the greatest.

works:
${Object.entries(WORKS).map(([name, { about }]) => `  ${name.padEnd(11)} ${about}`).join("\n")}`;

/** Milliseconds of work before the first turn. */
const WARM_UP = 300;

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  // Where JSON is asked for on standard output, all else goes beside it.
  const say = flags.json === "-" ? printError : print;
  if (flags.json !== null && flags.json !== "-") await checkOutput(flags.json);
  await using gpu = await openBenchDevice(flags);
  const works = chooseWorks(flags.work, gpu);
  if (flags.torch && gpu.software) {
    throw new InputError(
      `Cannot run PyTorch beside "${gpu.name}" as a CPU plays the GPU: run both on a machine with a GPU`,
    );
  }
  const lengths = { rounds: flags.rounds, turn: flags.turn, warmUp: WARM_UP };
  const entries = works.flatMap((name) => WORKS[name].entries);
  const visits: Peers[] = [];
  const visit = async () => {
    if (!flags.torch) return null;
    say(`PyTorch takes its turn: ${entries.filter(({ twin }) => twin !== null).length} works`);
    const { machine, peers } = await visitTwin(entries, { lengths, twin: PYTHON });
    visits.push(peers);
    return machine;
  };
  const torch = await visit();
  const machine = machineOf(gpu, {
    "jax-js": "0.1.25",
    ...torch && { torch: torch.torch, transformers: torch.transformers, cuda: torch.cuda },
  });
  const versions = Object.entries(machine.versions).filter(([, v]) => v !== null).map(([k, v]) =>
    `${k} ${v}`
  );
  const driver = machine.driver ?? torch?.driver;
  say(`${gpu.name}${driver ? `, driver ${driver}` : ""}, ${versions.join(", ")}`);
  if (gpu.software) say(SOFTWARE);
  if (entries.length > 0) say(line(HEADS));

  const own = new Map<Entry, Row>();
  let refreeze: Refreeze | null = null, freezing: FreezingTable | null = null;
  const rows = (): Row[] =>
    [...own].map(([entry, row]) => withPeers(row, visits.map((peers) => peers.get(entry) ?? [])));
  const results = (): Results => ({
    software: gpu.software,
    machine: { ...machine, driver: driver ?? null },
    rows: rows(),
    refreeze,
    freezing,
  });
  // After each row, so that an interruption leaves what there is.
  const save = async (): Promise<void> => {
    if (flags.json === null || flags.json === "-") return;
    await hostFileSystem().write(flags.json, JSON.stringify(results(), null, 2));
  };
  for (const name of works) {
    if (name === "refreeze") {
      refreeze = await measureRefreeze(gpu, { shape: SHAPES["gpt2-124m"], batch: 8, length: 1024 });
      say(refreezeLine(refreeze));
    } else if (name === "freezing") {
      freezing = await measureFreezing(gpu, { ...sizeOfFreezing(gpu), rounds: flags.rounds });
      for (const text of freezingLines(freezing)) say(text);
    }
    for (const entry of WORKS[name].entries) {
      own.set(entry, await measureEntry(gpu, entry, lengths));
      for (const cells of rowLines(rows().at(-1)!)) say(line(cells));
      await save();
    }
    await save();
  }
  if (own.size > 0 && await visit() !== null) {
    say("\nwith the rounds of PyTorch before and after Firn's:");
    for (const cells of rows().flatMap(rowLines)) say(line(cells));
    await save();
  }
  say("");
  for (const text of [...summary(rows()), ...memoryLines(rows()), ...fairness(rows())]) say(text);
  if (flags.json === "-") print(JSON.stringify(results()));
}

if (import.meta.main) {
  await runMain(main, "bench");
  // The threads of jax-js would keep the process alive.
  Deno.exit();
}
