/**
 * A long training whose memory stays flat.
 *
 * ```sh
 * ./firn deno run --v8-flags=--expose-gc --allow-read --allow-write --allow-run=sh tests/soak.ts --steps 4000
 * ```
 *
 * @module
 */

import { readFlags, runMain, UsageError, whole } from "../examples/flags.ts";
import { helpOf } from "../examples/help.ts";
import { GPU_FLAGS, openDevice } from "../examples/gpu.ts";
import { print } from "../examples/print.ts";
import { growing, HEAD, lastLines, lineOf, type Sample } from "./soak/flat.ts";
import { SAMPLE_EVERY, soak } from "./soak/run.ts";

const FLAGS = {
  steps: whole("optimizer steps, a multiple of 100", 4000, 4 * SAMPLE_EVERY),
  ...GPU_FLAGS,
};

const USAGE =
  `usage: ./firn deno run --v8-flags=--expose-gc --allow-read --allow-write --allow-run=sh tests/soak.ts [flags]

Trains a tiny model and between steps freezes, thaws, validates, evaluates, generates, saves and goes on from what was
saved. Every 100 steps garbage is collected and memory measured. Ends with 1 when something grows after the first quarter
of the steps.`;

/** Lines of the table. */
const LINES = 8;

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS), { steps } = flags;
  if (help) return print(helpOf(USAGE, FLAGS));
  const { gc: collect } = globalThis as { gc?: () => void };
  if (collect === undefined) throw new UsageError("run it with --v8-flags=--expose-gc");
  if (Deno.build.os !== "linux") throw new UsageError("it counts handles in /proc, which only Linux has");
  if (steps % SAMPLE_EVERY !== 0) throw new UsageError(`--steps must be a multiple of ${SAMPLE_EVERY}`);
  await using gpu = await openDevice(flags);
  const folder = await Deno.makeTempDir({ prefix: "firn-soak-" }), samples: Sample[] = [];
  try {
    print(HEAD);
    const every = SAMPLE_EVERY * Math.ceil(steps / LINES / SAMPLE_EVERY);
    for await (const sample of soak(gpu, { steps, folder, collect })) {
      samples.push(sample);
      if (sample.step % every === 0) print(lineOf(sample));
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  for (const line of lastLines(samples)) print(line);
  const found = growing(samples);
  print(found.length === 0 ? "flat" : `growing: ${found.join(", ")}`);
  if (found.length > 0) Deno.exit(1);
}

if (import.meta.main) await runMain(main, "soak");
