/**
 * One rank of tests/ranks/shared_sum_test.ts, on Dawn: exchanges twice, compares the sums with those that must come, and prints how many
 * bytes of mapped memory were shown to JavaScript in the second one.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { openGpu } from "@firn/train";
import { loadMpi } from "../../core/host/load_mpi.ts";
import { mpiRanks } from "../../core/ranks/mpi_ranks.ts";
import { readBuffers } from "../../core/runtime/readback.ts";
import { gradientExchange } from "../../core/train/step/exchange.ts";

/** Bytes of buffers: some that are cut into buckets of 2 MiB, and a small one, whose bucket goes by a message. */
const SIZES = [2 ** 22, 2 ** 22, 2 ** 22, 2 ** 22, 2 ** 12];

const ranks = mpiRanks(loadMpi(Deno.env.get("FIRN_MPI_LIBRARY")!), { seconds: 60 }), { rank, size } = ranks;
await using gpu = await openGpu({ gpu: "dawn", tune: false });
const exchange = gradientExchange(gpu, ranks);
const buffers = SIZES.map((bytes) => gpu.device.createBuffer({ size: bytes, usage: 0x4 | 0x8 })); // COPY_SRC, COPY_DST
const values = (bytes: number, from: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: bytes / 4 }, (_, i) => i % 1000 + from);
let shown = 0;
const prototype = Object.getPrototypeOf(buffers[0]) as GPUBuffer, { getMappedRange } = prototype;
prototype.getMappedRange = function (...args: [number?, number?]): ArrayBuffer {
  const range = getMappedRange.apply(this, args);
  shown += range.byteLength;
  return range;
};
for (let turn = 0; turn < 2; turn++) {
  buffers.forEach((buffer, i) =>
    gpu.device.queue.writeBuffer(buffer, 0, values(SIZES[i], 7 * rank + i + turn))
  );
  shown = 0;
  await exchange.sum(buffers.map((buffer, i) => ({ buffer, bytes: SIZES[i] })));
  if (turn === 1) console.log(`shown ${shown}`);
  const sums = await readBuffers(gpu, buffers.map((buffer, i) => ({ buffer, bytes: SIZES[i] })));
  sums.forEach((bytes, i) => {
    const parts = Array.from({ length: size }, (_, r) => values(SIZES[i], 7 * r + i + turn));
    assertEquals(new Float32Array(bytes), parts[0].map((value, at) => value + parts[1][at]), `buffer ${i}`);
  });
}
exchange.destroy();
await ranks.close();
