/**
 * Batches to look at, before a run is begun.
 *
 * @module
 */

import type { TokenBatch } from "@firn/train";
import { type Batches, type Tokenizer, type TokenRun, tokenRuns } from "@firn/train/data";
import { counted } from "@firn/train/report";
import { print, printRuns } from "./print.ts";

/**
 * Prints the first batches: learned tokens in green, or in brackets where there are no colours.
 *
 * @param batches The batches
 * @param options How many, and what decodes them
 */
export async function showBatches(
  batches: Batches<TokenBatch>,
  { count, tokenizer }: { readonly count: number; readonly tokenizer: Tokenizer },
): Promise<void> {
  for (let step = 1; step <= count; step++) {
    const batch = await batches.at(step), [rows, length] = batch.inputIds.shape;
    print(`batch ${step}, ${counted(rows, "row")} of ${counted(length, "token")}`);
    const shown = tokenRuns(batch, tokenizer), empty = shown.filter((runs) => runs.length === 0).length;
    for (const [row, runs] of shown.entries()) {
      if (runs.length === 0) continue;
      const of = (chosen: readonly TokenRun[]): number => chosen.reduce((n, { tokens }) => n + tokens, 0);
      print(
        `row ${row + 1}, ${counted(of(runs), "token")}, ${of(runs.filter(({ learned }) => learned))} learned`,
      );
      printRuns(runs.map(({ text, learned }) => ({ text, marked: learned })));
    }
    if (empty > 0) print(`${counted(empty, "row")} of padding`);
  }
}
