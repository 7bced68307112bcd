/**
 * Values of more parts than a grid has workgroups along one axis.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { leaf, openGpu, readAll, type Tensor, tensor } from "@firn/train";
import { add, matmul, max, multiply, permute, sum } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";

const input = (path: string, shape: readonly number[]): Tensor => leaf(path, { shape, dtype: "f32" });

const LARGE: Readonly<Record<string, () => Tensor>> = {
  "a stack of 70,000 products": () => matmul(input("a", [70000, 3, 4]), input("b", [70000, 4, 2])),
  "an elementwise value of 32M elements": () => multiply(input("a", [2 ** 25 + 1]), 2),
  "sums of 5M rows": () => sum(input("a", [5_000_000, 4]), 1),
  "the largest of 5M columns": () => max(input("a", [3, 5_000_000]), 0),
  "a permuted value of 20M elements": () => permute(input("a", [5_000_000, 4]), [1, 0]),
};

for (const [name, make] of Object.entries(LARGE)) {
  Deno.test(`plan gives legal grids to ${name}`, () => {
    for (const software of [true, false]) {
      const target = { software, subgroups: true, workgroupBytes: 32768, maxBindings: 8 };
      for (const { kernel: { grid } } of plan([make()], { target }).launches) {
        assert(grid.every((groups) => groups <= 65535), `${grid}`);
      }
    }
  });
}

Deno.test("matmul of a stack of 65,600 products gives each product", async () => {
  await using gpu = await openGpu();
  const batch = 65600;
  const a = tensor(Float32Array.from({ length: 2 * batch }, (_, i) => i % 251), [batch, 1, 2]);
  const b = tensor(Float32Array.from({ length: 2 * batch }, (_, i) => i % 13), [batch, 2, 1]);
  const [seen] = await readAll(gpu, [add(matmul(a, b), 1)]);
  const term = (i: number): number => (i % 251) * (i % 13);
  assertEquals([...seen], Array.from({ length: batch }, (_, i) => term(2 * i) + term(2 * i + 1) + 1));
});
