/**
 * Counting the allocations of one training among others.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { openGpu } from "@firn/train";
import { createBuffer, destroyBuffer } from "../../core/runtime/buffers.ts";
import { allocationsOn, comparedWithPlan } from "./allocated.ts";
import { firnLayer } from "./contenders.ts";

const PLANNED = { state: 32, values: 16, inputs: 16 };

Deno.test("allocationsOn counts the parts of a training alone, whatever was allocated before and between", async () => {
  await using gpu = await openGpu();
  const take = (bytes: number): GPUBuffer => createBuffer(gpu, { label: "test", bytes });
  const before = take(1024), passing = take(4096);
  destroyBuffer(passing);
  const allocations = allocationsOn(gpu), other = allocationsOn(gpu);
  await allocations.during(async () => {
    take(64);
    await Promise.resolve();
    destroyBuffer(take(32));
  });
  await other.during(() => Promise.resolve(take(512)));
  assertEquals(allocations.memory(PLANNED), { planned: 64, held: 64, peak: 96 });
  const result = await allocations.during(() => {
    destroyBuffer(take(16));
    take(48);
    return Promise.resolve("result");
  });
  assertEquals([result, allocations.memory(PLANNED)], ["result", { planned: 64, held: 112, peak: 112 }]);
  assertEquals(other.memory(PLANNED), { planned: 64, held: 512, peak: 512 });
  destroyBuffer(before);
});

Deno.test("firnLayer allocates what is planned, to the byte, beside what the device holds already", async () => {
  await using gpu = await openGpu();
  createBuffer(gpu, { label: "test", bytes: 4096 });
  const contender = await firnLayer(gpu, { width: 32, time: 8, batch: 2 });
  await contender.step();
  const memory = contender.memory()!;
  assertEquals(comparedWithPlan(memory), "as planned", JSON.stringify(memory));
  const { bytes } = gpu.counts;
  await contender.step();
  assertEquals(gpu.counts.bytes, bytes);
  contender.close();
});
