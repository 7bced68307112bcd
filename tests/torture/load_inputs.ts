/**
 * Loads damaged files, in a process of its own: `deno run load_inputs.ts SEED FORMAT FROM TO FOLDER`. Prints a line of
 * JSON for each.
 *
 * @module
 */

import { FirnError, type Gpu } from "@firn/train";
import { openTestGpu } from "../reference/open_gpu.ts";
import { drawFrom } from "./draw.ts";
import { FORMATS } from "./formats/mod.ts";
import { type Context, ForbiddenError, type Format } from "./formats/types.ts";
import type { Column } from "./tally.ts";

/** What became of one input. */
export interface Outcome {
  readonly number: number;
  /** `refused` and `harmless` are as it should be. */
  readonly kind: "refused" | "harmless" | Exclude<Column, "kills">;
  readonly detail: string;
}

/** The line before the first outcome: what is whole has loaded. */
export const READY = "ready";

/** What a terminal would obey, or what ends a line. */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;

/** Numbers of one format's inputs differ from those of all others. */
const STREAMS = 100_000;

async function outcomeOf(format: Format, context: Context): Promise<Omit<Outcome, "number">> {
  try {
    await format.load(context);
  } catch (error) {
    const detail = error instanceof Error ? error.stack ?? error.message : String(error);
    if (error instanceof ForbiddenError) return { kind: "accepted", detail: error.message };
    if (!(error instanceof FirnError)) return { kind: "raw", detail };
    const control = CONTROLS.exec(error.message);
    if (control === null) return { kind: "refused", detail: error.message };
    return { kind: "raw", detail: `a control character in ${JSON.stringify(error.message)}` };
  }
  if ("polluted" in {}) return { kind: "accepted", detail: "every object has what the file says" };
  return { kind: "harmless", detail: "" };
}

/** Makes the bytes of an input. */
export function inputOf(
  format: Format,
  { whole, seed, number }: { readonly whole: Uint8Array; readonly seed: number; readonly number: number },
): Uint8Array {
  const draw = drawFrom(seed, STREAMS * (1 + FORMATS.indexOf(format)) + number);
  return format.mutate(whole.slice(), draw);
}

async function main(): Promise<void> {
  const [seed, name, from, to, folder] = Deno.args, format = FORMATS.find((one) => one.name === name)!;
  let opened: Promise<Gpu> | null = null;
  const context: Context = { folder, gpu: () => opened ??= openTestGpu() };
  await format.make(context);
  const path = `${folder}/${format.file}`, whole = await Deno.readFile(path);
  await format.load(context);
  console.log(READY);
  for (let number = Number(from); number < Number(to); number++) {
    await Deno.writeFile(path, inputOf(format, { whole, seed: Number(seed), number }));
    console.log(JSON.stringify({ number, ...await outcomeOf(format, context) }));
  }
  Deno.exit(0);
}

if (import.meta.main) await main();
