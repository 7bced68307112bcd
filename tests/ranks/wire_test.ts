/**
 * Averages in fewer bits: buckets, and what codes leave for the next exchange.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { type Gpu, openGpu, type Ranks } from "@firn/train";
import { createBuffer, destroyBuffer, writeValues } from "../../core/runtime/buffers.ts";
import { readBuffers } from "../../core/runtime/readback.ts";
import { wireMean } from "../../core/ranks/wire.ts";
import { WIRE_WORDS, type WireCode } from "../../kernels/wire.ts";
import { wrappedGpu } from "../runtime/wrapped_gpu.ts";
import { ranksInProcess } from "./in_process.ts";

const CODES: readonly WireCode[] = ["bf16", "int8"];

/** Ranks that count what they are given. */
function counted(ranks: Ranks, count: (bytes: number) => void): Ranks {
  return {
    ...ranks,
    allToAll(data) {
      count(data.length);
      return ranks.allToAll(data);
    },
    gather(mine) {
      count(mine.length);
      return ranks.gather(mine);
    },
  };
}

function filled(gpu: Gpu, values: Float32Array): GPUBuffer {
  const buffer = createBuffer(gpu, { label: "test", bytes: values.byteLength });
  writeValues(gpu, buffer, values);
  return buffer;
}

/** A parameter on the device: 0 so far. */
function parameter(gpu: Gpu, items: number) {
  const zero = new Float32Array(items);
  return { items, start: filled(gpu, zero), now: filled(gpu, zero), residual: filled(gpu, zero) };
}

async function valuesOf(gpu: Gpu, { now, items }: ReturnType<typeof parameter>): Promise<Float32Array> {
  const [bytes] = await readBuffers(gpu, [{ buffer: now, bytes: 4 * items }]);
  return new Float32Array(bytes);
}

for (const code of CODES) {
  Deno.test(`${code}: parameters that cross buckets, then fewer of them, then more, have their means on all ranks`, async () => {
    await using gpu = await openGpu({
      tune: false,
      ...code === "int8" && { gpu: wrappedGpu({ bindings: 10 }) },
    });
    const size = 3, bucket = 1024, sizes = [700, 5, 2500, 1024], bytes = [0, 0, 0];
    const results = await Promise.all(
      ranksInProcess(size).map(async (plain) => {
        const ranks = counted(plain, (sent) => bytes[plain.rank] += sent);
        const mean = wireMean(gpu, { ranks, code, advances: true, bucket }), seen: Float32Array[] = [];
        for (const count of [3, 1, 4]) {
          const all = sizes.slice(0, count).map((items) => parameter(gpu, items));
          for (const [i, { now, items }] of all.entries()) {
            writeValues(
              gpu,
              now,
              Float32Array.from({ length: items }, (_, k) => Math.sin(i + k) * (ranks.rank + 1)),
            );
          }
          await mean.average(all);
          for (const one of all) {
            seen.push(await valuesOf(gpu, one));
            [one.start, one.now, one.residual].forEach(destroyBuffer);
          }
        }
        mean.destroy();
        return seen;
      }),
    );
    for (const other of results) assertEquals(other, results[0]);
    const indices = [0, 1, 2, 0, 0, 1, 2, 3];
    results[0].forEach((values, n) =>
      values.forEach((value, k) => assertAlmostEquals(value, 2 * Math.sin(indices[n] + k), 0.04))
    );
    const blocksOf = (items: number): number => size * Math.ceil(items / (size * 256));
    const blocks = [[1024, 1024, 1024, 133], [700], [1024, 1024, 1024, 1024, 133]].flat().map(blocksOf);
    const words = blocks.reduce((n, count) => n + count + count / size, 0) * WIRE_WORDS[code];
    assertEquals(bytes, [4 * words, 4 * words, 4 * words]);
  });

  Deno.test(`${code}: changes too small for its codes arrive with later ones`, async () => {
    await using gpu = await openGpu({ tune: false });
    const items = 64, exchanges = 40, small = code === "int8" ? 1e-3 : 3e-4;
    // Beside the first value, a step of the others is below half of what the codes tell apart.
    const change = Float32Array.from({ length: items }, (_, k) => k === 0 ? 1.003 : small * (1 + k / items));
    const [first] = await Promise.all(
      ranksInProcess(2).map(async (ranks) => {
        const mean = wireMean(gpu, { ranks, code, advances: true }), one = parameter(gpu, items);
        for (let n = 0; n < exchanges; n++) {
          const now = await valuesOf(gpu, one);
          writeValues(gpu, one.now, now.map((value, k) => value + change[k]));
          await mean.average([one]);
        }
        const ends = await valuesOf(gpu, one);
        mean.destroy();
        [one.start, one.now, one.residual].forEach(destroyBuffer);
        return ends;
      }),
    );
    const off = Math.max(...first.map((value, k) => Math.abs(value - exchanges * change[k])));
    assert(off < (code === "int8" ? 2 / 127 : 0.01), `off by ${off}`);
  });
}
