/**
 * A product alone is stored as in a training.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { openGpu } from "@firn/train";
import { plan } from "../../core/plan/plan.ts";
import { leaf } from "../../core/sources.ts";
import { inPlaces } from "./elsewhere.ts";
import { firnProduct, type Product, productGraph } from "./product.ts";

const TARGET = { software: false, subgroups: false, workgroupBytes: 16384, maxBindings: 8 };

/** Bytes of operands and result of a square product, in multiples of its size. */
function bytesOf(layout: Product["layout"], precision: "f32" | "f16"): number {
  const spec = { shape: [64, 64], dtype: "f32" } as const;
  const root = productGraph([leaf("a", spec), leaf("b", spec)], { layout, precision });
  const { launches } = plan([root], { target: TARGET, precision });
  return launches.find(({ matmulFlops }) => matmulFlops > 0)!.bytes / 64 ** 2;
}

Deno.test("operands and results of f16 products are f16, the gradient of a weight stays f32", () => {
  assertEquals([bytesOf("NT", "f32"), bytesOf("TN", "f32")], [12, 12]);
  assertEquals([bytesOf("NT", "f16"), bytesOf("NN", "f16"), bytesOf("TN", "f16")], [6, 6, 8]);
});

Deno.test("a product of f16 runs where the adapter has it, and is refused by name elsewhere", async () => {
  await using gpu = await openGpu();
  const made = firnProduct(gpu, { m: 64, n: 32, k: 48, layout: "NT" }, { precision: "f16", recorded: 1e6 });
  if (!gpu.features.has("shader-f16")) {
    return assertEquals(
      await made.catch(({ message }) => message),
      `Cannot measure products of precision "f16" as "${gpu.name}" has no shader-f16: use "f32"`,
    );
  }
  const contender = await made;
  await contender.step();
  await contender.settle();
  await contender.close();
  gpu.check();
});

Deno.test("contenders in places of their own have their names, and close their devices with them", async () => {
  const task = { product: { m: 64, n: 32, k: 48, layout: "NN" }, precision: "f32", recorded: 1e6 } as const;
  const made = await inPlaces(task, [["here", { gpu: "deno" }], ["there", { gpu: "auto" }]]);
  assertEquals(made.map(({ name }) => name), ["here", "there"]);
  for (const contender of made) {
    await contender.step();
    await contender.settle();
    await contender.close();
    const after = await contender.settle().catch(({ name }) => name);
    assertEquals(after, "DeviceLostError");
  }
});
