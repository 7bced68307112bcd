/**
 * Training on several ranks, where a launcher of MPI started this process: each reads the same data and takes its share of every
 * batch. Rank 0 prints, measures and writes for all; the others write nothing.
 *
 * @module
 */

import { flatten, type Gpu, InputError } from "@firn/train";
import {
  launchedBy,
  LAUNCHER_VARIABLES,
  LIBRARY_VARIABLE,
  openRanks,
  type Ranks,
  rankShares,
} from "@firn/train/ranks";
import { type Averaging, isAveraged } from "./exchange_flags.ts";
import { UsageError } from "./flags.ts";
import { print } from "./print.ts";

/** Seconds to wait for rank 0, which saves and judges the model alone. */
const TIMEOUT = 3600;

/** The place of a process that no launcher started. */
const ALONE = { rank: 0, size: 1 } as const;

/** This process among those that a launcher started. */
export interface Joined {
  readonly ranks: Ranks;
  /** Whether rank 0 prints, measures and writes in place of this one. */
  readonly follows: boolean;
  /** What rank 0 has: a text, or a number. */
  common<T extends string | number>(mine: T): Promise<T>;
  /** Refuses ranks that were started with something else, as {@link agreeOn}. */
  agree(facts: Readonly<Record<string, string>>): Promise<void>;
}

/** What a command line says of ranks. */
export interface RanksFlags extends Averaging {
  /** Whether those that are left go on where one dies. */
  readonly survive?: boolean;
  /** Whether what a frozen bottom makes of samples is kept: steps of ranks would be left out on some alone. */
  readonly "cache-prefix"?: boolean;
}

/** This process among those that a launcher started for this run. Without the permissions that ./firn gives then, it is alone. */
export async function launchedPlace(): Promise<Pick<Ranks, "rank" | "size">> {
  for (const variable of [LIBRARY_VARIABLE, ...LAUNCHER_VARIABLES]) {
    const { state } = await Deno.permissions.query({ name: "env", variable });
    if (state !== "granted") return ALONE;
  }
  return launchedBy((name) => Deno.env.get(name)) ?? ALONE;
}

/**
 * Runs a command alone, or as one of the ranks that a launcher started. A rank that fails does not wait for the others: its end is
 * that of all.
 *
 * @param command The command; it is handed this rank, null where no launcher started this process
 * @param flags What the command line says of ranks
 */
export async function onRanks(
  command: (joined: Joined | null) => Promise<void>,
  flags: RanksFlags = {},
): Promise<void> {
  const joined = await joinRanks(flags);
  await command(joined);
  await joined?.ranks.close();
}

/**
 * Joins the other ranks.
 *
 * @param flags What the command line says of ranks
 * @returns This rank; null where no launcher started this process
 * @throws {UsageError} When flags are of several ranks, and there are none, or of one, and there are several
 */
export async function joinRanks(
  { survive = false, "cache-prefix": caches = false, ...averaging }: RanksFlags = {},
): Promise<Joined | null> {
  if ((await launchedPlace()).size === 1) {
    if (isAveraged(averaging)) {
      throw new UsageError("--exchange parameters is of several ranks: start them by ./firn ranks N");
    }
    if (survive) throw new UsageError("--survive is for several ranks: start it by ./firn ranks N");
    return null;
  }
  if (caches) throw new UsageError("--cache-prefix is for one process: drop it, or ./firn ranks");
  const ranks = await openRanks({ timeout: TIMEOUT, survive });
  print(`ranks       ${ranks.size}, ${ranks.local.size} of them on this machine; ${ranks.engine}`);
  return joinedBy(ranks);
}

/** What commands do with ranks. */
export function joinedBy(ranks: Ranks): Joined {
  return {
    ranks,
    follows: ranks.rank > 0,
    common: async (mine) => (await linesOf(ranks, mine))[0],
    agree: (facts) => agreeOn(ranks, facts),
  };
}

/** Batches of this rank, of those of all. */
export function shareOf<B extends object>(batches: Iterable<B>, joined: Joined | null): Iterable<B>;
export function shareOf<B extends object>(batches: AsyncIterable<B>, joined: Joined | null): AsyncIterable<B>;
export function shareOf<B extends object>(
  batches: Iterable<B> | AsyncIterable<B>,
  joined: Joined | null,
): Iterable<B> | AsyncIterable<B> {
  return joined === null ? batches : rankShares(batches, joined.ranks);
}

/** Samples in a batch of all ranks. */
export function wholeBatch(batch: number, joined: Joined | null): number {
  return batch * (joined?.ranks.size ?? 1);
}

/** What all ranks of a training must have in common, whatever it is. */
export function commonFacts({ name }: Gpu, params: object): Readonly<Record<string, string>> {
  const leaves = [...flatten(params)].map(([path, { shape, dtype }]) => `${path} ${dtype} ${shape}`);
  return {
    parameters: leaves.join("\n"),
    // Weights are updated on each: another GPU rounds otherwise.
    "the adapter": name,
    "the version of Deno": Deno.version.deno,
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
  const [first, ...others] = await linesOf(ranks, facts);
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

/** The same JSON of all ranks, in their order. */
async function linesOf<T>(ranks: Pick<Ranks, "gather">, mine: T): Promise<T[]> {
  const line = new TextEncoder().encode(`${JSON.stringify(mine)}\n`);
  const lines = new TextDecoder().decode(await ranks.gather(line)).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}
