import { assert, assertEquals } from "@std/assert";
import { fromBf16, toBf16 } from "../../core/data/floats.ts";
import { embedding, embeddingGrad, embeddingOrder } from "../../kernels/embedding.ts";
import type { Threads } from "../../kernels/rows.ts";
import { assertClose, blank, packBf16, runKernel, values } from "./run_kernel.ts";

/** Ids with many repeats. */
function someIds(rows: number, vocab: number): Int32Array<ArrayBuffer> {
  return Int32Array.from(values(rows, 5), (x) => Math.floor(Math.abs(x) ** 3 * vocab));
}

for (const width of [1, 5, 64]) {
  Deno.test(`embedding copies rows of ${width} and gives NaN for ids outside the table`, async () => {
    const vocab = 97;
    const table = values(vocab * width, 1);
    const ids = Int32Array.from([...someIds(33, vocab), -1, vocab]);
    const [out] = await runKernel(embedding({ rows: ids.length, vocab, width }), {
      inputs: [table, ids],
      outputs: [blank(ids.length * width)],
    });
    const expected = Array.from(ids).flatMap((id) =>
      Array.from({ length: width }, (_, c) => id < 0 || id >= vocab ? NaN : table[id * width + c])
    );
    assertClose(out, expected, { tolerance: 0, what: "out" });
  });
}

for (const width of [5, 6, 64]) {
  Deno.test(`embedding copies rows of ${width} that are stored as bf16, exactly`, async () => {
    const vocab = 13, codes = toBf16(values(vocab * width, 1)), table = fromBf16(codes);
    const ids = Int32Array.from([...Array(vocab).keys(), vocab, 0]);
    const [out] = await runKernel(embedding({ rows: ids.length, vocab, width, stored: "bf16" }), {
      inputs: [packBf16(codes), ids],
      outputs: [blank(ids.length * width)],
    });
    const beyond = new Float32Array(width).fill(NaN);
    assertEquals(out, Float32Array.from([...table, ...beyond, ...table.subarray(0, width)]));
  });
}

for (const rows of [1, 7, 130, 260]) {
  Deno.test(`embeddingOrder sorts ${rows} ids and keeps equal ones in order`, async () => {
    const ids = someIds(rows, 20);
    ids[rows >> 1] = -3;
    const [order, sorted] = await runKernel(embeddingOrder({ rows }), {
      inputs: [ids],
      outputs: [new Uint32Array(rows), new Int32Array(rows)],
    });
    const expected = Array.from(ids.keys()).sort((a, b) => ids[a] - ids[b] || a - b);
    assertEquals(Array.from(order), expected);
    assertEquals(Array.from(sorted), expected.map((place) => ids[place]));
  });
}

const CASES: readonly (readonly [rows: number, vocab: number, width: number, threads: Threads])[] = [
  [130, 97, 5, 1],
  [64, 97, 64, 1],
  [1, 3, 1, 1],
  [130, 11, 129, 32],
  [33, 97, 288, 64],
];

for (const [rows, vocab, width, threads] of CASES) {
  for (const residual of [undefined, "separate", "in place"] as const) {
    const what = residual === undefined ? "" : `, a table ${residual}`;
    Deno.test(`embeddingGrad adds up ${rows} rows of ${width} to ${vocab}, ${threads} threads a row${what}`, async () => {
      const ids = someIds(rows, vocab);
      if (rows > 1) [ids[0], ids[1]] = [-1, vocab];
      const dOut = values(rows * width, 2), more = values(vocab * width, 3);
      const order = Uint32Array.from(Array.from(ids.keys()).sort((a, b) => ids[a] - ids[b] || a - b));
      const sorted = Int32Array.from(order, (place) => ids[place]);
      const [dTable] = await runKernel(embeddingGrad({ rows, vocab, width, threads, residual }), {
        inputs: [dOut, order, sorted, ...(residual === "separate" ? [more] : [])],
        outputs: [residual === "in place" ? more : blank(vocab * width)],
      });
      const expected = residual === undefined ? new Float64Array(vocab * width) : Float64Array.from(more);
      ids.forEach((id, row) => {
        if (id < 0 || id >= vocab) return;
        for (let c = 0; c < width; c++) expected[id * width + c] += dOut[row * width + c];
      });
      // At most 130 numbers below one add up.
      assertClose(dTable, expected, { tolerance: 1e-5, what: "dTable" });
      assert(expected.some((x) => x !== 0));
    });
  }
}
