/**
 * Plans of precision f32x3: what is launched beside products.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { accumulate, matmul } from "../../core/ops/matmul.ts";
import { gelu } from "../../core/ops/activations.ts";
import { add } from "../../core/ops/arithmetic.ts";
import { plan } from "../../core/plan/plan.ts";
import type { PlanOptions } from "../../core/plan/types.ts";
import { leaf } from "../../core/sources.ts";
import type { Tensor } from "../../core/tensor.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";

const unit = { m: 16, n: 16, k: 16, operands: "f16", sums: "f32" } as const;
const target = {
  software: false,
  subgroups: true,
  wideSubgroups: true,
  subgroupSize: 32,
  matrices: [unit],
  units: matrixProducts,
  workgroupBytes: 49152,
  maxBindings: 16,
};

function matrix(name: string, rows: number, columns: number): Tensor {
  return leaf(name, { shape: [rows, columns], dtype: "f32" });
}
const [x, v, w] = [matrix("x", 512, 256), matrix("v", 256, 256), matrix("w", 256, 256)];

/** The launches of a plan that have to do with products, without their tiles, and how often each is there. */
function launchesOf(roots: readonly Tensor[], options: Partial<PlanOptions> = {}): Record<string, number> {
  const { launches } = plan(roots, { target, precision: "f32x3", ...options });
  const words = launches.flatMap(({ kernel: { name } }) =>
    name.match(/^magnitudes .*|^matmul \d+x\d+x\d+ [NT]+( f32x3 matrix)?/)?.[0] ?? []
  );
  return Object.fromEntries(
    [...Map.groupBy(words.toSorted(), (word) => word)].map(([word, all]) => [word, all.length]),
  );
}

Deno.test("products by pairs share the magnitudes of an operand that they read in one way", () => {
  assertEquals(
    launchesOf([matmul(x, v, { transposeB: true }), gelu(add(matmul(x, w, { transposeB: true }), x))]),
    {
      "magnitudes 256x256 along f32": 2,
      "magnitudes 512x256 along f32": 1,
      "matmul 512x256x256 NT f32x3 matrix": 2,
    },
  );
  assertEquals(launchesOf([matmul(x, v), matmul(x, x, { transposeA: true })]), {
    "magnitudes 256x256 across f32": 1,
    "magnitudes 256x512 across f32": 1,
    "magnitudes 512x256 along f32": 1,
    "matmul 256x256x512 TN f32x3 matrix": 1,
    "matmul 512x256x256 NN f32x3 matrix": 1,
  });
});

Deno.test("a product that is added to a sum so far is computed by pairs, too", () => {
  const attrs = { transposeA: true, transposeB: false }, sum = matrix("sum", 256, 256);
  assertEquals(launchesOf([accumulate(sum, { operands: [x, x], attrs })], { updates: new Map([[0, sum]]) }), {
    "magnitudes 256x512 across f32": 1,
    "matmul 256x256x512 TN f32x3 matrix": 1,
  });
});

Deno.test("a plan of precision f32 multiplies in f32 where there are matrix units", () => {
  assertEquals(launchesOf([matmul(x, v)], { precision: "f32" }), { "matmul 512x256x256 NN": 1 });
});
