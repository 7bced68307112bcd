import { assertEquals, assertThrows } from "@std/assert";
import { fill, InputError, openGpu, readAll, type Tensor, tensor } from "@firn/train";
import { add, argmax, argmin, associativeScan, cumsum, flip, matmul, multiply, topK } from "@firn/train/ops";
import { checkOps, type OpCase } from "../reference/check_ops.ts";
import { at, build, random, type Values } from "../reference/values.ts";

/** Sums of each element and all before or after it. */
function sums(
  x: Values,
  { axis, reverse = false }: { readonly axis: number; readonly reverse?: boolean },
): Values {
  return build(x.shape, (place) => {
    let total = 0;
    const [from, to] = reverse ? [place[axis], x.shape[axis] - 1] : [0, place[axis]];
    for (let i = from; i <= to; i++) total += at(x, place.with(axis, i));
    return total;
  });
}

/** The recurrence `h[t] = a[t] h[t - 1] + b[t]` along an axis. */
function recurrence(axis: number, reverse: boolean): OpCase["reference"] {
  return (a, b) =>
    build(a.shape, (place) => {
      const length = a.shape[axis];
      const order = Array.from({ length }, (_, i) => reverse ? length - 1 - i : i);
      let h = 0;
      for (const i of order.slice(0, order.indexOf(place[axis]) + 1)) {
        h = at(a, place.with(axis, i)) * h + at(b, place.with(axis, i));
      }
      return h;
    });
}

const linear = ([a, b]: readonly Tensor[], [c, d]: readonly Tensor[]): Tensor[] => [
  multiply(a, c),
  add(multiply(b, c), d),
];

checkOps([
  ...[[[7], 0], [[3, 150], 1], [[2, 9, 3], 1], [[5, 4], 0]].flatMap(([shape, axis]) =>
    [false, true].map((reverse): OpCase => ({
      name: `cumsum of [${shape}] along ${axis}${reverse ? " from the end" : ""}`,
      inputs: [{ shape: shape as number[] }],
      op: (x) => cumsum(x, axis as number, { reverse }),
      reference: (x) => sums(x, { axis: axis as number, reverse }),
    }))
  ),
  ...[1, 2, 3, 4, 7, 13].map((length): OpCase => {
    const axis = length % 2, shape = [2, 2].toSpliced(axis, 0, length), reverse = length > 5;
    return {
      name: `associativeScan of ${length} along axis ${axis}`,
      inputs: [{ shape }, { shape }],
      op: (a, b) => associativeScan(linear, [a, b], { axis: axis - 3, reverse })[1],
      reference: recurrence(axis, reverse),
    };
  }),
  {
    name: "flip of two axes",
    inputs: [{ shape: [2, 3, 5] }],
    op: (x) => flip(x, [0, -1]),
    reference: (x) => build(x.shape, ([a, b, c]) => at(x, [1 - a, b, 4 - c])),
  },
  ...[[[3, 150], 1, 4], [[2, 7, 3], 1, 7], [[5, 3], 0, 1]].map(([shape, axis, k]): OpCase => ({
    name: `the ${k} largest of [${shape}] along ${axis}`,
    inputs: [{ shape: shape as number[] }],
    op: (x) => topK(x, k as number, { axis: axis as number }).values,
    reference: (x) =>
      build(x.shape.with(axis as number, k as number), (place) => {
        const d = axis as number;
        const all = Array.from({ length: x.shape[d] }, (_, i) => at(x, place.with(d, i)));
        return all.sort((a, b) => b - a)[place[d]];
      }),
  })),
]);

Deno.test("topK, argmax and argmin: the lowest of equal indices, NaN first, both kinds of kernels", async () => {
  const rows = [[3, 7, 7, -1], [-0, 0, -5, 0], [-Infinity, -3e38, -1, -2], [1, NaN, 5, NaN], [2, 2, 2, 2]];
  const x = tensor(rows.flat(), [5, 4]);
  await using gpu = await openGpu();
  for (const software of [true, false]) {
    const device = { ...gpu, target: { ...gpu.target, software } };
    const { values, indices } = topK(x, 3);
    const roots = [values, indices, argmax(x), argmin(x), argmax(x, 0), argmin(x, 0, { keepDims: true })];
    const seen = (await readAll(device, roots)).map((data) => [...data]);
    assertEquals(seen[1], [1, 2, 0, 0, 1, 3, 2, 3, 1, 1, 3, 2, 0, 1, 2]);
    assertEquals(seen[0].slice(0, 3), [7, 7, 3]);
    assertEquals(seen.slice(2), [[1, 0, 2, 1, 0], [3, 2, 0, 1, 0], [0, 3, 0, 3], [2, 3, 1, 3]]);
  }
});

Deno.test("associativeScan combines what does not commute, in order", async () => {
  const factors = random([5, 2, 2], { seed: 3 });
  const x = tensor(Float32Array.from(factors.data), [5, 2, 2]);
  await using gpu = await openGpu();
  const [seen] = await readAll(gpu, associativeScan(([a], [b]) => [matmul(a, b)], [x]));
  let product = [1, 0, 0, 1];
  for (let t = 0; t < 5; t++) {
    const [a, b, c, d] = product, [e, f, g, h] = factors.data.subarray(4 * t);
    product = [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h];
    product.forEach((value, i) => assertEquals(Math.abs(seen[4 * t + i] - value) < 1e-6, true));
  }
});

Deno.test("associativeScan refuses a combination that changes shapes or numbers of tensors", () => {
  const x = fill(1, [4, 2]);
  assertThrows(() => associativeScan(([a]) => [a, a], [x]), InputError, "must give a list of 1 tensor");
  assertThrows(
    () => associativeScan(([a]) => [matmul(a, fill(1, [2, 3]))], [x]),
    InputError,
    "must keep shapes",
  );
});
