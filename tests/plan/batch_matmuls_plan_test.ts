/**
 * Which products share a launch, and that plans stay possible.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  add,
  grad,
  leaf,
  matmul,
  mean,
  multiply,
  openGpu,
  readAll,
  reshape,
  type Tensor,
  tensor,
} from "@firn/train";
import { silu } from "@firn/train/ops";
import { toBf16 } from "@firn/train/data";
import { plan } from "../../core/plan/plan.ts";
import type { PlanOptions } from "../../core/plan/types.ts";
import { upload } from "../../core/runtime/upload.ts";
import { sumEach } from "../../core/ops/broadcast.ts";
import type { Target } from "../../core/kernel_call.ts";
import type { DType } from "../../core/spec.ts";
import { assertNear, random } from "../reference/values.ts";

const TARGET: Target = { software: false, subgroups: false, workgroupBytes: 32768, maxBindings: 16 };

const square = (path: string, dtype: DType = "f32"): Tensor => leaf(path, { shape: [32, 32], dtype });

/** Names of what a plan launches. */
function launches(roots: readonly Tensor[], options: Partial<PlanOptions> = {}): string[] {
  return plan(roots, { target: TARGET, ...options }).launches.map(({ kernel }) => kernel.name);
}

/** Names without how products are cut up. */
const products = (names: readonly string[]): string[] =>
  names.filter((name) => name.startsWith("matmul")).map((name) =>
    name.replace(/ \d+x\d+x\d+( split \d+)?$/, "")
  );

function values(seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(random([32, 32], { seed }).data);
}

Deno.test("plan sums products by weights that are stored as bf16 in one launch, as those of f32", async () => {
  await using gpu = await openGpu({ tune: false });
  const target = { ...gpu.target, software: false };
  const codes = [1, 2, 3].map((seed) => toBf16(values(seed)));
  const weights = codes.map((data, i) => upload(gpu, data, { shape: [32, 32], label: `w${i}` }));
  const rows = [4, 5, 6].map((seed) => tensor(values(seed), [32, 32]));
  const total = rows.map((x, i) => matmul(x, weights[i])).reduce(add);
  assertEquals(products(plan([total], { target }).launches.map(({ kernel }) => kernel.name)), [
    "matmul 3 summed 32x32x32 NN bf16",
  ]);
  const [whole] = await readAll(gpu, [total]), [summed] = await readAll({ ...gpu, target }, [total]);
  // Sums of 96 terms below one, in another order.
  assertNear(summed, whole, { tolerance: 1e-5, what: "sum" });
});

Deno.test("plan sums the gradients by a weight that many layers share in launches that the adapter can bind", () => {
  const weight = square("w");
  let hidden = square("x");
  for (let layer = 0; layer < 13; layer++) hidden = silu(matmul(hidden, weight));
  const summed = (maxBindings: number): string[] =>
    products(launches(grad(mean(hidden), [weight]), { target: { ...TARGET, maxBindings } }))
      .filter((name) => name.includes("summed"));
  assertEquals(summed(32), [5, 4, 4].map((count) => `matmul ${count} summed 32x32x32 TN`));
  assertEquals(summed(8), [3, 3, 2, 3, 2].map((count) => `matmul ${count} summed 32x32x32 TN`));
});

Deno.test("a sum of products computes no more as it stores than the adapter can bind", () => {
  const sum = ["a", "b", "c"].map((name) => matmul(square(`${name}0`), square(`${name}1`))).reduce(add);
  const scaled = multiply(add(sum, square("r")), leaf("scale", { shape: [1, 32], dtype: "f32" }));
  const names = (maxBindings: number): string[] => launches([scaled], { target: { ...TARGET, maxBindings } });
  assertEquals(names(9).length, 1);
  assertEquals(names(8).length, 2);
});

Deno.test("products of the same two tensors in other shapes share a launch, which binds one operand twice", () => {
  const [x, w] = [square("x"), square("w")];
  const stacked = matmul(reshape(x, [1, 32, 32]), reshape(w, [1, 32, 32]));
  const [only, ...rest] = plan([matmul(x, w), stacked], { target: TARGET }).launches;
  assertEquals(products([only.kernel.name]), ["matmul 2 apart 32x32x32 NN"]);
  assertEquals([only.bindings.length, rest.length], [5, 0]);
});

Deno.test("products share no launch where one needs what overwrites an operand of another", () => {
  const [x, weight] = [square("x"), square("w")], wider = add(weight, square("g"));
  const roots = [wider, matmul(x, weight), matmul(x, silu(wider))];
  const names = launches(roots, { updates: new Map([[0, weight]]) });
  assertEquals(products(names), ["matmul 32x32x32 NN", "matmul 32x32x32 NN"]);
  assertEquals(products(launches(roots)), ["matmul 2 apart 32x32x32 NN"]);
});

Deno.test("an update of a leaf rides with no group that a reader of the leaf waits for", () => {
  const weight = square("w"), product = matmul(square("x"), square("y"));
  const roots = [add(weight, product), matmul(silu(product), weight)];
  const together = (updates: PlanOptions["updates"]): number => launches(roots, { updates }).length;
  assertEquals(together(new Map([[0, weight]])), together(new Map()) + 1);
});

Deno.test("an update of a leaf rides with no group that one waits for who computes a value of the leaf again", () => {
  const weight = square("w"), y = square("y"), product = matmul(square("x"), y), twice = multiply(weight, 2);
  const roots = [
    add(weight, product),
    matmul(silu(twice), y),
    multiply(twice, matmul(silu(product), y)),
  ];
  assertEquals(launches(roots, { updates: new Map([[0, weight]]) }).length, launches(roots).length + 1);
});

Deno.test("a product computes nothing as it stores that waits, through others, for itself", () => {
  const [x, y] = [square("x"), square("y")], first = matmul(x, y), seen = add(first, 1);
  const host = matmul(silu(matmul(y, y)), y), second = matmul(x, host);
  const below = (x: Tensor): Tensor => matmul(silu(matmul(silu(x), y)), y);
  const late = below(second), later = below(below(late));
  // The host's kernel could multiply; but it would wait for the first product, which shares a launch with the second one.
  const roots = [sumEach([seen, late]), matmul(multiply(seen, host), later)];
  assert(products(launches(roots)).includes("matmul 2 apart 32x32x32 NN"));
});
