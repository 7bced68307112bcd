import { assert, assertEquals, assertThrows } from "@std/assert";
import { fill, InputError, leaf, ShapeError, stepScalar, tensor } from "@firn/train";
import { broadcast, matmul, permute, reshape, rmsNorm, slice } from "@firn/train/ops";
import { apply, pick } from "../../core/tensor.ts";

Deno.test("tensor takes its dtype from the array, f32 for numbers", () => {
  assertEquals(tensor([1, 2]).dtype, "f32");
  assertEquals(tensor(new Int32Array(2)).dtype, "i32");
  assertEquals(tensor(new Uint32Array(2)).dtype, "u32");
});

Deno.test("tensor without a shape is a vector", () => {
  assertEquals(tensor([1, 2, 3]).shape, [3]);
  assertEquals(tensor([7], []).shape, []);
});

Deno.test("tensor refuses a shape of another size, as a ShapeError with its data", () => {
  const error = assertThrows(() => tensor([1, 2, 3], [2, 2]), ShapeError);
  assertEquals(
    error.message,
    'Cannot apply "tensor" as the shape must have the size of the data, 3: got [2, 2]',
  );
  assertEquals(error.op, "tensor");
  assertEquals(error.shapes, [[2, 2]]);
});

Deno.test("apply names the input that is no tensor, as a batch without an entry gives", () => {
  const { labels } = {} as { labels: ReturnType<typeof leaf> };
  const error = assertThrows(() => matmul(leaf("x", { shape: [2, 2], dtype: "f32" }), labels), InputError);
  assertEquals(error.message, 'Cannot apply "matmul" as "b" must be a tensor: got undefined');
});

Deno.test("apply takes shape and dtype from what infer says, and nothing else", () => {
  const x = leaf("x", { shape: [2], dtype: "f32" });
  const node = apply({ name: "same", infer: ([input]) => [input] }, [x], null);
  assertEquals(Object.keys(node).toSorted(), ["attrs", "dtype", "inputs", "op", "shape"]);
  assert(node.op !== x.op);
});

Deno.test("pick 0 is the node itself, and others have their own spec", () => {
  const y = rmsNorm(fill(1, [5, 3]), fill(1, [3]), { eps: 0 });
  assert(pick(y, 0) === y);
  assertEquals(pick(y, 1).shape, [5, 1]);
});

Deno.test("leaf, fill and stepScalar have the spec they are given", () => {
  assertEquals(leaf("ids", { shape: [2, 3], dtype: "i32" }).dtype, "i32");
  assertEquals(fill(2).shape, []);
  assertEquals(stepScalar((step) => step).shape, []);
});

Deno.test("operations refuse shapes that do not fit, and say the rule", () => {
  const x = fill(1, [2, 3]);
  assertThrows(
    () => reshape(x, [4]),
    ShapeError,
    'Cannot apply "reshape" as both shapes must hold as many elements',
  );
  assertThrows(() => permute(x, [0, 0]), ShapeError, "axes [0,0] must differ");
  assertThrows(() => slice(x, { starts: [0, 2], sizes: [2, 2] }), ShapeError, "must lie inside");
  assertThrows(() => broadcast(x, [2, 4]), ShapeError, "shapes must broadcast: got [2, 3] and [2, 4]");
  assertThrows(() => matmul(x, fill(1, [3])), ShapeError, "operands must be matrices");
  assertThrows(
    () => matmul(fill(1, [2, 2, 3]), fill(1, [3, 3, 2])),
    ShapeError,
    '"matmul" as shapes must broadcast',
  );
});
