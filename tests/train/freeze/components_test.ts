import { assertEquals } from "@std/assert";
import {
  add,
  divide,
  leaf,
  matmul,
  mean,
  multiply,
  reshape,
  sqrt,
  subtract,
  sum,
  type Tensor,
} from "@firn/train";
import { broadcast, embedding, rmsNorm, rsqrt, softmax } from "@firn/train/ops";
import { findComponents } from "../../../core/train/freeze/components.ts";

const ROWS = 6, C = 4;
const SHAPES: Record<string, readonly number[]> = {
  "table.weight": [10, C],
  "linear.weight": [C, C],
  "linear.bias": [C],
  "norm.weight": [C],
  "norm.bias": [C],
};
const leaves = new Map(
  Object.entries(SHAPES).map(([path, shape]) => [path, leaf(path, { shape, dtype: "f32" })] as const),
);
const parameter = (path: string): Tensor => leaves.get(path)!;
const gain = parameter("norm.weight"), bias = parameter("norm.bias");
const ids = leaf("batch.ids", { shape: [ROWS], dtype: "i32" });

/** A table, a norm, a linear layer: the kind of each. */
function kindsWith(norm: (x: Tensor) => Tensor): Record<string, string> {
  const x = norm(embedding(parameter("table.weight"), ids));
  const y = add(matmul(x, parameter("linear.weight")), parameter("linear.bias"));
  const components = findComponents(sum(multiply(y, y)), { leaves, trainable: () => true });
  return Object.fromEntries(components.map(({ path, kind }) => [path, kind]));
}

const column = (x: Tensor): Tensor => reshape(x, [ROWS, 1]);
const centered = (x: Tensor): Tensor => subtract(x, column(mean(x, -1)));
const variance = (x: Tensor): Tensor => mean(multiply(centered(x), centered(x)), -1);
const normalised = (x: Tensor): Tensor => multiply(centered(x), column(rsqrt(add(variance(x), 1e-5))));

const norms: Record<string, (x: Tensor) => Tensor> = {
  "the fused rmsNorm": (x) => add(rmsNorm(x, gain, { eps: 1e-5 }), 0),
  "LayerNorm by rsqrt": (x) => add(multiply(normalised(x), gain), bias),
  "LayerNorm by division": (x) =>
    add(bias, multiply(gain, divide(centered(x), sqrt(add(column(variance(x)), 1e-5))))),
  "LayerNorm of broadcast parameters": (x) =>
    add(multiply(normalised(x), broadcast(gain, x.shape)), broadcast(bias, x.shape)),
  "LayerNorm with a gain that counts from one": (x) => add(multiply(normalised(x), add(gain, 1)), bias),
  "LayerNorm with its gain in the root": (x) => {
    const scale = multiply(column(rsqrt(add(variance(x), 1e-5))), gain);
    return add(multiply(centered(x), scale), bias);
  },
  "LayerNorm whose shift is one tensor": (x) => {
    const scale = multiply(column(rsqrt(add(variance(x), 1e-5))), gain);
    return add(multiply(x, scale), subtract(bias, multiply(column(mean(x, -1)), scale)));
  },
  "LayerNorm with its gain before the mean is taken off": (x) => {
    const moved = subtract(multiply(x, gain), multiply(column(mean(x, -1)), gain));
    return add(multiply(moved, column(rsqrt(variance(x)))), bias);
  },
  "RMSNorm by division": (x) => add(multiply(divide(x, column(sqrt(mean(multiply(x, x), -1)))), gain), bias),
  "LayerNorm of heads": (x) =>
    reshape(add(multiply(reshape(normalised(x), [2, ROWS / 2, C]), gain), bias), [ROWS, C]),
};
for (const [name, norm] of Object.entries(norms)) {
  Deno.test(`findComponents takes gain and bias of a norm for a norm: ${name}`, () => {
    assertEquals(kindsWith(norm), { table: "embedding", linear: "linear", norm: "norm" });
  });
}

Deno.test("findComponents takes gain and bias of a LayerNorm over two axes for a norm", () => {
  const wide = ["norm.weight", "norm.bias"].map((path) => leaf(path, { shape: [3, C], dtype: "f32" }));
  const own = new Map([["norm.weight", wide[0]], ["norm.bias", wide[1]]]);
  const x = leaf("batch.x", { shape: [2, 3, C], dtype: "f32" });
  const average: readonly ((x: Tensor) => Tensor)[] = [(y) => mean(y, [1, 2]), (y) => mean(mean(y, -1), -1)];
  for (const over of average) {
    const cell = (y: Tensor): Tensor => reshape(over(y), [2, 1, 1]);
    const moved = subtract(x, cell(x));
    const scaled = multiply(moved, rsqrt(cell(multiply(moved, moved))));
    const [component] = findComponents(sum(add(multiply(scaled, wide[0]), wide[1])), {
      leaves: own,
      trainable: () => true,
    });
    assertEquals([component.path, component.kind], ["norm", "norm"]);
  }
});

const others: Record<string, (x: Tensor) => Tensor> = {
  "a scale and a shift of what no norm made": (x) => add(multiply(x, gain), bias),
  "a scale of probabilities": (x) => add(multiply(softmax(x), gain), bias),
  "a scale that is measured too": (x) => {
    const scaled = add(multiply(x, gain), bias);
    return multiply(scaled, column(rsqrt(mean(multiply(scaled, scaled), -1))));
  },
  "a scale by statistics of other rows": (x) => {
    const other = leaf("batch.other", { shape: [ROWS, C], dtype: "f32" });
    return add(multiply(multiply(x, column(rsqrt(variance(other)))), gain), bias);
  },
};
for (const [name, make] of Object.entries(others)) {
  Deno.test(`findComponents does not take for a norm: ${name}`, () => {
    assertEquals(kindsWith(make).norm, "other");
  });
}

Deno.test("findComponents finds gain and bias of a composed norm each by themselves", () => {
  const alone: readonly [string, (x: Tensor) => Tensor][] = [
    ["norm.weight", (x) => multiply(normalised(x), gain)],
    ["norm.bias", (x) => add(normalised(x), bias)],
  ];
  for (const [path, norm] of alone) {
    const x = norm(embedding(parameter("table.weight"), ids));
    const own = new Map([[path, parameter(path)]]);
    const [component] = findComponents(sum(x), { leaves: own, trainable: () => true });
    assertEquals([component.path, component.kind], ["norm", "norm"]);
  }
});
