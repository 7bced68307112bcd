/**
 * Writes a model, or a LoRA adapter, as a GGUF file for llama.cpp.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/export.ts out/finetune-1/model model.gguf --type q8_0
 * ```
 *
 * @module
 */

import { AlreadyExistsError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { companionFiles, type GgufType, loadAdapter, saveGguf, saveGgufAdapter } from "@firn/train/hub";
import { type Flag, oneOf, readFlags, runMain, text, UsageError } from "./flags.ts";
import { helpOf } from "./help.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { locateModel } from "./hub.ts";
import { loadShown } from "./load_model.ts";
import { print } from "./print.ts";
import { megabytes, stage } from "./progress.ts";

/** The flags of the command. */
export const FLAGS:
  & { readonly type: Flag<GgufType>; readonly adapter: Flag<string | null> }
  & typeof GPU_FLAGS = {
    type: oneOf(
      ["f32", "f16", "bf16", "q8_0"],
      "how matrices are stored; q8_0: 8 bits and a scale for 32 of them",
      "bf16",
    ),
    adapter: text("DIR|NAME", "write the pairs of this LoRA adapter of the model, alone and as f32", null),
    ...GPU_FLAGS,
  };

const USAGE = `usage: ./firn export MODEL OUT.gguf [flags]
       deno run --allow-read --allow-write examples/export.ts MODEL OUT.gguf [flags]

Writes a Llama, Mistral, Qwen2 or Qwen3 with its tokenizer and its chat template as a GGUF file, for llama.cpp and what is
built on it. MODEL is a Hugging Face folder, its name on the hub, or another GGUF file. With --adapter, OUT.gguf is a
LoRA adapter for the GGUF file of MODEL (llama-cli --lora OUT.gguf); ./firn merge makes one model of both.`;

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const named = args.findIndex((arg) => arg.startsWith("-")), end = named < 0 ? args.length : named;
  const [model, path, ...rest] = args.slice(0, end);
  const { values: flags, help } = readFlags(args.slice(end), FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (path === undefined) throw new UsageError("name the model and the file to write");
  if (rest.length > 0) throw new UsageError(`a model and a file to write: "${rest[0]}" is too much`);
  if (!/\.gguf$/i.test(path)) throw new UsageError(`the name of the file must end in .gguf: got "${path}"`);
  const fileSystem = hostFileSystem();
  if (await fileSystem.stat(path) !== null) {
    throw new AlreadyExistsError(
      `Cannot write "${path}" as it is there: choose another name, or move it away`,
    );
  }
  const { folder } = await locateModel(model);
  const pairs = flags.adapter === null ? null : (await locateModel(flags.adapter)).folder;
  await using gpu = await openShown(flags);
  const loaded = await loadShown(gpu, folder);
  if (pairs === null) {
    const files = await companionFiles(folder);
    await stage(`saving      ${path}`, () => saveGguf(gpu, loaded, { path, type: flags.type, files }));
  } else {
    const adapted = await loadAdapter(gpu, loaded, pairs);
    await stage(`saving      ${path}`, () => saveGgufAdapter(gpu, adapted, { path }));
  }
  const { size } = (await fileSystem.stat(path))!;
  print(`${"written".padEnd(11)} ${path}, ${pairs === null ? flags.type : "adapter"}, ${megabytes(size)}`);
}

if (import.meta.main) await runMain(main, "export");
