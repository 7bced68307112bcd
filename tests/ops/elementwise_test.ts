import { assertAlmostEquals } from "@std/assert";
import { openGpu, read, type Tensor, tensor } from "@firn/train";
import * as ops from "@firn/train/ops";
import { checkOps, type Input, type OpCase } from "../reference/check_ops.ts";
import { map } from "../reference/ops.ts";

/** 35 elements: no multiple of four, so that the tail of a vector load shows. */
const SHAPE = [5, 7];
const any: Input = { shape: SHAPE, low: -2, high: 2 };
const positive: Input = { shape: SHAPE, low: 0.3, high: 3 };
const column: Input = { shape: [5, 1], low: 0.5, high: 2 };
const row: Input = { shape: [7], low: -2, high: 2 };
const flags: Input = { shape: SHAPE, integers: Array.from({ length: 35 }, (_, i) => Number(i % 3 === 0)) };

const sigmoid = (a: number): number => 1 / (1 + Math.exp(-a));
const gelu = (a: number): number =>
  0.5 * a * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (a + 0.044715 * a ** 3)));

function leaky(x: Tensor): Tensor {
  return ops.where(ops.less(x, 0), ops.multiply(x, 0.1), x);
}

type Row = readonly [
  name: string,
  op: OpCase["op"],
  value: (...args: number[]) => number,
  ...inputs: Input[],
];

const TABLE: readonly Row[] = [
  ["add", ops.add, (a, b) => a + b, any, any],
  ["add of a row", ops.add, (a, b) => a + b, any, row],
  ["subtract", ops.subtract, (a, b) => a - b, any, any],
  ["subtract from a column", ops.subtract, (a, b) => a - b, column, any],
  ["multiply", ops.multiply, (a, b) => a * b, any, any],
  ["multiply of a column and a row", ops.multiply, (a, b) => a * b, column, row],
  ["multiply by a scalar", ops.multiply, (a, b) => a * b, any, { shape: [] }],
  ["divide", ops.divide, (a, b) => a / b, any, positive],
  ["divide by a column", ops.divide, (a, b) => a / b, any, column],
  ["maximum", ops.maximum, Math.max, any, any],
  ["minimum", ops.minimum, Math.min, any, any],
  ["where", (c, a, b) => ops.where(ops.cast(c), a, b), (c, a, b) => c ? a : b, flags, any, any],
  ["where of rows", (c, a, b) => ops.where(ops.cast(c), a, b), (c, a, b) => c ? a : b, flags, row, column],
  ["less, through which no gradient flows", ops.less, (a, b) => Number(a < b), any, row],
  ["where of a condition that depends on x", leaky, (a) => a < 0 ? 0.1 * a : a, any],
  ["equal", (a) => ops.equal(ops.cast(a), 1), (a) => Number(a === 1), flags],
  ["sign", ops.sign, Math.sign, any],
  ["cast", (a) => ops.cast(a), (a) => a, { shape: [5], integers: [-7, 0, 3, 16777216, -100] }],
  ["negate", ops.negate, (a) => -a, any],
  ["exp", ops.exp, Math.exp, any],
  ["log", ops.log, Math.log, positive],
  ["sqrt", ops.sqrt, Math.sqrt, positive],
  ["rsqrt", ops.rsqrt, (a) => 1 / Math.sqrt(a), positive],
  ["abs", ops.abs, Math.abs, any],
  ["tanh", ops.tanh, Math.tanh, any],
  ["tanh far out", ops.tanh, Math.tanh, { shape: [6], low: -90, high: 90 }],
  ["sigmoid", ops.sigmoid, sigmoid, any],
  ["sigmoid far out", ops.sigmoid, sigmoid, { shape: [6], low: -90, high: 90 }],
  ["silu", ops.silu, (a) => a * sigmoid(a), any],
  ["relu", ops.relu, (a) => Math.max(a, 0), any],
  ["gelu", ops.gelu, gelu, any],
  ["gelu of four lanes", ops.gelu, gelu, { shape: [3, 8], low: -2, high: 2 }],
];

checkOps([
  ...TABLE.map(([name, op, value, ...inputs]): OpCase => ({
    name,
    op,
    inputs,
    reference: (...values) => map(value, ...values),
  })),
  {
    name: "broadcast",
    inputs: [{ shape: [3, 1, 5] }],
    op: (x) => ops.broadcast(x, [2, 3, 4, 5]),
    reference: (x) => map((a) => a, x, { shape: [2, 3, 4, 5], data: new Float64Array(120) }),
  },
]);

Deno.test("gelu keeps its digits far below zero", async () => {
  await using gpu = await openGpu();
  const a = -8, u = Math.sqrt(2 / Math.PI) * (a + 0.044715 * a ** 3);
  // (1 + tanh(u)) / 2 without the difference of nearly equal numbers. f32 holds it and all values between as normal numbers.
  const expected = a / (1 + Math.exp(-2 * u));
  const [value] = await read(gpu, ops.gelu(tensor([a])));
  // WGSL computes the power of 49 to 101 units in the last place, 1.2e-5, and f32 holds the 49 to 6e-6.
  assertAlmostEquals(value / expected, 1, 5e-5);
});
