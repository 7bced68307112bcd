import { assert, assertEquals } from "@std/assert";
import { leaf, type Tensor } from "@firn/train";
import { add, exp, multiply, negate } from "@firn/train/ops";
import { rebuild, topological } from "../../core/graph.ts";

const vector = (path: string): Tensor => leaf(path, { shape: [4], dtype: "f32" });

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
