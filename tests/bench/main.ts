/**
 * Firn against jax-js on the same network, interleaved in one process.
 *
 * ```sh
 * deno task bench --help
 * ```
 *
 * Both start from the same weights and see the same batches; that their losses agree shows that they do the same work.
 *
 * @module
 */

import { type Gpu, openGpu, read, tensor } from "@firn/train";
import { helpOf, readFlags, runMain, whole } from "../../examples/flags.ts";
import { jaxJs } from "./jax_js.ts";
import { batchOf, type Contender, oneLayer, type OneLayerSize } from "./one_layer.ts";

const FLAGS = {
  width: whole("channels, a multiple of 32", 128, 32),
  time: whole("tokens in a sequence", 64, 2),
  batch: whole("sequences in a batch", 8),
  rounds: whole("rounds, in each of which both take their turn", 5),
  steps: whole("steps in a turn", 4),
};

const USAGE = `usage: ./firn bench [flags]

Trains one layer in Firn and in jax-js by turns and prints the milliseconds of a step.`;

/** Losses differ by rounding only. */
const TOLERANCE = 1e-3;

async function firn(gpu: Gpu, size: OneLayerSize): Promise<Contender> {
  const made = await oneLayer(gpu, size);
  const shape = [size.batch, size.time];
  let { state } = made;
  return {
    name: "Firn",
    async step() {
      const { x, y } = batchOf(size, state.step + 1);
      state = await made.training.next(state, { x: tensor(x, shape), y: tensor(y, shape) });
    },
    async settle() {
      await gpu.device.queue.onSubmittedWorkDone();
    },
    loss: async () => (await read(gpu, state.loss!))[0],
  };
}

/** Milliseconds of a step, over some steps with one wait at the end. */
async function turn(contender: Contender, steps: number): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < steps; i++) await contender.step();
  await contender.settle();
  return (performance.now() - began) / steps;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS);
  if (help) return console.log(helpOf(USAGE, FLAGS));
  const { width, time, batch, rounds, steps } = flags;
  await using gpu = await openGpu();
  console.log(`adapter   ${gpu.name}, Deno ${Deno.version.deno}`);
  console.log(`network   one layer, ${width} channels, ${batch} x ${time} tokens, f32, Adam\n`);

  const contenders = [await firn(gpu, flags), await jaxJs(flags)];
  const first: number[] = [], times: number[][] = [];
  for (const contender of contenders) {
    first.push(await turn(contender, 1));
    await turn(contender, steps);
  }
  for (let round = 1; round <= rounds; round++) {
    const now: number[] = [];
    for (const contender of contenders) now.push(await turn(contender, steps));
    times.push(now);
    console.log(
      `round ${round}   ${now.map((ms, i) => `${contenders[i].name} ${ms.toFixed(1)} ms`).join("   ")}`,
    );
  }

  const medians = contenders.map((_, i) => median(times.map((now) => now[i])));
  const losses = await Promise.all(contenders.map((contender) => contender.loss()));
  console.log(
    `\n${"".padEnd(16)}${["ms a step", "first step, ms", "loss"].map((head) => head.padStart(16)).join("")}`,
  );
  contenders.forEach(({ name }, i) => {
    const cells = [medians[i].toFixed(1), first[i].toFixed(0), losses[i].toFixed(6)];
    console.log(`${name.padEnd(16)}${cells.map((cell) => cell.padStart(16)).join("")}`);
  });
  const [ours, theirs] = contenders;
  console.log(
    `\n${theirs.name} takes ${
      (medians[1] / medians[0]).toFixed(1)
    } times as long as ${ours.name}: medians of ${rounds} rounds of ${steps} steps`,
  );
  if (!(Math.abs(losses[0] - losses[1]) <= TOLERANCE)) {
    throw new Error(
      `Cannot compare "${ours.name}" and "${theirs.name}" as their losses must agree to ${TOLERANCE}: ${
        losses.join(" and ")
      }`,
    );
  }
}

if (import.meta.main) await runMain(main, "bench");
