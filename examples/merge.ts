/**
 * Merges a LoRA adapter into its base model.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/merge.ts examples/models/sotu out/finetune-1/adapter out/merged
 * ```
 *
 * @module
 */

import { companionFiles, loadAdapter, mergeAdapter, type SaveDType, saveModel } from "@firn/train/hub";
import { counted } from "@firn/train/report";
import { type Flag, oneOf, readFlags, runMain, UsageError } from "./flags.ts";
import { helpOf } from "./help.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { locateModel } from "./hub.ts";
import { loadShown } from "./load_model.ts";
import { checkOutput } from "./output.ts";
import { print } from "./print.ts";
import { stage } from "./progress.ts";
import { MAX_SHARD_SIZE, shardOptions } from "./shard_size.ts";

/** The flags of the command. */
export const FLAGS: {
  readonly dtype: Flag<"same" | SaveDType>;
  readonly "max-shard-size": typeof MAX_SHARD_SIZE;
} & typeof GPU_FLAGS = {
  dtype: oneOf(
    ["same", "float32", "bfloat16", "float16"],
    "how weights are stored; same: as config.json of the model says",
    "same",
  ),
  "max-shard-size": MAX_SHARD_SIZE,
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn merge MODEL ADAPTER OUT [flags]
       deno run --allow-read --allow-write examples/merge.ts MODEL ADAPTER OUT [flags]

Adds the pairs of a LoRA adapter to the weights of its base, in f32, and writes a model that needs no adapter. MODEL is a
Hugging Face folder or its name on the hub, ADAPTER one of PEFT, OUT a new or empty folder. The tokenizer and what else
belongs to the model goes along.`;

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const named = args.findIndex((arg) => arg.startsWith("-")), end = named < 0 ? args.length : named;
  const [model, adapter, out, ...rest] = args.slice(0, end);
  const { values: flags, help } = readFlags(args.slice(end), FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (out === undefined) throw new UsageError("name the model, the adapter, and the folder to write");
  if (rest.length > 0) throw new UsageError(`two folders and one to write: "${rest[0]}" is too much`);
  const { folder } = await locateModel(model), { folder: pairs } = await locateModel(adapter);
  for (const other of [folder, pairs]) await checkOutput(out, { resumed: false, model: other, name: "OUT" });
  const files = await companionFiles(folder);
  await using gpu = await openShown(flags);
  const adapted = await loadAdapter(gpu, await loadShown(gpu, folder), pairs);
  for (const note of adapted.notes ?? []) print(`note        ${note}`);
  const merged = await stage(`merging     ${adapter}`, () => mergeAdapter(gpu, adapted));
  const options = {
    ...shardOptions(flags["max-shard-size"]),
    ...flags.dtype !== "same" && { dtype: flags.dtype },
  };
  await stage(`saving      ${out}`, () => saveModel(gpu, merged, { folder: out, files, ...options }));
  print(`${"written".padEnd(11)} ${out}, ${counted(adapted.adapter!.layers.size, "pair")} merged`);
}

if (import.meta.main) await runMain(main, "merge");
