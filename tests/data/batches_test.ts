import { InputError } from "@firn/train";
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { predictions, tokenWindows } from "@firn/train/data";
import type { TokenBatch } from "../../core/models/tasks.ts";
import type { Tensor } from "../../core/tensor.ts";

/** Token i is i, so a window's first token tells where it is from. */
const IDS = Int32Array.from({ length: 103 }, (_, i) => i);
const SIZES = { length: 10, batch: 3, seed: 7 };

function rows({ shape, attrs }: Tensor): number[][] {
  const { data } = attrs as { data: Int32Array };
  return Array.from(
    { length: shape[0] },
    (_, row) => [...data.subarray(row * shape[1], (row + 1) * shape[1])],
  );
}

function starts(batches: readonly TokenBatch[]): number[] {
  return batches.flatMap(({ inputIds }) => rows(inputIds).map(([first]) => first));
}

Deno.test("tokenWindows gives i32 tensors whose labels are the inputs", () => {
  const { inputIds, labels } = tokenWindows(IDS, SIZES).at(1);
  assertEquals([inputIds.shape, inputIds.dtype, labels.shape, labels.dtype], [
    [3, 10],
    "i32",
    [3, 10],
    "i32",
  ]);
  assertEquals(rows(labels), rows(inputIds));
  for (const row of rows(inputIds)) assertEquals(row, Array.from({ length: 10 }, (_, i) => row[0] + i));
});

Deno.test("tokenWindows takes every window once an epoch, in another order each epoch", () => {
  const windows = tokenWindows(IDS, SIZES);
  assertEquals(windows.count, 10);
  const seen = starts(Array.from({ length: 20 }, (_, i) => windows.at(i + 1)));
  const epochs = Array.from({ length: 6 }, (_, epoch) => seen.slice(epoch * 10, epoch * 10 + 10));
  const inOrder = Array.from({ length: 10 }, (_, i) => i * 10);
  for (const epoch of epochs) assertEquals(epoch.toSorted((a, b) => a - b), inOrder);
  assertEquals(new Set([...epochs, inOrder].map(String)).size, 7);
});

Deno.test("tokenWindows gives a step the same batch whatever came before", () => {
  const windows = tokenWindows(IDS, SIZES);
  const forward = Array.from({ length: 30 }, (_, i) => rows(windows.at(i + 1).inputIds));
  const backward = Array.from({ length: 30 }, (_, i) => rows(tokenWindows(IDS, SIZES).at(30 - i).inputIds));
  assertEquals(backward.toReversed(), forward);
  const resumed = windows.from(17);
  assertEquals(rows(resumed.next().value.inputIds), forward[16]);
  assertEquals(rows(resumed.next().value.inputIds), forward[17]);
});

Deno.test("tokenWindows orders by all bits of the seed", () => {
  const orders = [0, 1, 2 ** 31, 2 ** 32, 2 ** 33 + 1].map((seed) => {
    const windows = tokenWindows(IDS, { ...SIZES, seed });
    return starts([windows.at(1), windows.at(2), windows.at(3)]).join();
  });
  assertEquals(new Set(orders).size, 5);
});

Deno.test("tokenWindows shuffles without preference", () => {
  const windows = tokenWindows(new Int32Array(4 * 2).map((_, i) => i >> 1), { length: 2, batch: 4, seed: 3 });
  const counts = new Map<string, number>();
  for (let epoch = 1; epoch <= 2400; epoch++) {
    const order = starts([windows.at(epoch)]).join();
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  // Each of 24 orders is expected 100 times; 5 standard deviations are 49.
  assertEquals(counts.size, 24);
  for (const [order, count] of counts) assert(Math.abs(count - 100) < 49, `${order}: ${count}`);
});

Deno.test("tokenWindows repeats windows to fill a batch that an epoch does not", () => {
  const windows = tokenWindows(IDS.subarray(0, 20), { ...SIZES, batch: 4 });
  assertEquals(starts([windows.at(1)]).toSorted(), [0, 0, 10, 10]);
});

Deno.test("all takes every window in order and pads the last with label -100", () => {
  const batches = tokenWindows(IDS, SIZES).all();
  assertEquals(batches.length, 4);
  assertEquals(starts(batches), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 0]);
  assertEquals(rows(batches[3].inputIds)[1], [100, 101, 102, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(rows(batches[3].labels)[1], [100, 101, 102, -100, -100, -100, -100, -100, -100, -100]);
  assertEquals(rows(batches[3].labels)[2], Array(10).fill(-100));
  assertEquals(batches.map(predictions), [27, 27, 27, 11]);
});

Deno.test("all leaves out a rest of one token, which predicts nothing", () => {
  assertEquals(tokenWindows(IDS.subarray(0, 31), SIZES).all().map(predictions), [27]);
});

Deno.test("tokenWindows refuses text that fills no window and sizes that are none", () => {
  assertThrows(() => tokenWindows(new Int32Array(), SIZES), InputError, "it has 0; give more text");
  assertThrows(() => tokenWindows(IDS.subarray(0, 9), SIZES), InputError, '"length" of at most 9');
  assertThrows(() => tokenWindows(IDS, { ...SIZES, length: 1 }), InputError, '"length"');
  assertThrows(() => tokenWindows(IDS, { ...SIZES, batch: 0 }), InputError, '"batch"');
  assertThrows(() => tokenWindows(IDS, { ...SIZES, seed: -1 }), InputError, '"seed"');
  assertThrows(() => tokenWindows(IDS, SIZES).at(0), InputError, "steps are whole numbers from 1");
});

Deno.test("tokenWindows does not share buffers between batches", () => {
  const windows = tokenWindows(IDS, SIZES);
  const { inputIds, labels } = windows.at(1);
  assertNotEquals(
    (inputIds.attrs as { data: unknown }).data === (labels.attrs as { data: unknown }).data,
    true,
  );
});

Deno.test("tokenWindows has a fingerprint of its tokens, sizes and seed", () => {
  const of = (ids: Int32Array, more = {}) => tokenWindows(ids, { ...SIZES, ...more }).fingerprint;
  const same = of(IDS);
  assertEquals(of(IDS.slice()), same);
  const others = [of(IDS.with(7, 99)), of(IDS.subarray(1)), of(IDS, { seed: 5 }), of(IDS, { batch: 1 })];
  assertEquals(new Set([same, ...others]).size, 5);
});

Deno.test("tokenWindows refuses a batch that no device could hold, before it is made", () => {
  assertThrows(() => tokenWindows(IDS, { length: 9, batch: 1e9 }), InputError, 'lower "batch" or "length"');
});
