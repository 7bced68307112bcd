import { assertEquals, assertNotEquals } from "@std/assert";
import { type Gpu, grad, type HostData, openGpu, readAll, sum, type Tensor, tensor } from "@firn/train";
import { attention, crossEntropy, embedding, multiply, softmax } from "@firn/train/ops";
import { random } from "../reference/values.ts";

function host(shape: readonly number[], seed: number): Tensor {
  return tensor(Float32Array.from(random(shape, { seed }).data), shape);
}

/** Everything that a device could add up in another order, from a graph built anew. */
function roots(): Tensor[] {
  const q = host([2, 37, 4, 8], 1), k = host([2, 37, 2, 8], 2), v = host([2, 37, 2, 8], 3);
  const out = attention(q, { k, v });
  const table = host([9, 12], 4), ids = tensor(Int32Array.from({ length: 70 }, (_, i) => i * i % 9));
  const rows = embedding(table, ids);
  const logits = host([33, 65], 5), labels = tensor(Int32Array.from({ length: 33 }, (_, i) => i % 65));
  const x = host([257, 33], 6);
  return [
    ...grad(sum(multiply(out, host(out.shape, 7))), [q, k, v]),
    ...grad(sum(multiply(rows, host(rows.shape, 8))), [table]),
    ...grad(crossEntropy(logits, labels), [logits]),
    sum(x),
    sum(x, 0),
    sum(x, 1),
    ...grad(sum(multiply(softmax(x), x)), [x]),
  ];
}

function words(data: HostData): number[] {
  return [...new Uint32Array(data.buffer, data.byteOffset, data.length)];
}

for (const software of [true, false]) {
  Deno.test(`gradients and sums give the same bits twice: ${software ? "software" : "hardware"} kernels`, async () => {
    await using gpu = await openGpu();
    const device: Gpu = { ...gpu, target: { ...gpu.target, software } };
    const once = await readAll(device, roots()), again = await readAll(device, roots());
    once.forEach((data, i) => {
      assertEquals(words(again[i]), words(data));
      assertNotEquals(words(data), words(new Float32Array(data.length)));
    });
  });
}
