/**
 * Copies values from the host to the device.
 *
 * @module
 */

import { bytesOf } from "../plan/storage.ts";
import type { HostData } from "../sources.ts";
import type { DType, Spec } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { createBuffer, SMALLER_MODEL, writeValues } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { resident, storageOf } from "./residents.ts";
import { turning } from "./turns.ts";

/** Uploads values, or bf16 codes. The returned tensor owns the buffer. */
export function upload(
  gpu: Gpu,
  data: HostData | Uint16Array,
  options: { shape: readonly number[]; label: string },
): Tensor {
  const { shape, label } = options;
  const made = reserve(gpu, { shape, dtype: dtypeOf(data) }, label);
  writeValues(gpu, storageOf(made).buffer, data);
  return made;
}

/** Makes a tensor whose values are uploaded later. It owns its buffer. */
export function reserve(gpu: Gpu, spec: Spec, label: string): Tensor {
  const buffer = createBuffer(gpu, { label, bytes: bytesOf(spec), mend: SMALLER_MODEL });
  return resident(spec, { buffer, label, producedAt: 0, constant: true });
}

/** Bytes that are handed over at a time. Until they are on the device, the host has a copy of them. */
const BATCH = 2 ** 26;

/** Uploads parts of tensors. */
export type PartUpload = (
  to: Tensor,
  data: HostData | Uint16Array,
  options: { readonly offset: number },
) => Promise<void>;

/**
 * Makes a function that uploads tensors in parts. It waits where the device falls behind, so that the host keeps no more
 * than two batches of 64 MiB.
 *
 * @param gpu The device
 * @returns Uploads values, or bf16 codes, to a tensor from the byte `offset` on, a multiple of 4
 */
export function partUpload(gpu: Gpu): PartUpload {
  const { queue } = gpu.device;
  let waiting = 0, before: Promise<unknown> = Promise.resolve();
  return async (to, data, options) => {
    writeValues(gpu, storageOf(to).buffer, data, options);
    waiting += data.byteLength;
    if (waiting < BATCH) return;
    waiting = 0;
    queue.submit([]);
    const last = before;
    before = queue.onSubmittedWorkDone();
    await turning(gpu, last);
    gpu.check();
  };
}

function dtypeOf(data: HostData | Uint16Array): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Uint16Array) return "bf16";
  return data instanceof Int32Array ? "i32" : "u32";
}
