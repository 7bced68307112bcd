/**
 * Ops that write rows of a leaf in place.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { leaf, ShapeError, tensor } from "@firn/train";
import { add, sum } from "@firn/train/ops";
import { writeRows } from "../../core/ops/write_rows.ts";
import { plan } from "../../core/plan/plan.ts";
import { bytesOf } from "../../core/plan/storage.ts";
import { createBuffer, writeValues } from "../../core/runtime/buffers.ts";
import { readBuffers } from "../../core/runtime/readback.ts";
import { record } from "../../core/runtime/record.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const cache = leaf("cache", { shape: [2, 4, 2], dtype: "f32" });
const rows = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2]), at = tensor(new Int32Array([0, 3]));

Deno.test("rows of a leaf are written in place: no copy, and places beyond the last are dropped", async () => {
  const buffer = createBuffer(gpu, { label: "cache", bytes: bytesOf(cache) });
  writeValues(gpu, buffer, new Float32Array(16).fill(9));
  const written = writeRows(cache, { rows, at });
  // One sum reads the leaf as it was, the other as it is after the launch; what comes first does not matter.
  const roots = [sum(add(written, 0)), sum(add(cache, 0)), written];
  const planned = plan(roots, { target: gpu.target });
  assertEquals(planned.launches.filter(({ kernel }) => kernel.name.startsWith("write_rows")).length, 1);
  // Nothing as large as the leaf is kept besides it.
  const temporary = planned.buffers.filter(({ source }) =>
    source.kind === "slot" || source.kind === "result"
  );
  assertEquals(temporary.filter(({ bytes }) => bytes >= bytesOf(cache)), []);
  const recording = await record(gpu, { plan: planned, resolve: () => buffer });
  recording.replay(1);
  const sizes = [4, 4, 64].map((bytes, i) => ({ buffer: recording.roots[i], bytes }));
  const [after, before, all] = (await readBuffers(gpu, sizes)).map((bytes) => new Float32Array(bytes));
  const expected = [1, 2, 3, 4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 5, 6];
  assertEquals([...all], expected);
  assertEquals([before[0], after[0]], [16 * 9, expected.reduce((a, b) => a + b)]);
  assertEquals(recording.roots[2], buffer);
  recording.destroy();
});

Deno.test("writeRows refuses rows that do not fit the leaf", () => {
  assertThrows(
    () => writeRows(cache, { rows: tensor([1, 2], [1, 1, 2]), at }),
    ShapeError,
    "rows must be [B, T, ...]",
  );
});
