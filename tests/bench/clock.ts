/**
 * The device's own clock, and waiting for the device.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { readBuffers } from "../../core/runtime/readback.ts";

/** Two readings of the device's clock, taken by whatever is submitted between. */
export interface Clock extends Disposable {
  /** Takes a reading when all that was submitted before is done: 0 begins, 1 ends. */
  mark(which: 0 | 1): void;
  /** Milliseconds between the two; waits for the device. */
  read(): Promise<number>;
}

/**
 * Makes a clock.
 *
 * @throws {TypeError} When the device has no timestamps
 */
export function openClock(gpu: Gpu): Clock {
  if (!gpu.features.has("timestamp-query")) {
    throw new TypeError(`Cannot read the clock of "${gpu.name}" as it has no timestamp-query`);
  }
  const { device } = gpu;
  const queries = device.createQuerySet({ type: "timestamp", count: 2 });
  const resolved = device.createBuffer({ label: "clock", size: 16, usage: 0x200 | 0x4 });
  const staging = device.createBuffer({ label: "clock", size: 16, usage: 0x1 | 0x8 });
  return {
    mark(which) {
      const encoder = device.createCommandEncoder();
      encoder.beginComputePass({ timestampWrites: { querySet: queries, beginningOfPassWriteIndex: which } })
        .end();
      device.queue.submit([encoder.finish()]);
    },
    async read() {
      const encoder = device.createCommandEncoder();
      encoder.resolveQuerySet(queries, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(1);
      const [begun, ended] = new BigUint64Array(staging.getMappedRange().slice(0));
      staging.unmap();
      gpu.check();
      return Number(ended - begun) / 1e6;
    },
    [Symbol.dispose]() {
      for (const resource of [queries, resolved, staging]) resource.destroy();
    },
  };
}

/** What is read to wait. */
const read = new WeakMap<Gpu, GPUBuffer>();

/**
 * Waits for all queued work. `onSubmittedWorkDone` would answer at the next of Deno's pauses of 10 ms, a hundredth of a
 * turn of one second, and that would be the same pause in each round; reading a number answers at once.
 *
 * @param gpu The device
 */
export async function settle(gpu: Gpu): Promise<void> {
  let buffer = read.get(gpu);
  if (buffer === undefined) {
    read.set(gpu, buffer = gpu.device.createBuffer({ label: "settle", size: 4, usage: 0x4 }));
  }
  await readBuffers(gpu, [{ buffer, bytes: 4 }]);
}
