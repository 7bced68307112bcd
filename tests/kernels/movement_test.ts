import { assertEquals, assertThrows } from "@std/assert";
import { concat, pad, permute, shiftLabels, slice } from "../../kernels/movement.ts";
import { runKernel } from "./run_kernel.ts";

/** 1, 2, 3, ... as words: small integers are denormal numbers if taken for f32, and must survive. */
function count(size: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from({ length: size }, (_, i) => i + 1);
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/** Indices of every element, in row-major order. */
function places(shape: readonly number[]): number[][] {
  return shape.reduce<number[][]>(
    (all, size) => all.flatMap((place) => Array.from({ length: size }, (_, k) => [...place, k])),
    [[]],
  );
}

/** Row-major position of a place, or -1 outside. */
function flat(place: readonly number[], shape: readonly number[]): number {
  if (place.some((index, k) => index < 0 || index >= shape[k])) return -1;
  return place.reduce((at, index, k) => at * shape[k] + index, 0);
}

const PERMUTED: readonly (readonly [number[], number[]])[] = [
  [[5, 7], [1, 0]],
  [[2, 3, 5, 4], [0, 2, 1, 3]],
  [[2, 3, 8], [1, 0, 2]],
  [[3, 1, 4], [2, 1, 0]],
  [[2, 3, 2, 2, 3, 2], [5, 0, 3, 1, 4, 2]],
  [[6], [0]],
  [[], []],
];

for (const [shape, axes] of PERMUTED) {
  Deno.test(`permute moves [${shape}] by [${axes}]`, async () => {
    const input = count(sizeOf(shape));
    const [out] = await runKernel(permute({ shape, axes }), {
      inputs: [input],
      outputs: [new Uint32Array(input.length)],
    });
    const moved = axes.map((axis) => shape[axis]);
    const expected = places(moved).map((place) =>
      input[flat(shape.map((_, k) => place[axes.indexOf(k)]), shape)]
    );
    assertEquals(Array.from(out), expected);
  });
}

const BOXES: readonly (readonly [number[], number[], number[]])[] = [
  [[5, 7], [1, 2], [3, 4]],
  [[4, 3, 8], [1, 0, 4], [2, 3, 4]],
  [[4, 12], [2, 0], [2, 12]],
  [[3, 4, 4], [0, 1, 0], [3, 2, 4]],
  [[9], [8], [1]],
];

for (const [shape, starts, sizes] of BOXES) {
  Deno.test(`slice cuts [${sizes}] at [${starts}] out of [${shape}], and pad puts zeros around it`, async () => {
    const input = count(sizeOf(shape));
    const [cut] = await runKernel(slice({ shape, starts, sizes }), {
      inputs: [input],
      outputs: [new Uint32Array(sizeOf(sizes))],
    });
    const expected = places(sizes).map((place) =>
      input[flat(place.map((index, k) => index + starts[k]), shape)]
    );
    assertEquals(Array.from(cut), expected);
    const after = shape.map((size, k) => size - starts[k] - sizes[k]);
    const [padded] = await runKernel(pad({ shape: sizes, before: starts, after }), {
      inputs: [cut],
      outputs: [new Uint32Array(input.length).fill(9)],
    });
    const around = places(shape).map((place) => {
      const inside = flat(place.map((index, k) => index - starts[k]), sizes);
      return inside < 0 ? 0 : cut[inside];
    });
    assertEquals(Array.from(padded), around);
  });
}

const JOINED: readonly (readonly [readonly number[][], number])[] = [
  [[[2, 3], [2, 5]], 1],
  [[[2, 3, 4], [2, 1, 4]], 1],
  [[[3], [4]], 0],
  [[[2, 5], [3, 5], [1, 5]], 0],
  [[[2, 4], [2, 8], [2, 4], [2, 12]], 1],
];

for (const [shapes, axis] of JOINED) {
  Deno.test(`concat joins [${shapes.join("] [")}] along axis ${axis}`, async () => {
    const inputs = shapes.map((shape, k) => count(sizeOf(shape)).map((x) => 1000 * k + x));
    const width = shapes.reduce((n, shape) => n + shape[axis], 0);
    const shape = shapes[0].map((size, k) => k === axis ? width : size);
    const [out] = await runKernel(concat({ shapes, axis }), {
      inputs,
      outputs: [new Uint32Array(sizeOf(shape))],
    });
    const expected = places(shape).map((place) => {
      let before = 0, which = 0;
      while (place[axis] >= before + shapes[which][axis]) before += shapes[which++][axis];
      return inputs[which][flat(place.map((i, k) => k === axis ? i - before : i), shapes[which])];
    });
    assertEquals(Array.from(out), expected);
  });
}

Deno.test("shiftLabels moves each label one position back and ends with the ignored one", async () => {
  const labels = new Int32Array([1, 2, 3, 4, 5, 6]);
  const [out] = await runKernel(shiftLabels({ batch: 2, time: 3, ignore: -100 }), {
    inputs: [labels],
    outputs: [new Int32Array(6)],
  });
  assertEquals(Array.from(out), [2, 3, -100, 5, 6, -100]);
});

Deno.test("permute, slice and concat refuse what does not fit", () => {
  assertThrows(() => permute({ shape: [2, 3], axes: [0, 0] }), RangeError, "each axis once");
  assertThrows(() => slice({ shape: [2], starts: [1], sizes: [2] }), RangeError, "must lie inside");
  assertThrows(() => concat({ shapes: [[2, 3], [3, 3]], axis: 1 }), RangeError, "only axis 1");
});
