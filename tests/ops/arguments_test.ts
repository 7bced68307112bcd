import { assert, assertEquals, assertThrows } from "@std/assert";
import * as firn from "@firn/train";
import { fill, FirnError, InputError, leaf, openGpu, readAll, type Tensor, tensor } from "@firn/train";
import * as ops from "@firn/train/ops";
import { concat, embedding, matmul, max, mean, permute, softmax, sum } from "@firn/train/ops";
import { random } from "../reference/values.ts";
import * as reference from "../reference/ops.ts";

// deno-lint-ignore no-explicit-any
type Call = (...args: any[]) => unknown;

const [x, y, ids] = [fill(1, [2, 3]), fill(2, [3, 4]), tensor(new Int32Array([0, 1]))];
const indices = tensor(new Int32Array([0, 2, 1, 1]), [2, 2]);
const heads = fill(1, [1, 2, 2, 4]), table = fill(1, [2, 2]);

const signal = fill(1, [2, 4, 5]), image = fill(1, [2, 4, 5, 6]);
const CONVOLUTION = { stride: 2, padding: 1, dilation: 2, groups: 2 };

/** Arguments that each function takes. Errors name the function, or what is given here. */
const CALLS: Readonly<
  Record<string, { readonly call: Call; readonly args: readonly unknown[]; readonly says?: string }>
> = {
  ...Object.fromEntries(
    [
      "erf",
      "sin",
      "cos",
      "softplus",
      "stopGradient",
      "relu",
      "silu",
      "negate",
      "abs",
      "exp",
      "log",
      "rsqrt",
      "sigmoid",
      "sign",
      "sqrt",
      "tanh",
      "cast",
      "integers",
    ]
      .map((name) => [name, { call: ops[name as "gelu"], args: [x] }]),
  ),
  ...Object.fromEntries(
    ["add", "divide", "multiply", "subtract", "equal", "less", "maximum", "minimum"]
      .map((name) => [name, { call: ops[name as "add"], args: [x, x] }]),
  ),
  where: { call: ops.where, args: [x, x, x] },
  gelu: { call: ops.gelu, args: [x, { approximate: false }] },
  leakyRelu: { call: ops.leakyRelu, args: [x, { negativeSlope: 0.1 }] },
  clamp: { call: ops.clamp, args: [x, { min: 0, max: x }] },
  pow: { call: ops.pow, args: [x, 2] },
  arange: { call: ops.arange, args: [3, { start: 1, step: 1, dtype: "f32" }] },
  expandDims: { call: ops.expandDims, args: [x, [0, -1]] },
  squeeze: { call: ops.squeeze, args: [fill(1, [1, 2, 1]), [0, -1]] },
  split: { call: ops.split, args: [x, [1, 2], { axis: 1 }] },
  stack: { call: ops.stack, args: [[x, x], -1] },
  oneHot: { call: ops.oneHot, args: [ids, 3] },
  logSumExp: { call: ops.logSumExp, args: [x, [0], { keepDims: true }] },
  logSoftmax: { call: ops.logSoftmax, args: [x, 0] },
  min: { call: ops.min, args: [x, 1, { keepDims: true }] },
  variance: { call: ops.variance, args: [x, 1, { correction: 1, keepDims: true }] },
  meanSquaredError: { call: ops.meanSquaredError, args: [x, x] },
  binaryCrossEntropy: { call: ops.binaryCrossEntropy, args: [x, x] },
  attention: {
    call: ops.attention,
    args: [heads, { k: heads, v: heads, scale: 1, causal: true, window: 2 }],
  },
  broadcast: { call: ops.broadcast, args: [x, [5, 2, 3]] },
  sum: { call: ops.sum, args: [x, [0, -1], { keepDims: true }] },
  sumEach: { call: ops.sumEach, args: [[x, y], { size: 3 }] },
  crossEntropy: { call: ops.crossEntropy, args: [x, ids] },
  nextLabels: { call: ops.nextLabels, args: [leaf("labels", { shape: [2, 3], dtype: "i32" })] },
  embedding: { call: ops.embedding, args: [y, ids] },
  linearCrossEntropy: {
    call: ops.linearCrossEntropy,
    args: [x, { weight: fill(1, [4, 3]), labels: ids, bytes: 64 }],
  },
  matmul: { call: ops.matmul, args: [x, y, { transposeA: false, transposeB: false }] },
  concat: { call: ops.concat, args: [[x, x], -1] },
  pad: { call: ops.pad, args: [x, { before: [0, 1], after: [1, 0] }] },
  permute: { call: ops.permute, args: [x, [1, 0]] },
  reshape: { call: ops.reshape, args: [x, [6]] },
  slice: { call: ops.slice, args: [x, { starts: [0, 1], sizes: [2, 2] }] },
  dropout: { call: ops.dropout, args: [x, { rate: 0.5, seed: 1, stream: 1 }] },
  randomNormal: { call: ops.randomNormal, args: [[2], { seed: 1, stream: 1 }] },
  randomUniform: { call: ops.randomUniform, args: [[2], { seed: 1, stream: 1 }] },
  max: { call: ops.max, args: [x, 1, { keepDims: true }] },
  mean: { call: ops.mean, args: [x, [0], { keepDims: true }] },
  softmax: { call: ops.softmax, args: [x, 0] },
  rmsNorm: { call: ops.rmsNorm, args: [x, fill(1, [3]), { eps: 0 }] },
  gather: { call: ops.gather, args: [x, indices, { axis: 1 }] },
  scatterAdd: { call: ops.scatterAdd, args: [x, { indices, updates: fill(1, [2, 2]) }, { axis: -1 }] },
  topK: { call: ops.topK, args: [x, 2, { axis: -1 }] },
  argmax: { call: ops.argmax, args: [x, 0, { keepDims: true }] },
  argmin: { call: ops.argmin, args: [x, 0, { keepDims: true }] },
  dequantize: { call: ops.dequantize, args: [x] },
  cumsum: { call: ops.cumsum, args: [x, 0, { reverse: true }] },
  flip: { call: ops.flip, args: [x, [0, -1]] },
  associativeScan: {
    call: ops.associativeScan,
    args: [([a]: Tensor[], [b]: Tensor[]) => [ops.add(a, b)], [x], { axis: -1, reverse: true }],
  },
  conv1d: { call: ops.conv1d, args: [signal, fill(1, [6, 2, 3]), { ...CONVOLUTION, bias: fill(1, [6]) }] },
  conv2d: { call: ops.conv2d, args: [image, fill(1, [6, 2, 3, 3]), { ...CONVOLUTION, stride: [1, 2] }] },
  maxPool1d: { call: ops.maxPool1d, args: [signal, { size: 2, stride: 1, padding: 1 }] },
  avgPool1d: { call: ops.avgPool1d, args: [signal, { size: 2, padding: 1, countIncludePad: false }] },
  maxPool2d: { call: ops.maxPool2d, args: [image, { size: 2, stride: 1, padding: [0, 1] }] },
  avgPool2d: {
    call: ops.avgPool2d,
    args: [image, { size: [1, 2], padding: [0, 1], countIncludePad: false }],
  },
  einsum: { call: ops.einsum, args: ["ij,jk->ki", [x, y]] },
  layerNorm: { call: ops.layerNorm, args: [x, { weight: fill(1, [3]), bias: fill(1, [3]), eps: 0 }] },
  rotary: { call: ops.rotary, args: [heads, { cos: table, sin: table }] },
  pick: { call: ops.pick, args: [ops.rmsNorm(x, fill(1, [3]), { eps: 0 }), 1] },
  apply: { call: (op, inputs) => ops.apply(op, inputs, null), args: [ops.exp(x).op, [x]], says: "" },
  fill: { call: firn.fill, args: [1, [2, 3]] },
  leaf: { call: firn.leaf, args: ["x", { shape: [2], dtype: "f32" }] },
  stepScalar: { call: firn.stepScalar, args: [(step: number) => step] },
  tensor: { call: firn.tensor, args: [[1, 2], [2]] },
  sizeOf: { call: firn.sizeOf, args: [[2, 3]] },
  grad: { call: firn.grad, args: [sum(x), [x]], says: "Cannot differentiate" },
  flatten: { call: firn.flatten, args: [{ x }], says: "Cannot flatten" },
  mapTree: { call: firn.mapTree, args: [{ x }, (t: Tensor) => t], says: "Cannot map" },
  unflatten: { call: firn.unflatten, args: [new Map([["x", x]])], says: "Cannot unflatten" },
};

const HOSTILE: readonly unknown[] = [
  undefined,
  null,
  true,
  2,
  -1,
  1.5,
  NaN,
  Infinity,
  2 ** 40,
  5n,
  "text",
  {},
  { a: 1 },
  [],
  [-1],
  [NaN],
  [2 ** 40],
  [1.5],
  ["a"],
  [[1, 2], [3]],
  [undefined],
  [x, null],
  new Float64Array(2),
  new BigInt64Array(2),
  Symbol("s"),
  () => 1,
  new Map(),
  Promise.resolve(x),
  fill(1),
  fill(1, [2]),
  fill(1, [5, 7, 2]),
  fill(1, [1, 1, 1, 1, 1, 1, 2]),
  leaf("ids", { shape: [2, 3], dtype: "i32" }),
  leaf("words", { shape: [2], dtype: "u32" }),
  leaf("packed", { shape: [2, 3], dtype: "bf16" }),
  tensor(new Int32Array([0, 99])),
  { op: 1 },
  { x, list: [x] },
];

/** An argument list with one argument replaced, or one entry of it. */
function* spoiled(args: readonly unknown[]): Generator<readonly unknown[]> {
  for (let count = 0; count < args.length; count++) yield args.slice(0, count);
  for (const [i, arg] of args.entries()) {
    for (const value of HOSTILE) {
      yield args.with(i, value);
      const plain = Array.isArray(arg) ||
        (typeof arg === "object" && Object.getPrototypeOf(arg) === Object.prototype);
      if (!plain || "op" in (arg as object) || "infer" in (arg as object)) continue;
      for (const key of Object.keys(arg as object)) {
        yield args.with(i, Array.isArray(arg) ? arg.with(+key, value) : { ...arg as object, [key]: value });
      }
    }
  }
}

Deno.test("the table of hostile arguments has every function of /ops, and those of trees, sources and gradients", () => {
  const functions = Object.entries(ops).filter(([, value]) => typeof value === "function").map(([name]) =>
    name
  );
  assertEquals(functions.filter((name) => CALLS[name] === undefined), []);
});

for (const [name, { call, args, says = `Cannot apply "${name}"` }] of Object.entries(CALLS)) {
  Deno.test(`${name} takes its arguments or throws a FirnError in its own words`, () => {
    call(...args);
    for (const bad of spoiled(args)) {
      try {
        call(...bad);
      } catch (error) {
        const seen = `${name} threw for ${Deno.inspect(bad, { depth: 2 })}: ${error}`;
        assert(error instanceof FirnError, seen);
        assert(error.message.startsWith(says) && error.message.startsWith("Cannot"), seen);
      }
    }
  });
}

Deno.test("axes count from the end in every function that takes them", () => {
  const z = fill(1, [2, 3, 5]);
  assertEquals(concat([z, z], -1).shape, [2, 3, 10]);
  assertEquals(permute(z, [-1, 0, -2]).shape, [5, 2, 3]);
  assertEquals([sum(z, [-1, 0]), mean(z, -2), max(z, -3)].map(({ shape }) => shape), [[3], [2, 5], [3, 5]]);
  assertEquals(softmax(z, -2).shape, z.shape);
  assertEquals([ops.min(z, -1), ops.variance(z, [-2]), ops.logSumExp(z, -3)].map(({ shape }) => shape), [
    [2, 3],
    [2, 5],
    [3, 5],
  ]);
  assertEquals(
    [ops.argmax(z, -2), ops.argmin(z, -3), ops.topK(z, 2, { axis: -2 }).values].map((t) => t.shape),
    [
      [2, 5],
      [3, 5],
      [2, 2, 5],
    ],
  );
  assertEquals([ops.cumsum(z, -2), ops.flip(z, -1), ops.logSoftmax(z, -3)].map(({ shape }) => shape), [
    z.shape,
    z.shape,
    z.shape,
  ]);
  for (
    const call of [() => concat([z], 3), () => permute(z, [0, 1, -4]), () => softmax(z, 3), () => max(z, -4)]
  ) {
    assertThrows(call, InputError, "axes go from -3 to 2");
  }
});

Deno.test("tensor converts numbers that f32 and i32 hold, and refuses all others by name", () => {
  assertEquals(tensor(new Float64Array([0.5])).dtype, "f32");
  assertEquals(tensor(new Uint8Array([1])).dtype, "i32");
  const refuses = (values: unknown, text: string): void => {
    assertThrows(() => tensor(values as number[]), InputError, text);
  };
  refuses(new Float64Array([1e39]), "in the range of f32, up to 3.4e38: got 1e+39");
  refuses([[1, 2], [3]], "not lists; use flat() and give the shape: got [1, 2]");
  refuses(new BigInt64Array(1), "got an object of the class BigInt64Array");
  refuses(["1"], 'values must be numbers: got "1"');
  refuses([], "sizes must be whole numbers above 0: got [0]");
});

Deno.test("integers are read as numbers or refused, never as the bits of f32", async () => {
  const whole = tensor(new Int32Array([1, 2, 3, 4, 5, 6]), [2, 3]);
  assertThrows(() => matmul(whole, y), InputError, "input 0 must be f32, not i32; convert it with cast");
  assertThrows(() => matmul(x, matmul(whole, y)), InputError, "must be f32");
  assertThrows(() => embedding(whole, ids), InputError, "must be f32");
  await using gpu = await openGpu();
  const [all, rows] = await readAll(gpu, [sum(whole), sum(whole, 1)]);
  assertEquals([[...all], [...rows]], [[21], [6, 15]]);
});

Deno.test("ids of the host that are out of range are refused where they are used", () => {
  const bad = tensor(new Int32Array([0, 3]));
  assertThrows(
    () => embedding(y, bad),
    InputError,
    'Cannot apply "embedding" as ids must be from 0 to 2: got 3',
  );
  assertThrows(
    () => ops.crossEntropy(x, bad),
    InputError,
    "ids must be from 0 to 2, or -100 to be ignored: got 3",
  );
  assertThrows(
    () => ops.linearCrossEntropy(x, { weight: fill(1, [3, 3]), labels: ops.reshape(bad, [2]) }),
    InputError,
    'Cannot apply "linearCrossEntropy"',
  );
  ops.crossEntropy(x, tensor(new Int32Array([2, -100])));
});

Deno.test("matmul broadcasts leading sizes as NumPy does", async () => {
  const cases: [readonly number[], readonly number[], { transposeA?: boolean; transposeB?: boolean }][] = [
    [[2, 3, 4], [4, 5], {}],
    [[2, 3, 4], [5, 4], { transposeB: true }],
    [[2, 4, 3], [4, 5], { transposeA: true }],
    [[3, 4], [2, 4, 5], {}],
    [[2, 1, 3, 4], [6, 4, 5], {}],
  ];
  const made = cases.map(([a, b, layout], i) => {
    const values = [random(a, { seed: i }), random(b, { seed: i + 9 })];
    const lead = values.map(({ shape }) => shape.slice(0, -2));
    const common = lead[0].length === 0 ? lead[1] : lead[1].length === 0 ? lead[0] : [2, 6];
    const stacked = values.map((v) =>
      reference.map((p) => p, v, {
        shape: [...common, 1, 1],
        data: new Float64Array(common.reduce((n, d) => n * d, 1)),
      })
    );
    const [left, right] = values.map(({ shape, data }) => tensor(Float32Array.from(data), shape));
    return { node: matmul(left, right, layout), expected: reference.matmul(stacked[0], stacked[1], layout) };
  });
  await using gpu = await openGpu();
  const seen = await readAll(gpu, made.map(({ node }) => node));
  made.forEach(({ node, expected }, i) => {
    assertEquals(node.shape, expected.shape);
    expected.data.forEach((value, at) => assert(Math.abs(seen[i][at] - value) < 1e-5, `case ${i} at ${at}`));
  });
});
