/**
 * Waiting for the device.
 *
 * @module
 */

import { assertGreater, assertLess } from "@std/assert";
import { openGpu } from "@firn/train";
import { openClock, settle } from "./timestamps.ts";
import { firnProduct } from "./product.ts";
import { idleWait } from "./measure.ts";

Deno.test("settle waits for all that was queued, and on an idle device for no pause of Deno's", async () => {
  await using gpu = await openGpu();
  assertLess(await idleWait({ settle: () => settle(gpu) }), 5);
  const product = await firnProduct(gpu, { m: 256, n: 256, k: 256, layout: "NN" }, { recorded: 1e9 });
  using clock = openClock(gpu);
  for (let i = 0; i < 2; i++) {
    const began = performance.now();
    clock.mark(0);
    await product.step();
    clock.mark(1);
    await settle(gpu);
    const waited = performance.now() - began;
    assertGreater(waited, await clock.read());
  }
  await product.close();
});
