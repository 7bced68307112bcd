import { assert, assertEquals } from "@std/assert";
import { fill, grad, leaf, stepScalar, type Tensor, tensor } from "@firn/train";
import {
  add,
  broadcast,
  divide,
  exp,
  multiply,
  negate,
  pad,
  reshape,
  slice,
  subtract,
  sum,
} from "@firn/train/ops";
import { constant } from "../../core/plan/predicates.ts";
import { topological } from "../../core/graph.ts";
import { apply, type Op } from "../../core/tensor.ts";
import { simplify } from "../../core/plan/rewrite/simplify.ts";

const NONE = { name: "none", code: "", grid: [1, 1, 1], flops: 0 } as const;
const vector = (path: string): Tensor => leaf(path, { shape: [4], dtype: "f32" });
const one = (root: Tensor): Tensor => simplify([root])[0];

Deno.test("simplify merges equal nodes over one input, and across roots", () => {
  const x = vector("x");
  const [y, z] = simplify([add(exp(x), 1), add(exp(x), 1)]);
  assert(y === z);
  assertEquals(topological([y]).length, 4);
});

Deno.test("simplify keeps nodes that differ in inputs, attributes or shape", () => {
  const x = vector("x"), y = vector("y");
  const pairs = [
    [exp(x), exp(y)],
    [subtract(x, y), subtract(y, x)],
    [reshape(x, [2, 2]), reshape(x, [1, 4])],
    [multiply(x, 2), multiply(x, 3)],
    [sum(reshape(x, [2, 2]), 0), sum(reshape(x, [2, 2]), 1)],
    [multiply(x, Infinity), multiply(x, -Infinity)],
    [multiply(x, NaN), multiply(x, Infinity)],
    [divide(x, 0), divide(x, -0)],
  ];
  for (const pair of pairs) {
    const [first, second] = simplify(pair);
    assert(first !== second);
  }
});

Deno.test("simplify keeps nodes apart whose attributes are arrays of numbers that JSON does not tell apart", () => {
  const op: Op<unknown> = { name: "table", infer: ([x]) => [x], kernel: () => ({ kernel: NONE }) };
  const made = (attrs: unknown): Tensor => apply(op, [vector("x")], attrs);
  const kinds: readonly (readonly [unknown, unknown])[] = [
    [Float32Array.of(NaN), Float32Array.of(Infinity)],
    [Float32Array.of(0), Float32Array.of(-0)],
    [Float32Array.of(1), Int32Array.of(1)],
    [BigInt64Array.of(1n), BigInt64Array.of(2n)],
    [new DataView(new ArrayBuffer(1)), new DataView(new ArrayBuffer(2))],
    [{ a: null }, { a: NaN }],
  ];
  for (const [a, b] of kinds) {
    const [first, second] = simplify([made(a), made(b)]);
    assert(first !== second);
  }
  const [first, second] = simplify([made(Float32Array.of(NaN)), made(Float32Array.of(NaN))]);
  assert(first === second);
});

Deno.test("simplify merges host tensors over the same array, and no others", () => {
  const data = Float32Array.of(1, 2);
  const [first, second, other] = simplify([tensor(data), tensor(data), tensor(data.slice())]);
  assert(first === second);
  assert(first !== other);
});

Deno.test("simplify merges step scalars of the same function, and no others", () => {
  const rate = (step: number): number => step;
  const [first, second, other] = simplify([stepScalar(rate), stepScalar(rate), stepScalar((step) => step)]);
  assert(first === second);
  assert(first !== other);
});

Deno.test("simplify removes arithmetic that changes nothing", () => {
  const x = vector("x");
  const same = [
    add(x, 0),
    add(0, x),
    subtract(x, 0),
    multiply(x, 1),
    multiply(1, x),
    divide(x, 1),
    negate(negate(x)),
    reshape(x, [4]),
    reshape(reshape(x, [2, 2]), [4]),
    broadcast(x, [4]),
    add(x, broadcast(fill(0), [4])),
  ];
  for (const root of same) assert(one(root) === x, root.op.name);
});

Deno.test("simplify keeps arithmetic that changes shape, dtype or value", () => {
  const x = vector("x"), ids = tensor(Int32Array.of(1, 2, 3, 4));
  assertEquals(one(add(x, fill(0, [3, 4]))).shape, [3, 4]);
  assertEquals(one(multiply(fill(1, [3, 1]), x)).shape, [3, 4]);
  assertEquals(one(add(ids, 0)).dtype, "f32");
  assertEquals(one(broadcast(ids, [4])).dtype, "f32");
  assertEquals(one(negate(negate(ids))).dtype, "f32");
  assertEquals(one(subtract(0, x)).op.name, "subtract");
  // Zero times infinity is NaN.
  assertEquals(one(multiply(x, 0)).op.name, "multiply");
});

Deno.test("simplify joins the gradients of slices that cover a tensor, whatever their order", () => {
  const part = (start: number): Tensor => slice(x, { starts: [0, start], sizes: [2, 3] });
  const x = leaf("x", { shape: [2, 9], dtype: "f32" }), y = leaf("y", { shape: [2, 3], dtype: "f32" });
  for (const starts of [[0, 3, 6], [6, 3, 0], [3, 6, 0], [0, 6, 3]]) {
    const loss = starts.map((start, i) => sum(multiply(multiply(part(start), y), i + 1))).reduce(add);
    const root = one(grad(loss, [x])[0]);
    assertEquals([root.op.name, root.inputs.length, root.shape], ["concat", 3, [2, 9]]);
    assert(topological([root]).every(({ op }) => op.name !== "pad"));
  }
});

Deno.test("simplify leaves sums of slices' gradients alone that overlap or have a gap between them", () => {
  const y = leaf("y", { shape: [2, 3], dtype: "f32" });
  const placed = (before: number): Tensor => pad(y, { before: [0, before], after: [0, 6 - before] });
  assertEquals([one(add(placed(0), placed(2))).op.name, one(add(placed(0), placed(4))).op.name], [
    "add",
    "add",
  ]);
  assertEquals([one(add(placed(0), placed(3))).op.name], ["pad"]);
  // A sum is f32; what is joined would stay i32.
  const [low, high] = [[0, 2], [2, 0]].map(([before, after], i) =>
    pad(i === 0 ? tensor(Int32Array.of(1, 2)) : tensor(Int32Array.of(3, 4)), {
      before: [before],
      after: [after],
    })
  );
  const whole = one(add(low, high));
  assertEquals([whole.op.name, whole.dtype], ["add", "f32"]);
});

Deno.test("simplify computes what depends on constants alone", () => {
  const root = one(add(multiply(fill(3, [2, 1]), 2), fill(1, [5])));
  assertEquals(root.shape, [2, 5]);
  assertEquals(constant(root), 7);
});

Deno.test("simplify done twice is simplify", () => {
  const x = vector("x");
  const root = add(
    multiply(reshape(reshape(reshape(x, [2, 2]), [4, 1]), [4]), add(fill(0.5), fill(0.5))),
    sum(negate(negate(negate(exp(add(x, 0)))))),
  );
  const [once] = simplify([root]);
  const [twice] = simplify([once]);
  assert(twice === once);
});
