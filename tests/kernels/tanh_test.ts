/**
 * The hyperbolic tangent where it is no number.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { openGpu, read, tensor } from "@firn/train";
import { tanh } from "@firn/train/ops";

Deno.test("tanh of NaN is NaN, so that a soft cap hides no overflow, and of infinities 1 and -1", async () => {
  await using gpu = await openGpu();
  const x = tensor(Float32Array.of(NaN, Infinity, -Infinity, 0, NaN, 20, -20));
  assertEquals([...await read(gpu, tanh(x))], [NaN, 1, -1, 0, NaN, 1, -1]);
});
