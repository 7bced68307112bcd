/**
 * A run of the page without a page, in Deno.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import type { Line } from "@firn/train/report";
import type { Given } from "../../examples/browser/messages.ts";
import { beginRun } from "../../examples/browser/run.ts";
import { keepFile, keepFiles, MODEL, RUN, textPath } from "../../examples/browser/run_files.ts";
import type { RunRecord } from "../../examples/browser/settings.ts";

/**
 * Runs all steps.
 *
 * @param gpu The device
 * @param options The run, its text, the files of its model or none for that of the page, and the address of the page
 * @returns The log
 */
export async function nativeRun(
  gpu: Gpu,
  { record, text, model = [], base }: {
    readonly record: RunRecord;
    readonly text: string;
    readonly model?: readonly Given[];
    readonly base: string;
  },
): Promise<Line[]> {
  const fileSystem = memoryFileSystem(), lines: Line[] = [], done = Promise.withResolvers<void>();
  await fileSystem.makeFolder(RUN);
  await keepFile(new Blob([text]), { path: textPath(record.text), fileSystem });
  await keepFiles(model, { path: MODEL, fileSystem });
  await using run = beginRun(gpu, {
    record,
    resumed: false,
    fileSystem,
    base,
    tell(message) {
      if (message.kind === "lines") lines.push(...message.lines);
      if (message.kind === "phase" && message.phase === "done") done.resolve();
    },
  });
  await Promise.race([done.promise, run.ended]);
  return lines;
}
