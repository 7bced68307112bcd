import { assert, assertEquals } from "@std/assert";
import { grad, leaf, openGpu, readAll, sum, type Tensor, tensor } from "@firn/train";
import * as ops from "@firn/train/ops";
import { unfuse } from "../reference/check_ops.ts";
import { evaluate } from "../reference/evaluate.ts";
import { evaluateFused } from "../reference/evaluate_fused.ts";
import { assertNear, random, slopes, type Values } from "../reference/values.ts";

type Call = (...inputs: Tensor[]) => Tensor;

/** A function, and how it is checked. */
interface Row {
  readonly call: Call;
  /** Shapes of the inputs to differentiate by. */
  readonly shapes: readonly (readonly number[])[];
  readonly low?: number;
  readonly high?: number;
  /** The same in simpler ops; `call` when absent. */
  readonly plain?: Call;
  /** Whether the device computes the second derivative with its kernels; its definitions in float64 when absent. */
  readonly device?: true;
}

const vector = [[3]], two = [[2, 3], [3]];
const ids = tensor(new Int32Array([2, 0, 2]));
const labels = tensor(new Int32Array([1, -100, 4]));
const table = (seed: number): Tensor => tensor(Float32Array.from(random([2, 2], { seed }).data), [2, 2]);
const { attention, linearCrossEntropy, crossEntropy, matmul } = ops;

const firstTwo = (x: Tensor): Tensor => ops.slice(x, { starts: [0, 0, 0, 0], sizes: [1, 2, 1, 2] });

const places = tensor(new Int32Array([2, 0, 2, 1, 0, 0, 1, 0]), [2, 4]);
const upper = tensor([1, 1, 1, 0, 1, 1, 0, 0, 1], [3, 3]),
  turned = tensor([0, 0, 1, 0, 1, 0, 1, 0, 0], [3, 3]);
/** The second of three numbers in order. */
function middle(x: Tensor): Tensor {
  const rest = ops.add(ops.max(x, -1, { keepDims: true }), ops.min(x, -1, { keepDims: true }));
  return ops.subtract(ops.sum(x, -1, { keepDims: true }), rest);
}

const logSums = (x: Tensor): Tensor => ops.log(ops.sum(ops.exp(x), -1));

const ROWS: Readonly<Record<string, Row>> = {
  ...Object.fromEntries(
    ([
      "gelu",
      "silu",
      "negate",
      "abs",
      "exp",
      "sigmoid",
      "tanh",
      "erf",
      "sin",
      "cos",
      "softplus",
      "leakyRelu",
    ] as const)
      .map((name) => [name, { call: ops[name], shapes: vector }]),
  ),
  ...Object.fromEntries(
    (["relu", "log", "rsqrt", "sqrt"] as const)
      .map((name) => [name, { call: ops[name], shapes: vector, low: 0.5, high: 2 }]),
  ),
  ...Object.fromEntries(
    (["add", "subtract", "multiply", "maximum", "minimum"] as const)
      .map((name) => [name, { call: ops[name], shapes: two }]),
  ),
  "exact gelu": { call: (x) => ops.gelu(x, { approximate: false }), shapes: vector },
  pow: { call: ops.pow, shapes: two, low: 0.5, high: 2 },
  clamp: { call: (x) => ops.clamp(x, { min: -0.2, max: 0.3 }), shapes: vector },
  stopGradient: { call: (x) => ops.multiply(x, ops.stopGradient(tensor([1, 2, 3]))), shapes: vector },
  min: { call: (x) => ops.min(x, -1), shapes: two.slice(0, 1) },
  variance: { call: (x) => ops.variance(x, -1), shapes: two.slice(0, 1) },
  logSumExp: { call: (x) => ops.logSumExp(x, -1), shapes: two.slice(0, 1), plain: logSums },
  logSoftmax: {
    call: (x) => ops.logSoftmax(x),
    plain: (x) => ops.subtract(x, ops.expandDims(logSums(x), -1)),
    shapes: two.slice(0, 1),
  },
  expandDims: { call: (x) => ops.expandDims(x, 0), shapes: vector },
  squeeze: { call: (x) => ops.squeeze(ops.reshape(x, [1, 3])), shapes: vector },
  split: { call: (x) => ops.split(x, [1, 2])[1], shapes: vector },
  stack: { call: (a, b) => ops.stack([a, b], -1), shapes: [[3], [3]] },
  meanSquaredError: { call: ops.meanSquaredError, shapes: [[3], [3]] },
  binaryCrossEntropy: { call: ops.binaryCrossEntropy, shapes: [[3], [3]] },
  divide: { call: ops.divide, shapes: two, low: 0.5, high: 2 },
  where: { call: (a, b) => ops.where(tensor([1, 0, 1]), a, b), shapes: two },
  broadcast: { call: (x) => ops.broadcast(x, [2, 3]), shapes: vector },
  sum: { call: (x) => ops.sum(x, 0), shapes: two.slice(0, 1) },
  sumEach: { call: (a, b) => ops.sumEach([a, b], { size: 3 }), shapes: two },
  mean: { call: (x) => ops.mean(x, -1), shapes: two.slice(0, 1) },
  max: { call: (x) => ops.max(x, -1), shapes: two.slice(0, 1) },
  softmax: { call: (x) => ops.softmax(x), shapes: two.slice(0, 1) },
  matmul: { call: (a, b) => matmul(a, b, { transposeA: true }), shapes: [[3, 2], [3, 2]] },
  concat: { call: (a, b) => ops.concat([a, b], -1), shapes: [[2, 3], [2, 1]] },
  pad: { call: (x) => ops.pad(x, { before: [1], after: [0] }), shapes: vector },
  permute: { call: (x) => ops.permute(x, [1, 0]), shapes: two.slice(0, 1) },
  reshape: { call: (x) => ops.reshape(x, [3, 2]), shapes: two.slice(0, 1) },
  slice: { call: (x) => ops.slice(x, { starts: [0, 1], sizes: [2, 2] }), shapes: two.slice(0, 1) },
  pick: { call: (x, gain) => ops.pick(ops.rmsNorm(x, gain, { eps: 0.1 }), 1), shapes: two },
  rotary: { call: (x) => ops.rotary(x, { cos: table(7), sin: table(8) }), shapes: [[1, 2, 1, 4]] },
  attention: {
    call: (q, k, v, bias) => attention(q, { k, v, bias, softCap: 1.2, window: 2 }),
    shapes: [[1, 2, 2, 2], [1, 3, 1, 2], [1, 3, 1, 2], [1, 2, 1, 3]],
  },
  "attention to keys without padding": {
    call: (q, k, v) => attention(q, { k, v, lengths: tensor(new Int32Array([2])), causal: false }),
    plain: (q, k, v) => attention(q, { k: firstTwo(k), v: firstTwo(v), causal: false }),
    shapes: [[1, 2, 2, 2], [1, 3, 1, 2], [1, 3, 1, 2]],
    device: true,
  },
  crossEntropy: { call: (x) => crossEntropy(x, labels), shapes: [[3, 5]], device: true },
  rmsNorm: { call: (x, gain) => ops.rmsNorm(x, gain, { eps: 0.1 }), shapes: two, device: true },
  layerNorm: {
    call: (x, weight, bias) => ops.layerNorm(x, { weight, bias, eps: 0.1 }),
    shapes: [[2, 3], [3], [3]],
    device: true,
  },
  gather: { call: (x) => ops.gather(x, places), shapes: [[2, 3]], device: true },
  scatterAdd: {
    call: (x, updates) => ops.scatterAdd(x, { indices: places, updates }),
    shapes: [[2, 3], [2, 4]],
    plain: (x, updates) =>
      ops.add(x, ops.sum(ops.multiply(ops.expandDims(updates, -1), ops.oneHot(places, 3)), 1)),
    device: true,
  },
  topK: {
    call: (x) => ops.topK(x, 2).values,
    plain: (x) => ops.concat([ops.max(x, -1, { keepDims: true }), middle(x)], -1),
    shapes: [[2, 3]],
    device: true,
  },
  cumsum: { call: (x) => ops.cumsum(x), shapes: [[2, 3]], plain: (x) => matmul(x, upper), device: true },
  flip: { call: (x) => ops.flip(x, -1), shapes: [[2, 3]], plain: (x) => matmul(x, turned), device: true },
  associativeScan: {
    call: (a, b) =>
      ops.associativeScan(
        ([a, b], [c, d]) => [ops.multiply(a, c), ops.add(ops.multiply(b, c), d)],
        [a, b],
      )[1],
    shapes: [[3], [3]],
  },
  conv1d: {
    call: (x, w) => ops.conv1d(x, w, { padding: 1 }),
    // Three windows of two with a zero on both sides.
    plain: (x, w) => {
      const all = ops.pad(x, { before: [0, 0, 1], after: [0, 0, 1] });
      const parts = [0, 1].map((k) =>
        ops.multiply(
          ops.slice(all, { starts: [0, 0, k], sizes: [1, 1, 3] }),
          ops.slice(w, { starts: [0, 0, k], sizes: [1, 1, 1] }),
        )
      );
      return ops.add(parts[0], parts[1]);
    },
    shapes: [[1, 1, 2], [1, 1, 2]],
    device: true,
  },
  maxPool1d: {
    call: (x) => ops.maxPool1d(x, { size: 2 }),
    plain: (x) => ops.max(ops.reshape(x, [1, 1, 2, 2]), -1),
    shapes: [[1, 1, 4]],
    device: true,
  },
  avgPool1d: {
    call: (x) => ops.avgPool1d(x, { size: 2 }),
    plain: (x) => ops.mean(ops.reshape(x, [1, 1, 2, 2]), -1),
    shapes: [[1, 1, 4]],
    device: true,
  },
  ...Object.fromEntries(
    (["maxPool2d", "avgPool2d"] as const).map((name) => [name, {
      call: (x: Tensor) => ops[name](x, { size: 1 }),
      plain: (x: Tensor) => x,
      shapes: [[1, 1, 2, 2]],
      device: true as const,
    }]),
  ),
  conv2d: {
    call: (x, w) => ops.conv2d(x, w),
    plain: (x, w) => ops.reshape(matmul(ops.reshape(w, [2, 3]), ops.reshape(x, [3, 4])), [1, 2, 2, 2]),
    shapes: [[1, 3, 2, 2], [2, 3, 1, 1]],
    device: true,
  },
  einsum: { call: (a, b) => ops.einsum("ij,kj->ki", [a, b]), shapes: [[2, 3], [2, 3]] },
  embedding: { call: (x) => ops.embedding(x, ids), shapes: [[3, 2]], device: true },
  linearCrossEntropy: {
    // Chunks of two rows, whose scores are padded from five to eight.
    call: (hidden, weight) => linearCrossEntropy(hidden, { weight, labels, bytes: 64 }),
    plain: (hidden, weight) => crossEntropy(matmul(hidden, weight, { transposeB: true }), labels),
    shapes: [[3, 2], [5, 2]],
    device: true,
  },
};

/** Functions through which no gradient flows, or that make no tensor of numbers. */
const FLAT =
  "equal less sign argmax argmin cast dequantize integers arange oneHot nextLabels randomNormal randomUniform apply"
    .split(
      " ",
    );

/** The gradients of a loss that is not linear in the output. */
function gradients(y: Tensor, inputs: readonly Tensor[]): Tensor[] {
  const weight = tensor(Float32Array.from(random(y.shape, { seed: 90, low: 0.5 }).data), y.shape);
  return grad(sum(ops.multiply(weight, ops.multiply(y, y))), inputs);
}

/** A scalar that depends on all gradients. */
function mixed(parts: readonly Tensor[]): Tensor {
  return parts
    .map((part, i) => tensor(Float32Array.from(random(part.shape, { seed: 80 + i }).data), part.shape))
    .map((factor, i) => sum(ops.multiply(factor, parts[i])))
    .reduce(ops.add);
}

function valuesOf({ shapes, low, high }: Row): Values[] {
  return shapes.map((shape, i) => random(shape, { seed: i + 1, low, high }));
}

function twice({ call }: Row, inputs: readonly Tensor[]): Tensor[] {
  return grad(mixed(gradients(call(...inputs), inputs)), inputs);
}

/** Central differences of the first derivative in float64. */
function expected(row: Row): number[][] {
  const { call, plain = call } = row, values = valuesOf(row);
  const leaves = values.map(({ shape }, i) => leaf(`${i}`, { shape, dtype: "f32" }));
  const once = mixed(gradients(unfuse([plain(...leaves)])[0], leaves));
  const loss = (inputs: readonly Values[]): number => {
    const [value] = evaluate([once], new Map(inputs.map((x, i) => [`${i}`, x])));
    return value.data[0];
  };
  return values.map(({ data }, index) => slopes(loss, { inputs: values, index, elements: [...data.keys()] }));
}

Deno.test("the table of second derivatives has every function of /ops", () => {
  const functions = Object.keys(ops).filter((name) => typeof ops[name as "gelu"] === "function");
  const known = ["dropout", ...Object.keys(ROWS), ...FLAT];
  assertEquals(functions.filter((name) => !known.includes(name)), []);
});

Deno.test("second derivatives equal float64 differences of the first ones, for every function", () => {
  for (const [name, row] of Object.entries(ROWS)) {
    if (row.device) continue;
    const values = valuesOf(row);
    const leaves = values.map(({ shape }, i) => leaf(`${i}`, { shape, dtype: "f32" }));
    const seen = evaluate(unfuse(twice(row, leaves)), new Map(values.map((x, i) => [`${i}`, x])));
    // Differences of first derivatives keep about eight digits.
    expected(row).forEach((slope, i) =>
      assertNear(seen[i].data, slope, { tolerance: 1e-6, what: `${name}, input ${i}` })
    );
  }
});

Deno.test("kernels of gradients have gradients: cross-entropies, rmsNorm, embedding and attention on the device", async () => {
  await using gpu = await openGpu();
  const rows = Object.entries(ROWS).filter(([, { device }]) => device);
  const roots = rows.map(([, row]) =>
    twice(row, valuesOf(row).map(({ shape, data }) => tensor(Float32Array.from(data), shape)))
  );
  const seen = await readAll(gpu, roots.flat());
  let at = 0;
  for (const [name, row] of rows) {
    for (const [i, slope] of expected(row).entries()) {
      // f32 after two passes of some tens of terms.
      assertNear(seen[at++], slope, { tolerance: 2e-5, what: `${name}, input ${i}` });
      assert(slope.some((x) => x !== 0));
    }
  }
});

Deno.test("no gradient of either order reaches the row of the padding", () => {
  const table = leaf("table", { shape: [3, 2], dtype: "f32" }), seen = tensor(Int32Array.of(0, 2, 1, 2));
  const rows = ops.embedding(table, seen, { padding: 2 });
  const [first] = grad(ops.sum(ops.multiply(rows, rows)), [table]);
  const [second] = grad(ops.sum(ops.multiply(first, first)), [table]);
  const values = { shape: [3, 2], data: Float64Array.of(1, 2, 3, 4, 5, 6) };
  const [once, twice] = evaluateFused([first, second], new Map([[table, values]]));
  assertEquals([...once.data, ...twice.data], [2, 4, 6, 8, 0, 0, 8, 16, 24, 32, 0, 0]);
});
