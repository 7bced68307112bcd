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
import { helpOf, readFlags, runMain, text, toggle, whole } from "../../examples/flags.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { measureEntries } from "./bench.ts";
import { machineOf, SOFTWARE } from "./machine.ts";
import { measureRefreeze, type Refreeze } from "./refreeze.ts";
import { fairness, HEADS, line, refreezeLine, type Results, type Row, rowLines, summary } from "./results.ts";
import { SHAPES } from "./shapes.ts";
import { askTwin, PYTHON, type TwinMachine } from "./twin.ts";
import { chooseWorks, WORKS } from "./works.ts";

const FLAGS = {
  ...GPU_FLAGS,
  work: text("NAMES", "works with commas between them; all that suit the adapter when absent", null),
  rounds: whole("rounds, in each of which every contender takes its turn", 5),
  turn: whole("milliseconds that a turn lasts at least", 500),
  json: text("FILE", "file for everything that was measured; --json=- prints it instead", null),
  torch: toggle("run the same works in PyTorch too; needs python3 with torch and transformers"),
};

const USAGE = `usage: ./firn bench [flags]

Times training steps of Firn and its peers by turns: medians over rounds, with the least and the greatest.

works:
${Object.entries(WORKS).map(([name, { about }]) => `  ${name.padEnd(11)} ${about}`).join("\n")}`;

/** Milliseconds of work before the first turn. */
const WARM_UP = 300;

async function torchOf(gpu: Gpu): Promise<TwinMachine> {
  if (gpu.software) {
    throw new Error(
      `Cannot run PyTorch beside "${gpu.name}" as a CPU plays the GPU: run both on a machine with a GPU`,
    );
  }
  const { machine } = await askTwin([], { rounds: 1, turn: 1, warmUp: 1 });
  return machine;
}

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS);
  if (help) return console.log(helpOf(USAGE, FLAGS));
  // Where JSON is asked for on standard output, all else goes beside it.
  const say = flags.json === "-" ? console.error : console.log;
  await using gpu = await openDevice(flags, { quiet: true });
  const works = chooseWorks(flags.work, gpu);
  const torch = flags.torch ? await torchOf(gpu) : null;
  const machine = await machineOf(gpu, {
    "jax-js": "0.1.25",
    ...torch && { torch: torch.torch, transformers: torch.transformers, cuda: torch.cuda },
  });
  const versions = Object.entries(machine.versions).filter(([, v]) => v !== null).map(([k, v]) =>
    `${k} ${v}`
  );
  const driver = machine.driver ?? torch?.driver;
  say(`${gpu.name}${driver ? `, driver ${driver}` : ""}, ${versions.join(", ")}`);
  if (gpu.software) say(SOFTWARE);
  say(line(HEADS));

  const lengths = { rounds: flags.rounds, turn: flags.turn, warmUp: WARM_UP };
  const rows: Row[] = [];
  let refreeze: Refreeze | null = null;
  const results = (): Results => ({
    software: gpu.software,
    machine: { ...machine, driver: driver ?? null },
    rows,
    refreeze,
  });
  for (const name of works) {
    if (name === "refreeze") {
      refreeze = await measureRefreeze(gpu, { shape: SHAPES["gpt2-124m"], batch: 8, length: 1024 });
      say(refreezeLine(refreeze));
    } else {
      const measured = await measureEntries(gpu, WORKS[name].entries, { lengths, twin: torch && PYTHON });
      for (const row of measured) for (const cells of rowLines(row)) say(line(cells));
      rows.push(...measured);
    }
    // After each work, so that an interruption leaves what there is.
    if (flags.json !== null && flags.json !== "-") {
      await Deno.writeTextFile(flags.json, JSON.stringify(results(), null, 2));
    }
  }
  say("");
  for (const text of [...summary(rows), ...fairness(rows)]) say(text);
  if (flags.json === "-") console.log(JSON.stringify(results()));
}

if (import.meta.main) {
  await runMain(main, "bench");
  // The threads of jax-js would keep the process alive.
  Deno.exit();
}
