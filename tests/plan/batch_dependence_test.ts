import { assertEquals } from "@std/assert";
import {
  add,
  concat,
  dropout,
  embedding,
  exp,
  fill,
  leaf,
  matmul,
  max,
  mean,
  multiply,
  permute,
  readAll,
  reshape,
  slice,
  type Spec,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { attention, pad, rmsNorm, rotary, silu, softmax } from "@firn/train/ops";
import { ropeTables } from "@firn/train/nn";
import { broadcast } from "../../core/ops/broadcast.ts";
import { dependences } from "../../core/plan/prefix/batch_dependence.ts";
import { topological } from "../../core/graph.ts";
import { expandDefinitions } from "../../core/plan/rewrite/expand_definitions.ts";
import { simplify } from "../../core/plan/rewrite/simplify.ts";
import { bits } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const B = 3, T = 4, C = 8;
/** Where each sample of the other batch was in the first. */
const ORDER = [2, 0, 1];
const numbers = (shape: readonly number[], seed: number): Float32Array =>
  Float32Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => Math.sin(seed + i * 1.3));
const values = (shape: readonly number[], seed: number): Tensor => tensor(numbers(shape, seed), shape);

interface Inputs {
  /** f32 [B, T, C]. */
  readonly x: Tensor;
  /** i32 [B, T]. */
  readonly ids: Tensor;
  /** Parameters, f32. */
  readonly weight: Tensor; // [C, C]
  readonly gain: Tensor; // [C]
}

const specs: Record<keyof Inputs, Spec> = {
  x: { shape: [B, T, C], dtype: "f32" },
  ids: { shape: [B, T], dtype: "i32" },
  weight: { shape: [C, C], dtype: "f32" },
  gain: { shape: [C], dtype: "f32" },
};
const rows = (x: Tensor): Tensor => reshape(x, [B * T, C]);
const heads = (x: Tensor): Tensor => reshape(x, [B, T, 2, C / 2]);
const square = (x: Tensor): Tensor => matmul(x, x, { transposeB: true });

const apart: Record<string, (inputs: Inputs) => Tensor> = {
  "elements beside a vector": ({ x, gain }) => silu(add(multiply(x, gain), 1)),
  "elements of flat rows beside a vector": ({ x, gain }) => multiply(rows(x), gain),
  "elements beside a matrix of positions": ({ x }) => add(x, values([T, C], 5)),
  "elements beside positions that are repeated": ({ x }) => add(x, broadcast(values([T, C], 5), [B, T, C])),
  "elements beside one number of each sample": ({ x }) => multiply(x, reshape(sum(x, [1, 2]), [B, 1, 1])),
  "rows by a matrix": ({ x, weight }) => matmul(rows(x), weight, { transposeB: true }),
  "stacks of products": ({ x }) => square(x),
  "stacks of products by a matrix that is repeated": ({ x, weight }) =>
    matmul(x, broadcast(weight, [B, C, C])),
  "an embedding": ({ ids, weight }) => embedding(weight, ids),
  "a norm": ({ x, gain }) => rmsNorm(x, gain, { eps: 1e-5 }),
  "attention": ({ x }) => attention(heads(x), { k: heads(x), v: heads(x) }),
  "attention with a bias that all samples share": ({ x }) =>
    attention(heads(x), { k: heads(x), v: heads(x), bias: values([1, 2, 1, T], 5) }),
  "rotary positions": ({ x }) => rotary(heads(x), ropeTables({ theta: 100, dim: C / 2 }, { length: T })),
  "a sum over channels": ({ x }) => sum(x, -1),
  "a largest value over time and channels": ({ x }) => max(reshape(x, [B, T * C]), -1),
  "probabilities": ({ x }) => softmax(x),
  "other order of time and channels": ({ x }) => exp(permute(x, [0, 2, 1])),
  "a slice of the time": ({ x }) => exp(slice(x, { starts: [0, 1, 0], sizes: [B, 2, C] })),
  "zeros around the time": ({ x }) => exp(pad(x, { before: [0, 1, 0], after: [0, 1, 0] })),
  "joined channels": ({ x }) => exp(concat([x, silu(x)], 2)),
};
const mixed: Record<string, (inputs: Inputs) => Tensor> = {
  "elements beside other numbers in each row": ({ x }) => multiply(x, values([B, T, C], 5)),
  "elements of flat rows beside other numbers": ({ x }) => multiply(rows(x), values([B * T, 1], 5)),
  "elements of a batch along another axis": ({ x }) =>
    add(reshape(x, [1, B, T * C]), reshape(x, [B, 1, T * C])),
  "a matrix by rows": ({ x }) => matmul(values([2, B * T], 5), rows(x)),
  "a product along the samples": ({ x, weight }) =>
    matmul(rows(x), matmul(rows(x), weight), { transposeA: true }),
  "a product of all rows with all": ({ x }) => square(rows(x)),
  "stacks of products by different matrices": ({ x }) => matmul(x, values([B, C, C], 5)),
  "a sum over the batch": ({ x }) => sum(x, 0),
  "the mean of all": ({ x }) => mean(x),
  "samples as another axis": ({ x }) => permute(x, [1, 0, 2]),
  "a matrix by the columns of flat rows": ({ x }) =>
    matmul(rows(x), values([B * T, 2], 5), { transposeA: true }),
  "some of the samples": ({ x }) => slice(x, { starts: [0, 0, 0], sizes: [B - 1, T, C] }),
  "zeros around the samples": ({ x }) => pad(x, { before: [1, 0, 0], after: [2, 0, 0] }),
  "joined batches": ({ x }) => exp(concat([x, silu(x)], 0)),
  "joined with other numbers in each row": ({ x }) => exp(concat([x, values([B, T, C], 5)], 2)),
  "attention to what each row has for itself": ({ x }) =>
    attention(heads(x), { k: heads(x), v: values([B, T, 2, C / 2], 5) }),
  "attention to as many keys as each row has": ({ x }) =>
    attention(heads(x), {
      k: heads(x),
      v: heads(x),
      lengths: tensor(Int32Array.from({ length: B }, (_, b) => 1 + b % T)),
    }),
  "what a step draws": ({ x }) => dropout(x, { rate: 0.5, seed: 1 }),
};

/** What a value is known to depend on. */
function dependenceOf(make: (inputs: Inputs) => Tensor): string | undefined {
  const inputs = Object.fromEntries(Object.entries(specs).map(([path, spec]) => [path, leaf(path, spec)]));
  const [root] = simplify(expandDefinitions([make(inputs as unknown as Inputs)]));
  const kindOf = (path: string) => path === "x" || path === "ids" ? "batch" as const : "fixed" as const;
  return dependences(topological([root]), { samples: B, kindOf }).get(root);
}

/** Parts of a value, one a sample, of a batch in its order and in another. */
async function partsOf(make: (inputs: Inputs) => Tensor): Promise<(readonly number[])[][]> {
  const x = numbers(specs.x.shape, 1), ids = Int32Array.from({ length: B * T }, (_, i) => i * 3 % C);
  const reordered = <A extends Float32Array | Int32Array>(data: A): A => {
    const size = data.length / B, other = data.slice() as A;
    ORDER.forEach((from, to) => other.set(data.subarray(from * size, (from + 1) * size), to * size));
    return other;
  };
  const params = { weight: values([C, C], 2), gain: values([C], 3) };
  const results = await readAll(
    gpu,
    [[x, ids] as const, [reordered(x), reordered(ids)] as const].map(([x, ids]) =>
      make({ x: tensor(x, [B, T, C]), ids: tensor(ids, [B, T]), ...params })
    ),
  );
  return results.map((all) => {
    const flat = bits(all), size = flat.length / B;
    return Array.from({ length: B }, (_, i) => flat.slice(i * size, (i + 1) * size));
  });
}

for (const [name, make] of Object.entries(apart)) {
  Deno.test(`dependences finds that samples stay apart in ${name}, and they do to the bit`, async () => {
    assertEquals(dependenceOf(make), "perSample");
    const [first, other] = await partsOf(make);
    assertEquals(other, ORDER.map((from) => first[from]));
  });
}

for (const [name, make] of Object.entries(mixed)) {
  Deno.test(`dependences does not take samples to be apart in ${name}`, () => {
    assertEquals(dependenceOf(make), undefined);
  });
}

Deno.test("dependences calls fixed what no sample and no step changes", () => {
  assertEquals(dependenceOf(({ weight, gain }) => multiply(matmul(weight, weight), gain)), "fixed");
  assertEquals(dependenceOf(() => fill(2, [B, T])), "repeated");
});
