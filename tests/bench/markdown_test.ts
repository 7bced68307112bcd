/**
 * Results as tables of Markdown.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { rowsOf } from "./freezing.ts";
import { markdown, meanRate } from "./markdown.ts";
import { type Row, sideResult } from "./results.ts";
import { FIRN_MODEL } from "./sides.ts";

const side = (name: string, ms: number, bytes: number | null = null) =>
  sideResult({
    name,
    side: FIRN_MODEL,
    first: 1,
    times: [ms, 1.25 * ms, 0.5 * ms],
    unclipped: null,
    memory: bytes,
    allocated: name.startsWith("PyTorch") || bytes === null
      ? null
      : { planned: bytes, held: bytes, peak: 2 * bytes },
    loss: null,
  });
const product = (work: string, flops: number, sides: Row["sides"], averaged = true): Row => (
  { work: `product ${work}`, flops, averaged, lossAt: 1, sides }
);
const step = (work: string, sides: Row["sides"]): Row => (
  { work, flops: null, averaged: false, lossAt: 1, sides }
);

Deno.test("products are a table of TFLOP/s with the geometric mean of training shapes", () => {
  const rows = [
    product("cube", 1e12, [side("Firn", 1), side("cuBLAS", 2)], false),
    product("a", 1e12, [side("Firn", 10), side("cuBLAS", 5)]),
    product("b", 1e12, [side("Firn", 2.5)]),
  ];
  assertEquals(markdown({ rows, freezing: null }), [
    "| TFLOP/s | Firn | cuBLAS |",
    "| --- | --- | --- |",
    "| cube | 1000 (800.0 – 2000) | 500.0 (400.0 – 1000) |",
    "| a | 100.0 (80.0 – 200.0) | 200.0 (160.0 – 400.0) |",
    "| b | 400.0 (320.0 – 800.0) |  |",
    "| geometric mean of 2 | 200.0 |  |",
  ]);
  assertAlmostEquals(meanRate(rows, "Firn")!, 200, 1e-9);
  assertEquals([meanRate(rows, "cuBLAS"), meanRate(rows.slice(0, 1), "Firn")], [null, null]);
});

Deno.test("steps are a table with every peer and the memory of each, contenders that are all Firn one of ratios", () => {
  const GiB = 2 ** 30;
  const rows = [
    step("small", [side("Firn", 8, GiB), side("PyTorch Llama", 16, 4 * GiB)]),
    step("large", [side("Firn", 80, GiB), side("PyTorch Llama, TF32", 40, 3 * GiB)]),
    step("monitoring", [side("Firn", 8, GiB), side("gradNorm", 9, GiB)]),
  ];
  assertEquals(markdown({ rows, freezing: null }), [
    "| ms a step | Firn | PyTorch Llama | PyTorch Llama, TF32 | GiB: Firn | GiB: PyTorch Llama | GiB: PyTorch Llama, TF32 |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    "| small | 8.00 (4.00 – 10.0) | 16.0 (8.00 – 20.0) |  | 2.00 | 4.00 |  |",
    "| large | 80.0 (40.0 – 100.0) |  | 40.0 (20.0 – 50.0) | 2.00 |  | 3.00 |",
    "",
    "| monitoring | ms a step | ratio | GiB |",
    "| --- | --- | --- | --- |",
    "| Firn | 8.00 (4.00 – 10.0) | 1.0000 | 2.00 |",
    "| gradNorm | 9.00 (4.50 – 11.3) | 1.1250 | 2.00 |",
  ]);
});

Deno.test("frozen sets are a table with the share of what FLOPs promise", () => {
  const rows = rowsOf([
    { kind: "nothing", share: 0, frozen: 0, times: [10], matmulFlops: 4e9 },
    { kind: "bottom", share: 0.5, frozen: 3, times: [6], matmulFlops: 2e9 },
  ]);
  assertEquals(markdown({ rows: [], freezing: { work: "tiny", components: 7, rows } }), [
    "| frozen, tiny | of 7 | ms | GFLOP | saved, ms | FLOPs promise | share |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    "| nothing | 0 | 10.0 (10.0 – 10.0) | 4.0 |  |  |  |",
    "| lower 50 % of the layers, embedding and norms with them | 3 | 6.00 (6.00 – 6.00) | 2.0 | 4.00 | 5.00 | 80 % |",
  ]);
});
