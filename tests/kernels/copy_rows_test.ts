import { assertEquals } from "@std/assert";
import { copyRows } from "../../kernels/copy_rows.ts";
import { MAX_GROUPS } from "../../kernels/kernel.ts";
import { runKernel } from "./run_kernel.ts";

/** Copies rows to the places of their mirror images, and gives what stands there then. */
async function mirrored({ words, rows }: { readonly words: number; readonly rows: number }) {
  const data = Uint32Array.from({ length: words * rows }, (_, i) => i + 1);
  const places = Array.from({ length: rows }, (_, row) => [row * words, (rows - 1 - row) * words]);
  // The table has room for more rows: what lies behind the last one is not read.
  const table = Uint32Array.from([words, rows, ...places.flat(), 7, 7]);
  const [seen] = await runKernel(copyRows({ words, rows }), {
    inputs: [data, table],
    outputs: [new Uint32Array(words * rows)],
  });
  return { seen, expected: data.map((_, i) => (rows - 1 - Math.floor(i / words)) * words + i % words + 1) };
}

for (const [words, rows] of [[1, 1], [4, 3], [256, 2], [300, 5], [8, MAX_GROUPS + 5]]) {
  Deno.test(`copyRows copies ${rows} rows of ${words} words`, async () => {
    const { seen, expected } = await mirrored({ words, rows });
    assertEquals(seen.findIndex((value, i) => value !== expected[i]), -1);
  });
}

Deno.test("copyRows has a legal grid for a row of 64 MiB, such as 8192 tokens of width 2048", () => {
  const { grid } = copyRows({ words: 2 ** 24, rows: 2 });
  assertEquals(grid.filter((groups) => groups > MAX_GROUPS), []);
});
