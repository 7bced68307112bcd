import { assertEquals, assertThrows } from "@std/assert";
import { fill, grad, InputError, openGpu, readAll, tensor } from "@firn/train";
import {
  concat,
  exp,
  logSoftmax,
  logSumExp,
  max,
  mean,
  min,
  softmax,
  sum,
  sumEach,
  variance,
} from "@firn/train/ops";
import { checkOps, type OpCase } from "../reference/check_ops.ts";
import {
  concat as concatReference,
  fold,
  map,
  softmax as softmaxReference,
  total,
} from "../reference/ops.ts";
import type { Values } from "../reference/values.ts";

const largest = (parts: readonly number[]): number => Math.max(...parts);
const average = (parts: readonly number[]): number => total(parts) / parts.length;

checkOps([
  {
    name: "sum of everything",
    inputs: [{ shape: [5, 7] }],
    op: (x) => sum(x),
    reference: (x) => fold(x, { axes: [0, 1], join: total }),
  },
  {
    name: "sum of what is not zero beyond the last element",
    inputs: [{ shape: [5, 7] }],
    op: (x) => sum(exp(x)),
    reference: (x) => fold(x, { axes: [0, 1], join: (parts) => total(parts.map(Math.exp)) }),
  },
  {
    name: "sum of everything over several workgroups",
    inputs: [{ shape: [3, 1031] }],
    op: (x) => sum(x),
    reference: (x) => fold(x, { axes: [0, 1], join: total }),
  },
  {
    name: "sum of rows",
    inputs: [{ shape: [5, 70] }],
    op: (x) => sum(x, -1),
    reference: (x) => fold(x, { axes: [1], join: total }),
  },
  {
    name: "sum of columns in several pieces",
    inputs: [{ shape: [2, 131, 3] }],
    op: (x) => sum(x, 1),
    reference: (x) => fold(x, { axes: [1], join: total }),
  },
  {
    name: "sum of columns in tiles and pieces",
    inputs: [{ shape: [1100, 132] }],
    op: (x) => sum(x, 0),
    reference: (x) => fold(x, { axes: [0], join: total }),
  },
  {
    name: "max of columns in tiles",
    inputs: [{ shape: [70, 37] }],
    op: (x) => max(x, 0),
    reference: (x) => fold(x, { axes: [0], join: largest }),
  },
  {
    name: "sum of an axis of one",
    inputs: [{ shape: [3, 1, 5] }],
    op: (x) => sum(x, 1),
    reference: (x) => fold(x, { axes: [1], join: total }),
  },
  {
    name: "sum of axes apart",
    inputs: [{ shape: [3, 5, 2, 4] }],
    op: (x) => sum(x, [0, 2]),
    reference: (x) => fold(x, { axes: [0, 2], join: total }),
  },
  {
    name: "mean of the middle",
    inputs: [{ shape: [2, 3, 5, 4] }],
    op: (x) => mean(x, [1, 2]),
    reference: (x) => fold(x, { axes: [1, 2], join: average }),
  },
  {
    name: "max of rows",
    inputs: [{ shape: [5, 7] }],
    op: (x) => max(x, -1),
    reference: (x) => fold(x, { axes: [1], join: largest }),
  },
  {
    name: "max of everything",
    inputs: [{ shape: [5, 8] }],
    op: (x) => max(x),
    reference: (x) => fold(x, { axes: [0, 1], join: largest }),
  },
  {
    name: "max of columns",
    inputs: [{ shape: [5, 3] }],
    op: (x) => max(x, 0),
    reference: (x) => fold(x, { axes: [0], join: largest }),
  },
  {
    name: "softmax",
    inputs: [{ shape: [2, 3, 7], low: -3, high: 3 }],
    op: (x) => softmax(x),
    reference: (x) => softmaxReference(x),
  },
  {
    name: "softmax of rows of four lanes",
    inputs: [{ shape: [3, 8], low: -3, high: 3 }],
    op: (x) => softmax(x),
    reference: (x) => softmaxReference(x),
  },
  ...[[], [1], [0, -1]].map((axes): OpCase => ({
    name: `min, mean, variance and logSumExp of axes [${axes}], kept`,
    inputs: [{ shape: [3, 5, 2], low: -3, high: 3 }],
    op: (x) => {
      const own = axes.length === 0 ? undefined : axes, keepDims = true;
      const all = [
        min(x, own, { keepDims }),
        max(x, own, { keepDims }),
        mean(x, own, { keepDims }),
        variance(x, own, { keepDims, correction: 1 }),
        logSumExp(x, own, { keepDims }),
        sum(x, own, { keepDims }),
      ];
      return concat(all, 0);
    },
    reference: (x) => {
      const own = (axes.length === 0 ? [0, 1, 2] : axes).map((d) => d < 0 ? d + 3 : d);
      const kept = x.shape.map((size, d) => own.includes(d) ? 1 : size);
      const joins = [
        (parts: readonly number[]) => Math.min(...parts),
        largest,
        average,
        (parts: readonly number[]) => total(parts.map((p) => (p - average(parts)) ** 2)) / (parts.length - 1),
        (parts: readonly number[]) => Math.log(total(parts.map(Math.exp))),
        total,
      ];
      return concatReference(joins.map((join) => ({ ...fold(x, { axes: own, join }), shape: kept })), 0);
    },
  })),
  {
    name: "logSoftmax of an inner axis",
    inputs: [{ shape: [2, 5, 3], low: -3, high: 3 }],
    op: (x) => logSoftmax(x, 1),
    reference: (x) => {
      const sums = fold(x, { axes: [1], join: (parts) => Math.log(total(parts.map(Math.exp))) });
      return map((a, b) => a - b, x, { ...sums, shape: [2, 1, 3] });
    },
  },
  {
    name: "sumEach",
    inputs: [{ shape: [5], constant: true }, { shape: [2, 3], constant: true }, {
      shape: [],
      constant: true,
    }],
    op: (...tensors) => sumEach(tensors),
    reference: (...all: Values[]) => ({
      shape: [3],
      data: Float64Array.from(all, (x) => total([...x.data])),
    }),
  },
  {
    name: "sumEach with room for more",
    inputs: [{ shape: [5], constant: true }, { shape: [2, 3], constant: true }],
    op: (...tensors) => sumEach(tensors, { size: 5 }),
    reference: (...all: Values[]) => ({
      shape: [5],
      data: Float64Array.from([...all.map((x) => total([...x.data])), 0, 0, 0]),
    }),
  },
]);

Deno.test("sumEach refuses a size below the number of tensors, or that is not whole", () => {
  for (const size of [1, 2.5, NaN]) {
    assertThrows(
      () => sumEach([fill(1, [2]), fill(1, [2])], { size }),
      InputError,
      `Cannot apply "sumEach" as "size" must be whole and at least the number of tensors, 2: got ${size}`,
    );
  }
});

Deno.test("sum refuses an axis that is not there", () => {
  assertThrows(() => sum(fill(1, [2, 3]), 2), InputError, 'Cannot apply "sum"');
});

Deno.test("sum refuses an axis that is named twice", () => {
  assertThrows(() => sum(fill(1, [2, 3]), [1, -1]), InputError, "axes [1,-1] must differ");
});

Deno.test("variance refuses a correction that leaves no divisor", () => {
  assertThrows(
    () => variance(fill(1, [3, 2]), 0, { correction: 3 }),
    InputError,
    'Cannot apply "variance" as "correction" must be a number below the number of elements, 3: got 3',
  );
});

Deno.test("logSumExp and logSoftmax of large and of masked scores are finite where their value is", async () => {
  await using gpu = await openGpu();
  const x = tensor([1000, 1000, -Infinity, -Infinity, -Infinity, 2], [2, 3]);
  const [sums, logs] = await readAll(gpu, [logSumExp(x, 1), logSoftmax(x)]);
  assertEquals([...sums], [Math.fround(1000 + Math.LN2), 2]);
  assertEquals([...logs].map((v) => Math.round(v * 100) / 100), [
    -0.69,
    -0.69,
    -Infinity,
    -Infinity,
    -Infinity,
    0,
  ]);
});

Deno.test("max and min share the gradient among equal elements", async () => {
  await using gpu = await openGpu();
  const x = tensor([3, 1, 3, 1, 1, 0, 2, 2, 2], [3, 3]);
  const [high, low, all] = await readAll(gpu, [
    ...grad(sum(max(x, 1)), [x]),
    ...grad(sum(min(x, 0)), [x]),
    ...grad(max(x), [x]),
  ]);
  assertEquals([...high], [0.5, 0, 0.5, 0.5, 0.5, 0, 1 / 3, 1 / 3, 1 / 3].map(Math.fround));
  assertEquals([...low], [0, 0.5, 0, 1, 0.5, 1, 0, 0, 0]);
  assertEquals([...all], [0.5, 0, 0.5, 0, 0, 0, 0, 0, 0]);
});
