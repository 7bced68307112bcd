/**
 * Which values a plan stores as f16.
 *
 * @module
 */

import { assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import {
  add,
  concat,
  grad,
  leaf,
  matmul,
  mean,
  multiply,
  permute,
  reshape,
  slice,
  subtract,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { attention, cumsum, linearCrossEntropy, rmsNorm, rsqrt, silu } from "@firn/train/ops";
import { linear } from "@firn/train/nn";
import type { Plan } from "../../core/plan/types.ts";
import { plan } from "../../core/plan/plan.ts";
import { lossScaling } from "../../core/train/step/loss_scaling.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";

const target = { software: true, subgroups: false, workgroupBytes: 32768, maxBindings: 16 };
const half = (roots: readonly Tensor[], software = true, wide = false): Plan =>
  plan(roots, { target: { ...target, software }, precision: "f16", wide });

/** What a launch reads and writes, in WGSL types of one element: `"matmul: f32 f16 > f16"`. */
function types({ launches }: Plan): string[] {
  return launches.map(({ kernel: { name, code } }) => {
    const bound = [
      ...code.matchAll(/var<storage, (read|read_write)> \w+: array<(?:vec[24]<?)?([a-z0-9]+)>?>;/g),
    ];
    const of = (mode: string): string =>
      bound.filter(([, m]) => m === mode).map(([, , t]) => ({ f: "f32" })[t] ?? t).join(" ");
    return `${name.split(" ")[0]}: ${of("read")} > ${of("read_write")}`;
  });
}

const input = (path: string, shape: readonly number[]): Tensor => leaf(path, { shape, dtype: "f32" });
const [x, w, v] = [input("x", [8, 12]), input("w", [12, 12]), input("v", [12, 12])];

Deno.test("plan stores products and what follows from them as f16, copies weights once, and gives roots as f32", () => {
  const hidden = silu(matmul(x, w));
  assertEquals(types(half([matmul(hidden, w), mean(hidden)])), [
    "f16: f32 > f16",
    "matmul: f32 f16 > f16",
    // Its mean is of numbers that were not rounded.
    "sigmoid+multiply: f16 > f16 f32",
    "matmul: f16 f16 > f32",
    "collect: u32 f32 > f32",
    "divide: f32 > f32",
  ]);
});

Deno.test("plan copies weights of one shape by one launch", () => {
  const launches = types(half([matmul(matmul(matmul(x, w), v), input("u", [12, 9]))]));
  assertEquals(launches.filter((text) => text.startsWith("f16")), [
    "f16: f32 f32 > f16 f16",
    "f16: f32 > f16",
  ]);
});

Deno.test("plan copies a weight that products read in another shape, as kernels of a convolution are, once", () => {
  const kernels = input("kernels", [12, 3, 2, 2]), flat = reshape(kernels, [12, 12]);
  assertEquals(types(half([matmul(matmul(x, flat, { transposeB: true }), flat)])), [
    "f16: f32 > f16",
    "matmul: f32 f16 > f16",
    "matmul: f16 f16 > f32",
  ]);
});

Deno.test("plan keeps f32 what a kernel reads that knows no f16", () => {
  const launches = types(half([cumsum(matmul(matmul(x, w), v), 1)]));
  assertEquals(launches.filter((text) => text.startsWith("matmul")), [
    "matmul: f32 f16 > f16",
    "matmul: f16 f16 > f32",
  ]);
});

Deno.test("plan stores scores as f16 and their gradient in their place, so that all products of a head read f16", () => {
  const labels = tensor(Int32Array.from({ length: 8 }, (_, i) => i));
  const scaling = lossScaling(), hidden = matmul(x, w);
  const loss = linearCrossEntropy(hidden, { weight: v, labels, bytes: 200 });
  const [dW, dV] = grad(scaling.scaled(loss), [w, v]).map(scaling.unscaled);
  const launches = types(half([loss, dW, dV]));
  const of = (name: string): string[] => [...new Set(launches.filter((text) => text.startsWith(name)))];
  assertEquals(of("cross_entropy:"), ["cross_entropy: f16 i32 > f32 f32"]);
  assertEquals(of("cross_entropy_grad"), ["cross_entropy_grad: i32 f32 f32 > f16"]);
  assertEquals(of("matmul"), [
    "matmul: f32 f16 > f16",
    "matmul: f16 f16 u32 > f16",
    // The gradient by `x W`'s weight, where `x` is given as f32.
    "matmul: f32 f16 f32 > f32",
    "matmul: f16 f16 u32 > f32",
  ]);
});

Deno.test("plan keeps statistics of rows f32", () => {
  const y = matmul(x, w);
  const scale = rsqrt(mean(multiply(y, y), -1));
  const scaled = multiply(y, reshape(scale, [8, 1]));
  const launches = types(half([matmul(scaled, v)]));
  assertEquals(launches.filter((text) => !text.startsWith("f16")), [
    "matmul: f32 f16 > f16",
    "sum: f16 > f32",
    "divide+rsqrt: f32 > f32",
    "multiply: f16 f32 > f16",
    "matmul: f16 f16 > f32",
  ]);
});

Deno.test("plan stores sums of few numbers as f16, where they are no statistics of rows", () => {
  const y = matmul(input("long", [40, 12]), w);
  const few = sum(reshape(y, [10, 4, 12]), 1), many = sum(reshape(y, [2, 20, 12]), 1);
  const rows = reshape(sum(reshape(y, [40, 4, 3]), -1), [40, 4]);
  const launches = types(half([matmul(few, v), matmul(many, v), matmul(rows, input("u", [4, 12]))]));
  assertEquals(launches.filter((text) => text.startsWith("sum")), [
    "sum: f16 > f16",
    "sum: f16 > f32",
    "sum: f16 > f32",
  ]);
});

Deno.test("plan keeps f32 what an unscaled gradient is made of, and all that follows from it", () => {
  const scaling = lossScaling();
  const y = matmul(matmul(x, w), v), loss = mean(multiply(y, y));
  const [dW, dV] = grad(scaling.scaled(loss), [w, v]).map(scaling.unscaled);
  const launches = types(half([matmul(matmul(dW, dV), dV), sum(subtract(dW, dV))]));
  assertEquals(launches.filter((text) => text.startsWith("matmul")), [
    "matmul: f32 f16 > f16",
    // A product, and the gradient by it in the same launch; then the gradient by what lies below.
    "matmul: f16 f16 f32 > f16",
    "matmul: f16 f16 > f16",
    // Gradients by weights, and what an optimizer might make of them.
    "matmul: f32 f16 > f32",
    "matmul: f16 f16 > f32",
    "matmul: f32 f32 > f32",
    "matmul: f32 f32 > f32",
  ]);
});

Deno.test("plan moves values as they are stored, and joins f16 with f32 as f32", () => {
  const y = matmul(x, w), joined = concat([slice(y, { starts: [0, 0], sizes: [4, 12] }), x], 0);
  const turned = matmul(permute(y, [1, 0]), input("u", [8, 12]));
  const launches = types(half([turned, matmul(joined, v)]));
  assertEquals(launches.filter((text) => !text.startsWith("f16")), [
    "matmul: f32 f16 > f16",
    "permute: f16 > f16",
    "matmul: f16 f16 > f32",
    "slice: f16 > f16",
    "concat: f16 f32 > f32",
    "matmul: f32 f16 > f32",
  ]);
});

Deno.test("plan reads all operands of a sum of products in one way", () => {
  const hidden = input("h", [32, 32]), weights = ["q", "k", "v"].map((name) => input(name, [32, 32]));
  const [one, two] = ["i", "j"].map((name) => matmul(hidden, input(name, [32, 32])));
  const summed = (a: readonly Tensor[]): string[] => {
    const sum = a.map((x, i) => matmul(x, weights[i])).reduce(add);
    return types(half([matmul(sum, hidden)], false)).filter((text) => text.startsWith("matmul"));
  };
  assertEquals(summed([one, two]), [
    "matmul: f32 u32 u32 > f16 f16",
    "matmul: u32 u32 u32 u32 > f16",
    "matmul: u32 u32 > f32",
  ]);
  // What is given is f32, so that what is computed stays so, too.
  assertEquals(summed([one, hidden]), [
    "matmul: f32 u32 > f32",
    "matmul: f32 f32 u32 u32 > f16",
    "matmul: u32 u32 > f32",
  ]);
});

Deno.test("a wide plan keeps f32 what sums of layers and gates may make large, but not gradients and what attention reads", () => {
  const gain = leaf("gain", { shape: [12], dtype: "f32" }), before = matmul(x, w);
  const heads = ["q", "k", "v"].map((name) => {
    const product = matmul(rmsNorm(before, gain, { eps: 1e-5 }), input(name, [12, 12]));
    return permute(reshape(product, [1, 8, 2, 6]), [0, 2, 1, 3]);
  });
  const attended = reshape(attention(heads[0], { k: heads[1], v: heads[2] }), [8, 12]);
  const gate = matmul(attended, w), after = add(before, matmul(multiply(gate, matmul(attended, v)), w));
  const forward = [matmul(rmsNorm(after, gain, { eps: 1e-5 }), v)];
  const stored = (roots: readonly Tensor[], wide: boolean): string[] =>
    types(half(roots, true, wide)).map((text) => text.replace(/:.* > /, " > "))
      .filter((text) => /^(matmul|multiply|attention|rms_norm)/.test(text));
  const layer = (large: "f16" | "f32"): string[] => [
    `matmul > ${large}`,
    "rms_norm > f16",
    // Queries, keys and values.
    "matmul > f16",
    "matmul > f16",
    "matmul > f16",
    "attention > f16 f32",
    // A gate and what it lets through, and what is added to the values before.
    `matmul > ${large}`,
    `matmul > ${large}`,
    `matmul > ${large}`,
    "rms_norm > f16",
    "matmul > f32",
  ];
  assertEquals(stored(forward, false), layer("f16"));
  assertEquals(stored(forward, true), layer("f32"));
  const scaling = lossScaling(), loss = mean(multiply(gate, gate));
  const [dW] = grad(scaling.scaled(loss), [w]).map(scaling.unscaled);
  // The value that the norm reads is the only one that differs.
  assertEquals(stored([dW], true), stored([dW], false).with(0, "matmul > f32"));
});

Deno.test("the factor of a LoRA pair costs no pass over what the layer gives, in neither direction", () => {
  const wide = 512, a = input("a", [4, 12]), b = input("b", [wide, 4]);
  const layer = { weight: input("base", [wide, 12]), lora_A: { weight: a }, lora_B: { weight: b } };
  const y = linear(matmul(x, w), layer, { loraScale: 3 }), scaling = lossScaling();
  const z = matmul(y, input("u", [wide, 12])), loss = mean(multiply(z, z));
  const grads = grad(scaling.scaled(loss), [w, a, b]).map(scaling.unscaled);
  // The gradient by what the layer gives is stored once: its multiple would be a second result of that product.
  const products = types(half([loss, ...grads])).filter((text) => text.startsWith("matmul"));
  assertEquals(products.filter((text) => / > \w+ \w+/.test(text)), []);
});

Deno.test("plan gives matrix units f16 alone: of weights copies, and values that may be larger scaled", () => {
  const gated = multiply(silu(matmul(x, w)), matmul(x, v)), roots = [matmul(gated, w)];
  const unit = { m: 8, n: 8, k: 8, operands: "f16", sums: "f32" } as const;
  const on = { ...target, subgroupSize: 8, matrices: [unit], units: matrixProducts };
  const seen = [false, true].map((wide) => plan(roots, { target: on, precision: "f16", wide }));
  for (const [i, { launches }] of seen.entries()) {
    const products = launches.filter(({ matmulFlops }) => matmulFlops > 0);
    assertEquals(products.length, 3);
    for (const { kernel: { name, code } } of products) {
      assertMatch(name, / matrix /);
      assertEquals(/ \* 0\.00390625f.* \* 256\.0f/s.test(code), i === 1);
    }
  }
  assertEquals(types(seen[1]).filter((text) => text.startsWith("f16")), ["f16: f32 f32 > f16 f16"]);
  // In f32 nothing is rounded.
  for (const { kernel: { name } } of plan(roots, { target: on }).launches) assertNotMatch(name, / matrix /);
});

Deno.test("a wide plan finds what may be large also where a model adds the constant of loss scaling, as gains of Gemma do", () => {
  const gain = input("gain", [12]);
  const stored = (own: Tensor): string[] => {
    const before = matmul(x, w), after = add(before, matmul(rmsNorm(before, own, { eps: 1e-5 }), v));
    const scaling = lossScaling(), loss = mean(matmul(rmsNorm(after, own, { eps: 1e-5 }), v));
    const gradients = grad(scaling.scaled(loss), [w, v]).map(scaling.unscaled);
    return types(half(gradients, true, true)).filter((text) => /^(matmul|rms_norm)/.test(text));
  };
  assertEquals(stored(add(gain, 1)), stored(gain));
});

Deno.test("a plan copies no state of an optimizer, and a wide plan no batch, which may be beyond f16", () => {
  const rows = input("rows", [8, 12]), scaling = lossScaling();
  const loss = mean(silu(matmul(rows, w, { transposeB: true })));
  const [dW] = grad(scaling.scaled(loss), [w]).map(scaling.unscaled);
  const products = (roots: readonly Tensor[], wide: boolean): string[] =>
    types(half(roots, true, wide)).filter((text) => text.startsWith("matmul"));
  // The gradient by the weights is a product of that by the results, and of rows.
  assertEquals(products([dW], false).at(-1), "matmul: f16 f16 f32 > f32");
  assertEquals(products([dW], true).at(-1), "matmul: f16 f32 f32 > f32");
  for (const wide of [false, true]) {
    assertEquals(products([matmul(dW, input("state", [12, 12]))], wide).at(-1), "matmul: f32 f32 > f32");
  }
});

Deno.test("a wide plan keeps f32 what a norm gives to a sum of layers, as gains of such norms may be large", () => {
  const norm = (y: Tensor): Tensor => rmsNorm(y, input("gain", [12]), { eps: 1e-5 });
  const before = matmul(x, w), after = add(before, norm(matmul(norm(before), v)));
  const norms = types(half([matmul(norm(after), w)], true, true)).filter((text) =>
    text.startsWith("rms_norm")
  );
  assertEquals(norms.map((text) => text.replace(/.* > /, "").split(" ")[0]), ["f16", "f32", "f16"]);
});
