/** Rows sorted by expert, and products with the matrices of experts, against plain loops in float64. */

import { assertEquals } from "@std/assert";
import {
  blockCount,
  expertCounts,
  expertPlaces,
  expertStarts,
  tileCount,
} from "../../kernels/experts/order.ts";
import { groupedMatmul, groupedMatmulGrad } from "../../kernels/experts/product.ts";
import { sumRows, takeRows } from "../../kernels/experts/rows.ts";
import { assertClose, blank, runKernel, values } from "./run_kernel.ts";

const u32 = (size: number): Uint32Array<ArrayBuffer> => new Uint32Array(size);

/** Runs the three kernels of an order. */
async function orderOf(chosen: Int32Array<ArrayBuffer>, experts: number) {
  const sizes = { pairs: chosen.length, experts }, blocks = blockCount(chosen.length);
  const [counts] = await runKernel(expertCounts(sizes), {
    inputs: [chosen],
    outputs: [u32(blocks * experts)],
  });
  const [starts, groups, tiles] = await runKernel(expertStarts(sizes), {
    inputs: [counts],
    outputs: [u32(blocks * experts), u32(experts + 1), u32(4 * tileCount(sizes))],
  });
  const [order, places] = await runKernel(expertPlaces(sizes), {
    inputs: [chosen, starts],
    outputs: [u32(chosen.length), u32(chosen.length)],
  });
  return { groups, tiles, order, places };
}

for (const [pairs, experts] of [[1, 1], [255, 3], [600, 7], [300, 400]]) {
  Deno.test(`${pairs} pairs are sorted by ${experts} experts, stably, and cut into tiles`, async () => {
    // Some experts get many, and some get none.
    const chosen = Int32Array.from(values(pairs, 3), (x) => Math.floor(Math.abs(x) ** 2 * experts));
    const { groups, tiles, order, places } = await orderOf(chosen, experts);
    const sorted = [...chosen.keys()].toSorted((a, b) => chosen[a] - chosen[b] || a - b);
    assertEquals([...order], sorted);
    assertEquals([...places], [...chosen.keys()].map((pair) => sorted.indexOf(pair)));
    const first = Array.from({ length: experts + 1 }, (_, e) => chosen.filter((x) => x < e).length);
    assertEquals([...groups], first);
    const expected = first.slice(0, -1).flatMap((from, e) =>
      Array.from({ length: Math.ceil((first[e + 1] - from) / 64) }, (_, t) => [
        e,
        from + 64 * t,
        Math.min(from + 64 * (t + 1), first[e + 1]),
        0,
      ])
    ).flat();
    assertEquals([...tiles], [...expected, ...Array(tiles.length - expected.length).fill(0)]);
  });
}

Deno.test("takeRows copies the row of its token to each pair, and sumRows adds the pairs of a token up", async () => {
  for (const width of [3, 8]) {
    const order = Uint32Array.of(5, 0, 3, 1, 4, 2), places = Uint32Array.of(1, 3, 5, 2, 4, 0), each = 2;
    const x = values(3 * width, 1), y = values(6 * width, 2), sizes = { pairs: 6, each, width };
    const [taken] = await runKernel(takeRows(sizes), { inputs: [x, order], outputs: [blank(6 * width)] });
    assertEquals(
      taken,
      Float32Array.from(taken, (_, i) => x[(order[Math.floor(i / width)] >> 1) * width + i % width]),
    );
    const [sums] = await runKernel(sumRows(sizes), { inputs: [y, places], outputs: [blank(3 * width)] });
    const at = (pair: number, c: number): number => y[places[pair] * width + c];
    const expected = Float64Array.from(sums, (_, i) => {
      const token = Math.floor(i / width), c = i % width;
      return at(2 * token, c) + at(2 * token + 1, c);
    });
    assertClose(sums, expected, { tolerance: 1e-6, what: `sums of ${width}` });
  }
});

/** Experts with more rows than a tile, with none, and with one. */
const COUNTS = [70, 0, 64, 1, 5];

for (const [n, k] of [[67, 19], [64, 16], [3, 130]]) {
  Deno.test(`products of rows with ${k} x ${n} matrices of their experts equal float64, and so do gradients`, async () => {
    const chosen = Int32Array.from(COUNTS.flatMap((count, e) => Array(count).fill(e)));
    const rows = chosen.length, experts = COUNTS.length, { tiles, groups } = await orderOf(chosen, experts);
    const x = values(rows * k, 1), y = values(rows * n, 2), w = values(experts * n * k, 3);
    const sizes = { rows, experts, n, k }, tolerance = 1e-5;
    const at = (e: number, i: number, j: number): number => w[(e * n + i) * k + j];
    const sum = (length: number, term: (i: number) => number): number => {
      let total = 0;
      for (let i = 0; i < length; i++) total += term(i);
      return total;
    };
    const [forward] = await runKernel(groupedMatmul({ ...sizes, transposeB: true }), {
      inputs: [x, w, tiles],
      outputs: [blank(rows * n)],
    });
    const products = Float64Array.from(forward, (_, i) => {
      const p = Math.floor(i / n);
      return sum(k, (j) => x[p * k + j] * at(chosen[p], i % n, j));
    });
    assertClose(forward, products, { tolerance, what: "products" });
    const [back] = await runKernel(groupedMatmul({ ...sizes, n: k, k: n, transposeB: false }), {
      inputs: [y, w, tiles],
      outputs: [blank(rows * k)],
    });
    const turned = Float64Array.from(back, (_, i) => {
      const p = Math.floor(i / k);
      return sum(n, (j) => y[p * n + j] * at(chosen[p], j, i % k));
    });
    assertClose(back, turned, { tolerance, what: "gradients of rows" });
    const [grad] = await runKernel(groupedMatmulGrad(sizes), {
      inputs: [y, x, groups],
      outputs: [blank(experts * n * k)],
    });
    const own = Float64Array.from(grad, (_, i) => {
      const e = Math.floor(i / (n * k)), r = Math.floor(i / k) % n;
      return sum(COUNTS[e], (p) => y[(groups[e] + p) * n + r] * x[(groups[e] + p) * k + i % k]);
    });
    assertClose(grad, own, { tolerance: 3e-5, what: "gradients of matrices" });
  });
}
