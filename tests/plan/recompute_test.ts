/** Where copies of the forward pass stand, and how they are stored. */

import { assert, assertEquals } from "@std/assert";
import { add, leaf, matmul, multiply, type Tensor } from "@firn/train";
import { topological } from "../../core/graph.ts";
import { recomputeFrom } from "../../core/ops/recompute.ts";
import { unscale } from "../../core/ops/unscale.ts";
import { plan } from "../../core/plan/plan.ts";
import { scaledNodes } from "../../core/plan/unbounded.ts";

const matrix = (path: string, shape: readonly number[]): Tensor => leaf(path, { shape, dtype: "f32" });

Deno.test("a copy is made after the gradient that it waits for, though that takes more memory than the copy", () => {
  const value = matmul(matrix("a", [64, 32]), matrix("b", [32, 64]));
  const gradient = matmul(matrix("c", [256, 40]), matrix("d", [40, 256]));
  const copy = multiply(recomputeFrom(value, gradient), 2);
  const { launches } = plan([copy, gradient], {
    target: { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 8 },
  });
  const places = [/^recompute/, /256x/].map((name) =>
    launches.findIndex(({ kernel }) => name.test(kernel.name))
  );
  assert(places[1] >= 0 && places[0] > places[1], launches.map(({ kernel }) => kernel.name).join(", "));
});

Deno.test("what is computed again is a value of the forward pass, though it waits for a gradient", () => {
  const x = add(matrix("x", [4]), 1), factor = leaf("factor", { shape: [], dtype: "f32" });
  const gradient = multiply(x, factor), copy = recomputeFrom(x, gradient), read = multiply(copy, 3);
  const both = multiply(read, gradient);
  const scaled = scaledNodes(topological([unscale(both, factor)]));
  assertEquals([gradient, copy, read, both].map((node) => scaled.has(node)), [true, false, false, true]);
});
