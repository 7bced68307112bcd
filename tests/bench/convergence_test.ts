/**
 * The bench of convergence, on a model and a text that a CPU trains in seconds.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { tokenWindows } from "@firn/train/data";
import { openTestGpu } from "../reference/open_gpu.ts";
import { converge, type Converged, meansOf, tableOf } from "./convergence.ts";
import { sourceOf } from "./shapes.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** Text whose next token is one of two, by the last one. */
function chain(count: number): Int32Array {
  const ids = [1];
  for (let seed = 1; ids.length < count;) {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    ids.push((ids.at(-1)! * 5 + (seed < 2 ** 30 ? 1 : 2)) % 32);
  }
  return Int32Array.from(ids);
}

Deno.test("a training with f16 converges like one with f32, on text that was held out too", async () => {
  const shape = { hidden: 32, mlp: 64, layers: 1, heads: 2, kvHeads: 1, vocabulary: 32 }, length = 16;
  const batches = tokenWindows(chain(4000), { length, batch: 8, seed: 0 });
  const heldOut = tokenWindows(chain(5000).slice(4000), { length, batch: 8, seed: 0 }).all();
  const options = {
    source: sourceOf(shape, length),
    batches,
    heldOut,
    steps: 40,
    learningRate: 2e-2,
    seed: 1,
  };
  const wide = await converge(gpu, { ...options, precision: "f32" });
  const half = await converge(gpu, { ...options, precision: "f16" });
  assertEquals(half.losses.length, 40);
  assert(half.losses.some((loss, i) => loss !== wide.losses[i]));
  // One of two tokens is to be guessed: ln 2 is the least.
  assert(wide.heldOut < 1.2 && wide.losses[0] > 3, `${wide.losses[0]} to ${wide.heldOut}`);
  assert(Math.abs(half.heldOut - wide.heldOut) < 0.02, `${wide.heldOut}, ${half.heldOut}`);
  const means = meansOf(wide.losses, 10), others = meansOf(half.losses, 10);
  means.forEach((loss, i) => assert(Math.abs(loss - others[i]) < 0.02, `${loss}, ${others[i]}`));
});

Deno.test("the table of convergence has a row for so many steps, what was held out, and how far runs are apart", () => {
  const run = (losses: readonly number[], heldOut: number): Converged => (
    { losses, heldOut, skipped: 0, seconds: 2, parameters: 1 }
  );
  const lines = tableOf(new Map([["f32", run([4, 2, 1], 1.5)], ["f16", run([4, 3, 0.5], 1.25)]]), 2);
  assertEquals(lines.map((line) => line.split(/ {2,}/)), [
    ["step", "f32", "f16", "f16 off"],
    ["2", "3.0000", "3.5000", "+0.5000"],
    ["3", "1.0000", "0.5000", "-0.5000"],
    ["held out", "1.5000", "1.2500", "-0.2500"],
    ["seconds", "2.0", "2.0"],
    ["skipped", "0", "0"],
  ]);
});
