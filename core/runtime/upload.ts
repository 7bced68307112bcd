/**
 * Copies values from the host to the device.
 *
 * @module
 */

import { bytesOf } from "../plan/storage.ts";
import type { HostData } from "../sources.ts";
import type { DType } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { createBuffer, SMALLER_MODEL, writeValues } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { resident } from "./residents.ts";

/** Uploads values, or bf16 codes. The returned tensor owns the buffer. */
export function upload(
  gpu: Gpu,
  data: HostData | Uint16Array,
  options: { shape: readonly number[]; label: string },
): Tensor {
  const { shape, label } = options, spec = { shape, dtype: dtypeOf(data) };
  const buffer = createBuffer(gpu, { label, bytes: bytesOf(spec), mend: SMALLER_MODEL });
  writeValues(gpu, buffer, data);
  return resident(spec, { buffer, label, producedAt: 0 });
}

function dtypeOf(data: HostData | Uint16Array): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Uint16Array) return "bf16";
  return data instanceof Int32Array ? "i32" : "u32";
}
