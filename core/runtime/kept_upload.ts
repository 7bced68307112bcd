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
  /** Waits until the device has read what was sent before. */
  ready(): Promise<void>;
  /**
   * The first bytes of the memory for the next upload, once for each, when it is ready.
   *
   * @param bytes How many of them, a multiple of 4
   */
  first(bytes: number): ArrayBuffer;
  /** Submits what copies the values of that memory on. */
  send(encode: (encoder: GPUCommandEncoder, from: GPUBuffer) => void): void;
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
  let mapping: Promise<void> | null = null;
  const map = (): Promise<void> => {
    const made = buffer.mapAsync(2, 0, bytes);
    // Who waits for it is told.
    made.catch(() => {});
    return made;
  };
  return {
    ready: () => mappingOf(gpu, mapping ??= map()),
    first: (bytes) => buffer.getMappedRange(0, bytes),
    send(encode) {
      buffer.unmap();
      submit(gpu, (encoder) => encode(encoder, buffer));
      mapping = map();
    },
    destroy: () => destroyBuffer(buffer),
  };
}
