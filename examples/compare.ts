/**
 * Compares runs on one page: loss by step, time and tokens, freezing, results, and the settings that differ.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/compare.ts out/*
 * ```
 *
 * @module
 */

import { AlreadyExistsError, NotFoundError } from "@firn/train";
import { hostFileSystem, parentOf, trimmedPath } from "@firn/train/data";
import { isComparison, type Line, readLog, renderComparison } from "@firn/train/report";
import { readFlags, runMain, text, UsageError } from "./flags.ts";
import { helpOf } from "./help.ts";
import { OBSERVE_FLAGS } from "./observe_flags.ts";
import { print } from "./print.ts";
import { logOf } from "./run_places.ts";

const FLAGS = { out: text("FILE", "the page; an older comparison there is replaced", "out/comparison.html") };

const USAGE = `usage: ./firn compare FOLDER... [flags]
       deno run --allow-read --allow-write examples/compare.ts FOLDER... [flags]

Compares the runs in output folders, finished or under way, on one page. What holds no run is passed over, so that out/* will do.`;

/** Settings that say where a run is and how it is watched, not what it is. */
const IGNORED: readonly string[] = ["out", "resume", "config", ...Object.keys(OBSERVE_FLAGS)];

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const first = args.findIndex((arg) => arg.startsWith("-")), count = first < 0 ? args.length : first;
  const { values: { out }, help } = readFlags(args.slice(count), FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (count === 0) throw new UsageError("name output folders of runs, before any flag");
  const files = hostFileSystem(),
    places = args.slice(0, count).map((place) => trimmedPath(place));
  const runs: { readonly name: string; readonly lines: readonly Line[] }[] = [];
  for (const place of new Set(places)) {
    const log = await logOf(place),
      isRun = log.endsWith(".jsonl") && ((await files.stat(log))?.size ?? 0) > 0;
    if (isRun) runs.push({ name: nameIn(place, places), lines: await readLog(log) });
    else print(`passed over ${place}: no run`);
  }
  if (runs.length === 0) {
    throw new NotFoundError(
      `Cannot compare "${
        places.join('", "')
      }" as one must be the output folder of a run, or its metrics.jsonl: none is`,
    );
  }
  const info = await files.stat(out);
  if (
    info !== null && !(info.kind === "file" && isComparison(new TextDecoder().decode(await files.read(out))))
  ) {
    throw new AlreadyExistsError(
      `Cannot write "${out}" as it must be new, or an older comparison: it is something else; choose another --out`,
    );
  }
  const folder = parentOf(out);
  if (folder !== ".") await files.makeFolder(folder, { parents: true });
  await files.write(out, await renderComparison(runs, { ignore: IGNORED }));
  print(`compared    ${runs.map(({ name }) => name).join(", ")}`);
  print(`written     ${out}`);
}

/** The last part of a place, where no other has the same. */
function nameIn(place: string, places: readonly string[]): string {
  const last = (path: string): string => path.replace(/[\\/]metrics\.jsonl$/, "").split(/[\\/]/).at(-1)!;
  const twins = new Set(places).size > 1 &&
    [...new Set(places)].filter((one) => last(one) === last(place)).length > 1;
  return twins ? place : last(place);
}

if (import.meta.main) await runMain(main, "compare");
