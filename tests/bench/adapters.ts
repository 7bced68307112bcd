/**
 * A training step of LoRA pairs beside a frozen base in few bytes, beside PyTorch and PEFT.
 *
 * ```sh
 * deno run -A tests/bench/adapters.ts [WORK...] [--gpu dawn] > firn.jsonl
 * python3 tests/bench/adapters_twin.py > torch.jsonl
 * ```
 *
 * Weights are random. Rank 16 on all projections, AdamW, one batch. A line of JSON a work: milliseconds of a step (after
 * {@link WARM_UP} steps), peak memory of all buffers, bytes of the base, the first and the last loss. Names of works may follow.
 *
 * @module
 */

import { scan } from "@firn/train";
import { readFlags, runMain, type Values } from "../../examples/flags.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { partArgs } from "../../examples/prompting.ts";
import { print } from "../../examples/print.ts";
import { adapterTraining, type AdapterWork, BASES } from "./adapter_base.ts";

const WARM_UP = 5, STEPS = 15;

const SMALL = { shape: BASES["smollm2-135m"], precision: "f32", batch: 8, length: 512 } as const;
const MIDDLE = { shape: BASES["llama-3.2-1b"], precision: "f32", batch: 4, length: 1024 } as const;

/** The works that PyTorch does, too; its twin has the same list. */
const WORKS: Readonly<Record<string, AdapterWork>> = {
  "135m-f32": { ...SMALL, storage: "f32" },
  "135m-int8": { ...SMALL, storage: "int8" },
  "1b-bf16": { ...MIDDLE, storage: "file" },
  "1b-bf16-f16": { ...MIDDLE, storage: "file", precision: "f16" },
  "1b-nf4": { ...MIDDLE, storage: "nf4" },
  "7b-nf4-f16": { shape: BASES["llama-2-7b"], storage: "nf4", precision: "f16", batch: 1, length: 1024 },
};

async function measure(name: string, work: AdapterWork, flags: Values<typeof GPU_FLAGS>): Promise<void> {
  await using gpu = await openDevice({ ...flags, precision: work.precision }, { to: Deno.stderr });
  const began = performance.now(),
    made = await adapterTraining(gpu, work, { steps: STEPS, lookEvery: WARM_UP });
  using training = made.training;
  let steady = 0;
  const losses: number[] = [];
  for await (
    const state of scan(training, await training.init(made.params), Array(STEPS).fill(made.batch))
  ) {
    losses.push(...state.look?.loss ?? []);
    if (state.step === WARM_UP) steady = performance.now();
    if (state.step < STEPS) continue;
    const ms = (performance.now() - steady) / (STEPS - WARM_UP),
      MiB = (bytes: number) => Math.round(bytes / 2 ** 20);
    print(JSON.stringify({
      name,
      ms,
      MiB: MiB(gpu.counts.peakBytes),
      baseMiB: MiB(made.baseBytes),
      intermediateMiB: MiB(state.cost!.memory),
      launches: state.cost!.launches,
      loss: [losses[0], losses.at(-1)],
      startSeconds: (steady - began) / 1000,
    }));
  }
}

async function main(): Promise<void> {
  const { words, flags: rest } = partArgs(Deno.args), { values: flags } = readFlags(rest, GPU_FLAGS);
  for (const [name, work] of Object.entries(WORKS)) {
    if (words.length === 0 || words.includes(name)) await measure(name, work, flags);
  }
}

if (import.meta.main) await runMain(main, "adapters");
