/**
 * Roofline arithmetic, families of kernels, and a profile in a size that takes no time.
 *
 * @module
 */

import {
  assertAlmostEquals,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { openGpu } from "@firn/train";
import { loadModel } from "@firn/train/hub";
import { heading, idleOf, profileOf } from "./profile.ts";
import { generationLine, profileOfGeneration } from "./profile_generation.ts";
import { attainable, familyOf, groupBy } from "./roofline.ts";

const PEAKS = { flops: 50e12, matrixFlops: 500e12, bytes: 2e12 };

Deno.test("attainable is arithmetic or memory, whichever is slower", () => {
  const name = "matmul 8x8x8 NN tiled";
  assertEquals(attainable({ name, flops: 50e9, bytes: 1e9 }, PEAKS), 1);
  assertEquals(attainable({ name, flops: 50e9, bytes: 4e9 }, PEAKS), 2);
  assertEquals(attainable({ name, flops: 0, bytes: 0 }, PEAKS), 0);
  const units = "matmul 8x8x8 NN f16 matrix 128x128x64 of 64x32";
  assertEquals(attainable({ name: units, flops: 500e9, bytes: 1e9 }, PEAKS), 1);
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
    "magnitudes 512x768 along f32": "matmul",
    "attention_grad_kv 8x64x4x32": "attention",
    "cross_entropy_grad 512x2048": "cross entropy",
    "gather_rows 64x128 of 512 at 0": "cross entropy",
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
  const { times, idle, peaks, planned, memory, cost, kernels, families } = await profileOf(gpu, {
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
  assertEquals(idle, idleOf(times));
  // The buffers of the peaks, and that for reading, are no part of it.
  const bytes = planned.state + planned.values + planned.inputs;
  assertEquals(memory, { planned: bytes, held: bytes, peak: bytes });
});

Deno.test("profileOfGeneration counts every launch of the step that adds a token", async () => {
  await using gpu = await openGpu();
  const model = await loadModel(gpu, "examples/models/sotu");
  const found = await profileOfGeneration(gpu, model, { batch: 2, length: 12, steps: 2 });
  assertGreater(found.wall, 0);
  for (const groups of [found.byName, found.families]) {
    assertEquals(groups.reduce((sum, { count }) => sum + count, 0), found.launches.length);
  }
  // A layer has one attention, which reads the cache.
  assertEquals(found.launches.filter(({ name }) => /^attention \d/.test(name)).length, 5);
  assertEquals(found.families.some(({ name }) => name === "other"), false);
  const line = generationLine({ ...found, wall: 4 }, 2);
  assertStringIncludes(line, "4.00 ms, 250.0 per second, 500.0 of all sequences; ");
});

Deno.test("idleOf adds what a step waits for the host to what it idles between kernels, as far as clocks tell", () => {
  assertEquals(idleOf({ wall: 20, busy: 16, kernels: 15 }), { host: 4, between: 1, share: 0.25 });
  // Clocks stretch kernels beyond the step.
  assertEquals(idleOf({ wall: 20, busy: 16, kernels: 18 }), { host: 4, between: 0, share: 0.2 });
  // A queued step that came out longer than the others, by chance: no part of the share is negative, or counted twice.
  assertEquals(idleOf({ wall: 20, busy: 21, kernels: 15 }), { host: 0, between: 5, share: 0.25 });
});

Deno.test("heading always has the share of a step in which the GPU idles, and the bytes planned and allocated", () => {
  const lines = (kernels: number, peak: number): string[] => {
    const times = { first: 2000, wall: 20, busy: 16, kernels };
    return heading({
      times,
      idle: idleOf(times),
      peaks: PEAKS,
      planned: { state: 2 ** 30, values: 2 ** 29, inputs: 0 },
      memory: { planned: 1.5 * 2 ** 30, held: 1.5 * 2 ** 30, peak },
      cost: { launches: 9, flops: 1e12, matmulFlops: 1e12, bytes: 1e9, memory: 2 ** 29, constants: 0 },
    });
  };
  const idle = (kernels: number): string => lines(kernels, 0).find((line) => line.startsWith("idle"))!;
  assertMatch(
    idle(15),
    /^idle {4}25\.0 % of a step or more: 4\.00 ms for the host .*, 1\.00 ms or more between kernels/,
  );
  assertMatch(
    idle(18),
    /^idle {4}20\.0 % of a step or more: 4\.00 ms for the host .*, between kernels unknown/,
  );
  for (
    const [peak, words] of [[1.5 * 2 ** 30, "as planned"], [
      2 ** 31,
      "536870912 bytes were given back",
    ]] as const
  ) {
    const line = lines(15, peak).find((line) => line.includes("allocated"))!;
    assertEquals(
      line.includes(`1610612736 bytes planned, ${peak} allocated at the peak: ${words}`),
      true,
      line,
    );
  }
  for (const line of lines(18, 2 ** 31)) assertLess(line.length, 200);
});
