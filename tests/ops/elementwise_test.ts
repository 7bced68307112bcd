import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { grad, openGpu, read, readAll, sum, type Tensor, tensor } from "@firn/train";
import * as ops from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import { checkOps, type Input, type OpCase } from "../reference/check_ops.ts";
import { erf, erfc } from "../reference/erf.ts";
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

const exactGelu = (a: number): number => a * erfc(-a / Math.SQRT2) / 2;
const powers: Input = { shape: [7], integers: [-3, 0, 1, 2, 3, 4, 5] };

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
  ["tanh near zero", ops.tanh, Math.tanh, { shape: [40], low: -1e-3, high: 1e-3 }],
  ["tanh far out", ops.tanh, Math.tanh, { shape: [6], low: -90, high: 90 }],
  ["sigmoid", ops.sigmoid, sigmoid, any],
  ["sigmoid far out", ops.sigmoid, sigmoid, { shape: [6], low: -90, high: 90 }],
  ["silu", ops.silu, (a) => a * sigmoid(a), any],
  ["relu", ops.relu, (a) => Math.max(a, 0), any],
  ["gelu", (x) => ops.gelu(x), gelu, any],
  ["exact gelu", (x) => ops.gelu(x, { approximate: false }), exactGelu, { shape: [67], low: -6, high: 6 }],
  ["erf", ops.erf, erf, { shape: [67], low: -4.5, high: 4.5 }],
  ["erf near zero", ops.erf, erf, { shape: [7], low: -1e-6, high: 1e-6 }],
  ["softplus", ops.softplus, (a) => Math.log1p(Math.exp(a)), { shape: SHAPE, low: -9, high: 9 }],
  ["leakyRelu", (x) => ops.leakyRelu(x, { negativeSlope: 0.1 }), (a) => a < 0 ? 0.1 * a : a, any],
  ["sin", ops.sin, Math.sin, { shape: SHAPE, low: -9, high: 9 }],
  ["cos", ops.cos, Math.cos, { shape: SHAPE, low: -9, high: 9 }],
  ["sin of some hundred turns", ops.sin, Math.sin, { shape: [33], low: -4000, high: 4000 }],
  ["cos of four lanes", ops.cos, Math.cos, { shape: [2, 8], low: -400, high: 400 }],
  ["pow", ops.pow, Math.pow, positive, any],
  ["pow of a row", ops.pow, Math.pow, column, row],
  ["pow of negative numbers", (x) => ops.pow(x, 3), (a) => a ** 3, any],
  ["pow of four lanes", (x) => ops.pow(x, -2), (a) => a ** -2, { shape: [3, 8], low: 0.5, high: 2 }],
  ["pow with a fraction", (x) => ops.pow(x, 1.5), (a) => a ** 1.5, positive],
  ["pow with whole numbers", (x, n) => ops.pow(x, ops.cast(n)), Math.pow, any, powers],
  ["clamp", (x) => ops.clamp(x, { min: -1, max: 0.5 }), (a) => Math.min(Math.max(a, -1), 0.5), any],
  ["clamp by a row", (x, low) => ops.clamp(x, { min: low }), Math.max, any, row],
  ["stopGradient", (x) => ops.multiply(ops.stopGradient(ops.less(x, 0)), x), (a) => a < 0 ? a : 0, any],
  ["gelu of four lanes", (x) => ops.gelu(x), gelu, { shape: [3, 8], low: -2, high: 2 }],
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

Deno.test("exact gelu, softplus and erf keep their digits where they are small", async () => {
  const x = [-5, -3, -1, -0.1, -1e-3, -1e-7], far = [-40, -20, -9, -1];
  await using gpu = await openGpu();
  const [gelus, logs, errors] = await readAll(gpu, [
    ops.gelu(tensor(x), { approximate: false }),
    ops.softplus(tensor(far)),
    ops.erf(tensor(x)),
  ]);
  // f32 holds x^2 / 2 up to 12.5 to 5e-7, which is the relative error of its power.
  x.forEach((a, i) => assertAlmostEquals(gelus[i] / exactGelu(Math.fround(a)), 1, 2e-6));
  far.forEach((a, i) => assertAlmostEquals(logs[i] / Math.log1p(Math.exp(a)), 1, 5e-6));
  x.forEach((a, i) => assertAlmostEquals(errors[i] / erf(Math.fround(a)), 1, 3e-7));
});

Deno.test("pow at zero and of negative numbers is that of JavaScript, and NaN where that is", async () => {
  const bases = [0, 0, 0, -2, -2, -2, -2, 3], exponents = [0, 2, 0.5, 3, -1, 0, 0.5, 0];
  await using gpu = await openGpu();
  const x = tensor(bases), y = ops.pow(x, tensor(exponents));
  const [seen, slope] = await readAll(gpu, [y, ...grad(sum(ops.slice(y, { starts: [0], sizes: [2] })), [x])]);
  assertEquals([...seen].map((v) => Math.round(v * 1e4) / 1e4), bases.map((a, i) => a ** exponents[i]));
  assertEquals([...slope.slice(0, 2)], [0, 0]);
});

Deno.test("no gradient flows through stopGradient, and no launch computes it", async () => {
  await using gpu = await openGpu();
  const x = tensor([1, 2, 3]), [slope] = grad(sum(ops.stopGradient(ops.multiply(x, x))), [x]);
  assertEquals([...await read(gpu, slope)], [0, 0, 0]);
  const target = { ...gpu.target, software: true };
  const launches = (y: Tensor): number => plan([y], { target }).launches.length;
  const y = ops.max(ops.matmul(tensor([1, 2], [1, 2]), tensor([3, 4], [2, 1])));
  assert(
    launches(ops.matmul(ops.reshape(ops.stopGradient(y), [1, 1]), tensor([1], [1, 1]))) <=
      launches(ops.matmul(ops.reshape(y, [1, 1]), tensor([1], [1, 1]))),
  );
});

Deno.test("NaN stays NaN, and infinities have their limits", async () => {
  await using gpu = await openGpu();
  const x = tensor([NaN, Infinity, -Infinity]);
  const seen = await readAll(gpu, [
    ops.erf(x),
    ops.softplus(x),
    ops.gelu(x, { approximate: false }),
    ops.sin(x),
    ops.pow(x, tensor([1.5, 1.5, 3])),
    ops.softmax(tensor([NaN, 1, 2])),
    ops.layerNorm(tensor([NaN, 1, 2])),
  ]);
  const [errors, logs, gelus, sines, powers, shares, norms] = seen.map((data) => [...data]);
  assertEquals([errors, logs], [[NaN, 1, -1], [NaN, Infinity, 0]]);
  assertEquals(gelus.slice(0, 2), [NaN, Infinity]);
  assertEquals([sines, shares, norms], [[NaN, NaN, NaN], [NaN, NaN, NaN], [NaN, NaN, NaN]]);
  assertEquals(powers, [NaN, Infinity, -Infinity]);
});
