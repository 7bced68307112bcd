/**
 * Uploads through memory that is kept: `writeBuffer` takes new memory of the host for each large upload, which costs more than the
 * copy.
 *
 * @module
 */

import { createBuffer, destroyBuffer } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { submit } from "./pipelines.ts";
import { mappingOf } from "./readback.ts";

/** A buffer that is mapped whenever the device does not read it. */
export interface KeptUpload {
  /** Writes values, and submits what copies them on. It waits until the device has read those before. */
  write(values: Float32Array, encode: (encoder: GPUCommandEncoder, from: GPUBuffer) => void): Promise<void>;
  /** Frees the buffer. */
  destroy(): void;
}

/**
 * Makes a buffer for uploads. {@link checkAllocations} tells whether there was room.
 *
 * @param gpu The device, of an implementation whose mapping does not wait for work that came later
 * @param bytes Most bytes of an upload
 * @returns The buffer
 */
export function keptUpload(gpu: Gpu, bytes: number): KeptUpload {
  const buffer = createBuffer(gpu, { label: "upload", bytes, usage: 0x2 | 0x4 }); // MAP_WRITE, COPY_SRC
  const map = (): Promise<void> => mappingOf(gpu, buffer.mapAsync(2, 0, bytes));
  let mapping: Promise<void> | null = null;
  return {
    async write(values, encode) {
      await (mapping ?? map());
      new Float32Array(buffer.getMappedRange(0, values.byteLength)).set(values);
      buffer.unmap();
      submit(gpu, (encoder) => encode(encoder, buffer));
      mapping = map();
      // The next upload tells.
      mapping.catch(() => {});
    },
    destroy: () => destroyBuffer(buffer),
  };
}
