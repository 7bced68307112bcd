/**
 * That a plan reads no value before a launch wrote it.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  abs,
  add,
  embedding,
  grad,
  matmul,
  multiply,
  openGpu,
  readAll,
  sigmoid,
  subtract,
  sum,
  tanh,
  type Tensor,
  tensor,
} from "@firn/train";
import { relu } from "@firn/train/ops";
import type { Plan } from "../../core/plan/types.ts";
import { plan } from "../../core/plan/plan.ts";
import { assertNear } from "../reference/values.ts";

const values = (size: number, seed: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: size }, (_, i) => Math.sin(i * seed + seed));
const matrix = (shape: readonly number[], seed: number): Tensor =>
  tensor(values(shape.reduce((a, b) => a * b, 1), seed), shape);

const x = matrix([4, 8], 1), w = matrix([8, 8], 0.7), u = matrix([8, 8], 0.3);

/** Gradients of the squares of `residual(x, x w) u`. */
function gradients(residual: (x: Tensor, product: Tensor) => Tensor): Tensor[] {
  const z = matmul(residual(x, matmul(x, w)), u);
  return grad(sum(multiply(z, z)), [w, u, x]);
}

const GRAPHS: Readonly<Record<string, () => Tensor[]>> = {
  "relu(x w + b)": () => gradients((_, product) => relu(add(product, matrix([8], 0.6)))),
  "x + tanh(x w)": () => gradients((x, product) => add(x, tanh(product))),
  "x + sigmoid(x w)": () => gradients((x, product) => add(x, sigmoid(product))),
  "2 tanh(x w)": () => gradients((_, product) => multiply(tanh(product), 2)),
  "a bend of a product, read again later": () => {
    const y = tanh(matmul(x, w)), a = add(y, matrix([4, 8], 0.2)), late = multiply(abs(y), matmul(a, u));
    return [matmul(a, u), matmul(matmul(a, u), u), abs(subtract(late, matrix([4, 8], 0.9)))];
  },
};

/** What launches read of shared memory that none before them wrote. */
function unwritten({ launches, buffers }: Plan): string[] {
  const written = new Set<number>();
  return launches.flatMap(({ kernel: { code, name }, bindings }) => {
    const modes = [...code.matchAll(/@binding\(\d+\)\s+var<storage,\s*(read_write|read)>/g)].map((m) => m[1]);
    const bad = bindings.filter((b, i) =>
      modes[i] === "read" && buffers[b].source.kind === "slot" && !written.has(b)
    );
    bindings.forEach((b, i) => modes[i] === "read_write" && written.add(b));
    return bad.map((b) => `"${name}" reads ${b}`);
  });
}

for (const [name, roots] of Object.entries(GRAPHS)) {
  for (const maxBindings of [8, 32]) {
    Deno.test(`plan writes all that it reads, with ${maxBindings} bindings: ${name}`, () => {
      const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings };
      assertEquals(unwritten(plan(roots(), { target })), []);
    });
  }
}

Deno.test("grad of a residual of a bent product is that of finite differences", async () => {
  await using gpu = await openGpu();
  const [byW] = await readAll(gpu, gradients((x, product) => add(x, tanh(product))));
  const lossAt = (w: Float64Array): number => {
    const rows = values(32, 1), last = values(64, 0.3);
    let loss = 0;
    for (let i = 0; i < 4; i++) {
      const a = Array.from({ length: 8 }, (_, j) => {
        let total = 0;
        for (let k = 0; k < 8; k++) total += rows[i * 8 + k] * w[k * 8 + j];
        return rows[i * 8 + j] + Math.tanh(total);
      });
      for (let j = 0; j < 8; j++) loss += a.reduce((t, x, k) => t + x * last[k * 8 + j], 0) ** 2;
    }
    return loss;
  };
  const start = Float64Array.from(values(64, 0.7));
  const expected = start.map((x, i) => {
    const [up, down] = [x + 1e-5, x - 1e-5].map((moved) => lossAt(start.with(i, moved)));
    return (up - down) / 2e-5;
  });
  // Relative to the largest.
  assertNear(byW, expected, { tolerance: 1e-5, what: "gradient by w" });
});

Deno.test("read adds the gradient of an embedding to a table that is that gradient as well", async () => {
  await using gpu = await openGpu();
  const numbers = values(32, 0.4), ids = [1, 0, 3, 1], table = tensor(numbers, [4, 8]);
  const y = add(embedding(table, tensor(Int32Array.from(ids))), table);
  const [seen] = await readAll(gpu, grad(sum(multiply(multiply(y, y), y)), [table]));
  const at = (row: number, c: number): number => numbers[ids[row] * 8 + c] + numbers[row * 8 + c];
  const expected = new Float64Array(32);
  for (let row = 0; row < 4; row++) {
    for (let c = 0; c < 8; c++) {
      for (const to of [row, ids[row]]) expected[to * 8 + c] += 3 * at(row, c) ** 2;
    }
  }
  assertNear(seen, expected, { tolerance: 1e-6, what: "gradient by the table" });
});
