import { assert, assertEquals } from "@std/assert";
import {
  grad,
  leaf,
  matmul,
  multiply,
  openGpu,
  readAll,
  reshape,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { attention } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import { assertNear, random } from "../reference/values.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";

const [TIME, DIM] = [300, 16];

function input(heads: number, seed: number): Tensor {
  const shape = [1, TIME, heads, DIM];
  return tensor(Float32Array.from(random(shape, { seed }).data), shape);
}

/** Gradients of a weighted sum of attention's outputs; two query heads share a key head. */
function gradients(): Tensor[] {
  const [q, k, v, weights] = [input(2, 1), input(1, 2), input(1, 3), input(2, 4)];
  return grad(sum(multiply(attention(q, { k, v }), weights)), [q, k, v]);
}

Deno.test("gradients of attention are the same in parts, which a GPU computes where rows are few", async () => {
  await using gpu = await openGpu({ tune: false });
  const target = { ...gpu.target, software: false };
  const names = plan(gradients(), { target }).launches.map(({ kernel }) => kernel.name);
  assert(names.includes(`sum 1x4x${TIME * 2 * DIM}`), names.join("\n"));
  const [whole, parts] = [await readAll(gpu, gradients()), await readAll({ ...gpu, target }, gradients())];
  // Sums of 300 terms below one, in another order.
  whole.forEach((one, i) => assertNear(parts[i], one, { tolerance: 2e-5, what: `input ${i}` }));
});

Deno.test("a gradient of attention stays whole where blocks of rows keep a GPU busy, and on a CPU", () => {
  const shape = [32, 256, 12, DIM];
  const many = tensor(new Float32Array(32 * 256 * 12 * DIM), shape);
  const roots = grad(sum(attention(many, { k: many, v: many })), [many]);
  for (const software of [true, false]) {
    const target = { software, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };
    const names = plan(roots, { target }).launches.map(({ kernel }) => kernel.name);
    assertEquals(names.filter((name) => /^sum 1x\d+x\d{4}/.test(name)), []);
  }
});

Deno.test("attention and its gradients run on matrix units in a plan of f16, whole, and by threads in one of f32", () => {
  const unit = { m: 16, n: 16, k: 16, operands: "f16", sums: "f32" } as const;
  const adapter = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };
  const target = { ...adapter, subgroupSize: 32, matrices: [unit], units: matrixProducts };
  const w = leaf("w", { shape: [2 * DIM, 2 * DIM], dtype: "f32" });
  const heads = reshape(matmul(leaf("x", { shape: [TIME, 2 * DIM], dtype: "f32" }), w), [1, TIME, 2, DIM]);
  const output = reshape(attention(heads, { k: heads, v: heads }), [TIME, 2 * DIM]);
  const roots = grad(sum(multiply(matmul(output, w), 0.5)), [w]);
  for (const precision of ["f16", "f32"] as const) {
    const launches = plan(roots, { target, precision }).launches.map(({ kernel }) => kernel)
      .filter(({ name }) => name.startsWith("attention"));
    const words = launches.map(({ code }) => code.includes("subgroupMatrixLoad"));
    assertEquals(words, Array(3).fill(precision === "f16"), launches.map(({ name }) => name).join("\n"));
  }
});

Deno.test("a plan counts the products of attention for the keys that queries see, in a window and after a cache too", () => {
  const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };
  const [q, k] = [40, 64].map((rows) => tensor(new Float32Array(rows * 2 * DIM), [1, rows, 2, DIM]));
  for (const options of [{}, { window: 9 }, { causal: false }]) {
    const roots = grad(sum(attention(q, { k, v: k, ...options })), [q, k]);
    const launches = plan(roots, { target }).launches.filter(({ kernel }) =>
      kernel.name.startsWith("attention")
    );
    assertEquals(launches.map((l) => l.matmulFlops), launches.map(({ kernel }) => kernel.flops));
  }
});

Deno.test("layers that see the same documents share one launch that finds the ranges of their keys", () => {
  const target = { software: true, subgroups: true, workgroupBytes: 32768, maxBindings: 8 };
  const x = leaf("x", { shape: [2, 9, 2, 4], dtype: "f32" });
  const segments = leaf("segments", { shape: [2, 9], dtype: "i32" });
  const bias = leaf("bias", { shape: [1, 2, 1, 9], dtype: "f32" });
  const layer = (y: Tensor): Tensor => attention(y, { k: y, v: y, segments, bias });
  const roots = grad(sum(layer(layer(x))), [x, bias]);
  const names = plan(roots, { target }).launches.map(({ kernel }) => kernel.name.split(" ")[0]);
  assertEquals(names.filter((name) => name === "attention_ranges").length, 1);
  assertEquals(names.filter((name) => name === "attention").length, 2);
});
