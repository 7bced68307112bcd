/**
 * Training on several ranks, where a launcher of MPI started this process: each reads the same data and takes its share of every
 * batch. Rank 0 writes the run; the others write to a folder that is theirs while they run.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import { launchedBy, LAUNCHER_VARIABLES, LIBRARY_VARIABLE, openRanks, type Ranks } from "@firn/train/ranks";
import { print } from "./print.ts";

/** Seconds to wait for rank 0, which saves and judges the model alone. */
const TIMEOUT = 3600;

/** This process among those that a launcher started. */
export interface Joined {
  readonly ranks: Ranks;
  /** Where this rank writes: what it is given on rank 0, a folder of its own on the others. */
  outOf(out: string, options: { readonly resumed: boolean }): Promise<string>;
  /** Refuses ranks that were started with something else, as {@link agreeOn}. */
  agree(facts: Readonly<Record<string, string>>): Promise<void>;
  /** Ends with the others. A rank that fails does not come here: its end is that of all. */
  leave(): Promise<void>;
}

/** Whether a launcher started this process among others. Without the permissions that ./firn gives then, none did. */
export async function isRank(): Promise<boolean> {
  for (const variable of [LIBRARY_VARIABLE, ...LAUNCHER_VARIABLES]) {
    const { state } = await Deno.permissions.query({ name: "env", variable });
    if (state !== "granted") return false;
  }
  return (launchedBy((name) => Deno.env.get(name))?.size ?? 1) > 1;
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
    agree: (facts) => agreeOn(ranks, facts),
    async leave() {
      if (ranks.rank > 0) await Deno.remove(own, { recursive: true }).catch(ignoreAbsent);
      await ranks.close();
    },
  };
}

/**
 * Compares what ranks were started with.
 *
 * @param ranks The ranks
 * @param facts What must be equal on all, by what it is called
 * @throws {InputError} On all ranks, when something differs
 */
export async function agreeOn(
  ranks: Pick<Ranks, "gather" | "size">,
  facts: Readonly<Record<string, string>>,
): Promise<void> {
  const mine = new TextEncoder().encode(`${JSON.stringify(facts)}\n`);
  const lines = new TextDecoder().decode(await ranks.gather(mine)).trimEnd().split("\n");
  const [first, ...others] = lines.map((line) => JSON.parse(line) as Readonly<Record<string, string>>);
  for (const [i, other] of others.entries()) {
    const odd = Object.keys(first).filter((name) => other[name] !== first[name]);
    if (odd.length === 0) continue;
    throw new InputError(
      `Cannot train on ${ranks.size} ranks as all must have the same flags, files and versions: rank ${
        i + 1
      } differs from rank 0 in ${odd.join(", ")}; start all alike`,
    );
  }
}

function ignoreAbsent(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
