/**
 * How fast a training step is, beside jax-js and PyTorch, contenders by turns.
 *
 * ```sh
 * deno task bench --help
 * ```
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { InputError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { oneOf, readFlags, runMain, text, toggle, type Values, whole } from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { GPU_FLAGS } from "../../examples/gpu.ts";
import { print, printError } from "../../examples/print.ts";
import { measureEntry, type Peers, visitTwin, withPeers } from "./bench.ts";
import { freezingLines, type FreezingTable, measureFreezing, sizeOfFreezing } from "./freezing.ts";
import { machineOf, openBenchDevice, SOFTWARE } from "./machine.ts";
import { markdown } from "./markdown.ts";
import { checkOutput } from "./output.ts";
import type { Lengths } from "./measure.ts";
import { measureRefreeze, type Refreeze } from "./refreeze.ts";
import {
  fairness,
  HEADS,
  line,
  type Machine,
  memoryLines,
  refreezeLine,
  type Results,
  type Row,
  rowLines,
  summary,
} from "./results.ts";
import { SHAPES } from "./shapes.ts";
import { PYTHON, type TwinMachine, type Way, WAYS } from "./twin.ts";
import { chooseWorks, type Entry, type Work, WORKS, worksIn } from "./works.ts";

const FLAGS = {
  work: text(
    "NAMES",
    "works with commas between them; all that suit the adapter and the precision when absent",
    null,
  ),
  precision: oneOf(["f32", "f16", "f32x3"], "how Firn's trainings and products store values", "f32"),
  rounds: whole("rounds, in each of which every contender takes its turn", 5),
  turn: whole("milliseconds that a turn lasts at least", 500),
  "warm-up": whole("milliseconds of work before the first turn, in which the clocks rise", 1000),
  json: text("FILE", "file for everything that was measured; --json=- prints it instead", null),
  markdown: toggle("print the results as tables of Markdown, too"),
  torch: toggle(
    "run the same works in PyTorch too; needs python3 with torch and transformers, and peft for LoRA",
  ),
  ways: text(
    "NAMES",
    `how PyTorch computes, of ${WAYS.join(",")}; f32 when absent, and all beside --precision f16`,
    null,
  ),
  visits: whole("turns of PyTorch: before Firn, and from 2 on after it as well", 2),
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn bench [flags]

Times training steps of Firn and its peers by turns: medians over rounds, with the least and the greatest.

works:
${Object.entries(WORKS).map(([name, { about }]) => `  ${name.padEnd(11)} ${about}`).join("\n")}`;

type Flags = Values<typeof FLAGS>;

/** Prints a line. */
type Say = (text: string) => void;

/** The ways that a command line asks for. */
function chooseWays({ ways, precision }: Pick<Flags, "ways" | "precision">): readonly Way[] {
  if (ways === null) return precision === "f16" ? WAYS : ["f32"];
  return ways.split(",").map((name) => {
    const way = WAYS.find((way) => way === name);
    if (way !== undefined) return way;
    throw new InputError(`Cannot run PyTorch in the way "${name}" as the ways are ${WAYS.join(", ")}`);
  });
}

/** PyTorch: its visits so far. */
interface Torch {
  readonly peers: Peers[];
  /** Lets it take its turn. */
  visit(): Promise<TwinMachine>;
}

function torchOf(
  entries: readonly Entry[],
  { flags, lengths, say }: { readonly flags: Flags; readonly lengths: Lengths; readonly say: Say },
): Torch {
  const peers: Peers[] = [], visits = Math.min(2, flags.visits), ways = chooseWays(flags);
  return {
    peers,
    async visit() {
      say(`PyTorch takes its turn: ${entries.filter(({ twin }) => twin !== null).length} works`);
      const seen = await visitTwin(entries, { lengths, visits, ways, twin: PYTHON });
      for (const text of seen.leftOut) say(`PyTorch left out ${text}`);
      peers.push(seen.peers);
      return seen.machine;
    },
  };
}

/** The line that names the machine. */
function machineLine({ adapter, driver, versions }: Machine): string {
  const known = Object.entries(versions).filter(([, v]) => v !== null).map(([k, v]) => `${k} ${v}`);
  return `${adapter}${driver ? `, driver ${driver}` : ""}, ${known.join(", ")}`;
}

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  // Where JSON is asked for on standard output, all else goes beside it.
  const say = flags.json === "-" ? printError : print;
  if (flags.json !== null && flags.json !== "-") await checkOutput(flags.json);
  await using gpu = await openBenchDevice(flags);
  const all = worksIn(flags.precision), names = chooseWorks(flags.work, gpu, flags.precision);
  if (flags.torch && gpu.software) {
    throw new InputError(
      `Cannot run PyTorch beside "${gpu.name}" as a CPU plays the GPU: run both on a machine with a GPU`,
    );
  }
  const lengths = { rounds: flags.rounds, turn: flags.turn, warmUp: flags["warm-up"] };
  const works = names.map((name) => [name, all[name]] as const);
  const entries = works.flatMap(([, { entries }]) => entries);
  const torch = flags.torch ? torchOf(entries, { flags, lengths, say }) : null;
  const seen = await torch?.visit() ?? null;
  const known = machineOf(gpu, {
    "jax-js": "0.1.25",
    ...seen && { torch: seen.torch, transformers: seen.transformers, cuda: seen.cuda },
  });
  const machine = { ...known, driver: known.driver ?? seen?.driver ?? null };
  say(machineLine(machine));
  if (gpu.software) say(SOFTWARE);
  const results = await measureAll(gpu, { works, lengths, torch, flags, machine, say });
  say("");
  const { rows } = results;
  for (const text of [...summary(rows), ...memoryLines(rows), ...fairness(rows)]) say(text);
  if (flags.markdown) { for (const text of ["", ...markdown(results)]) say(text); }
  if (flags.json === "-") print(JSON.stringify(results));
}

/** What {@link measureAll} measures, and with what. */
interface Measuring {
  readonly works: readonly (readonly [name: string, work: Work])[];
  readonly lengths: Lengths;
  readonly torch: Torch | null;
  readonly flags: Flags;
  readonly machine: Machine;
  readonly say: Say;
}

/** Measures works one after the other, and prints each row as it comes. */
async function measureAll(
  gpu: Gpu,
  { works, lengths, torch, flags, machine, say }: Measuring,
): Promise<Results> {
  const { precision, rounds, json } = flags;
  const own = new Map<Entry, Row>();
  let refreeze: Refreeze | null = null, freezing: FreezingTable | null = null;
  const rows = (): Row[] =>
    [...own].map(([entry, row]) => withPeers(row, torch?.peers.map((peers) => peers.get(entry) ?? []) ?? []));
  const results = (): Results => ({ software: gpu.software, machine, rows: rows(), refreeze, freezing });
  // After each row, so that an interruption leaves what there is.
  const save = async (): Promise<void> => {
    if (json === null || json === "-") return;
    await hostFileSystem().write(json, JSON.stringify(results(), null, 2));
  };
  if (works.some(([, { entries }]) => entries.length > 0)) say(line(HEADS));
  for (const [name, { entries }] of works) {
    if (name === "refreeze") {
      const size = { shape: SHAPES["gpt2-124m"], batch: 8, length: 1024, precision };
      refreeze = await measureRefreeze(gpu, size);
      say(refreezeLine(refreeze));
    } else if (name === "freezing" || name === "halves") {
      const few = name === "halves" ? { shares: [0.5], turn: gpu.software ? 8 : 32 } : {};
      freezing = await measureFreezing(gpu, { ...sizeOfFreezing(gpu), ...few, rounds, precision });
      for (const text of freezingLines(freezing)) say(text);
    }
    for (const entry of entries) {
      own.set(entry, await measureEntry(gpu, entry, lengths));
      for (const cells of rowLines(rows().at(-1)!)) say(line(cells));
      await save();
    }
    await save();
  }
  if (own.size > 0 && torch !== null && flags.visits > 1) {
    await torch.visit();
    say("\nwith the rounds of PyTorch before and after Firn's:");
    for (const cells of rows().flatMap(rowLines)) say(line(cells));
    await save();
  }
  return results();
}

if (import.meta.main) {
  await runMain(main, "bench");
  // The threads of jax-js would keep the process alive.
  Deno.exit();
}
