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
import type { Ranks } from "./ranks.ts";

/**
 * Cuts each batch among the ranks: the first gets the first samples. Ranks that read the same data so take the steps of one that
 * reads whole batches.
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
export function rankBatches<B extends object>(
  batches: Batches<B>,
  ranks: Pick<Ranks, "rank" | "size">,
): Batches<B> {
  checkOptions("rankBatches", ranks, "its second argument must be ranks");
  const share = (batch: B): B => shareOf(batch as TensorTree, ranks) as B;
  return {
    count: batches.count,
    fingerprint: batches.fingerprint,
    at(step) {
      const batch = batches.at(step);
      return batch instanceof Promise ? batch.then(share) : share(batch);
    },
    from(step) {
      const all = batches.from(step);
      return Symbol.asyncIterator in all ? sharesLater(all, share) : shares(all, share);
    },
  };
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

function shareOf(batch: TensorTree, { rank, size }: Pick<Ranks, "rank" | "size">): TensorTree {
  const entries = [...flatten(batch)].map(([path, whole]) => {
    const [samples = 1, ...sizes] = whole.shape, own = samples / size;
    if (!Number.isInteger(own)) {
      throw new InputError(
        `Cannot share "${path}" among ${size} ranks as its samples must be a multiple of that: it has ${samples}; take another size of batches`,
      );
    }
    const values = hostValues(whole, path), row = values.length / samples;
    const mine = values.subarray(rank * own * row, (rank + 1) * own * row);
    return [path, tensor(mine, [own, ...sizes])] as const;
  });
  return unflatten(new Map(entries)) as TensorTree;
}
