/** Tensors larger than one binding are computed by rows, to the numbers that they have in one buffer. */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  add,
  concat,
  crossEntropy,
  embedding,
  fill,
  grad,
  leaf,
  matmul,
  max,
  multiply,
  OutOfMemoryError,
  permute,
  readAll,
  reshape,
  slice,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { linearCrossEntropy, pad, softmax, sumEach } from "@firn/train/ops";
import { toBf16 } from "../../core/data/floats.ts";
import { rebuild } from "../../core/graph.ts";
import { plan } from "../../core/plan/plan.ts";
import { expandDefinitions } from "../../core/plan/rewrite/expand_definitions.ts";
import { splitRows } from "../../core/plan/rewrite/split_rows.ts";
import { isPart, offsetOf, wholeOf } from "../../core/plan/rows.ts";
import { upload } from "../../core/runtime/upload.ts";
import { evaluate } from "../reference/evaluate.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const LIMIT = 4096;
const target = { ...gpu.target, maxBindingBytes: LIMIT, bindingAlignment: 256 };
const small = { ...gpu, target };

function waves(shape: readonly number[], seed: number): Float32Array<ArrayBuffer> {
  const size = shape.reduce((a, b) => a * b);
  return Float32Array.from({ length: size }, (_, i) => Math.sin(seed * 17 + i * 1.7));
}

const given = (shape: readonly number[], seed: number): Tensor => tensor(waves(shape, seed), shape);

/** 93 rows of 128 bytes: three parts, the last one shorter. */
const table = leaf("table", { shape: [93, 32], dtype: "f32" });
const other = leaf("other", { shape: [93, 32], dtype: "f32" });
const stack = leaf("stack", { shape: [6, 16, 32], dtype: "f32" });
const leaves = new Map([table, other, stack].map((x, i) => {
  const { path } = x.attrs as { path: string };
  return [path, { shape: x.shape, data: Float64Array.from(waves(x.shape, i)) }] as const;
}));
const ids = tensor(new Int32Array([0, 31, 32, 63, 64, 92, 5, 64]), [2, 4]);

/** Values that read a large tensor, are one, or both. */
const VALUES: Readonly<Record<string, Tensor>> = {
  embedding: embedding(table, ids),
  "embedding of as many rows": embedding(
    table,
    tensor(Int32Array.from({ length: 50 }, (_, i) => i * 50 % 93)),
  ),
  "product with the transposed table": matmul(given([8, 32], 4), table, { transposeB: true }),
  "product with the table": matmul(given([8, 93], 5), table),
  "product of a transposed matrix with the table": matmul(given([93, 8], 5), table, { transposeA: true }),
  "product of the transposed table": matmul(table, given([93, 4], 6), { transposeA: true }),
  "product of the transposed table with a transposed matrix": matmul(table, given([4, 93], 6), {
    transposeA: true,
    transposeB: true,
  }),
  "product of the table": matmul(table, given([32, 4], 6)),
  "product of the table that is large": matmul(table, given([32, 32], 6)),
  "product of two tables": matmul(table, other, { transposeA: true }),
  "product of two tables that is large": matmul(table, other, { transposeB: true }),
  "stack of products": matmul(given([6, 4, 16], 6), stack),
  "outer product": matmul(given([8, 93], 6), given([8, 32], 7), { transposeA: true }),
  "elementwise with rows and columns": add(
    multiply(table, given([93, 1], 8)),
    multiply(other, given([32], 9)),
  ),
  "total of all": sum(multiply(table, other)),
  "totals of each": sumEach([given([4], 1), table, given([2, 2], 3), other], { size: 6 }),
  "sums of rows": sum(table, 1),
  "sums of columns": sum(table, 0),
  "largest of columns": max(table, 0),
  "sums of a stack": sum(stack, 2),
  "rows inside": slice(table, { starts: [30, 4], sizes: [50, 8] }),
  "most of the rows": slice(table, { starts: [3, 0], sizes: [80, 32] }),
  "rows before and behind": concat([given([3, 32], 1), table, fill(2, [5, 32])], 0),
  "columns behind": concat([table, given([93, 2], 2)], 1),
  padding: pad(table, { before: [40, 0], after: [3, 1] }),
  "columns as rows": permute(table, [1, 0]),
  "turned stack": permute(stack, [0, 2, 1]),
  "another shape": reshape(table, [31, 3, 32]),
};

/** A graph without the ops of parts, and with simple ones in place of embeddings. */
function plain(roots: readonly Tensor[]): Tensor[] {
  return rebuild(roots, (node) => {
    if (node.op.name === "embedding") return plain(node.op.definition!(node.inputs, node.attrs))[0];
    if (!isPart(node)) return node;
    const whole = wholeOf(node), rest = whole.shape.slice(1), rowSize = 4 * rest.reduce((a, b) => a * b, 1);
    return slice(whole, { starts: [offsetOf(node) / rowSize, ...rest.map(() => 0)], sizes: node.shape });
  });
}

function nodesOf(roots: readonly Tensor[], found: Set<Tensor> = new Set()): Set<Tensor> {
  for (const root of roots) if (!found.has(root)) nodesOf(found.add(root) && root.inputs, found);
  return found;
}

for (const [name, value] of Object.entries(VALUES)) {
  Deno.test(`by rows, a value is what it is in one buffer: ${name}`, () => {
    const graph = expandDefinitions([value]),
      { roots, places } = splitRows(graph, {
        target: { ...target, bindingAlignment: 16 },
      });
    assertEquals(places, [0]);
    for (const node of nodesOf(roots)) {
      const bytes = 4 * node.shape.reduce((a, b) => a * b, 1);
      assert(bytes <= LIMIT, `"${node.op.name}" takes ${bytes} bytes`);
      if (isPart(node)) assertEquals(offsetOf(node) % 16, 0, "a binding begins where it may");
    }
    const [expected] = evaluate(plain([value]), leaves);
    const seen = evaluate(plain(roots), leaves).flatMap(({ data }) => [...data]);
    assertEquals(seen.length, expected.data.length);
    seen.forEach((x, i) => assertAlmostEquals(x, expected.data[i], 1e-12, `element ${i}`));
  });
}

Deno.test("on the device, parts are ranges of one buffer", async () => {
  const packed = upload(gpu, toBf16(waves([186, 32], 3)), { shape: [186, 32], label: "packed" });
  const weight = upload(gpu, waves([93, 32], 1), { shape: [93, 32], label: "weight" });
  const labels = tensor(new Int32Array([92, -100, 0, 31, 32, 64, -100, 70]));
  const hidden = reshape(embedding(weight, ids), [8, 32]);
  const loss = linearCrossEntropy(hidden, { weight, labels, bytes: 1500 });
  const strange = upload(gpu, new Int32Array([-1, 93, 40, 2 ** 31 - 1]), { shape: [4], label: "ids" });
  const values = [
    embedding(packed, ids),
    matmul(given([5, 32], 4), packed, { transposeB: true }),
    embedding(weight, strange),
    loss,
    grad(loss, [weight])[0],
    grad(crossEntropy(matmul(hidden, weight, { transposeB: true }), labels), [weight])[0],
    grad(sum(multiply(embedding(weight, strange), 2)), [weight])[0],
  ];
  const expected = await readAll(gpu, values), seen = await readAll(small, values);
  assert(plan(values, { target }).buffers.every(({ bytes }) => bytes <= LIMIT));
  for (const [k, right] of expected.entries()) {
    assertEquals(seen[k].length, right.length);
    right.forEach((x, i) => {
      if (Number.isNaN(x)) assert(Number.isNaN(seen[k][i]), `value ${k}, element ${i}`);
      else assertAlmostEquals(seen[k][i], x, 1e-6, `value ${k}, element ${i}`);
    });
  }
});

Deno.test("a total that is not finite leaves the others alone", async () => {
  const [[a, b, c, d]] = await readAll(small, [
    sumEach(
      [fill(Infinity, [4]), fill(2, [93, 32]), fill(NaN, [2])].map((x) =>
        multiply(x, given(x.shape.map(() => 1), 1))
      ),
      { size: 4 },
    ),
  ]);
  assertEquals([a, c, d], [Math.sin(17) < 0 ? -Infinity : Infinity, NaN, 0]);
  assertAlmostEquals(b, 2 * 93 * 32 * Math.sin(17), 0.01);
});

Deno.test("plans of tensors that fit are not split", () => {
  const loss = linearCrossEntropy(reshape(embedding(table, ids), [8, 32]), {
    weight: table,
    labels: reshape(ids, [8]),
  });
  const roots = [loss, ...grad(loss, [table])];
  const texts = (maxBindingBytes?: number): string =>
    JSON.stringify(plan(roots, { target: { ...gpu.target, maxBindingBytes } }).launches);
  assertEquals(texts(93 * 32 * 4), texts());
  assert(texts(93 * 32 * 4 - 16) !== texts());
});

Deno.test("a frozen table that is split is below the cut of a prefix all the same", () => {
  const entries = leaf("batch.ids", { shape: [2, 4], dtype: "i32" });
  const below = matmul(reshape(embedding(table, entries), [8, 32]), given([32, 16], 3));
  const top = leaf("top", { shape: [16, 4], dtype: "f32" });
  const kindOf = (path: string) => path === "batch.ids" ? "batch" : path === "top" ? null : "fixed";
  const { prefix } = plan(grad(sum(matmul(below, top)), [top]), { target, prefix: { samples: 2, kindOf } });
  assert(typeof prefix === "object" && prefix.launches > 3 && prefix.reads.includes("table"), `${prefix}`);
});

Deno.test("values that no launch stores may be larger than one binding", () => {
  // Of [93, 93, 1] only sums are in memory.
  const pairs = multiply(given([93, 1], 1), given([1, 93], 2));
  assert(93 * 93 * 4 > LIMIT);
  assertEquals(
    plan([sum(pairs, 1)], { target }).launches.length,
    plan([sum(pairs, 1)], { target: gpu.target }).launches.length,
  );
});

Deno.test("a tensor that cannot be split is named with its reader, its size and the limit", () => {
  const error = assertThrows(() => plan([softmax(table)], { target }), OutOfMemoryError);
  assertEquals([error.label, error.bytes], ["softmax [93, 32]", 93 * 32 * 4]);
  assertEquals(
    error.message,
    'Cannot allocate "softmax [93, 32]" of 0.0 MiB on the device: a launch binds 4096 bytes of a tensor at most, and it cannot be split by rows; lower the batch or its length, or use a larger device',
  );
  const parameter = leaf("head.weight", { shape: [4, 4096], dtype: "f32" });
  const read = assertThrows(() => plan([sum(parameter)], { target }), OutOfMemoryError);
  assertEquals([read.label, read.bytes], ["head.weight", 65536]);
  assertThrows(
    () => plan([sum(softmax(leaf("scores", { shape: [64, 64], dtype: "f32" })), 1)], { target }),
    OutOfMemoryError,
    "cannot",
  );
});
