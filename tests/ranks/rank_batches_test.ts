/**
 * The share of a rank in batches.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { InputError, type Tensor, tensor } from "@firn/train";
import { rankBatches, rankShares } from "@firn/train/ranks";
import { hostValues } from "../../core/sources.ts";
import { pairBatches } from "@firn/train/objectives";

const valuesOf = (value: Tensor): number[] => [...hostValues(value, "value")];

Deno.test("shares of all ranks are the batch, from the first sample to the last, of one batch or several, at once or later", async () => {
  const whole = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]].map((x) => ({ x: tensor(x, [6, 1]) }));
  const shares = [0, 1, 2].map((rank) =>
    [...rankShares(whole, { rank, size: 3 })].flatMap(({ x }) => valuesOf(x))
  );
  assertEquals(shares, [[1, 2, 7, 8], [3, 4, 9, 10], [5, 6, 11, 12]]);
  const later = rankShares(
    (async function* () {
      yield await Promise.resolve(whole[1]);
    })(),
    { rank: 1, size: 2 },
  );
  assertEquals((await Array.fromAsync(later)).map(({ x }) => valuesOf(x)), [[10, 11, 12]]);
  assertThrows(() => [...rankShares(whole, { rank: 0, size: 4 })], InputError, "samples must be a multiple");
});

Deno.test("a rank gets both answers of its pairs", async () => {
  const sample = (id: number) => ({ ids: Int32Array.of(id, id), learned: Uint8Array.of(0, 1) });
  const pairs = [1, 2, 3, 4].map((id) => ({ first: sample(id), second: sample(10 * id) }));
  const whole = pairBatches(pairs, { length: 2, batch: 4 });
  const all = valuesOf(whole.at(1).inputIds).filter((_, i) => i % 2 === 0);
  const shares = await Promise.all([0, 1].map(async (rank) => {
    const mine = rankBatches(whole, { rank, size: 2, blocks: 2 });
    const { inputIds, desirable } = await mine.at(1);
    assertEquals([inputIds.shape, desirable.shape], [[4, 2], [4]]);
    return valuesOf(inputIds).filter((_, i) => i % 2 === 0);
  }));
  for (const [a, b, c, d] of shares) assertEquals([c, d], [10 * a, 10 * b]);
  assertEquals(shares.flatMap(([a, b]) => [a, b]), all.slice(0, 4));
});
