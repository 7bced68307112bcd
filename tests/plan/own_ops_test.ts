/**
 * Ops that stand in no table of the planner: what a user defines.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { matmul, multiply, openGpu, read, type Tensor, tensor } from "@firn/train";
import { rmsNorm } from "@firn/train/ops";
import { fill } from "@firn/train";
import { leaf } from "../../core/sources.ts";
import { sizeOf } from "../../core/spec.ts";
import { apply, type Op, pick } from "../../core/tensor.ts";
import { plan } from "../../core/plan/plan.ts";
import type { Precision } from "../../core/plan/types.ts";
import { dependences } from "../../core/plan/prefix/batch_dependence.ts";
import { simplify } from "../../core/plan/rewrite/simplify.ts";
import { topological } from "../../core/graph.ts";

/** Elementwise: 3 x + 1. */
const elementOp: Op<null> = {
  name: "norm",
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  element: { text: ([x], type) => `${x} * ${type}(3.0f) + ${type}(1.0f)`, value: (x) => x * 3 + 1 },
};

/** Made of other ops: x + x y, under the name of an op that the planner knows. */
const composedOp: Op<null> = {
  name: "reshape",
  infer: ([x]) => [{ shape: x.shape, dtype: "f32" }],
  definition: ([x, y]) => [apply(elementOp, [multiply(x, y)], null)],
};

/** Its own kernel of two outputs: x reversed, and x squared. */
const kernelOp: Op<null> = {
  name: "add",
  infer: ([{ shape }]) => [{ shape, dtype: "f32" }, { shape, dtype: "f32" }],
  kernel: ({ inputs: [{ shape, dtype }], outputs, wanted }) => {
    assertEquals([dtype, ...outputs.map((output) => output.dtype)], ["f32", "f32", "f32"]);
    const n = sizeOf(shape);
    const bound = ["reversed", "squared"].filter((_, i) => wanted[i]);
    const names = bound.map((name, i) =>
      `@group(0) @binding(${i + 1}) var<storage, read_write> ${name}: array<f32>;`
    );
    return {
      kernel: {
        name: "own",
        code: `@group(0) @binding(0) var<storage, read> x: array<f32>;
${names.join("\n")}
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= ${n}u) { return; }
  ${wanted[0] ? `reversed[i] = x[${n - 1}u - i];` : ""}
  ${wanted[1] ? "squared[i] = x[i] * x[i];" : ""}
}`,
        grid: [Math.ceil(n / 64), 1, 1],
        flops: n,
      },
    };
  },
};

const rows = 8, width = 16;
const numbers = (seed: number, n: number): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => Math.round(8 * Math.sin(seed + i)) / 8);
const x = tensor(numbers(1, rows * width), [rows, width]),
  w = tensor(numbers(2, width * width), [width, width]);

/** Each op between two products, which a plan of precision f16 stores so; and what it makes of a product's values. */
const cases: Record<string, [(x: Tensor) => Tensor, (x: Float32Array) => Float32Array]> = {
  "an elementwise op": [(x) => apply(elementOp, [x], null), (x) => x.map((v) => v * 3 + 1)],
  "an op with a definition": [
    (x) => apply(composedOp, [x, fill(0.5, x.shape)], null),
    (x) => x.map((v) => v * 1.5 + 1),
  ],
  "an op with a kernel": [(x) => apply(kernelOp, [x], null), (x) => x.toReversed()],
  "the second output of an op with a kernel": [
    (x) => pick(apply(kernelOp, [x], null), 1),
    (x) => x.map((v) => v * v),
  ],
};

for (const [name, [make, reference]] of Object.entries(cases)) {
  Deno.test(`read computes ${name} that no table knows`, async () => {
    await using gpu = await openGpu({ tune: false });
    const product = await read(gpu, matmul(x, w)) as Float32Array;
    assertEquals(await read(gpu, make(matmul(x, w))), reference(product));
  });

  for (const precision of ["f32", "f16"] satisfies Precision[]) {
    Deno.test(`plan of precision ${precision} plans ${name} between products`, () => {
      const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 8 };
      const input = leaf("x", x), weight = leaf("w", w);
      const made = plan([matmul(make(matmul(input, weight)), weight)], { target, precision });
      const products = made.launches.filter(({ matmulFlops }) => matmulFlops > 0);
      assertEquals(products.length, 2);
      assert(made.launches.every(({ bindings }) => bindings.length <= 8));
    });
  }
}

Deno.test("simplify keeps sources apart that it knows nothing about, and merges nodes of any other op", () => {
  const source: Op<null> = { name: "leaf", infer: () => [{ shape: [2], dtype: "f32" }] };
  const [first, second] = simplify([apply(source, [], null), apply(source, [], null)]);
  assert(first !== second);
  const [one, other] = simplify([apply(kernelOp, [x], null), apply(kernelOp, [x], null)]);
  assert(one === other);
});

Deno.test("plan keeps nodes apart whose attributes are functions, maps or objects of a class", () => {
  class Gain {
    readonly #gain: number;
    constructor(gain: number) {
      this.#gain = gain;
    }
    get(_: string): number {
      return this.#gain;
    }
  }
  const gainOp: Op<{ get(name: string): number | undefined }> = {
    name: "gain",
    infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
    kernel: ({ inputs: [{ shape }], attrs }) => ({
      kernel: { name: "gain", code: `gain ${attrs.get("gain")}`, grid: [1, 1, 1], flops: sizeOf(shape) },
    }),
  };
  const kinds = [
    (gain: number) => new Map([["gain", gain]]),
    (gain: number) => new Gain(gain),
    (gain: number) => ({ get: () => gain }),
  ];
  for (const attrs of kinds) {
    const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 8 };
    const { launches } = plan([2, 3].map((gain) => apply(gainOp, [x], attrs(gain))), { target });
    assertEquals(launches.map(({ kernel }) => kernel.code), ["gain 2", "gain 3"]);
  }
});

Deno.test("dependences takes an op that says nothing of its batch to mix samples, and believes one that does", () => {
  const B = 4, input = leaf("x", { shape: [B, 8], dtype: "f32" });
  const dependenceOf = (op: Op<null>): string | undefined => {
    const root = apply(op, [input], null);
    return dependences(topological([root]), { samples: B, kindOf: () => "batch" }).get(root);
  };
  assertEquals(dependenceOf(kernelOp), undefined);
  assertEquals(
    dependenceOf({ ...kernelOp, batch: () => ({ parts: 2 * B, inputs: ["split"] }) }),
    "perSample",
  );
  assertEquals(dependenceOf({ ...kernelOp, batch: () => ({ parts: 2, inputs: ["split"] }) }), undefined);
  assertEquals(dependenceOf({ ...kernelOp, batch: () => ({ parts: B, inputs: ["shared"] }) }), undefined);
  assertEquals(dependenceOf(elementOp), "perSample");
  const root = rmsNorm(input, leaf("gain", { shape: [8], dtype: "f32" }), { eps: 1e-5 });
  const kindOf = (path: string) => path === "x" ? "batch" as const : "fixed" as const;
  assertEquals(dependences(topological([root]), { samples: B, kindOf }).get(root), "perSample");
});
