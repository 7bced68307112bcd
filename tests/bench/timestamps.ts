/**
 * Time measured by the device, and waiting for the device.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Gpu } from "@firn/train";
import { readBuffers } from "../../core/runtime/readback.ts";
import { turning } from "../../core/runtime/turns.ts";

/** Measures the time between two points of the queue by the device's timestamps. */
export interface Clock extends Disposable {
  /** Writes a timestamp when all work submitted before is done: 0 is the start, 1 the end. */
  mark(which: 0 | 1): void;
  /** Waits for the device, then returns the milliseconds between start and end. */
  read(): Promise<number>;
}

/**
 * Opens a clock on a device.
 *
 * @throws {InputError} When the device has no timestamps
 */
export function openClock(gpu: Gpu): Clock {
  if (!gpu.features.has("timestamp-query")) {
    throw new InputError(`Cannot read the clock of "${gpu.name}" as it has no timestamp-query`);
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
      await turning(gpu, staging.mapAsync(1));
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

/** A buffer of 4 bytes per device, which {@link settle} reads. */
const read = new WeakMap<Gpu, GPUBuffer>();

/**
 * Waits for all queued work by reading a number. `onSubmittedWorkDone` is polled every 10 ms in Deno, which would add up
 * to 1 % to a turn of one second, in every round alike.
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
