/**
 * Tokens per second of a model in the shape of SmolLM2-135M, beside `transformers`.
 *
 * ```sh
 * deno run -A tests/bench/generate.ts FOLDER > firn.jsonl
 * python3 tests/bench/generate_twin.py FOLDER > torch.jsonl
 * ```
 *
 * FOLDER is a model; where it is not there, one with random weights in bf16 is made. Greedy, after a prompt of 16 tokens; the first
 * token after one of 512. A line of JSON for each batch: milliseconds of a token of all sequences, tokens per second, launches.
 *
 * @module
 */

import type { Gpu, Model } from "@firn/train";
import { defineGeneration } from "@firn/train/infer";
import { hostFileSystem } from "@firn/train/data";
import { loadModel, newModel, saveModel, type Storage } from "@firn/train/hub";
import { oneOf, readFlags, runMain, toggle, UsageError, whole } from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { print } from "../../examples/print.ts";
import { partArgs } from "../../examples/prompting.ts";

const FLAGS = {
  tokens: whole("tokens that are timed", 256),
  warm: whole("tokens before them", 64),
  storage: oneOf<Storage>(["file", "f32", "int8", "nf4"], "how weights are stored", "file"),
  profile: toggle("print the time of each kernel of a step of one sequence, too"),
  ...GPU_FLAGS,
};

const USAGE = "usage: deno run -A tests/bench/generate.ts FOLDER [flags]";

/** The configuration of SmolLM2-135M. */
const SMOLLM2 = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: 30,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 49152,
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-5,
  rope_theta: 100000,
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: 2,
};

const PROMPT = 16, LONG = 512, BATCHES = [1, 32];

const promptOf = (length: number, row: number): number[] =>
  Array.from({ length }, (_, i) => 100 + (i * 37 + row * 101) % 40000);

/** Milliseconds of a token of all sequences. */
async function pace(
  gpu: Gpu,
  model: Model,
  { batch, warm, tokens }: { readonly batch: number; readonly warm: number; readonly tokens: number },
): Promise<number> {
  using generation = defineGeneration(gpu, model, { stop: [], expected: PROMPT + warm + tokens });
  let state = await generation.init(Array.from({ length: batch }, (_, row) => promptOf(PROMPT, row)));
  state = await generation.next(state, warm);
  const start = performance.now();
  for (let left = tokens; left > 0; left -= 32) state = await generation.next(state, Math.min(32, left));
  return (performance.now() - start) / tokens;
}

/** Milliseconds until the first token of a long prompt is there, the best of several. */
async function firstToken(gpu: Gpu, model: Model): Promise<number> {
  using generation = defineGeneration(gpu, model, { stop: [], expected: LONG + 32 });
  const times: number[] = [];
  for (let n = 0; n < 6; n++) {
    const start = performance.now();
    await generation.next(await generation.init([promptOf(LONG, n)]), 1);
    times.push(performance.now() - start);
  }
  return Math.min(...times.slice(1));
}

/** The kernels of a step, the slowest first. */
async function kernels(gpu: Gpu, model: Model): Promise<readonly (readonly [string, number, number])[]> {
  using generation = defineGeneration(gpu, model, { stop: [], expected: 512 });
  const state = await generation.next(await generation.init([promptOf(PROMPT, 0)]), 8);
  await generation.profile(state);
  const times = Map.groupBy(await generation.profile(state), ({ name }) => name);
  return [...times].map(([name, all]) =>
    [name, all.length, all.reduce((sum, { milliseconds }) => sum + milliseconds, 0)] as const
  ).sort((a, b) => b[2] - a[2]);
}

/**
 * Runs the bench.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { words: [folder], flags: rest } = partArgs(args);
  const { values: flags, help } = readFlags(rest, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  if (folder === undefined) throw new UsageError("name a folder");
  await using gpu = await openDevice(flags, { to: Deno.stderr });
  if (await hostFileSystem().stat(folder) === null) {
    const made = await newModel(gpu, { source: SMOLLM2, seed: 1 });
    await saveModel(gpu, made, { folder, dtype: "bfloat16" });
  }
  const model = await loadModel(gpu, folder, { storage: flags.storage });
  for (const batch of BATCHES) {
    const milliseconds = await pace(gpu, model, { batch, ...flags });
    print(
      JSON.stringify({ side: "firn", batch, milliseconds, tokensPerSecond: 1000 * batch / milliseconds }),
    );
  }
  print(JSON.stringify({ side: "firn", prompt: LONG, firstToken: await firstToken(gpu, model) }));
  if (!flags.profile) return;
  for (const [name, count, time] of await kernels(gpu, model)) {
    print(`${time.toFixed(3).padStart(9)} ms ${String(count).padStart(4)} ${name}`);
  }
}

if (import.meta.main) await runMain(main, "bench generate");
