/**
 * Training on several ranks, where a launcher of MPI started this process: each reads the same data and takes its share of every
 * batch. Rank 0 writes the run; the others write to a folder that is theirs while they run.
 *
 * @module
 */

import { hostFileSystem } from "@firn/train/data";
import { launchedBy, LIBRARY_VARIABLE, openRanks, type Ranks } from "@firn/train/ranks";
import { print } from "./print.ts";

/** Seconds to wait for rank 0, which saves and judges the model alone. */
const TIMEOUT = 3600;

/** This process among those that a launcher started. */
export interface Joined {
  readonly ranks: Ranks;
  /** Where this rank writes: what it is given on rank 0, a folder of its own on the others. */
  outOf(out: string, options: { readonly resumed: boolean }): Promise<string>;
  /** Ends with the others. A rank that fails does not come here: its end is that of all. */
  leave(): Promise<void>;
}

/** Whether a launcher started this process. */
export async function isRank(): Promise<boolean> {
  const { state } = await Deno.permissions.query({ name: "env", variable: LIBRARY_VARIABLE });
  // Where all permissions are given, it is so without a launcher, too.
  return state === "granted" && launchedBy((name) => Deno.env.get(name)) !== null;
}

/**
 * Joins the other ranks.
 *
 * @returns This rank; null where no launcher started this process
 */
export async function joinRanks(): Promise<Joined | null> {
  if (!await isRank()) return null;
  const ranks = await openRanks({ timeout: TIMEOUT }), fileSystem = hostFileSystem();
  print(`ranks       ${ranks.size}, ${ranks.local.size} of them on this machine; ${ranks.engine}`);
  const own = `.firn/rank-${ranks.rank}-${Deno.pid}`;
  return {
    ranks,
    async outOf(out, { resumed }) {
      if (ranks.rank === 0) return out;
      await fileSystem.makeFolder(own, { parents: true });
      if (resumed) {
        await fileSystem.write(`${own}/metrics.jsonl`, await fileSystem.read(`${out}/metrics.jsonl`));
      }
      return own;
    },
    async leave() {
      if (ranks.rank > 0) await Deno.remove(own, { recursive: true }).catch(ignoreAbsent);
      await ranks.close();
    },
  };
}

function ignoreAbsent(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
