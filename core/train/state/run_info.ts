/**
 * What a policy is told of a run.
 *
 * @module
 */

import type { Optimizer } from "../../optim/optimizer.ts";
import type { RunInfo } from "../../policy.ts";
import type { Ranks } from "../ranks.ts";
import type { Leaves } from "../../tree.ts";

/** What is the same for all runs of a training. */
interface Told {
  readonly steps: number;
  readonly definition: {
    readonly optimizer: Pick<Optimizer, "name" | "moments">;
    readonly lookEvery: number;
    readonly counts: boolean;
    readonly together: Ranks | null;
  };
}

/**
 * Tells about a run by its first step. Ranks tell each other how large their parts of it are, so that all policies are told the
 * same.
 *
 * @param trainer Planned steps, optimizer, ranks
 * @param options Labels and batches of the step
 * @returns What a policy is told; of several ranks, or where that is awaited, later
 */
export async function runInfo(
  { steps, definition: { optimizer: { name, moments }, lookEvery, counts, together } }: Told,
  { counted, batches }: { readonly counted: number; readonly batches: readonly { readonly batch: Leaves }[] },
): Promise<RunInfo> {
  const own = [batches.reduce((n, { batch }) => n + rowsOf(batch), 0), counted];
  const [batchSize, tokens] = together === null ? own : await total(together, own);
  const kept = moments.map(({ name, meaning }) => ({ name, meaning }));
  return { steps, lookEvery, batchSize, ...counts && { tokens }, optimizer: { name, moments: kept } };
}

/** Rows of a batch: the first size of its first entry that has one. */
export function rowsOf(batch: Leaves): number {
  return [...batch.values()].find(({ shape }) => shape.length > 0)?.shape[0] ?? 1;
}

/** The sums of numbers over all ranks. */
async function total(ranks: Ranks, own: readonly number[]): Promise<readonly number[]> {
  const mine = new Uint8Array(Float64Array.from(own).buffer);
  const all = new Float64Array((await ranks.gather(mine)).slice().buffer);
  return own.map((_, i) => all.reduce((sum, value, j) => j % own.length === i ? sum + value : sum, 0));
}
