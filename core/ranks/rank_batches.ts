/**
 * The share of a rank in every batch.
 *
 * @module
 */

import { checkOptions } from "../arguments.ts";
import type { Batches } from "../data/batches.ts";
import { InputError } from "../errors.ts";
import { hostValues, tensor } from "../sources.ts";
import { flatten, type TensorTree, unflatten } from "../tree.ts";
import type { Ranks } from "../train/ranks.ts";

/** Which share of a batch is meant. */
export interface Share extends Pick<Ranks, "rank" | "size" | "survival"> {
  /**
   * Equal blocks that the rows of a batch lie in, of each of which a rank takes its share; 1 when absent. Batches of pairs have 2:
   * all first answers, then all second ones.
   */
  readonly blocks?: number;
}

/**
 * Cuts each batch among the ranks: the first gets the first samples. Ranks that read the same data so take the steps of one that
 * reads whole batches. Where ranks died, those that are left share the same batches, some a sample more than others.
 *
 * @param batches Batches of all ranks together
 * @param ranks Which rank this is
 * @returns Those of this rank; its fingerprint is that of the whole
 * @throws {InputError} When a batch has no equal share for each rank
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { tokenWindows } from "@firn/train/data";
 * import { rankBatches } from "@firn/train/ranks";
 *
 * const whole = tokenWindows(new Int32Array(64), { length: 8, batch: 4 });
 * const mine = rankBatches(whole, { rank: 1, size: 2 });
 * assertEquals((await mine.at(1)).inputIds.shape, [2, 8]);
 * ```
 */
export function rankBatches<B extends object>(batches: Batches<B>, ranks: Share): Batches<B> {
  checkOptions("rankBatches", ranks, "its second argument must be ranks");
  const share = (batch: B): B => shareOf(batch as TensorTree, ranks) as B;
  return {
    count: batches.count,
    fingerprint: batches.fingerprint,
    at(step) {
      const batch = batches.at(step);
      return batch instanceof Promise ? batch.then(share) : share(batch);
    },
    from: (step) => rankShares(batches.from(step), ranks),
  };
}

/**
 * Cuts batches that come one after the other among the ranks, as {@link rankBatches} does.
 *
 * @param batches Batches of all ranks together
 * @param ranks Which rank this is
 * @returns Those of this rank
 * @throws {InputError} When a batch has no equal share for each rank
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { read, openGpu, tensor } from "@firn/train";
 * import { rankShares } from "@firn/train/ranks";
 *
 * await using gpu = await openGpu();
 * const [mine] = rankShares([{ x: tensor([1, 2, 3, 4]) }], { rank: 1, size: 2 });
 * assertEquals([...await read(gpu, mine.x)], [3, 4]);
 * ```
 */
export function rankShares<B extends object>(batches: Iterable<B>, ranks: Share): Iterable<B>;
/**
 * Cuts batches that come one after the other among the ranks, at once or later.
 *
 * @param batches Batches of all ranks together
 * @param ranks Which rank this is
 * @returns Those of this rank, later where the batches come later
 * @throws {InputError} When a batch has no equal share for each rank
 */
export function rankShares<B extends object>(
  batches: Iterable<B> | AsyncIterable<B>,
  ranks: Share,
): Iterable<B> | AsyncIterable<B>;
export function rankShares<B extends object>(
  batches: Iterable<B> | AsyncIterable<B>,
  ranks: Share,
): Iterable<B> | AsyncIterable<B> {
  checkOptions("rankShares", ranks, "its second argument must be ranks");
  const share = (batch: B): B => shareOf(batch as TensorTree, ranks) as B;
  return Symbol.asyncIterator in batches ? sharesLater(batches, share) : shares(batches, share);
}

function* shares<B>(all: Iterable<B>, share: (batch: B) => B): Generator<B, void, undefined> {
  for (const batch of all) yield share(batch);
}

async function* sharesLater<B>(
  all: AsyncIterable<B>,
  share: (batch: B) => B,
): AsyncGenerator<B, void, undefined> {
  for await (const batch of all) yield share(batch);
}

function shareOf(batch: TensorTree, { rank, size, blocks = 1, survival }: Share): TensorTree {
  const entries = [...flatten(batch)].map(([path, whole]) => {
    const [rows = 1, ...sizes] = whole.shape, samples = rows / blocks;
    const from = Math.floor(rank * samples / size), own = Math.floor((rank + 1) * samples / size) - from;
    const isOdd = survival?.lost.length ? own === 0 : samples % size !== 0;
    if (isOdd) {
      throw new InputError(
        `Cannot share "${path}" among ${size} ranks as its samples must be a multiple of that: it has ${samples}; take another size of batches`,
      );
    }
    const values = hostValues(whole, path), row = values.length / rows, share = own * row;
    const partOf = (block: number) => {
      const at = (block * samples + from) * row;
      return values.subarray(at, at + share);
    };
    if (blocks === 1) return [path, tensor(partOf(0), [own, ...sizes])] as const;
    const mine = values.slice(0, blocks * share);
    for (let block = 0; block < blocks; block++) mine.set(partOf(block), block * share);
    return [path, tensor(mine, [blocks * own, ...sizes])] as const;
  });
  return unflatten(new Map(entries)) as TensorTree;
}
