/**
 * Brings models and data of a hub into the cache of Hugging Face, and asks for what is new in them.
 *
 * ```sh
 * deno run --allow-read --allow-write --allow-env --allow-net examples/download.ts HuggingFaceTB/SmolLM2-135M
 * ```
 *
 * @module
 */

import { runMain, UsageError } from "./flags.ts";
import { locateData, locateModel } from "./hub.ts";
import { print } from "./print.ts";

const USAGE = `usage: ./firn download NAME...
       deno run --allow-read --allow-write --allow-env --allow-net examples/download.ts NAME...

Brings models, adapters or data of a hub into the cache that Python's libraries share, and prints their folders.
NAME is owner/name, or owner/name@revision: a branch, a tag or the hash of a commit. Of GGUF, owner/name/file.gguf.
Of data, hub:owner/name, hub:owner/name/folder, hub:owner/name/file.parquet: the training split where none is named.
What is there and has not changed is not transferred again; a transfer that was cut off goes on.

  HF_HOME, HF_HUB_CACHE  where the cache is [~/.cache/huggingface/hub]
  HF_TOKEN               your token, for what is private or gated; else that of hf auth login
  HF_ENDPOINT            another hub [https://huggingface.co]
  HF_HUB_OFFLINE         1: nothing but the cache

  --if-missing           ask for nothing new where the cache has it all, and print no folder
  --help, -h             show this
`;

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  if (args.includes("--help") || args.includes("-h")) return print(USAGE);
  const flag = "--if-missing", names = args.filter((arg) => arg !== flag), quiet = args.includes(flag);
  const odd = names.find((name) => name.startsWith("-"));
  if (odd !== undefined) throw new UsageError(`there is no flag "${odd}"`);
  if (names.length === 0) throw new UsageError("name a model of a hub: owner/name, or data: hub:owner/name");
  for (const model of names) {
    if (model.startsWith("hub:")) {
      const files = await locateData([model], { refresh: !quiet });
      if (!quiet) { for (const file of files) print(file); }
      continue;
    }
    const { name, folder } = await locateModel(model, { refresh: !quiet });
    if (!quiet) print(`${name}\n${folder}`);
  }
}

if (import.meta.main) await runMain(main, "download");
