import { assert, assertEquals } from "@std/assert";
import { fill, leaf, matmul, multiply, stepScalar, type Tensor, tensor } from "@firn/train";
import { reshape, sumEach } from "@firn/train/ops";
import { materializeInputs, materializeRoots } from "../../core/plan/rewrite/materialize.ts";

const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 8 };
const x = leaf("x", { shape: [4, 4], dtype: "f32" });
const one = (root: Tensor): Tensor => materializeInputs([root])[0];

Deno.test("materializeInputs copies constants and step scalars that a kernel reads, and no other input", () => {
  const product = one(matmul(x, fill(2, [4, 4])));
  assert(product.inputs[0] === x);
  assertEquals(product.inputs[1].op.name, "broadcast");
  const element = multiply(x, stepScalar((step) => step));
  assert(one(element) === element);
});

Deno.test("materializeInputs gives terms of a sum an elementwise kernel that adds them up", () => {
  const [computed, given] = one(sumEach([multiply(x, x), x])).inputs;
  assertEquals([computed.op.name, given.op.name], ["multiply", "broadcast"]);
});

Deno.test("materializeRoots copies roots that no launch computes, in their own type", () => {
  const ids = tensor(Int32Array.of(1, 2, 3));
  const { roots } = materializeRoots([x, ids, matmul(x, x)], { target });
  assertEquals(roots.map(({ op, dtype }) => `${op.name} ${dtype}`), [
    "broadcast f32",
    "slice i32",
    "matmul f32",
  ]);
});

Deno.test("materializeRoots copies an update to its leaf, or swaps buffers where the root has one of its own", () => {
  const old = leaf("old", { shape: [4, 4], dtype: "f32" });
  const rootsOf = (root: Tensor, swap: boolean, again: readonly Tensor[] = []) =>
    materializeRoots([root, ...again], {
      target,
      updates: new Map([[0, old]]),
      doubleBuffered: new Set(swap ? [0] : []),
    });
  const product = matmul(x, x);
  const copied = rootsOf(product, false);
  assertEquals([copied.roots[0].op.name, copied.targets.size, copied.doubleBuffered.size], [
    "broadcast",
    1,
    0,
  ]);
  const swapped = rootsOf(product, true);
  assert(swapped.roots[0] === product);
  assertEquals([swapped.targets.size, swapped.doubleBuffered.get(0) === old], [0, true]);
  // Another root in the same buffer, a view, and an elementwise result, which a cluster writes in place.
  const shared = [rootsOf(product, true, [product]), rootsOf(reshape(product, [16]), true)];
  const element = rootsOf(multiply(x, x), true);
  assertEquals([...shared, element].map(({ doubleBuffered }) => doubleBuffered.size), [0, 0, 0]);
});
