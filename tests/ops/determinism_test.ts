import { assertEquals, assertNotEquals } from "@std/assert";
import { type Gpu, grad, type HostData, openGpu, readAll, sum, type Tensor, tensor } from "@firn/train";
import {
  attention,
  conv2d,
  crossEntropy,
  cumsum,
  embedding,
  gather,
  layerNorm,
  matmul,
  multiply,
  softmax,
} from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import { cutBy, tile } from "../plan/cut.ts";
import { random } from "../reference/values.ts";

function host(shape: readonly number[], seed: number): Tensor {
  return tensor(Float32Array.from(random(shape, { seed }).data), shape);
}

/** A product and its gradients. */
function products(): Tensor[] {
  const x = host([257, 33], 6), w = host([33, 41], 9), product = matmul(x, w);
  return [product, ...grad(sum(multiply(product, host(product.shape, 10))), [x, w])];
}

/** Everything that a device could add up in another order, from a graph built anew. */
function roots(): Tensor[] {
  const q = host([2, 37, 4, 8], 1), k = host([2, 37, 2, 8], 2), v = host([2, 37, 2, 8], 3);
  const out = attention(q, { k, v });
  const table = host([9, 12], 4), ids = tensor(Int32Array.from({ length: 70 }, (_, i) => i * i % 9));
  const rows = embedding(table, ids);
  const logits = host([33, 65], 5), labels = tensor(Int32Array.from({ length: 33 }, (_, i) => i % 65));
  const x = host([257, 33], 6), image = host([2, 2, 9, 7], 14);
  const hot = tensor(Int32Array.from({ length: 70 * 12 }, (_, i) => i * i % 9), [70, 12]);
  return [
    ...products(),
    ...grad(sum(multiply(out, host(out.shape, 7))), [q, k, v]),
    ...grad(sum(multiply(rows, host(rows.shape, 8))), [table]),
    ...grad(crossEntropy(logits, labels), [logits]),
    ...grad(sum(multiply(layerNorm(x, { weight: host([33], 11), bias: host([33], 12) }), x)), [x]),
    ...grad(sum(multiply(gather(table, hot, { axis: 0 }), host([70, 12], 13))), [table]),
    ...grad(sum(conv2d(image, host([3, 2, 3, 3], 15), { stride: 2, padding: 1 })), [image]),
    cumsum(x, 0),
    sum(x),
    sum(x, 0),
    sum(x, 1),
    ...grad(sum(multiply(softmax(x), x)), [x]),
  ];
}

function words(data: HostData): number[] {
  return [...new Uint32Array(data.buffer, data.byteOffset, data.length)];
}

/** Throws unless a device gives the same bits for the same graph, built anew. */
async function assertSameBits(gpu: Gpu, graph: () => readonly Tensor[]): Promise<void> {
  const once = await readAll(gpu, graph()), again = await readAll(gpu, graph());
  once.forEach((data, i) => {
    assertEquals(words(again[i]), words(data));
    assertNotEquals(words(data), words(new Float32Array(data.length)));
  });
}

for (const software of [true, false]) {
  Deno.test(`gradients, products and sums give the same bits twice: ${software ? "software" : "hardware"} kernels`, async () => {
    await using gpu = await openGpu();
    await assertSameBits({ ...gpu, target: { ...gpu.target, software } }, roots);
  });
}

for (const [sums, split] of [["whole sums", 1], ["sums shared by three workgroups", 3]] as const) {
  Deno.test(`products and their gradients give the same bits twice: ${sums}`, async () => {
    await using gpu = await openGpu();
    const target = cutBy({ ...gpu.target, software: false }, tile(split));
    const names = plan(products(), { target }).launches.map(({ kernel }) => kernel.name);
    assertEquals(names.filter((name) => name.startsWith("matmul")).length, 3, names.join());
    assertEquals(names.filter((name) => name.endsWith(" split 3")).length, split === 3 ? 3 : 0);
    await assertSameBits({ ...gpu, target }, products);
  });
}
