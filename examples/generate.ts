/**
 * Continues a text.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/generate.ts examples/models/sotu "The state of"
 * ```
 *
 * @module
 */

import { generate, textDecoder } from "@firn/train/infer";
import { encodePrompt, hostFileSystem } from "@firn/train/data";
import { printable } from "@firn/train/report";
import { readFlags, runMain, text, toggle, UsageError, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { print, printError, write } from "./print.ts";
import { openReader, paceText, partArgs, READER_FLAGS, SAMPLING_FLAGS, samplingOf } from "./prompting.ts";

/** The flags of the command. */
export const FLAGS = {
  "prompt-file": text("FILE", "the text to continue, in place of the argument", null),
  "max-tokens": whole("most tokens to add", 128),
  "no-prompt": toggle("print the new text alone"),
  ...SAMPLING_FLAGS,
  ...READER_FLAGS,
};

const USAGE = `usage: ./firn generate MODEL "PROMPT" [flags]
       deno run --allow-read --allow-write examples/generate.ts MODEL "PROMPT" [flags]

Continues a text with a model: a Hugging Face folder, or its name on the hub. The text comes as it is made; how fast stands on
standard error. A text that begins with "-" stands last, after "--".`;

async function promptOf(words: readonly string[], file: string | null): Promise<string> {
  if (file === null) {
    if (words.length === 1) return words[0];
    throw new UsageError('name a model, then the text to continue in quotes: MODEL "PROMPT"');
  }
  if (words.length > 0) throw new UsageError("give the text as an argument or as --prompt-file, not both");
  return new TextDecoder().decode(await hostFileSystem().read(file));
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { words: [name, ...words], flags: rest } = partArgs(args);
  const { values: flags, help } = readFlags(rest, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  const prompt = await promptOf(words, flags["prompt-file"]);
  const { gpu, model, tokenizer } = await openReader(name, flags);
  await using _ = gpu;
  const ids = encodePrompt(tokenizer, prompt);
  if (ids.length === 0) throw new UsageError("the text to continue must not be empty");
  const decoder = textDecoder(tokenizer, { before: ids, stop: flags.stop });
  const out = (part: string): void => write(printable(part));
  if (!flags["no-prompt"]) out(prompt);
  let count = 0, start = performance.now();
  const options = { ...samplingOf(flags), prompt: ids, maxTokens: flags["max-tokens"], stop: tokenizer.stop };
  for await (const id of generate(gpu, model, options)) {
    if (count++ === 0) start = performance.now();
    out(decoder.add([id]));
    if (decoder.stopped) break;
  }
  out(decoder.end() + "\n");
  printError(paceText(count, performance.now() - start));
}

if (import.meta.main) await runMain(main, "generate");
