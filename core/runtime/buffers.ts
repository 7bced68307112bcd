/**
 * Storage buffers: created, counted, filled, destroyed.
 *
 * @module
 */

import { OutOfMemoryError } from "../errors.ts";
import type { HostData } from "../sources.ts";
import type { Counts, Gpu } from "./device.ts";
import { turning } from "./turns.ts";

const USAGE = 0x80 | 0x4 | 0x8; // STORAGE, COPY_SRC, COPY_DST

/** What helps where a tensor of a training state does not fit: its size does not depend on the batch. */
export const SMALLER_MODEL = "use a smaller model, train less of it (a LoRA adapter), or use a larger device";

/** A buffer to be created. */
interface NewBuffer {
  readonly label: string;
  readonly bytes: number;
  readonly mend?: string;
  readonly usage?: number;
  readonly host?: boolean;
}

/**
 * Refuses what is larger than any buffer of the device, before memory is taken for it. A buffer may be larger than one
 * binding: plans bind ranges of it.
 *
 * @param gpu The device
 * @param options As of {@link createBuffer}
 * @throws {OutOfMemoryError} When it is larger than one buffer
 */
export function checkSize({ device: { limits }, name }: Gpu, { label, bytes, mend }: NewBuffer): void {
  const most = limits.maxBufferSize;
  if (bytes <= most) return;
  const seen = `"${name}" has buffers of ${(most / 2 ** 20).toFixed(0)} MiB at most, and a tensor has one`;
  // What has a mend of its own does not shrink with the batch.
  throw new OutOfMemoryError(
    label,
    bytes,
    seen,
    mend && "use a smaller model, or a device with larger buffers",
  );
}

/**
 * Creates a storage buffer.
 *
 * @param gpu The device
 * @param options Its label and size in bytes; `mend`: what helps where there is no room, a smaller batch when absent; `usage`: what
 * it is for, to be bound and copied when absent; `host`: whether it is counted as memory of the host
 * @returns The buffer, filled with zeros
 * @throws {OutOfMemoryError} When the adapter has no buffers of that size
 */
export function createBuffer(gpu: Gpu, options: NewBuffer): GPUBuffer {
  const { label, bytes, mend, usage = USAGE, host = false } = options;
  checkSize(gpu, options);
  gpu.device.pushErrorScope("out-of-memory");
  const buffer = allocate(gpu, { label, size: bytes, usage }, { host });
  const refusal = gpu.device.popErrorScope().then((error) =>
    error === null ? null : new OutOfMemoryError(label, bytes, error.message, mend)
  );
  if (pending.has(gpu)) pending.get(gpu)!.push(refusal);
  else pending.set(gpu, [refusal]);
  return buffer;
}

/** Creates a buffer that is counted until it is destroyed. */
export function allocate(
  gpu: Gpu,
  descriptor: GPUBufferDescriptor,
  { host = false }: { readonly host?: boolean } = {},
): GPUBuffer {
  const { counts } = gpu, as = host ? "hostBytes" : "bytes";
  const buffer = gpu.device.createBuffer(descriptor);
  counts.buffers++;
  counts[as] += descriptor.size;
  counts.peakBytes = Math.max(counts.peakBytes, counts.bytes);
  countedBy.set(buffer, { counts, as });
  return buffer;
}

/** The counts that a buffer is part of until it is destroyed. */
const countedBy = new WeakMap<GPUBuffer, { readonly counts: Counts; readonly as: "bytes" | "hostBytes" }>();

/** Destroys a buffer and subtracts it from the counts. A second call does nothing. */
export function destroyBuffer(buffer: GPUBuffer): void {
  const counted = countedBy.get(buffer);
  if (counted !== undefined) counted.counts[counted.as] -= buffer.size;
  countedBy.delete(buffer);
  buffer.destroy();
}

/** The results of allocations since the last check. */
const pending = new WeakMap<Gpu, Promise<OutOfMemoryError | null>[]>();

/**
 * Waits until the device has accepted the allocations so far.
 *
 * @param gpu The device
 * @throws {OutOfMemoryError} When one was refused; it has the label and the size
 */
export async function checkAllocations(gpu: Gpu): Promise<void> {
  const refusals = pending.get(gpu) ?? [];
  pending.delete(gpu);
  const error = (await turning(gpu, Promise.all(refusals))).find((e) => e !== null);
  if (error !== undefined) throw error;
  gpu.check();
}

/** Bytes of one upload: implementations keep each on the host in one staging buffer. */
const UPLOAD = 2 ** 28;

/**
 * Uploads values, or bf16 codes, to a buffer. The last word is filled up with zero.
 *
 * @param gpu The device
 * @param buffer The buffer
 * @param data The values
 * @param options `offset`: first byte, a multiple of 4; 0 when absent
 */
export function writeValues(
  gpu: Gpu,
  buffer: GPUBuffer,
  data: HostData | Uint16Array,
  { offset = 0 }: { readonly offset?: number } = {},
): void {
  let whole = data;
  if (data.byteLength % 4 !== 0) {
    whole = new Uint16Array(data.length + 1);
    whole.set(data);
  }
  const size = UPLOAD / whole.BYTES_PER_ELEMENT;
  for (let at = 0; at < whole.length; at += size) {
    const part = whole.length <= size ? whole : whole.subarray(at, at + size);
    gpu.device.queue.writeBuffer(
      buffer,
      offset + at * whole.BYTES_PER_ELEMENT,
      part as Float32Array<ArrayBuffer>,
    );
  }
}
