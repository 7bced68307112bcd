import { assert, assertEquals } from "@std/assert";
import { fill, leaf, stepScalar, type Tensor, tensor } from "@firn/train";
import { add, broadcast, divide, exp, multiply, negate, reshape, subtract, sum } from "@firn/train/ops";
import { constant, rebuild, simplify, topological } from "../../core/graph.ts";

const vector = (path: string): Tensor => leaf(path, { shape: [4], dtype: "f32" });
const one = (root: Tensor): Tensor => simplify([root])[0];

Deno.test("topological lists every node once, after its inputs", () => {
  const x = vector("x"), y = exp(x), z = add(y, multiply(y, x));
  const order = topological([z, y]);
  assertEquals(order.length, 4);
  order.forEach((node, i) => assert(node.inputs.every((input) => order.indexOf(input) < i)));
});

Deno.test("topological walks a chain longer than the call stack", () => {
  let node = vector("x");
  for (let i = 0; i < 50000; i++) node = exp(node);
  assertEquals(topological([node]).length, 50001);
});

Deno.test("rebuild keeps the nodes below a change", () => {
  const x = vector("x"), kept = exp(x), changed = negate(x), root = add(kept, changed);
  const [rebuilt] = rebuild([root], (node) => node === changed ? x : node);
  assert(rebuilt.inputs[0] === kept);
  assert(rebuilt.inputs[1] === x);
});

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
