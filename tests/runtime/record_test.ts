/**
 * How a recording is replayed.
 *
 * @module
 */

import { assertEquals, assertGreater } from "@std/assert";
import { matmul, openGpu, tensor } from "@firn/train";
import { planFor } from "../../core/infer/read.ts";
import { record } from "../../core/runtime/record.ts";
import { readBuffers } from "../../core/runtime/readback.ts";

Deno.test("replay on an idle device submits a step in portions, and gives the same bits", async () => {
  await using gpu = await openGpu();
  // A rotation: powers of it neither vanish nor grow.
  const x = tensor(Float32Array.of(Math.cos(1), -Math.sin(1), Math.sin(1), Math.cos(1)), [2, 2]);
  let y = x;
  for (let i = 0; i < 70; i++) y = matmul(y, x);
  const plan = planFor(gpu, [y]);
  const recording = await record(gpu, { plan });
  const stepped = async (idle: boolean) => {
    const { submits } = gpu.counts;
    recording.replay(1, { idle });
    const submitted = gpu.counts.submits - submits;
    const [bytes] = await readBuffers(gpu, [{ buffer: recording.roots[0], bytes: 16 }]);
    return { submitted, bits: [...new Uint32Array(bytes)] };
  };
  const whole = await stepped(false), portions = await stepped(true);
  recording.destroy();
  assertEquals([whole.submitted, portions.submitted], [1, Math.ceil(plan.launches.length / 32)]);
  assertGreater(portions.submitted, 2);
  assertEquals(portions.bits, whole.bits);
  assertEquals(whole.bits.includes(0), false);
});
