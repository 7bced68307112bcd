/**
 * Where a training step spends its time: `deno task profile [flags]`
 *
 * Prints the time of a step, the memory of its plan, and a row for each kernel with time, share, FLOP/s and GB/s. With
 * clocks read around each, kernels take longer in all than the step does.
 *
 * @module
 */

import { type KernelTime, openGpu } from "@firn/train";
import { helpOf, oneOf, readFlags, runMain, whole } from "../../examples/flags.ts";
import { SHAPES, workOf } from "./shapes.ts";

const FLAGS = {
  shape: oneOf(Object.keys(SHAPES) as (keyof typeof SHAPES)[], "which model", "sotu"),
  batch: whole("sequences in a batch", 8),
  length: whole("tokens in a sequence", 64, 2),
  steps: whole("steps to time", 10),
  rows: whole("rows to print", 30),
};

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS);
  if (help) return console.log(helpOf("usage: deno task profile [flags]", FLAGS));
  await using gpu = await openGpu();
  const { training, state: first, batch, parameters } = await workOf(gpu, {
    ...flags,
    shape: SHAPES[flags.shape],
  });
  const idle = (): Promise<undefined> => gpu.device.queue.onSubmittedWorkDone() as Promise<undefined>;
  const began = performance.now();
  let state = await training.next(first, batch);
  await idle();
  const cold = performance.now() - began;
  // The clocks of a GPU rise with work.
  for (let i = 0; i < flags.steps; i++) state = await training.next(state, batch);
  await idle();
  const start = performance.now();
  for (let i = 0; i < flags.steps; i++) state = await training.next(state, batch);
  await idle();
  const step = (performance.now() - start) / flags.steps;
  await training.profile(state);
  const rows = await training.profile(state);
  const busy = rows.reduce((ms, row) => ms + row.milliseconds, 0);

  const { launches, matmulFlops, memory } = state.cost!;
  console.log(`${gpu.name}${gpu.software ? " (software)" : ""}, Deno ${Deno.version.deno}`);
  console.log(
    `${flags.shape}, ${(parameters / 1e6).toFixed(1)} M parameters, B ${flags.batch}, T ${flags.length}`,
  );
  console.log(
    `step ${step.toFixed(2)} ms, first ${(cold / 1000).toFixed(1)} s, ${launches} launches, ${
      (matmulFlops / step / 1e9).toFixed(2)
    } TFLOP/s of products, kernels ${busy.toFixed(2)} ms`,
  );
  console.log(
    `memory ${gib(memory)} of the plan and ${gib(12 * parameters)} of weights and moments`,
  );
  console.table(grouped(rows, busy).slice(0, flags.rows));
}

function grouped(rows: readonly KernelTime[], busy: number): Record<string, unknown>[] {
  const groups = new Map<string, { count: number; ms: number; flops: number; bytes: number }>();
  for (const { name, milliseconds, flops, bytes } of rows) {
    const g = groups.get(name) ?? { count: 0, ms: 0, flops: 0, bytes: 0 };
    groups.set(name, {
      count: g.count + 1,
      ms: g.ms + milliseconds,
      flops: g.flops + flops,
      bytes: g.bytes + bytes,
    });
  }
  return [...groups].toSorted(([, a], [, b]) => b.ms - a.ms).map(([name, { count, ms, flops, bytes }]) => ({
    kernel: name.slice(0, 60),
    count,
    ms: Number(ms.toFixed(3)),
    "%": Number((100 * ms / busy).toFixed(1)),
    "TFLOP/s": Number((flops / ms / 1e9).toFixed(2)),
    "GB/s": Number((bytes / ms / 1e6).toFixed(0)),
  }));
}

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

if (import.meta.main) await runMain(main, "profile");
