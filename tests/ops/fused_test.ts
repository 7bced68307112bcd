import { assertThrows } from "@std/assert";
import { fill, InputError, type Tensor, tensor } from "@firn/train";
import {
  add,
  attention,
  type AttentionOptions,
  crossEntropy,
  embedding,
  layerNorm,
  multiply,
  rmsNorm,
  rotary,
  softmax,
} from "@firn/train/ops";
import { checkOps, type OpCase } from "../reference/check_ops.ts";
import * as reference from "../reference/ops.ts";
import { build } from "../reference/values.ts";

const EPS = 1e-5;

function rmsNormCase(shape: readonly number[]): OpCase {
  return {
    name: `rmsNorm [${shape}]`,
    inputs: [{ shape }, { shape: [shape.at(-1)!], low: 0.5, high: 1.5 }],
    op: (x, gain) => rmsNorm(x, gain, { eps: EPS }),
    reference: (x, gain) => reference.rmsNorm(x, gain, EPS),
  };
}

function layerNormCase(shape: readonly number[], vectors: readonly ("weight" | "bias")[]): OpCase {
  const own = { shape: [shape.at(-1)!], low: 0.5, high: 1.5 };
  return {
    name: `layerNorm [${shape}] with ${vectors.join(" and ") || "nothing else"}`,
    // A mean that is far larger than the deviation.
    inputs: [{ shape, low: 2, high: 4 }, ...vectors.map(() => own)],
    op: (x, ...rest) =>
      layerNorm(x, { eps: EPS, ...Object.fromEntries(vectors.map((name, i) => [name, rest[i]])) }),
    reference: (x, ...rest) =>
      vectors.reduce(
        (y, name, i) => reference.map(name === "weight" ? (a, b) => a * b : (a, b) => a + b, y, rest[i]),
        reference.layerNorm(x, EPS),
      ),
    tolerance: 3e-5,
  };
}

function softmaxCase(shape: readonly number[], axis: number): OpCase {
  return {
    name: `softmax [${shape}] along ${axis}`,
    inputs: [{ shape, low: -3, high: 3 }],
    op: (x) => softmax(x, axis),
    reference: (x) => reference.softmax(x, axis < 0 ? axis + shape.length : axis),
  };
}

function rotaryCase([batch, time, heads, dim, turned = dim]: readonly number[]): OpCase {
  const angle = ([t, i]: readonly number[]): number => t / 100 ** (2 * i / dim);
  const cos = build([time + 2, turned / 2], (place) => Math.fround(Math.cos(angle(place))));
  const sin = build([time + 2, turned / 2], (place) => Math.fround(Math.sin(angle(place))));
  const table = (x: typeof cos): Tensor => tensor(Float32Array.from(x.data), x.shape);
  const tables = { cos: table(cos), sin: table(sin) };
  return {
    name: `rotary ${batch}x${time}x${heads}x${dim}, ${turned} turned`,
    inputs: [{ shape: [batch, time, heads, dim] }],
    op: (x) => rotary(x, tables),
    reference: (x) => reference.rotary(x, cos, sin),
  };
}

interface AttentionCase extends Omit<AttentionOptions, "bias" | keyof Limits | "offset"> {
  /** B, T, S, H, G, D. */
  readonly sizes: readonly number[];
  readonly bias?: readonly number[];
  readonly offset?: number;
  readonly limits?: Limits;
  /** What the limits let a query see: the sequence, the query and the key. */
  readonly sees?: (b: number, i: number, j: number) => boolean;
}

/** Integers for each sequence or each key. */
type Limits = Partial<
  Readonly<Record<"lengths" | "starts" | "segments" | "positions" | "offset", number[]>>
>;

function attentionCase({ sizes, bias, limits = {}, sees, ...options }: AttentionCase): OpCase {
  const [batch, time, keys, heads, groups, dim] = sizes;
  const other = { shape: [batch, keys, groups, dim] }, names = Object.keys(limits);
  const biases = bias === undefined ? [] : [{ shape: bias }];
  return {
    name: `attention [${sizes}] ${JSON.stringify({ ...options, bias, ...limits })}`,
    inputs: [
      { shape: [batch, time, heads, dim] },
      other,
      other,
      ...biases,
      ...Object.values(limits).map((integers) => ({
        shape: integers.length <= batch ? [integers.length] : [batch, integers.length / batch],
        integers,
      })),
    ],
    op: (q, k, v, ...more) => {
      const given = Object.fromEntries(names.map((name, i) => [name, more[i + biases.length]]));
      return attention(q, { k, v, ...options, ...given, ...(bias === undefined ? {} : { bias: more[0] }) });
    },
    reference: (...inputs) => reference.attention(inputs.slice(0, 3 + biases.length), { ...options, sees }),
  };
}

function embeddingCase([vocab, width]: readonly number[], ids: readonly number[]): OpCase {
  return {
    name: `embedding ${ids.length} of ${vocab}x${width}`,
    inputs: [{ shape: [vocab, width] }, { shape: [ids.length], integers: ids }],
    op: (table, ids) => embedding(table, ids),
    reference: reference.embedding,
  };
}

function crossEntropyCase(classes: number, labels: readonly number[]): OpCase {
  return {
    name: `crossEntropy of ${classes} classes, labels ${labels}`,
    inputs: [{ shape: [labels.length, classes], low: -3, high: 3 }, {
      shape: [labels.length],
      integers: labels,
    }],
    op: crossEntropy,
    reference: reference.crossEntropy,
  };
}

checkOps([
  rmsNormCase([5, 7]),
  rmsNormCase([2, 3, 8]),
  rmsNormCase([1, 1]),
  layerNormCase([5, 7], ["weight", "bias"]),
  layerNormCase([2, 3, 8], ["weight"]),
  layerNormCase([3, 5], []),
  layerNormCase([3, 12], ["bias"]),
  {
    name: "layerNorm beside a residual, whose gradient its kernel adds",
    inputs: [{ shape: [3, 8] }, { shape: [8] }],
    op: (x, weight) => add(x, layerNorm(x, { weight, eps: EPS })),
    reference: (x, weight) => reference.map((a, n, w) => a + n * w, x, reference.layerNorm(x, EPS), weight),
    tolerance: 3e-5,
  },
  softmaxCase([3, 7], -1),
  softmaxCase([2, 9, 3], 1),
  softmaxCase([5, 3, 4], 0),
  rotaryCase([2, 5, 3, 6]),
  rotaryCase([1, 1, 1, 8]),
  rotaryCase([2, 3, 2, 8, 2]),
  rotaryCase([1, 3, 2, 16, 8]),
  attentionCase({ sizes: [1, 1, 1, 1, 1, 1] }),
  attentionCase({ sizes: [2, 5, 5, 3, 1, 6] }),
  attentionCase({ sizes: [1, 13, 13, 4, 2, 8], window: 4 }),
  attentionCase({ sizes: [1, 3, 7, 2, 2, 4], scale: 0.3 }),
  attentionCase({ sizes: [1, 5, 5, 2, 1, 4], causal: false }),
  attentionCase({ sizes: [1, 3, 5, 2, 1, 4], softCap: 0.5 }),
  attentionCase({ sizes: [2, 5, 5, 2, 1, 4], bias: [1, 2, 1, 5], scale: 1 }),
  attentionCase({ sizes: [2, 3, 5, 2, 2, 4], bias: [2, 1, 3, 5], softCap: 0.8, causal: false }),
  attentionCase({
    sizes: [3, 4, 4, 1, 1, 3],
    causal: false,
    limits: { lengths: [0, 4, 3], starts: [0, 1, 1] },
    sees: (b, _, j) => j >= [0, 1, 1][b] && j < [0, 4, 3][b],
  }),
  attentionCase({
    sizes: [2, 4, 4, 2, 1, 4],
    bias: [1, 1, 4, 4],
    limits: { segments: [1, 1, 5, 5, 2, 3, 3, 3] },
    sees: (b, i, j) => j <= i && (b === 0 ? i >> 1 === j >> 1 : (i > 0) === (j > 0)),
  }),
  // Positions 0 2 3 3 are one document, of which a window of two positions sees some; 1 2 0 1 are two documents.
  attentionCase({
    sizes: [2, 4, 4, 1, 1, 4],
    window: 2,
    limits: { positions: [0, 2, 3, 3, 1, 2, 0, 1] },
    sees: (b, i, j) => [[[0], [1], [1, 2, 3], [1, 2, 3]], [[0], [0, 1], [2], [2, 3]]][b][i].includes(j),
  }),
  attentionCase({ sizes: [1, 2, 6, 1, 1, 4], offset: 3, sees: (_, i, j) => j <= i + 3 }),
  attentionCase({
    sizes: [2, 2, 6, 2, 1, 4],
    window: 3,
    limits: { offset: [4, 1] },
    sees: (b, i, j) => j <= i + [4, 1][b] && j > i + [4, 1][b] - 3,
  }),
  embeddingCase([5, 6], [3, 0, 3, 3, 4, 0, 3]),
  embeddingCase([3, 4], [1]),
  crossEntropyCase(7, [0, 6, 3]),
  crossEntropyCase(9, [-100, 8, -100, 2]),
  crossEntropyCase(8, [-100, -100]),
  {
    name: "crossEntropy of uneven rows",
    inputs: [{ shape: [3, 5] }, { shape: [3], integers: [4, -100, 0] }, { shape: [3, 1] }],
    op: (x, labels, factor) => crossEntropy(multiply(x, factor), labels),
    reference: (x, labels, factor) =>
      reference.crossEntropy(reference.map((a, b) => a * b, x, factor), labels),
  },
]);

Deno.test("attention refuses key heads that do not divide the query heads", () => {
  const heads = (count: number): Tensor => fill(1, [1, 2, count, 4]);
  assertThrows(() => attention(heads(3), { k: heads(2), v: heads(2) }), InputError, "G dividing H");
});

Deno.test("attention refuses caps, biases and limits that do not fit", () => {
  const q = fill(1, [2, 3, 2, 4]), k = fill(1, [2, 5, 1, 4]);
  const integers = (shape: readonly number[], value = 0): Tensor =>
    tensor(new Int32Array(shape.reduce((a, b) => a * b)).fill(value), shape);
  const refused: readonly [AttentionOptions, string][] = [
    [{ softCap: 0 }, '"softCap" must be a number above 0, or null'],
    [{ bias: fill(0, [2, 2, 3, 1]) }, '"bias" must be f32 of shape [2 or 1, 2 or 1, 3 or 1, 5]'],
    [{ bias: integers([1, 1, 1, 5]) }, "it is i32"],
    [{ lengths: fill(2, [2]) }, '"lengths" must be i32 or u32 of shape [2]'],
    [{ lengths: integers([2], 6) }, '"lengths" must be from 0 to 5: got 6'],
    [{ starts: integers([3]) }, '"starts" must be i32 or u32 of shape [2]'],
    [{ segments: integers([2, 3]) }, '"segments" must be i32 or u32 of shape [2,5], one for each key'],
    [{ positions: integers([5]) }, '"positions" must be i32 or u32 of shape [2,5], one for each key'],
    [{ offset: 3 }, '"offset" must be a whole number from 0 to S - T, which is 2: got 3'],
    [{ offset: integers([1], 3) }, '"offset" must be from 0 to 2: got 3'],
    [{ offset: integers([5]) }, '"offset" must be i32 or u32 of shape [2] or [1]'],
  ];
  for (const [options, message] of refused) {
    assertThrows(() => attention(q, { k, v: k, ...options }), InputError, message);
  }
});

Deno.test("crossEntropy refuses labels that are not i32", () => {
  assertThrows(() => crossEntropy(fill(0, [2, 3]), fill(0, [2])), InputError, "labels must be i32");
});
