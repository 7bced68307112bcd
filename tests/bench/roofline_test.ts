/**
 * Roofline arithmetic, families of kernels, and a profile in a size that takes no time.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertGreater } from "@std/assert";
import { openGpu } from "@firn/train";
import { profileOf } from "./profile.ts";
import { attainable, familyOf, groupBy } from "./roofline.ts";

const PEAKS = { flops: 50e12, bytes: 2e12 };

Deno.test("attainable is arithmetic or memory, whichever is slower", () => {
  assertEquals(attainable({ flops: 50e9, bytes: 1e9 }, PEAKS), 1);
  assertEquals(attainable({ flops: 50e9, bytes: 4e9 }, PEAKS), 2);
  assertEquals(attainable({ flops: 0, bytes: 0 }, PEAKS), 0);
});

Deno.test("groupBy adds up launches by name, longest first", () => {
  const launch = (name: string, milliseconds: number, flops: number) => ({
    name,
    milliseconds,
    flops,
    bytes: 2e9,
  });
  const rows = [launch("a 1", 1, 0), launch("b 2", 5, 100e9), launch("a 1", 3, 0)];
  assertEquals(groupBy(rows, { peaks: PEAKS, key: ({ name }) => name }), [
    { name: "b 2", count: 1, milliseconds: 5, flops: 100e9, bytes: 2e9, attainable: 2 },
    { name: "a 1", count: 2, milliseconds: 4, flops: 0, bytes: 4e9, attainable: 2 },
  ]);
});

Deno.test("familyOf goes by the names that kernels have", () => {
  const families = {
    "matmul 512x344x128 NT direct 24x4": "matmul",
    "join 4 512x344": "matmul",
    "attention_grad_kv 8x64x4x32": "attention",
    "cross_entropy_grad 512x2048": "cross entropy",
    "gather_counted 64x128 of 512 at 0": "cross entropy",
    "rms_norm_grad 512x128": "norm",
    "embedding_order 512": "embedding",
    "rotary 8x64x4x32": "rotary",
    "multiply+add+sqrt+divide+.. 344x128": "optimizer",
    "f16 512x128": "weight copies",
    "sum 1x512x128 join": "reduction",
    "copy 512": "movement",
    "dropout 512": "random",
    "sigmoid+multiply 8x64x344": "elementwise",
    "512": "other",
  };
  assertEquals(Object.fromEntries(Object.keys(families).map((name) => [name, familyOf(name)])), families);
});

Deno.test("profileOf times a step from three sides and counts every launch in both tables", async () => {
  await using gpu = await openGpu();
  const shape = { hidden: 32, mlp: 64, layers: 1, heads: 2, kvHeads: 1, vocabulary: 64 };
  const { times, peaks, cost, kernels, families } = await profileOf(gpu, {
    shape,
    batch: 2,
    length: 8,
    steps: 2,
  });
  for (const value of [...Object.values(times), peaks.flops, peaks.bytes]) assertGreater(value, 0);
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  for (const groups of [kernels, families]) {
    assertEquals(sum(groups.map(({ count }) => count)), cost.launches);
    // Sums in another order.
    assertAlmostEquals(sum(groups.map(({ milliseconds }) => milliseconds)), times.kernels, 1e-6);
  }
  assertEquals(families.some(({ name }) => name === "other"), false);
});
