/**
 * Checksums of tensors, computed on the device before their bytes leave it.
 *
 * @module
 */

import { checksum, checksumOf, type Numbers } from "../../kernels/checksum.ts";
import { createBuffer, destroyBuffer } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { bindKernel, dispatchAll, submit } from "../runtime/pipelines.ts";
import { readBuffers } from "../runtime/readback.ts";
import { storageOf } from "../runtime/residents.ts";
import { type DType, elementBytes } from "../spec.ts";
import type { Tensor } from "../tensor.ts";

/** Bytes that are summed at once: every device can bind that many. */
const PART = 2 ** 26;
/** Bytes from one result to the next, the alignment of bindings. */
const APART = 256;

/** What is known of a tensor before it is read. */
export interface Seen {
  /** The checksum of its bytes. */
  readonly sum: number;
  /** Whether all of its numbers are finite. */
  readonly finite: boolean;
}

/**
 * Sums the bytes of tensors on the device.
 *
 * @param gpu The device
 * @param tensors Tensors on it
 * @returns What is known of each
 * @throws {ConsumedError} When a step has reused a buffer
 */
export async function checksums(gpu: Gpu, tensors: readonly Tensor[]): Promise<Seen[]> {
  const parts = tensors.flatMap((tensor, of) => {
    const bytes = elementBytes(tensor), { buffer } = storageOf(tensor), numbers = numbersOf(tensor.dtype);
    return Array.from({ length: Math.ceil(bytes / PART) }, (_, i) => {
      const size = Math.min(PART, bytes - i * PART), words = Math.ceil(size / 4);
      const kernel = checksum({ words, numbers, half: size % 4 !== 0 });
      return { of, kernel, range: { buffer, offset: i * PART, size: 4 * words } };
    });
  });
  const sums = tensors.map(() => 0), finite = tensors.map(() => true);
  if (parts.length > 0) {
    const found = createBuffer(gpu, { label: "checksums", bytes: APART * parts.length });
    try {
      const launches = parts.map(({ kernel, range }, i) =>
        bindKernel(gpu, kernel, [range, { buffer: found, offset: APART * i, size: 8 }])
      );
      submit(gpu, (encoder) => {
        const pass = encoder.beginComputePass();
        dispatchAll(pass, launches);
        pass.end();
      });
      const [bytes] = await readBuffers(gpu, [{ buffer: found, bytes: found.size }]);
      const words = new Uint32Array(bytes);
      parts.forEach(({ of }, i) => {
        sums[of] = joined(sums[of], words[i * APART / 4]);
        finite[of] &&= words[i * APART / 4 + 1] === 0;
      });
    } finally {
      destroyBuffer(found);
    }
  }
  return sums.map((sum, i) => ({ sum, finite: finite[i] }));
}

/**
 * The checksum of the bytes of a tensor on the host.
 *
 * @param bytes They, from a multiple of four in their buffer on
 * @returns The number that {@link checksums} gives
 */
export function sumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += PART) {
    sum = joined(sum, checksumOf(bytes.subarray(at, at + PART)));
  }
  return sum;
}

/** Adds the sum of a part to that of the parts before it, whose order counts. */
function joined(before: number, part: number): number {
  return (Math.imul(before, 0x01000193) ^ part) >>> 0;
}

function numbersOf(dtype: DType): Numbers {
  return dtype === "f32" || dtype === "f16" || dtype === "bf16" ? dtype : "words";
}
