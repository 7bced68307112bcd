import { assertThrows } from "@std/assert";
import { fill, InputError, type Tensor, tensor } from "@firn/train";
import {
  attention,
  type AttentionOptions,
  crossEntropy,
  embedding,
  multiply,
  rmsNorm,
  rotary,
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

interface AttentionCase extends AttentionOptions {
  /** B, T, S, H, G, D. */
  readonly sizes: readonly number[];
}

function attentionCase({ sizes, ...options }: AttentionCase): OpCase {
  const [batch, time, keys, heads, groups, dim] = sizes;
  const other = { shape: [batch, keys, groups, dim] };
  return {
    name: `attention [${sizes}] ${JSON.stringify(options)}`,
    inputs: [{ shape: [batch, time, heads, dim] }, other, other],
    op: (q, k, v) => attention(q, { k, v, ...options }),
    reference: (...inputs) => reference.attention(inputs, options),
  };
}

function embeddingCase([vocab, width]: readonly number[], ids: readonly number[]): OpCase {
  return {
    name: `embedding ${ids.length} of ${vocab}x${width}`,
    inputs: [{ shape: [vocab, width] }, { shape: [ids.length], integers: ids }],
    op: embedding,
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
  rotaryCase([2, 5, 3, 6]),
  rotaryCase([1, 1, 1, 8]),
  rotaryCase([2, 3, 2, 8, 2]),
  rotaryCase([1, 3, 2, 16, 8]),
  attentionCase({ sizes: [1, 1, 1, 1, 1, 1] }),
  attentionCase({ sizes: [2, 5, 5, 3, 1, 6] }),
  attentionCase({ sizes: [1, 13, 13, 4, 2, 8], window: 4 }),
  attentionCase({ sizes: [1, 3, 7, 2, 2, 4], scale: 0.3 }),
  attentionCase({ sizes: [1, 5, 5, 2, 1, 4], causal: false }),
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

Deno.test("crossEntropy refuses labels that are not i32", () => {
  assertThrows(() => crossEntropy(fill(0, [2, 3]), fill(0, [2])), InputError, "labels must be i32");
});
