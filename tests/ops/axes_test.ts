import { assertEquals, assertThrows } from "@std/assert";
import { fill, InputError, openGpu, readAll, tensor } from "@firn/train";
import { arange, expandDims, oneHot, reshape, split, squeeze, stack } from "@firn/train/ops";

Deno.test("squeeze, expandDims and reshape with -1 give the shapes of NumPy", () => {
  const x = fill(1, [1, 3, 1, 5]);
  assertEquals([squeeze(x), squeeze(x, 0), squeeze(x, [0, -2])].map(({ shape }) => shape), [
    [3, 5],
    [3, 1, 5],
    [3, 5],
  ]);
  assertThrows(() => squeeze(x, 1), InputError, "axes [1] must have size 1");
  const y = fill(1, [3, 5]);
  assertEquals([0, 1, -1, [0, -2], [2, 0]].map((axes) => expandDims(y, axes).shape), [
    [1, 3, 5],
    [3, 1, 5],
    [3, 5, 1],
    [1, 3, 1, 5],
    [1, 3, 1, 5],
  ]);
  assertThrows(() => expandDims(y, 3), InputError, "axes go from -3 to 2");
  assertEquals([[-1], [5, -1], [1, -1, 15]].map((shape) => reshape(y, shape).shape), [[15], [5, 3], [
    1,
    1,
    15,
  ]]);
  assertThrows(() => reshape(y, [-1, -1]), InputError, "one size alone may be -1");
  assertThrows(() => reshape(y, [-1, 4]), InputError, "must divide the number of elements");
});

Deno.test("stack and split undo each other along every axis", async () => {
  const a = tensor([1, 2, 3, 4, 5, 6], [2, 3]), b = tensor([7, 8, 9, 10, 11, 12], [2, 3]);
  await using gpu = await openGpu();
  const roots = [0, 1, -1].flatMap((axis) => {
    const both = stack([a, b], axis);
    return [both, ...split(both, 2, { axis }).map((part) => squeeze(part, axis))];
  });
  const seen = (await readAll(gpu, roots)).map((data) => [...data]);
  assertEquals(seen[0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  assertEquals(seen[3], [1, 2, 3, 7, 8, 9, 4, 5, 6, 10, 11, 12]);
  assertEquals(seen[6], [1, 7, 2, 8, 3, 9, 4, 10, 5, 11, 6, 12]);
  for (const at of [0, 3, 6]) {
    assertEquals(seen.slice(at + 1, at + 3), [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]);
  }
  assertThrows(() => stack([a, fill(1, [3, 2])]), InputError, "all must be f32 of one shape");
  assertThrows(() => split(a, 2, { axis: 1 }), InputError, "must divide the size of the axis, 3: got 2");
  assertThrows(() => split(a, [1, 1], { axis: 1 }), InputError, "sizes [1,1] must add up to axis 1");
});

Deno.test("arange gives what NumPy gives, and refuses what i32 does not hold", async () => {
  await using gpu = await openGpu();
  const nodes = [
    arange(4),
    arange(-3, { start: 3, step: -2 }),
    arange(1, { start: 0, step: 0.3, dtype: "f32" }),
  ];
  const seen = await readAll(gpu, nodes);
  assertEquals([...seen[0]], [0, 1, 2, 3]);
  assertEquals([...seen[1]], [3, 1, -1]);
  assertEquals([...seen[2]], [0, 0.3, 0.6, 0.9].map(Math.fround));
  assertThrows(() => arange(2, { step: 0.5 }), InputError, 'numbers of "dtype" i32 must be whole');
  assertThrows(() => arange(0), InputError, "numbers, not 0");
});

Deno.test("oneHot refuses ids of the host that are no class, and gives zeros for others", async () => {
  await using gpu = await openGpu();
  const ids = tensor(new Int32Array([1, 5, -1, 0]), [2, 2]);
  assertThrows(() => oneHot(ids, 3), InputError, 'Cannot apply "oneHot" as ids must be from 0 to 2: got 5');
  const [[...rows]] = await readAll(gpu, [oneHot(stack([ids, ids]), 3)]);
  assertEquals(rows.slice(0, 12), [0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
});
